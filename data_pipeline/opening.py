"""Opening what is on disk or behind a URL, lazily and without interpretation.

zarr (v2 and v3, local or gs://, s3://, http(s)://), NetCDF 3 and 4, HDF5, GRIB, and the yearly HDF5
files of FourCastNet, which hold one array ``fields`` (time, channel, latitude, longitude) and no
coordinates.
"""

import glob
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError, TransferError
from data_pipeline.names import parse_label

_NETCDF, _GRIB = (".nc", ".nc4", ".cdf", ".h5", ".hdf5"), (".grib", ".grib2", ".grb", ".grb2")
_STALL_SECONDS = 60
_ATTEMPTS = 5
_PIECE_BYTES = 16 * 2**20
_T = TypeVar("_T")


def open_all(path: str, channels: Sequence[str], timestep_hours: int) -> list[xr.Dataset]:
    """Every file of ``path``, or the one zarr store.

    Args:
        path: A file, a glob, a folder of files, or a zarr store (folder or URL).
        channels: Labels of the channels of HDF5 files without coordinates, in order.
        timestep_hours: Time between their fields.

    Returns:
        Lazy datasets, each with the name of its file in ``encoding["source"]``.

    Raises:
        InputError: If nothing is there or it cannot be read.
    """
    if "://" in path:
        return [_described(path, lambda: persistently(lambda: _open_zarr(path), path))]
    if _store_metadata(path):
        return [_described(path, lambda: _open_zarr(path))]
    datasets = []
    for file in _matching(path):
        opened = _described(file, lambda file=file: _open_file(file, channels, timestep_hours))
        datasets += opened if isinstance(opened, list) else [opened]
    return datasets


