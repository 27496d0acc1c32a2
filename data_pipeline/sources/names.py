"""Names of variables: spellings in data sets, canonical names of this project, and their units.

Canonical names are those of WeatherBench 2 and ARCO-ERA5. The tables are the one place for names;
``data.source.rename`` adds to them.
"""

import re


def _by_word(words: dict[str, str]) -> dict[str, str]:
    """Invert a table: {"level": "plev pressure"} becomes {"plev": "level", "pressure": "level"}."""
    return {word: key for key, text in words.items() for word in text.split()}


# Dimensions and coordinates of CDS (old and new), NCEP, GRIB and CF.
COORDINATES = _by_word(
    {
        "time": "valid_time",
        "latitude": "lat nav_lat",
        "longitude": "lon nav_lon",
        "level": "pressure_level isobaricInhPa isobaricInPa isobaric plev lev pressure "
        "air_pressure",
    }
)

# On pressure levels: short names of ECMWF, NCEP and CMIP.
_PRESSURE_LEVEL = _by_word(
    {
        "geopotential": "z",
        "geopotential_height": "gh zg hgt",
        "temperature": "t ta air tmp",
        "u_component_of_wind": "u ua uwnd ugrd",
        "v_component_of_wind": "v va vwnd vgrd",
        "specific_humidity": "q hus shum spfh",
        "relative_humidity": "r hur rhum rh",
        "relative_vorticity": "vo vorticity",
        "divergence": "d",
        "vertical_velocity": "w wap omega",
        "potential_vorticity": "pv",
        "specific_cloud_liquid_water_content": "clwc",
        "specific_cloud_ice_water_content": "ciwc",
        "fraction_of_cloud_cover": "cc",
        "ozone_mass_mixing_ratio": "o3",
    }
)

# At one level.
_SINGLE_LEVEL = _by_word(
    {
        "2m_temperature": "t2m 2t tas tmp2m",
        "2m_dewpoint_temperature": "d2m 2d",
        "10m_u_component_of_wind": "u10 u10m 10u uas ugrd10m",
        "10m_v_component_of_wind": "v10 v10m 10v vas vgrd10m",
        "100m_u_component_of_wind": "u100m 100u",
        "100m_v_component_of_wind": "v100m 100v",
        "mean_sea_level_pressure": "msl slp psl prmsl",
        "surface_pressure": "sp ps",
        "total_column_water_vapour": "tcwv prw pwat",
        "total_column_water": "tcw",
        "total_precipitation": "tp",
        "large_scale_precipitation": "lsp",
        "convective_precipitation": "cp",
        "snowfall": "sf",
        "total_cloud_cover": "tcc",
        "skin_temperature": "skt",
        "sea_surface_temperature": "sst",
        "sea_ice_cover": "siconc ci",
        "toa_incident_solar_radiation": "tisr",
        "surface_net_solar_radiation": "ssr",
        "surface_net_thermal_radiation": "str",
        "surface_solar_radiation_downwards": "ssrd",
        "surface_thermal_radiation_downwards": "strd",
        "top_net_solar_radiation": "tsr",
        "top_net_thermal_radiation": "ttr",
        "surface_sensible_heat_flux": "sshf",
        "surface_latent_heat_flux": "slhf",
        "land_sea_mask": "lsm",
        "soil_type": "slt",
        "type_of_high_vegetation": "tvh",
        "type_of_low_vegetation": "tvl",
        "high_vegetation_cover": "cvh",
        "low_vegetation_cover": "cvl",
        "standard_deviation_of_orography": "sdor",
        "standard_deviation_of_filtered_subgrid_orography": "sdfor",
        "slope_of_sub_gridscale_orography": "slor",
        "anisotropy_of_sub_gridscale_orography": "isor",
        "angle_of_sub_gridscale_orography": "anor",
        "surface_altitude": "orog orography",
        "geopotential_at_surface": "zs",
    }
)

# CDS's winds at 100 m; as the label of a channel, u100 is at 100 hPa.
_FILES = {"u100": "100m_u_component_of_wind", "v100": "100m_v_component_of_wind"}

RENAME = COORDINATES | _PRESSURE_LEVEL | _SINGLE_LEVEL | _FILES

# Codes of classes, whose sums and means are meaningless.
CATEGORICAL = ("soil_type", "type_of_high_vegetation", "type_of_low_vegetation")

# Invariants of ERA5, which CDS hands out with a time axis of length one.
INVARIANT = (
    *CATEGORICAL,
    *("geopotential_at_surface", "surface_altitude", "land_sea_mask", "high_vegetation_cover"),
    *("low_vegetation_cover", "lake_cover", "lake_depth", "standard_deviation_of_orography"),
    *("standard_deviation_of_filtered_subgrid_orography", "slope_of_sub_gridscale_orography"),
    *("anisotropy_of_sub_gridscale_orography", "angle_of_sub_gridscale_orography"),
)

