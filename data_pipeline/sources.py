"""Sources: what people have, read as one canonical dataset.

Canonical means: variables under the names of WeatherBench 2 with CF units, dimensions (time,
[level], latitude, longitude), latitude from north to south, longitude increasing eastward (0..360,
or -180..180 for a region that contains the prime meridian), levels as integers in hPa, datetime64
times. Everything stays lazy.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError

# The one rename table: common names of ECMWF, CDS, NCEP and CF, to WeatherBench 2's.
RENAME = {
    "valid_time": "time",
    "lat": "latitude",
    "lon": "longitude",
    "pressure_level": "level",
    "isobaricInhPa": "level",
    "plev": "level",
    "z": "geopotential",
    "t": "temperature",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "q": "specific_humidity",
    "r": "relative_humidity",
    "vo": "relative_vorticity",
    "w": "vertical_velocity",
    "t2m": "2m_temperature",
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "msl": "mean_sea_level_pressure",
    "slp": "mean_sea_level_pressure",
    "sp": "surface_pressure",
    "tcwv": "total_column_water_vapour",
    "tp": "total_precipitation",
    "sst": "sea_surface_temperature",
    "lsm": "land_sea_mask",
}

# Units that the names above stand for. Another unit is refused, not converted silently.
UNITS = {
    "geopotential": "m2 s-2",
    "geopotential_at_surface": "m2 s-2",
    "temperature": "K",
    "u_component_of_wind": "m s-1",
    "v_component_of_wind": "m s-1",
    "specific_humidity": "kg kg-1",
    "relative_humidity": "%",
    "relative_vorticity": "s-1",
    "vertical_velocity": "Pa s-1",
    "2m_temperature": "K",
    "10m_u_component_of_wind": "m s-1",
    "10m_v_component_of_wind": "m s-1",
    "mean_sea_level_pressure": "Pa",
    "surface_pressure": "Pa",
    "total_column_water_vapour": "kg m-2",
    "total_precipitation": "m",
    "sea_surface_temperature": "K",
}

_SPELLINGS = {
    "Pascals": "Pa",
    "pascal": "Pa",
    "kelvin": "K",
    "degK": "K",
    "m/s": "m s-1",
    "m2/s2": "m2 s-2",
    "1/s": "s-1",
    "kg/kg": "kg kg-1",
    "(0 - 1)": "1",
    "~": "1",
}


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where data is read from.

    Args:
        path: A NetCDF file, a glob of them ("data/*.nc"), a folder of them, or a zarr store (a
            folder or a URL as gs://, s3:// or https://).
        rename: Further names in the files and what they are called here.
        units: Units of variables whose attribute is missing or mislabelled.
    """

    path: str
    rename: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


def open_source(config: SourceConfig) -> xr.Dataset:
    """Open a source lazily as a canonical dataset.

    Raises:
        InputError: If the path does not exist or cannot be read, an axis is missing, times
            repeat or decrease, or a unit is not the expected one.
    """
    return canonicalize(_open(config.path), config)


def canonicalize(dataset: xr.Dataset, config: SourceConfig) -> xr.Dataset:
    """Rename, reorder and check an opened dataset; see the module's header."""
    table = RENAME | config.rename
    present = {str(old): new for old, new in table.items() if old in dataset.variables}
    dataset = dataset.rename({old: new for old, new in present.items() if old != new})
    for axis in ("latitude", "longitude"):
        if axis not in dataset.coords or dataset[axis].ndim != 1:
            raise InputError(
                f"{config.path} lacks the 1-D coordinate {axis}; it has "
                f"{list(dataset.coords)}; map its name with data.source.rename"
            )
    if "time" in dataset.variables:
        dataset = _with_checked_times(dataset, config.path)
    dataset = _with_integer_levels(_with_sorted_axes(dataset), config.path)
    dims = [name for name in ("time", "level", "latitude", "longitude") if name in dataset.dims]
    dataset = dataset.transpose(*dims, ...)
    return _with_checked_units(dataset, config)


def _open(path: str) -> xr.Dataset:
    try:
        if "://" in path:
            return _open_zarr(path, _anonymous(path))
        if Path(path).is_dir() and any((Path(path) / n).exists() for n in ("zarr.json", ".zgroup")):
            return _open_zarr(path, None)
        return _open_files(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"cannot read {path}: {error}; expected NetCDF files or a zarr store"
        ) from error


def _open_zarr(path: str, storage_options: dict[str, object] | None) -> xr.Dataset:
    try:
        return xr.open_zarr(path, chunks={}, consolidated=True, storage_options=storage_options)
    except ValueError:  # without consolidated metadata, which is slower to open
        return xr.open_zarr(path, chunks={}, consolidated=False, storage_options=storage_options)