def stamps(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of the files behind a local path; of a store, its metadata."""
    if "://" in path:
        return []
    files = _store_metadata(path) or _matching(path)
    return [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]


def _store_metadata(path: str) -> list[str]:
    """Files that make a folder a zarr store."""
    files = [Path(path) / name for name in ("zarr.json", ".zmetadata", ".zgroup")]
    return [str(file) for file in files if file.exists()]


def persistently(call: Callable[[], _T], what: str, attempts: int = _ATTEMPTS) -> _T:
    """Call again after a failed or stalled transfer, after 1, 2, 4, ... seconds.

    A missing file or a refused permission is final at once.

    Raises:
        TransferError: If every attempt failed.
    """
    for attempt in range(attempts):
        try:
            return call()
        except (FileNotFoundError, PermissionError, InputError):
            raise
        except Exception as error:
            if not _may_pass(error):
                raise
            if attempt == attempts - 1:
                raise TransferError(
                    f"cannot read {what} after {attempts} attempts: {error or type(error).__name__}"
                    "; check the network and the server, or copy the data to a local disk"
                ) from error
            time.sleep(_delay(attempt))
    raise AssertionError("unreachable")


def _delay(attempt: int) -> float:
    return 2.0**attempt


def _may_pass(error: Exception) -> bool:
    """Whether an error is one of a network, which the next attempt may not meet."""
    network = type(error).__module__.split(".")[0] in ("aiohttp", "botocore", "gcsfs", "fsspec")
    return network or isinstance(error, (TimeoutError, ConnectionError))


def _described(name: str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"there is no zarr store at {name} ({error}); correct data.source.path"
        ) from error
    except PermissionError as error:
        raise InputError(f"no permission to read {name}; change it, or copy the data") from error
    except ImportError as error:
        raise InputError(
            f"{name} needs packages that are not installed ({error}); for URLs "
            "pip install 'fourcastnet-afno[cloud]', for GRIB 'fourcastnet-afno[grib]'"
        ) from error
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"cannot read {name}: {error}; it may be truncated or of another format; expected "
            "NetCDF, HDF5 or GRIB files or a zarr store"
        ) from error


def _open_zarr(path: str) -> xr.Dataset:
    options = _storage_options(path)
    try:
        dataset = xr.open_zarr(path, chunks={}, consolidated=True, storage_options=options)
    except ValueError:  # without consolidated metadata, which is slower to open
        dataset = xr.open_zarr(path, chunks={}, consolidated=False, storage_options=options)
    dataset.encoding["source"] = path
    return dataset


def _storage_options(path: str) -> dict[str, Any] | None:
    """Public buckets are read without credentials; no transfer may stall for ever."""
    if "://" not in path:
        return None
    if path.startswith("gs://"):
        return {"token": "anon"}
    if path.startswith("s3://"):
        return {"anon": True}
    import aiohttp

    seconds = _STALL_SECONDS
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
    return {"client_kwargs": {"timeout": timeout}}


def _matching(path: str) -> list[str]:
    if Path(path).is_dir():
        files = [str(f) for f in Path(path).iterdir() if f.suffix.lower() in (*_NETCDF, *_GRIB)]
        expected = f"{path}/*" + "|".join((*_NETCDF, *_GRIB))
    else:
        files, expected = glob.glob(path), path
    if not files:
        raise InputError(
            f"no file matches {expected} (from {Path.cwd()}); correct data.source.path"
        )
    return sorted(files)


def _open_file(
    file: str, channels: Sequence[str], timestep_hours: int
) -> xr.Dataset | list[xr.Dataset]:
    suffix = Path(file).suffix.lower()
    if suffix in _GRIB:
        import cfgrib

        datasets = cfgrib.open_datasets(file, backend_kwargs={"indexpath": ""}, chunks={})
        for dataset in datasets:
            dataset.encoding["source"] = file
        return datasets
    dataset = _in_parts(xr.open_dataset(file, engine="netcdf4"), file)
    dataset.encoding["source"] = file
    if "fields" in dataset and not dataset.coords and dataset["fields"].ndim == 4:
        return _from_fourcastnet(dataset["fields"], file, channels, timestep_hours)
    return dataset


def _in_parts(dataset: xr.Dataset, file: str) -> xr.Dataset:
    """Dask arrays of the file's own chunks, or, where a variable has none, of parts of it.

    A variable of NetCDF 3 is one piece of gigabytes, which xarray would make a single chunk.
    """
    changed = os.stat(file).st_mtime_ns
    parts = dataset.assign({
        name: variable.chunk(_chunks(variable), token=f"{file} {changed} {name}")
        for name, variable in dataset.data_vars.items()
    })  # fmt: skip
    parts.set_close(dataset.close)
    return parts


def _chunks(variable: xr.DataArray) -> dict[Any, Any]:
    own = variable.encoding.get("preferred_chunks")
    if own or not variable.ndim:
        return dict(own or {})
    entry = variable.nbytes // max(1, variable.shape[0])
    return {variable.dims[0]: max(1, _PIECE_BYTES // max(1, entry))}


def _from_fourcastnet(
    fields: xr.DataArray, file: str, channels: Sequence[str], timestep_hours: int
) -> xr.Dataset:
    """Name the axes of a yearly file, as ``2018.h5``; rows start at the north pole.

    A file of 720 of 721 rows, without the south pole, has the spacing of its longitudes.
    """
    count, num_channels, rows, columns = fields.shape
    if len(channels) != num_channels:
        raise InputError(
            f"{file} holds {num_channels} channels without names and data.source.channels gives "
            f"{len(channels)}; list all of them in order, as [u10, v10, t2m, sp, msl, t850, ...]"
        )
    if not Path(file).stem.isdigit():
        raise InputError(
            f"{file} has no times; name it by its year, as 2018.h5, whose first field is at "
            "January 1st, 00 UTC"
        )
    step = np.timedelta64(timestep_hours, "h")
    start = np.datetime64(f"{int(Path(file).stem):04d}-01-01", "ns")
    coords = {
        "time": start + np.arange(count) * step,
        "latitude": 90 - 360 / columns * np.arange(rows),
        "longitude": 360 / columns * np.arange(columns),
    }
    arrays: dict[str, list[xr.DataArray]] = {}
    for index, label in enumerate(channels):
        name, level = parse_label(label)
        array = fields[:, index]
        array = array.rename(dict(zip(array.dims, coords, strict=True))).assign_coords(coords)
        arrays.setdefault(name, []).append(
            array if level is None else array.expand_dims(level=[level])
        )
    merged = [
        (group[0] if "level" not in group[0].dims else xr.concat(group, "level")).rename(name)
        for name, group in arrays.items()
    ]
    dataset = xr.merge(merged, join="outer")
    dataset.encoding["source"] = file
    return dataset