# Accumulated since the time before, in ERA5 over the hour that ends at the label: m, and J m-2.
_WATER = ("total_precipitation", "large_scale_precipitation", "convective_precipitation")
_WATER += ("snowfall",)
_ENERGY = ("toa_incident_solar_radiation", "top_net_solar_radiation", "top_net_thermal_radiation")
_ENERGY += ("surface_net_solar_radiation", "surface_net_thermal_radiation")
_ENERGY += ("surface_solar_radiation_downwards", "surface_thermal_radiation_downwards")
_ENERGY += ("surface_sensible_heat_flux", "surface_latent_heat_flux")
ACCUMULATED = _WATER + _ENERGY

# On pressure levels; where one of them is at a height in m, it is another variable.
ON_LEVELS = (*_PRESSURE_LEVEL.values(), "wind_speed", "dewpoint_temperature")
AT_HEIGHT = {
    ("temperature", 2.0): "2m_temperature",
    ("dewpoint_temperature", 2.0): "2m_dewpoint_temperature",
    ("specific_humidity", 2.0): "2m_specific_humidity",
    ("relative_humidity", 2.0): "2m_relative_humidity",
    ("u_component_of_wind", 10.0): "10m_u_component_of_wind",
    ("v_component_of_wind", 10.0): "10m_v_component_of_wind",
    ("wind_speed", 10.0): "10m_wind_speed",
    ("u_component_of_wind", 100.0): "100m_u_component_of_wind",
    ("v_component_of_wind", 100.0): "100m_v_component_of_wind",
}

# Short names that NCEP and GRIB use at any height: they need a vertical coordinate.
VERTICAL_NEEDED = ("air", "tmp", "hgt", "ugrd", "vgrd", "spfh", "rh")

# Short names that in capitals mean other things elsewhere, and letters that do not.
_NOT_IN_CAPITALS = ("cp", "sf", "cc", "ci", "pv", "vo", "str", "ssr", "tsr", "ttr")
_LETTERS_IN_CAPITALS = "tuvqz"
_CONVERTIBLE = {"K": ("degC", "C", "celsius", "Celsius"), "Pa": ("hPa", "mb", "mbar", "millibars")}

# Names of `wgrib2 -netcdf`: the short name of NCEP and where the field is.
_WGRIB2_SURFACE = {
    "PRMSL_meansealevel": "mean_sea_level_pressure",
    "PRES_surface": "surface_pressure",
    "TMP_surface": "skin_temperature",
    "LAND_surface": "land_sea_mask",
}
_WGRIB2 = {
    short.upper(): _PRESSURE_LEVEL[short] for short in ("hgt", "tmp", "ugrd", "vgrd", "spfh", "rh")
} | {"VVEL": "vertical_velocity", "O3MR": "ozone_mass_mixing_ratio", "DPT": "dewpoint_temperature"}

# CF standard names, for variables with none of the names above: (without levels, with levels).
STANDARD_NAMES = {
    "geopotential": ("geopotential_at_surface", "geopotential"),
    "geopotential_height": ("geopotential_height", "geopotential_height"),
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
    "atmosphere_mass_content_of_water_vapor": ("total_column_water_vapour",) * 2,
    "sea_surface_temperature": ("sea_surface_temperature", "sea_surface_temperature"),
    "surface_temperature": ("skin_temperature", "skin_temperature"),
    "dew_point_temperature": ("2m_dewpoint_temperature", "dewpoint_temperature"),
    "land_binary_mask": ("land_sea_mask", "land_sea_mask"),
    "surface_altitude": ("surface_altitude", "surface_altitude"),
    "sea_ice_area_fraction": ("sea_ice_cover", "sea_ice_cover"),
}

# Units that the canonical names stand for. Another unit is an error, not converted silently.
UNITS = (
    _by_word(
        {
            "m2 s-2": "geopotential geopotential_at_surface",
            "m": "surface_altitude geopotential_height total_precipitation_6hr",
            "K": "temperature 2m_temperature 2m_dewpoint_temperature skin_temperature "
            "sea_surface_temperature",
            "m s-1": "u_component_of_wind v_component_of_wind wind_speed 10m_u_component_of_wind "
            "10m_v_component_of_wind 100m_u_component_of_wind 100m_v_component_of_wind "
            "10m_wind_speed",
            "kg kg-1": "specific_humidity specific_cloud_liquid_water_content "
            "specific_cloud_ice_water_content ozone_mass_mixing_ratio",
            "%": "relative_humidity",
            "s-1": "relative_vorticity divergence",
            "Pa s-1": "vertical_velocity",
            "Pa": "mean_sea_level_pressure surface_pressure",
            "kg m-2": "total_column_water_vapour total_column_water",
        }
    )
    | dict.fromkeys(_WATER, "m")
    | dict.fromkeys(_ENERGY, "J m-2")
)

