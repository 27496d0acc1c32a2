"""Weather services by name: where they publish analyses, and what they call fields.

``gfs://aws``, ``gfs://gcs``, ``ifs://aws``, ``ifs://gcs`` and ``ifs://ecmwf`` are mirrors of the
global forecasts of NCEP (0.25 degrees, hourly) and ECMWF (0.25 degrees, every 3 hours);
``gfs+https://host/folder`` is a mirror of one's own. ``gfs-0p50`` and ``gfs-1p00`` in the place of
``gfs`` are the same forecasts on coarser grids, every 3 hours. A state is the analysis of its time,
or between these the forecast of the last one.

References:
    NCEP, https://registry.opendata.aws/noaa-gfs-bdp-pds and
        https://www.nco.ncep.noaa.gov/pmb/products/gfs
    ECMWF open data, file names and streams, https://confluence.ecmwf.int/display/DAC
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.sources.names import ON_LEVELS

_PATH = re.compile(
    r"(?P<service>gfs|ifs)(?:-(?P<resolution>\w+))?(?:\+(?P<protocol>https?))?://(?P<place>.*)"
)
CYCLE = np.timedelta64(6, "h")
"""Time between analyses."""
_HOUR = np.timedelta64(1, "h")
_MIRRORS = {
    "gfs": {
        "aws": "https://noaa-gfs-bdp-pds.s3.amazonaws.com",
        "gcs": "https://storage.googleapis.com/global-forecast-system",
    },
    "ifs": {
        "aws": "https://ecmwf-forecasts.s3.eu-central-1.amazonaws.com",
        "gcs": "https://storage.googleapis.com/ecmwf-open-data",
        "ecmwf": "https://data.ecmwf.int/forecasts",
    },
}
_HOURS_APART = {  # of states, by service and resolution; the first is the usual one
    "gfs": {"0p25": 1, "0p50": 3, "1p00": 3},
    "ifs": {"0p25": 3},
}
_SINCE_25_KM = np.datetime64("2024-02-28", "ns")  # 0.4 degrees before, in other folders
_ONE_STREAM_SINCE = np.datetime64("2026-05-12T06", "ns")  # before, 06 and 18 UTC had another one

_GFS_UPPER_AIR = {
    "geopotential": "HGT",
    "geopotential_height": "HGT",
    "temperature": "TMP",
    "u_component_of_wind": "UGRD",
    "v_component_of_wind": "VGRD",
    "specific_humidity": "SPFH",
    "relative_humidity": "RH",
    "vertical_velocity": "VVEL",
}
_GFS_SURFACE = {
    "2m_temperature": ("TMP", "2 m above ground"),
    "2m_dewpoint_temperature": ("DPT", "2 m above ground"),
    "2m_specific_humidity": ("SPFH", "2 m above ground"),
    "2m_relative_humidity": ("RH", "2 m above ground"),
    "10m_u_component_of_wind": ("UGRD", "10 m above ground"),
    "10m_v_component_of_wind": ("VGRD", "10 m above ground"),
    "100m_u_component_of_wind": ("UGRD", "100 m above ground"),
    "100m_v_component_of_wind": ("VGRD", "100 m above ground"),
    "mean_sea_level_pressure": ("PRMSL", "mean sea level"),
    "surface_pressure": ("PRES", "surface"),
    "skin_temperature": ("TMP", "surface"),
    "sea_ice_cover": ("ICEC", "surface"),
    "land_sea_mask": ("LAND", "surface"),
    "surface_altitude": ("HGT", "surface"),
    "total_precipitation": ("APCP", "surface"),
    "total_cloud_cover": ("TCDC", "entire atmosphere"),
    "total_column_water_vapour": ("PWAT", "entire atmosphere (considered as a single layer)"),
}
_IFS_UPPER_AIR = {
    "geopotential": "gh",
    "geopotential_height": "gh",
    "temperature": "t",
    "u_component_of_wind": "u",
    "v_component_of_wind": "v",
    "specific_humidity": "q",
    "relative_humidity": "r",
    "vertical_velocity": "w",
    "relative_vorticity": "vo",
    "divergence": "d",
}
_IFS_SURFACE = {
    "2m_temperature": "2t",
    "2m_dewpoint_temperature": "2d",
    "10m_u_component_of_wind": "10u",
    "10m_v_component_of_wind": "10v",
    "100m_u_component_of_wind": "100u",
    "100m_v_component_of_wind": "100v",
    "mean_sea_level_pressure": "msl",
    "surface_pressure": "sp",
    "skin_temperature": "skt",
    "land_sea_mask": "lsm",
    "geopotential_at_surface": "z",
    "total_precipitation": "tp",
    "total_cloud_cover": "tcc",
    "total_column_water_vapour": "tcwv",
    "surface_solar_radiation_downwards": "ssrd",
    "surface_thermal_radiation_downwards": "strd",
    "top_net_thermal_radiation": "ttr",
}


@dataclass(frozen=True, kw_only=True)
class Service:
    """A weather service at a mirror.

    Args:
        name: gfs or ifs.
        root: Web address of the mirror.
        resolution: As in the names of files: 0p25 is 0.25 degrees.
    """

    name: str
    root: str
    resolution: str = "0p25"

    @classmethod
    def at(cls, path: str) -> "Service":
        """The service and mirror of a path such as ``gfs://aws``.

        Raises:
            InputError: If the mirror or the resolution is unknown ("bad-setting").
        """
        match = _PATH.fullmatch(path)
        assert match is not None
        name, place = match["service"], match["place"].rstrip("/")
        resolutions = tuple(_HOURS_APART[name])
        resolution = match["resolution"] or resolutions[0]
        if resolution not in resolutions:
            message = f"{path} names the resolution {resolution!r}, known ones of {name} are "
            raise InputError(message + ", ".join(resolutions), code="bad-setting")
        if match["protocol"]:
            root = f"{match['protocol']}://{place}"
            return cls(name=name, root=root, resolution=resolution)
        mirrors = _MIRRORS[name]
        if place and place not in mirrors:
            message = f"{path} names the mirror {place!r}, known ones of {name} are "
            message += f"{', '.join(mirrors)}; another is named as {name}+https://HOST/FOLDER"
            raise InputError(message, code="bad-setting")
        return cls(name=name, root=mirrors[place or "aws"], resolution=resolution)

    def urls(self, time: np.datetime64) -> list[tuple[str, str, int]]:
        """Addresses of a file with the state of a time and of its index, and the forecast's hour.

        Those of other layouts follow, which a mirror may have in its place.

        Raises:
            InputError: If no state has that time ("no-times").
        """
        start = cycle_of(time)
        since = time - start
        step = int(since / _HOUR)
        every = _HOURS_APART[self.name][self.resolution]
        if since != step * _HOUR or step % every:
            message = (
                f"{self.name} has states every {every} h at the resolution {self.resolution}, "
            )
            message += f"none at {time}; choose another "
            raise InputError(message + "initial time", code="no-times")
        date, hour = str(start.astype("datetime64[h]")).replace("-", "").split("T")
        if self.name == "gfs":
            file = f"{self.root}/gfs.{date}/{hour}/atmos/"
            file += f"gfs.t{hour}z.pgrb2.{self.resolution}.f{step:03}"
            return [(file, f"{file}.idx", step)]
        streams = ["oper"]
        if hour in ("06", "18"):
            streams = ["oper", "scda"] if start >= _ONE_STREAM_SINCE else ["scda", "oper"]
        folders = ["ifs/0p25"] if start >= _SINCE_25_KM else ["ifs/0p25", "0p25", "0p4-beta"]
        files = [
            f"{self.root}/{date}/{hour}z/{folder}/{stream}/{date}{hour}0000-{step}h-{stream}-fc"
            for folder in folders
            for stream in streams
        ]
        return [(f"{file}.grib2", f"{file}.index", step) for file in files]

    def field(self, name: str, level: int | None) -> tuple[str, str] | None:
        """Name and level of a field in the index, or None if the service does not have it."""
        tables: Mapping[str, str] = _GFS_UPPER_AIR if self.name == "gfs" else _IFS_UPPER_AIR
        if name in ON_LEVELS:
            found = tables.get(name)
            if found is None or level is None:
                return None
            return found, f"{level} mb" if self.name == "gfs" else f"pl {level}"
        if self.name == "gfs":
            return _GFS_SURFACE.get(name)
        return (_IFS_SURFACE[name], "sfc") if name in _IFS_SURFACE else None


def cycle_of(time: np.datetime64) -> np.datetime64:
    """Time of the last analysis that is not after a time."""
    return time - (time - time.astype("datetime64[D]").astype(time.dtype)) % CYCLE


def is_open_data(path: str) -> bool:
    """Whether a path names a weather service."""
    return _PATH.fullmatch(path) is not None
