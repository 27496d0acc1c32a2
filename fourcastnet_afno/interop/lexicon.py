"""Names of channels in the lexicon of earth2studio, such as ``z500`` and ``u10m``.

References:
    NVIDIA, Earth2Studio, lexicon: https://nvidia.github.io/earth2studio/userguide/about/data.html
"""

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


def lexicon_name(channel: Channel) -> str:
    """The name of a channel there; its own label where there is none of its meaning and units."""
    if channel.units not in ("", UNITS.get(channel.name, channel.units)):
        return channel.label
    if channel.level is None:
        return _SINGLE_LEVEL.get(channel.name, channel.label)
    prefix = _ON_LEVELS.get(channel.name)
    return channel.label if prefix is None else f"{prefix}{channel.level}"