def _anonymous(url: str) -> dict[str, object]:
    """Public buckets are read without credentials."""
    if url.startswith("gs://"):
        return {"token": "anon"}
    return {"anon": True} if url.startswith("s3://") else {}


def _open_files(path: str) -> xr.Dataset:
    pattern = f"{path}/*.nc" if Path(path).is_dir() else path
    files = sorted(glob.glob(pattern))
    if not files:
        raise InputError(f"no file matches {pattern} (from {Path.cwd()}); correct data.source.path")
    if len(files) == 1:
        return xr.open_dataset(files[0], engine="netcdf4", chunks={})
    return xr.open_mfdataset(
        files,
        engine="netcdf4",
        combine="by_coords",
        data_vars="minimal",
        coords="minimal",  # type: ignore[arg-type]
        compat="override",
        join="outer",
    )


def _with_checked_times(dataset: xr.Dataset, path: str) -> xr.Dataset:
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    times = dataset["time"].values
    if not np.issubdtype(times.dtype, np.datetime64):
        raise InputError(
            f"{path} has times of type {times.dtype}, expected dates of the standard calendar; "
            "give the time coordinate CF units as 'hours since 1900-01-01'"
        )
    times = times.astype("datetime64[ns]")
    steps = np.diff(times)
    for wrong, what in (
        (steps == np.timedelta64(0), "repeats"),
        (steps < np.timedelta64(0), "decreases"),
    ):
        if wrong.any():
            where = int(np.argmax(wrong)) + 1
            raise InputError(
                f"time {what} in {path} at index {where} ({times[where]}), "
                f"{int(wrong.sum())} times in all; "
                'remove duplicates and sort, as .drop_duplicates("time").sortby("time")'
            )
    return dataset.assign_coords(time=times)


def _with_sorted_axes(dataset: xr.Dataset) -> xr.Dataset:
    latitude = dataset["latitude"].values
    if latitude[0] < latitude[-1]:
        dataset = dataset.isel(latitude=slice(None, None, -1))
    longitude = dataset["longitude"].values.astype(float)
    if len(longitude) > 1 and np.isclose(longitude[-1] - longitude[0], 360):
        dataset, longitude = dataset.isel(longitude=slice(-1)), longitude[:-1]
    return dataset.assign_coords(longitude=_contiguous(longitude)).sortby("longitude")


def _contiguous(longitude: np.ndarray) -> np.ndarray:
    """Longitudes in 0..360, or in -180..180 where that keeps a region in one piece."""
    east, centered = np.sort(longitude % 360), np.sort((longitude + 180) % 360 - 180)
    spans = east[-1] - east[0] <= centered[-1] - centered[0] + 1e-6
    return longitude % 360 if spans else (longitude + 180) % 360 - 180


def _with_integer_levels(dataset: xr.Dataset, path: str) -> xr.Dataset:
    if "level" not in dataset.dims:
        return dataset.drop_vars("level", errors="ignore")
    pascals = str(dataset["level"].attrs.get("units", "")) in ("Pa", "Pascals")
    levels = dataset["level"].values / (100 if pascals else 1)
    if not np.allclose(levels, np.round(levels)):
        raise InputError(f"{path} has the levels {levels.tolist()} hPa, expected whole numbers")
    return dataset.assign_coords(level=np.round(levels).astype(int))


def _with_checked_units(dataset: xr.Dataset, config: SourceConfig) -> xr.Dataset:
    wrong = []
    for name, variable in dataset.data_vars.items():
        found = config.units.get(str(name), str(variable.attrs.get("units", "")))
        units = normalize_units(found)
        expected = UNITS.get(str(name), units)
        if units != expected and units:
            wrong.append(f"{name} in {found!r}, expected {expected!r}")
        variable.attrs["units"] = units
    if wrong:
        raise InputError(
            f"{config.path} has {'; '.join(wrong)}; convert the data, or, where only the label is "
            "wrong, set data.source.units"
        )
    return dataset


def require_units(dataset: xr.Dataset, names: list[str]) -> None:
    """Refuse variables whose units nobody stated.

    Raises:
        InputError: If the attribute ``units`` is missing or empty (all such variables are named).
    """
    missing: Mapping[str, str] = {
        name: UNITS.get(name, "?") for name in names if not dataset[name].attrs.get("units")
    }
    if missing:
        wanted = ", ".join(f"{name}: {units}" for name, units in missing.items())
        raise InputError(
            f"the variables {list(missing)} state no units; set data.source.units={{{wanted}}} if "
            "these are their units"
        )


def normalize_units(units: str) -> str:
    """One spelling of a unit: ``m**2 s**-2`` and ``m2/s2`` are ``m2 s-2``."""
    plain = units.strip().replace("**", "").replace("^", "")
    return _SPELLINGS.get(plain, plain)
