"""Forecast stores under this project's names, and as NetCDF.

The axes ``time`` and ``prediction_timedelta`` of the store are called ``init_time`` and
``lead_time`` everywhere else.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
import zarr
from zarr.storage import StoreLike

from data_pipeline.calendars import calendar_of
from data_pipeline.errors import InputError
from data_pipeline.files.atomic import writing_to
from data_pipeline.files.outputs import Output, zarr_attributes
from data_pipeline.sources.files import library_errors_as_input_errors
from data_pipeline.sources.virtual.repository import open_repository, repository_path
from data_pipeline.timestep import lead_times_of, valid_times
from fourcastnet_afno.inference.commits.target import FORECAST_MARKS, commit_target

_NAMES = {"time": "init_time", "prediction_timedelta": "lead_time"}
_BLOCKED = ("time", "realization", "prediction_timedelta")
_BLOCK_BYTES = 16 * 2**20


def is_forecast(path: Path) -> bool:
    """Whether a store, file or repository holds what ``write_forecast``, of any version, wrote."""
    if repository_path(str(path)) is not None:
        return zarr.open_group(_zarr_store(path), mode="r").attrs.keys() >= FORECAST_MARKS
    if path.is_dir():
        return zarr_attributes(path).keys() >= FORECAST_MARKS
    with netCDF4.Dataset(path) as file:
        return set(file.ncattrs()) >= FORECAST_MARKS


def forecast_output(path: Path) -> Output:
    """The store, file or repository that a forecast is written to."""
    if (target := commit_target(path)) is not None:
        return Output(
            target.place,
            "forecasts",
            target.may_be_replaced,
            has_work_folder=True,
            remedy=f"give another branch or group of it, such as {target.place}@branch.forecasts",
            made_as=target.working_name,
        )
    return Output(path, "forecasts", is_forecast, has_work_folder=True)


def open_forecast(path: Path) -> xr.Dataset:
    """Open a forecast lazily, under this project's names.

    Args:
        path: A zarr store, a NetCDF file, or a version of an Icechunk repository (its folder, or
            FOLDER@VERSION/GROUP).

    Returns:
        Dimensions init_time, [realization], lead_time, [level], latitude, longitude, and the
        coordinate ``valid_time`` (init_time, lead_time). Lead times are timedelta64, or integers
        with the units ``months``.

    Raises:
        InputError: If there is no forecast at ``path``, or it is damaged.
    """
    is_file = path.suffix == ".nc" and path.is_file()
    is_committed = repository_path(str(path)) is not None
    if not is_file and not is_committed and not (path / "zarr.json").exists():
        raise InputError(
            f"no forecast at {path.resolve()}; run `fourcastnet-afno forecast`", code="missing-file"
        )
    with library_errors_as_input_errors(str(path.resolve())):
        if is_file:
            stored = xr.open_dataset(path, engine="netcdf4", chunks={}, decode_timedelta=True)
        else:
            stored = xr.open_zarr(_zarr_store(path), consolidated=False, decode_timedelta=True)
        return _with_our_names(stored, path)


def _zarr_store(path: Path) -> StoreLike:
    """The zarr store of a forecast: a folder, or a version of a repository."""
    repository = repository_path(str(path))
    return path if repository is None else open_repository(repository, {}, ()).store


def _with_our_names(stored: xr.Dataset, path: Path) -> xr.Dataset:
    """The forecast at a path under this project's names, with its valid times."""
    missing = [name for name in _NAMES if name not in stored.dims]
    if missing:
        raise InputError(
            f"{path.resolve()} is no forecast of this version: it lacks {missing}, it has only "
            f"{list(stored.dims)}; run `fourcastnet-afno forecast` again",
            code="other-format",
        )
    forecast = stored.rename(_NAMES)
    leads = lead_times_of(forecast["lead_time"])
    valid = valid_times(forecast["init_time"].values, leads, calendar_of(forecast))
    return forecast.assign_coords(valid_time=(("init_time", "lead_time"), valid))


def open_diagnostics(path: Path) -> xr.Dataset:
    """Open the statistics of every step of a forecast lazily, see ``stability``.

    Returns:
        ``mean``, ``minimum``, ``maximum``, ``kinetic_energy``, ``spectrum`` by init_time,
        [realization], lead_time and channel, wind or zonal_wavenumber, labelled.

    Raises:
        InputError: If the forecast was written without them.
    """
    try:
        if path.suffix == ".nc":
            stored = xr.open_dataset(path, group="diagnostics", chunks={}, decode_timedelta=True)
        else:
            stored = xr.open_zarr(
                _zarr_store(path), group="diagnostics", consolidated=False, decode_timedelta=True
            )
    except OSError as error:
        message = f"{path.resolve()} has no diagnostics; set forecast.stability.diagnostics=true"
        raise InputError(message, code="no-diagnostics") from error
    labels = {
        str(name): axis.attrs["flag_meanings"].split()
        for name, axis in stored.coords.items()
        if "flag_meanings" in axis.attrs
    }
    return stored.assign_coords(labels).rename(_NAMES)


def require_netcdf_names(names: Iterable[str], path: Path) -> None:
    """Reject variables that a NetCDF file cannot have, which zarr stores can.

    Raises:
        InputError: If there is one.
    """
    for name in names:
        if not re.fullmatch(r"(\w|[^\x00-\x7f]).*(?<! )", name):
            raise InputError(
                f"{path} cannot hold {name!r}: names in NetCDF start with a letter, a digit or _, "
                "and end with no space; write a store, --output F.zarr",
                code="bad-name",
            )


def to_netcdf(store: Path, path: Path, compression: str) -> None:
    """Copy a zarr forecast store to one NetCDF-4 file, chunk by chunk, with its groups."""
    groups = ["", *(name for name, _ in sorted(zarr.open_group(store, mode="r").groups()))]
    options = {"zlib": True, "complevel": 1} if compression != "none" else {}
    for group in groups:
        dataset = xr.open_zarr(store, group=group or None, consolidated=False, chunks=None)
        encoding: dict[str, dict[str, Any]] = {}
        for name, variable in dataset.data_vars.items():
            encoding[str(name)] = {"chunksizes": variable.encoding["chunks"], **options}
            variable.encoding = {}
        # Blocks are copied at once: chunks, and more lead times where they fit.
        name, variable = max(dataset.data_vars.items(), key=lambda item: item[1].ndim)
        chunks = encoding[str(name)]["chunksizes"]
        blocks = {str(dim): size for dim, size in zip(variable.dims, chunks, strict=True)}
        blocks |= {dim: dataset.sizes[dim] for dim in blocks if dim not in _BLOCKED}
        leads = max(1, _BLOCK_BYTES // (4 * int(np.prod(list(blocks.values())))))
        blocks["prediction_timedelta"] *= leads
        mode = "a" if group else "w"
        with writing_to(path, RuntimeError):  # as the library calls a full disk
            dataset.chunk(blocks).to_netcdf(
                path, mode=mode, group=group or None, engine="netcdf4", encoding=encoding
            )
