"""Names of channels elsewhere: ``z500`` and ``u10m`` of earth2studio, ``z`` and ``10u`` of ECMWF.

References:
    NVIDIA, Earth2Studio, lexicon: https://nvidia.github.io/earth2studio/userguide/about/data.html
    ECMWF parameter database, https://codes.ecmwf.int/grib/param-db
"""

import re

from data_pipeline.channels import Channel
from data_pipeline.sources.names import UNITS

_ON_LEVELS = {
    "geopotential": "z",
    "temperature": "t",
    "u_component_of_wind": "u",
    "v_component_of_wind": "v",
    "vertical_velocity": "w",
    "wind_speed": "ws",
    "specific_humidity": "q",
    "relative_humidity": "r",
    "potential_vorticity": "pv",
}
_SINGLE_LEVEL = {
    "10m_u_component_of_wind": "u10m",
    "10m_v_component_of_wind": "v10m",
    "10m_wind_speed": "ws10m",
    "100m_u_component_of_wind": "u100m",
    "100m_v_component_of_wind": "v100m",
    "2m_temperature": "t2m",
    "2m_dewpoint_temperature": "d2m",
    "2m_specific_humidity": "q2m",
    "2m_relative_humidity": "r2m",
    "mean_sea_level_pressure": "msl",
    "surface_pressure": "sp",
    "sea_surface_temperature": "sst",
    "sea_ice_cover": "sic",
    "skin_temperature": "skt",
    "total_column_water_vapour": "tcwv",
    "total_column_water": "tcw",
    "total_cloud_cover": "tcc",
    "total_precipitation": "tp",
    "total_precipitation_6hr": "tp06",
    "large_scale_precipitation": "lsp",
    "convective_precipitation": "cp",
    "toa_incident_solar_radiation": "tisr",
    "top_net_solar_radiation": "tsr",
    "top_net_thermal_radiation": "ttr",
    "surface_net_solar_radiation": "ssr",
    "surface_solar_radiation_downwards": "ssrd",
    "surface_thermal_radiation_downwards": "strd",
    "surface_latent_heat_flux": "slhf",
    "land_sea_mask": "lsm",
    "geopotential_at_surface": "z",
}
_OF_ECMWF: dict[
    str, str | None
] = {  # at one level, where its short name is not that of earth2studio
    "10m_u_component_of_wind": "10u",
    "10m_v_component_of_wind": "10v",
    "10m_wind_speed": "10si",
    "100m_u_component_of_wind": "100u",
    "100m_v_component_of_wind": "100v",
    "2m_temperature": "2t",
    "2m_dewpoint_temperature": "2d",
    "2m_specific_humidity": "2sh",
    "2m_relative_humidity": "2r",
    "sea_ice_cover": "ci",
    "total_precipitation_6hr": None,  # a duration is no parameter
}


def lexicon_name(channel: Channel) -> str:
    """The name of a channel there; its own label where there is none of its meaning and units."""
    if not _has_usual_units(channel):
        return channel.label
    if channel.level is None:
        return _SINGLE_LEVEL.get(channel.name, channel.label)
    prefix = _ON_LEVELS.get(channel.name)
    return channel.label if prefix is None else f"{prefix}{channel.level}"


def mars_keys(channel: Channel) -> dict[str, str | int]:
    """Keys of a channel in ECMWF's archive; none where it has no parameter of its units."""
    table = _SINGLE_LEVEL | _OF_ECMWF if channel.level is None else _ON_LEVELS
    param = table.get(channel.name) if _has_usual_units(channel) else None
    if param is None:
        return {}
    if channel.level is None:
        return {"param": param, "levtype": "sfc"}
    return {"param": param, "levtype": "pl", "levelist": channel.level}


def ecmwf_units(units: str) -> str | None:
    """Units in ECMWF's spelling, such as ``m s**-1``; None without units or dimension."""
    return None if units in ("", "1") else re.sub(r"(?<=[A-Za-z])(-?\d+)", r"**\1", units)


def _has_usual_units(channel: Channel) -> bool:
    return channel.units in ("", UNITS.get(channel.name, channel.units))
