"""GRIB files in the layout in which NCEP and ECMWF publish them, on coarse grids, with indices.

Keys and inventories are those of gfs.tCCz.pgrb2.0p25.fFFF with its .idx, and of ECMWF's
YYYYMMDDHH0000-STEPh-oper-fc.grib2 with its .index.

References:
    NCEP, GFS products inventory, https://www.nco.ncep.noaa.gov/pmb/products/gfs/
    WMO Manual on Codes, FM 92 GRIB edition 2, code tables 4.2 and 4.5
    ECMWF open data, https://confluence.ecmwf.int/display/DAC
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import eccodes
import numpy as np

from data_pipeline.grids.grid import LatLonGrid

_CODES = {  # discipline, category and number of NCEP's names
    "PRMSL": (0, 3, 1), "MSLET": (0, 3, 192), "HGT": (0, 3, 5), "PRES": (0, 3, 0),
    "TMP": (0, 0, 0), "DPT": (0, 0, 6), "TMAX": (0, 0, 4), "TMIN": (0, 0, 5), "POT": (0, 0, 2),
    "APTMP": (0, 0, 21), "RH": (0, 1, 1), "SPFH": (0, 1, 0), "PWAT": (0, 1, 3), "APCP": (0, 1, 8),
    "ACPCP": (0, 1, 10), "PRATE": (0, 1, 7), "WEASD": (0, 1, 13), "SNOD": (0, 1, 11),
    "CLMR": (0, 1, 22), "CWAT": (0, 6, 6), "TCDC": (0, 6, 1), "LCDC": (0, 6, 3),
    "UGRD": (0, 2, 2), "VGRD": (0, 2, 3), "VVEL": (0, 2, 8), "DZDT": (0, 2, 9),
    "ABSV": (0, 2, 10), "GUST": (0, 2, 22), "VWSH": (0, 2, 192), "O3MR": (0, 14, 192),
    "CAPE": (0, 7, 6), "HPBL": (0, 3, 196), "LHTFL": (0, 0, 10), "DSWRF": (0, 4, 192),
    "LAND": (2, 0, 0), "TSOIL": (2, 0, 2), "SOILW": (2, 0, 192), "ICEC": (10, 2, 0),
}  # fmt: skip
_SURFACES: dict[str, dict[str, int]] = {
    "surface": {"typeOfFirstFixedSurface": 1},
    "mean sea level": {"typeOfFirstFixedSurface": 101},
    "max wind": {"typeOfFirstFixedSurface": 6},
    "tropopause": {"typeOfFirstFixedSurface": 7},
    "0C isotherm": {"typeOfFirstFixedSurface": 4},
    "cloud ceiling": {"typeOfFirstFixedSurface": 215},
    "planetary boundary layer": {"typeOfFirstFixedSurface": 220},
    "entire atmosphere": {"typeOfFirstFixedSurface": 10},
    "entire atmosphere (considered as a single layer)": {"typeOfFirstFixedSurface": 200},
    "low cloud layer": {"typeOfFirstFixedSurface": 214},
    "low cloud top level": {"typeOfFirstFixedSurface": 213},
}
_STATISTICS = {"ave": 0, "acc": 1, "max": 2, "min": 3}

UPPER_AIR = ("HGT", "TMP", "RH", "SPFH", "VVEL", "DZDT", "UGRD", "VGRD", "ABSV", "O3MR")
GFS_LEVELS = (0.4, 500, 850)
"""Some of the 41 levels of GFS, from .01 to 1000 hPa."""
GFS_OTHERS = [
    ("PRMSL", "mean sea level"), ("MSLET", "mean sea level"), ("CLMR", "1 hybrid level"),
    ("UGRD", "planetary boundary layer"), ("PRES", "surface"), ("HGT", "surface"),
    ("TMP", "surface"), ("TSOIL", "0-0.1 m below ground"), ("TSOIL", "0.1-0.4 m below ground"),
    ("SOILW", "0-0.1 m below ground"), ("WEASD", "surface"), ("TMP", "2 m above ground"),
    ("SPFH", "2 m above ground"), ("DPT", "2 m above ground"), ("RH", "2 m above ground"),
    ("UGRD", "10 m above ground"), ("VGRD", "10 m above ground"), ("CAPE", "surface"),
    ("HPBL", "surface"), ("LAND", "surface"), ("ICEC", "surface"),
    ("PWAT", "entire atmosphere (considered as a single layer)"),
    ("RH", "entire atmosphere (considered as a single layer)"),
    ("TCDC", "entire atmosphere"), ("HGT", "cloud ceiling"), ("HGT", "tropopause"),
    ("TMP", "tropopause"), ("UGRD", "max wind"), ("UGRD", "20 m above ground"),
    ("UGRD", "30 m above ground"), ("TMP", "80 m above ground"), ("UGRD", "80 m above ground"),
    ("UGRD", "100 m above ground"), ("VGRD", "100 m above ground"),
    ("TMP", "1829 m above mean sea level"), ("TMP", "3658 m above mean sea level"),
    ("HGT", "0C isotherm"), ("TMP", "30-0 mb above ground"), ("CAPE", "180-0 mb above ground"),
    ("RH", "0.33-1 sigma layer"), ("TMP", "0.995 sigma level"),
    ("UGRD", "PV=2e-06 (Km^2/kg/s) surface"), ("UGRD", "PV=-2e-06 (Km^2/kg/s) surface"),
]  # fmt: skip
"""A field of each kind next to those on pressure levels."""
GFS_OF_FORECASTS = [
    ("TMAX", "2 m above ground", "max"), ("APCP", "surface", "acc"), ("APCP", "surface", "acc"),
    ("ACPCP", "surface", "acc"), ("TMP", "low cloud top level", "ave"),
    ("TCDC", "entire atmosphere", "ave"),
]  # fmt: skip
"""Fields over the hours before, which the analysis lacks; precipitation is there twice."""


@dataclass(frozen=True)
class OpenDataFile:
    """A file as published, and its index."""

    content: bytes
    index: str


def gfs_file(
    grid: LatLonGrid, start: np.datetime64, step: int, fields: Mapping[tuple[str, str], np.ndarray]
) -> OpenDataFile:
    """A file of GFS with its inventory; what ``fields`` (by name and level) lacks is 1."""
    kinds = [(name, f"{p:g} mb", "") for p in GFS_LEVELS for name in UPPER_AIR]
    kinds += [(name, level, "") for name, level in GFS_OTHERS]
    kinds += GFS_OF_FORECASTS if step else []
    content, lines = b"", []
    stamp = str(start.astype("datetime64[h]")).replace("-", "").replace("T", "")
    for number, (name, level, statistic) in enumerate(kinds, 1):
        values = fields.get((name, level), np.ones(grid.shape))
        when = f"0-{step} hour {statistic} fcst" if statistic else f"{step} hour fcst"
        when = when if step else "anl"
        lines.append(f"{number}:{len(content)}:d={stamp}:{name}:{level}:{when}:")
        keys = {"centre": "kwbc", "tablesVersion": 2, "localTablesVersion": 1}
        keys |= _time_keys(start, step, statistic)
        keys |= _parameter_keys(_CODES[name]) | _surface_keys(level)
        content += grib_message(grid, keys, values)
    return OpenDataFile(content, "\n".join(lines) + "\n")


IFS_LEVELS = (50, 500, 850)
IFS_UPPER_AIR = ("gh", "t", "u", "v", "r", "q", "d", "vo", "w")
IFS_SURFACE = ("2t", "2d", "10u", "10v", "msl", "sp", "tcwv", "skt", "lsm")
IFS_SURFACE += ("tcc", "asn", "mucape", "z", "sdor", "slor")
IFS_SOIL = ("sot", "vsw")
IFS_OF_FORECASTS = ("tp", "ssrd", "strd", "ttr", "sf", "ro")


def ifs_file(
    grid: LatLonGrid, start: np.datetime64, step: int, fields: Mapping[tuple[str, str], np.ndarray]
) -> OpenDataFile:
    """A file of the IFS with its index; fields (by name and level, "" without) lacking are 1.

    Rows begin at the antimeridian, as since 2024; values are packed by CCSDS's method.
    """
    kinds = [(name, str(p), "pl") for p in IFS_LEVELS for name in IFS_UPPER_AIR]
    kinds += [(name, "", "sfc") for name in IFS_SURFACE]
    kinds += [(name, str(layer), "sol") for layer in (1, 2) for name in IFS_SOIL]
    kinds += [(name, "", "sfc") for name in IFS_OF_FORECASTS if step]
    content, lines = b"", []
    date, hour = str(start.astype("datetime64[h]")).replace("-", "").split("T")
    half = grid.shape[1] // 2
    for name, level, kind in kinds:
        values = np.roll(fields.get((name, level), np.ones(grid.shape)), half, axis=1)
        keys: dict[str, object] = {"centre": "ecmf", "tablesVersion": 34}
        keys |= {"setLocalDefinition": 1, "class": "od", "stream": "oper", "type": "fc"}
        keys |= {"expver": "0001"}
        keys |= _time_keys(start, step, "acc" if name in ("tp", "sf") else "")
        if kind == "pl":
            keys |= _surface_keys(f"{level} mb")
        keys |= {"shortName": name}
        if kind == "sol":
            keys |= {"typeOfLevel": "soilLayer", "level": int(level)}
        message = grib_message(grid, keys, values, west=180.0, packing="grid_ccsds")
        record = {"domain": "g", "date": date, "time": f"{hour}00", "expver": "0001"}
        record |= {"class": "od", "type": "fc", "stream": "oper", "step": str(step)}
        record |= {"levtype": kind, **({"levelist": level} if level else {}), "param": name}
        place = {"_offset": len(content), "_length": len(message)}
        lines.append(json.dumps({**record, **place}))
        content += message
    return OpenDataFile(content, "\n".join(lines) + "\n")


def _time_keys(start: np.datetime64, step: int, statistic: str) -> dict[str, object]:
    date, hour = str(start.astype("datetime64[h]")).replace("-", "").split("T")
    keys: dict[str, object] = {"dataDate": int(date), "dataTime": 100 * int(hour)}
    if not statistic:
        return {"productDefinitionTemplateNumber": 0, **keys, "step": step}
    keys = {"productDefinitionTemplateNumber": 8, **keys, "stepRange": f"0-{step}"}
    return keys | {"typeOfStatisticalProcessing": _STATISTICS[statistic]}


def _parameter_keys(code: tuple[int, int, int]) -> dict[str, object]:
    return dict(zip(("discipline", "parameterCategory", "parameterNumber"), code, strict=True))


def _surface_keys(level: str) -> dict[str, object]:
    """Keys of a level in the words of an inventory."""
    if level in _SURFACES:
        return {**_SURFACES[level]}
    if level.endswith(" mb"):
        return _scaled("First", 100, 100 * float(level.removesuffix(" mb")), 0)
    for suffix, surface, scale in (
        (" m above ground", 103, 0),
        (" m above mean sea level", 102, 0),
        (" hybrid level", 105, 0),
        (" sigma level", 104, 4),
    ):
        if level.endswith(suffix):
            return _scaled("First", surface, float(level.removesuffix(suffix)), scale)
    if level.startswith("PV="):
        value = 2 if level[3] != "-" else 0x80000002  # with the bit of the sign
        return _scaled("First", 109, value, 6) | {"scaleFactorOfFirstFixedSurface": 6}
    for suffix, surface, unit, scale in (
        (" m below ground", 106, 1, 2),
        (" mb above ground", 108, 100, 0),
        (" sigma layer", 104, 1, 2),
    ):
        if level.endswith(suffix):
            first, second = map(float, level.removesuffix(suffix).split("-"))
            keys = _scaled("First", surface, unit * first, scale)
            return keys | _scaled("Second", surface, unit * second, scale)
    raise KeyError(level)


def _scaled(which: str, surface: int, value: float, scale: int) -> dict[str, object]:
    scaled = round(value * 10**scale) if surface != 109 else int(value)
    return {
        f"typeOf{which}FixedSurface": surface,
        f"scaleFactorOf{which}FixedSurface": scale,
        f"scaledValueOf{which}FixedSurface": scaled,
    }


def grib_message(
    grid: LatLonGrid,
    keys: Mapping[str, object],
    values: np.ndarray,
    west: float = 0.0,
    packing: str = "grid_simple",
    sample: str = "regular_ll_sfc_grib2",
) -> bytes:
    """A message on a global grid with rows at the poles; values that are NaN are missing.

    Keys are set in their order, on top of those of the grid.
    """
    num_latitudes, num_longitudes = grid.shape
    step = 360 / num_longitudes
    message = eccodes.codes_grib_new_from_samples(sample)
    all_keys = {
        **{"Ni": num_longitudes, "Nj": num_latitudes},
        "latitudeOfFirstGridPointInDegrees": 90,
        "latitudeOfLastGridPointInDegrees": -90,
        "longitudeOfFirstGridPointInDegrees": west,
        "longitudeOfLastGridPointInDegrees": (west - step) % 360,
        "iDirectionIncrementInDegrees": step,
        "jDirectionIncrementInDegrees": 180 / (num_latitudes - 1),
        **keys,
        "bitsPerValue": 24,
    }
    for key, value in all_keys.items():
        eccodes.codes_set(message, key, value)
    if np.isnan(values).any():
        eccodes.codes_set(message, "bitmapPresent", 1)
        eccodes.codes_set(message, "missingValue", 9999)
    eccodes.codes_set_values(message, np.nan_to_num(values, nan=9999).ravel().astype(float))
    if packing != "grid_simple":
        eccodes.codes_set(message, "packingType", packing)
    content = eccodes.codes_get_message(message)
    eccodes.codes_release(message)
    return content
