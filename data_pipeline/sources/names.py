"""Names of variables: what data sets call them, what this project calls them, and their units.

Canonical names are those of WeatherBench 2 and ARCO-ERA5. The tables are the one place for names;
``data.source.rename`` adds to them.
"""

import re

# Dimensions and coordinates of CDS (old and new), NCEP, GRIB and CF.
COORDINATES = {
    "valid_time": "time",
    "lat": "latitude",
    "lon": "longitude",
    "nav_lat": "latitude",
    "nav_lon": "longitude",
    "pressure_level": "level",
    "isobaricInhPa": "level",
    "plev": "level",
    "pressure": "level",
    "air_pressure": "level",
}

# On pressure levels: short names of ECMWF, NCEP and CMIP.
_PRESSURE_LEVEL = {
    "z": "geopotential",
    "t": "temperature",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "q": "specific_humidity",
    "r": "relative_humidity",
    "vo": "relative_vorticity",
    "vorticity": "relative_vorticity",
    "d": "divergence",
    "w": "vertical_velocity",
    "pv": "potential_vorticity",
    "clwc": "specific_cloud_liquid_water_content",
    "ciwc": "specific_cloud_ice_water_content",
    "cc": "fraction_of_cloud_cover",
    "o3": "ozone_mass_mixing_ratio",
    "ta": "temperature",
    "ua": "u_component_of_wind",
    "va": "v_component_of_wind",
    "hus": "specific_humidity",
    "hur": "relative_humidity",
    "wap": "vertical_velocity",
    "uwnd": "u_component_of_wind",
    "vwnd": "v_component_of_wind",
    "shum": "specific_humidity",
    "rhum": "relative_humidity",
    "omega": "vertical_velocity",
}

# At one level.
_SINGLE_LEVEL = {
    "t2m": "2m_temperature",
    "2t": "2m_temperature",
    "tas": "2m_temperature",
    "d2m": "2m_dewpoint_temperature",
    "2d": "2m_dewpoint_temperature",
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "u10m": "10m_u_component_of_wind",
    "v10m": "10m_v_component_of_wind",
    "10u": "10m_u_component_of_wind",
    "10v": "10m_v_component_of_wind",
    "uas": "10m_u_component_of_wind",
    "vas": "10m_v_component_of_wind",
    "u100m": "100m_u_component_of_wind",
    "v100m": "100m_v_component_of_wind",
    "100u": "100m_u_component_of_wind",
    "100v": "100m_v_component_of_wind",
    "msl": "mean_sea_level_pressure",
    "slp": "mean_sea_level_pressure",
    "psl": "mean_sea_level_pressure",
    "sp": "surface_pressure",
    "ps": "surface_pressure",
    "tcwv": "total_column_water_vapour",
    "tcw": "total_column_water",
    "tp": "total_precipitation",
    "lsp": "large_scale_precipitation",
    "cp": "convective_precipitation",
    "sf": "snowfall",
    "tcc": "total_cloud_cover",
    "skt": "skin_temperature",
    "sst": "sea_surface_temperature",
    "siconc": "sea_ice_cover",
    "ci": "sea_ice_cover",
    "tisr": "toa_incident_solar_radiation",
    "ssr": "surface_net_solar_radiation",
    "str": "surface_net_thermal_radiation",
    "ssrd": "surface_solar_radiation_downwards",
    "strd": "surface_thermal_radiation_downwards",
    "tsr": "top_net_solar_radiation",
    "ttr": "top_net_thermal_radiation",
    "sshf": "surface_sensible_heat_flux",
    "slhf": "surface_latent_heat_flux",
    "lsm": "land_sea_mask",
    "slt": "soil_type",
    "tvh": "type_of_high_vegetation",
    "tvl": "type_of_low_vegetation",
    "cvh": "high_vegetation_cover",
    "cvl": "low_vegetation_cover",
    "sdor": "standard_deviation_of_orography",
    "sdfor": "standard_deviation_of_filtered_subgrid_orography",
    "slor": "slope_of_sub_gridscale_orography",
    "isor": "anisotropy_of_sub_gridscale_orography",
    "anor": "angle_of_sub_gridscale_orography",
    "orog": "surface_altitude",
    "orography": "surface_altitude",
    "zs": "geopotential_at_surface",
}

# CDS's winds at 100 m; as the label of a channel, u100 is at 100 hPa.
_FILES = {"u100": "100m_u_component_of_wind", "v100": "100m_v_component_of_wind"}

RENAME = COORDINATES | _PRESSURE_LEVEL | _SINGLE_LEVEL | _FILES

# Codes of classes, of which sums and means mean nothing.
CATEGORICAL = ("soil_type", "type_of_high_vegetation", "type_of_low_vegetation")

# Invariants of ERA5, which CDS hands out with a time axis of length one.
INVARIANT = (
    *CATEGORICAL,
    "geopotential_at_surface",
    "surface_altitude",
    "land_sea_mask",
    "high_vegetation_cover",
    "low_vegetation_cover",
    "lake_cover",
    "lake_depth",
    "standard_deviation_of_orography",
    "standard_deviation_of_filtered_subgrid_orography",
    "slope_of_sub_gridscale_orography",
    "anisotropy_of_sub_gridscale_orography",
    "angle_of_sub_gridscale_orography",
)