_UNIT_SPELLINGS = {
    "Pa": ["Pascals", "pascal", "pascals"],
    "hPa": ["mbar", "mb", "millibar", "millibars", "hectopascal", "hectopascals"],
    "K": ["kelvin", "Kelvin", "kelvins", "degK", "deg_K", "degrees_K", "degree_kelvin"],
    "degC": [
        "deg C",
        "Celsius",
        "celsius",
        "C",
        "deg_C",
        "degree_C",
        "degrees_C",
        "degree_Celsius",
    ],
    "degF": ["Fahrenheit", "F", "deg_F", "degree_F", "degrees_F", "degree_Fahrenheit"],
    "m s-1": ["m/s", "m/sec", "ms-1", "meters per second", "metres per second"],
    "km h-1": ["km/h", "km hr-1"],
    "kt": ["kts", "knot", "knots"],
    "m2 s-2": ["m2/s2", "J kg-1", "J/kg"],
    "s-1": ["1/s"],
    "kg kg-1": ["kg/kg"],
    "g kg-1": ["g/kg"],
    "mg kg-1": ["mg/kg"],
    "Pa s-1": ["Pa/s"],
    "hPa s-1": ["hPa/s"],
    "Pa h-1": ["Pa/h", "Pa/hr"],
    "kg m-2": ["kg/m2"],
    "J m-2": ["J/m2"],
    "kJ m-2": ["kJ/m2"],
    "MJ m-2": ["MJ/m2"],
    "mm": ["millimeter", "millimeters", "millimetre", "millimetres"],
    "%": ["percent"],
    "1": ["(0 - 1)", "dimensionless", "~"],
    "m": ["m of water equivalent", "gpm", "metres", "meters"],
}
_UNITS_BY_SPELLING = {
    spelling: units for units, spellings in _UNIT_SPELLINGS.items() for spelling in spellings
}
# Files of some centers are in capitals; units that differ by their case alone are left out.
_CAPITALS = {
    spelling.upper(): units
    for units, spellings in _UNIT_SPELLINGS.items()
    for spelling in (units, *spellings)
    if spelling.lower() not in ("mm", "m", "mj m-2", "mj/m2", "c", "f")
}


def normalize_units(units: str) -> str:
    """One spelling of a unit: ``m**2 s**-2``, ``M2/S2`` and ``m2/s2`` are ``m2 s-2``."""
    units = " ".join(units.replace("**", "").replace("^", "").split())
    return _UNITS_BY_SPELLING.get(units) or _CAPITALS.get(units, units)


def wgrib2_name(name: str) -> tuple[str, int | None] | None:
    """Canonical name and level of a name of wgrib2, such as ``UGRD_10maboveground``."""
    if name in _WGRIB2_SURFACE:
        return _WGRIB2_SURFACE[name], None
    match = re.fullmatch(r"([A-Z0-9]+)_(\d+)(mb|maboveground)", name)
    base = _WGRIB2.get(match[1]) if match else None
    if match is None or base is None:
        return None
    if match[3] == "mb":
        return base, int(match[2])
    at_height = AT_HEIGHT.get((base, float(match[2])))
    return (at_height, None) if at_height else None


def parse_label(label: str) -> tuple[str, int | None]:
    """Canonical name and level in hPa of a channel's label.

    Labels are canonical (``geopotential_500``, ``2m_temperature``) or short (``z500``, ``t2m``,
    ``u10``). A short name with a number is on that pressure level unless it is one of the
    known single-level names: ``u100`` is at 100 hPa, ``u100m`` at 100 m. Single-level names may be
    in capitals, as in files.
    """
    single = label if label in _SINGLE_LEVEL or _is_ambiguous(label.lower()) else label.lower()
    if single in _SINGLE_LEVEL:
        return _SINGLE_LEVEL[single], None
    canonical = re.fullmatch(r"(.+)_(\d+)", label)
    if canonical and canonical[1] in ON_LEVELS:
        return canonical[1], int(canonical[2])
    short = re.fullmatch(r"([a-z]+?)_?(\d+)", label)
    if short and short[1] in _PRESSURE_LEVEL:
        return _PRESSURE_LEVEL[short[1]], int(short[2])
    return label, None


def canonical_label(label: str) -> tuple[str, int | None]:
    """Canonical name and level of a name or label as users write it: as ``parse_label``.

    ``t``, ``T850`` and ``U10`` are understood too.
    """
    for text in (label, label.lower()):
        if parse_label(text) != (text, None):
            return parse_label(text)
        if text in RENAME:
            return RENAME[text], None
    return label, None


def named_in_capitals(name: str, units: str) -> str | None:
    """Canonical name of a short name in capitals such as ``T2M``, if its units allow that."""
    short = name.lower()
    canonical = RENAME.get(short)
    if canonical is None or short in COORDINATES or short == name or _is_ambiguous(short):
        return None
    expected = UNITS.get(canonical, units)
    return canonical if units in ("", expected, *_CONVERTIBLE.get(expected, ())) else None


def _is_ambiguous(short: str) -> bool:
    letters = len(short) == 1 and short not in _LETTERS_IN_CAPITALS
    return letters or short in _NOT_IN_CAPITALS