# Accumulated since the time before, in ERA5 over the hour that ends at the label: m, and J m-2.
_WATER = (
    "total_precipitation",
    "large_scale_precipitation",
    "convective_precipitation",
    "snowfall",
)
_ENERGY = (
    "toa_incident_solar_radiation",
    "surface_net_solar_radiation",
    "surface_net_thermal_radiation",
    "surface_solar_radiation_downwards",
    "surface_thermal_radiation_downwards",
    "top_net_solar_radiation",
    "top_net_thermal_radiation",
    "surface_sensible_heat_flux",
    "surface_latent_heat_flux",
)
ACCUMULATED = _WATER + _ENERGY

# CF standard names, for variables that go by none of the names above: (without levels, with).
STANDARD_NAMES = {
    "geopotential": ("geopotential_at_surface", "geopotential"),
    "air_temperature": ("2m_temperature", "temperature"),
    "eastward_wind": ("10m_u_component_of_wind", "u_component_of_wind"),
    "northward_wind": ("10m_v_component_of_wind", "v_component_of_wind"),
    "specific_humidity": ("2m_specific_humidity", "specific_humidity"),
    "relative_humidity": ("2m_relative_humidity", "relative_humidity"),
    "lagrangian_tendency_of_air_pressure": ("vertical_velocity", "vertical_velocity"),
    "atmosphere_relative_vorticity": ("relative_vorticity", "relative_vorticity"),
    "air_pressure_at_mean_sea_level": ("mean_sea_level_pressure", "mean_sea_level_pressure"),
    "air_pressure_at_sea_level": ("mean_sea_level_pressure", "mean_sea_level_pressure"),
    "surface_air_pressure": ("surface_pressure", "surface_pressure"),
    "atmosphere_mass_content_of_water_vapor": (
        "total_column_water_vapour",
        "total_column_water_vapour",
    ),
    "sea_surface_temperature": ("sea_surface_temperature", "sea_surface_temperature"),
    "surface_temperature": ("skin_temperature", "skin_temperature"),
    "dew_point_temperature": ("2m_dewpoint_temperature", "dewpoint_temperature"),
    "land_binary_mask": ("land_sea_mask", "land_sea_mask"),
    "surface_altitude": ("surface_altitude", "surface_altitude"),
    "sea_ice_area_fraction": ("sea_ice_cover", "sea_ice_cover"),
}

# Units that the canonical names stand for. Another unit is refused, not converted silently.
UNITS = {
    "geopotential": "m2 s-2",
    "geopotential_at_surface": "m2 s-2",
    "surface_altitude": "m",
    "temperature": "K",
    "u_component_of_wind": "m s-1",
    "v_component_of_wind": "m s-1",
    "wind_speed": "m s-1",
    "specific_humidity": "kg kg-1",
    "specific_cloud_liquid_water_content": "kg kg-1",
    "specific_cloud_ice_water_content": "kg kg-1",
    "ozone_mass_mixing_ratio": "kg kg-1",
    "relative_humidity": "%",
    "relative_vorticity": "s-1",
    "divergence": "s-1",
    "vertical_velocity": "Pa s-1",
    "2m_temperature": "K",
    "2m_dewpoint_temperature": "K",
    "skin_temperature": "K",
    "10m_u_component_of_wind": "m s-1",
    "10m_v_component_of_wind": "m s-1",
    "100m_u_component_of_wind": "m s-1",
    "100m_v_component_of_wind": "m s-1",
    "10m_wind_speed": "m s-1",
    "mean_sea_level_pressure": "Pa",
    "surface_pressure": "Pa",
    "total_column_water_vapour": "kg m-2",
    "total_column_water": "kg m-2",
    "total_precipitation_6hr": "m",
    "sea_surface_temperature": "K",
    **dict.fromkeys(_WATER, "m"),
    **dict.fromkeys(_ENERGY, "J m-2"),
}

_SPELLINGS = {
    "Pascals": "Pa",
    "pascal": "Pa",
    "kelvin": "K",
    "Kelvin": "K",
    "degK": "K",
    "m/s": "m s-1",
    "m2/s2": "m2 s-2",
    "1/s": "s-1",
    "kg/kg": "kg kg-1",
    "Pa/s": "Pa s-1",
    "kg/m2": "kg m-2",
    "percent": "%",
    "(0 - 1)": "1",
    "dimensionless": "1",
    "~": "1",
    "m of water equivalent": "m",
}


def normalize_units(units: str) -> str:
    """One spelling of a unit: ``m**2 s**-2`` and ``m2/s2`` are ``m2 s-2``."""
    plain = units.strip().replace("**", "").replace("^", "")
    return _SPELLINGS.get(plain, plain)


def parse_label(label: str) -> tuple[str, int | None]:
    """Canonical name and level in hPa of a channel's label.

    Labels are canonical, as ``geopotential_500`` or ``2m_temperature``, or short, as ``z500``,
    ``t2m`` or ``u10``. A short name with a number is on that pressure level unless it is one of the
    known single-level names: ``u100`` is at 100 hPa, ``u100m`` at 100 m.
    """
    if label in _SINGLE_LEVEL:
        return _SINGLE_LEVEL[label], None
    canonical = re.fullmatch(r"(.+)_(\d+)", label)
    if canonical and canonical[1] in (*_PRESSURE_LEVEL.values(), "wind_speed"):
        return canonical[1], int(canonical[2])
    short = re.fullmatch(r"([a-z]+?)_?(\d+)", label)
    if short and short[1] in _PRESSURE_LEVEL:
        return _PRESSURE_LEVEL[short[1]], int(short[2])
    return label, None
