"""A forecast from a checkpoint and data: everything is checked by name before anything runs."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
import xarray as xr
import zarr
from rich.console import Console

from data_pipeline.channels import Channels
from data_pipeline.derived import with_derived
from data_pipeline.errors import InputError
from data_pipeline.plane import grid_of
from data_pipeline.sources import SourceConfig, open_source
from data_pipeline.store import PreparedStore
from fourcastnet_afno.autoregression import (
    ForecastConfig,
    check_init_times,
    check_source,
    parse_init_times,
    select_init_times,
    write_forecast,
)
from fourcastnet_afno.autoregression.work import Existing, device_of_process
from fourcastnet_afno.checkpoint import load_forecaster, versions
from fourcastnet_afno.forecaster import Forecaster

console = Console(soft_wrap=True, highlight=False)


def forecast_from(
    config: ForecastConfig,
    checkpoint: Path | None,
    source: SourceConfig | xr.Dataset | None,
    path: Path,
    device: str,
    existing: Existing,
    *,
    init_times: np.ndarray | None = None,
) -> xr.Dataset | None:
    """Write the forecasts of a checkpoint, see ``autoregression.write_forecast``.

    Args:
        config: Which forecasts.
        checkpoint: The forecaster.
        source: Data to start from, or a canonical dataset; without it, the prepared data beside
            the checkpoint.
        path: The zarr store or NetCDF file to write.
        device: Torch device.
        existing: What to do with an output that is there.
        init_times: Initial times; by default those of ``config``.

    Raises:
        InputError: If the checkpoint, the data or a setting does not suit the others.
    """
    if checkpoint is None:
        raise InputError(
            f"a forecast to {path} needs --checkpoint FILE; or give a run folder as --output"
        )
    files = [checkpoint, *map(Path, config.ensemble.checkpoints)]
    device = device_of_process(device, os.environ, torch.cuda.device_count())
    forecasters = [load_forecaster(file, device) for file in files]
    if isinstance(source, xr.Dataset):
        dataset = source
    else:
        dataset = open_initial_data(source, forecasters[0].spec.channels, checkpoint)
    forecasters, regridded = _on_grid_of(dataset, forecasters, config)
    first = forecasters[0]
    for file, forecaster in zip(files, forecasters, strict=True):
        check_source(dataset, forecaster.spec, f"checkpoint {file}")
    if init_times is None:
        init_times = _init_times(config, dataset["time"].values, first)
    check_init_times(init_times, dataset["time"].values, first.spec, first.num_history)
    attrs = {
        "title": f"Forecasts of {checkpoint.name}",
        "source": "fourcastnet_afno",
        "checkpoint": str(checkpoint),
        "initial_data": str(dataset.encoding.get("source", "")) or _place(source),
        "checkpoint_digest": " ".join(map(_digest, files)),
        "versions": json.dumps(versions()),
        **({"regridded": regridded} if regridded else {}),
    }
    if regridded:
        console.print(regridded)
    return write_forecast(
        first,
        dataset,
        init_times,
        config,
        path,
        attrs,
        further=forecasters[1:],
        existing=existing,
        report=lambda text: console.print(text, style="yellow", markup=False),
    )


def open_initial_data(
    source: SourceConfig | None, channels: Channels, checkpoint: Path
) -> xr.Dataset:
    """The data to start from as a canonical dataset: of any source, or prepared.

    Args:
        source: Where it is; without it, the prepared data of the checkpoint's run folder.
        channels: What is wanted; what can be derived is.
        checkpoint: A checkpoint in a run folder.

    Raises:
        InputError: If there is no data.
    """
    if source is None:
        beside = checkpoint.absolute().parent.parent / "data.zarr"
        if not (beside / "zarr.json").exists():
            raise InputError(
                f"there is no data to start from: give --source (files or a store), or a "
                f"checkpoint in a run folder with data.zarr; {beside} does not exist"
            )
        source = SourceConfig(path=str(beside))
    (path, *others) = source.paths
    if not others and "://" not in path and _is_prepared(Path(path)):
        return PreparedStore(Path(path)).dataset()
    dataset = with_derived(open_source(source), channels.labels)
    if "time" not in dataset.dims:
        raise InputError(
            f"{path} has no times; give the time coordinate CF units as 'hours since 1900-01-01'"
        )
    return dataset


def _is_prepared(path: Path) -> bool:
    if not (path / "zarr.json").exists():
        return False
    return "fingerprint" in zarr.open_group(path, mode="r").attrs and (path / "fields").exists()


def _on_grid_of(
    dataset: xr.Dataset, forecasters: list[Forecaster], config: ForecastConfig
) -> tuple[list[Forecaster], str]:
    """The forecasters on the grid of the data, and what was done if that is another."""
    grid, own = grid_of(dataset), forecasters[0].spec.grid
    try:
        own.require_same(grid, "the checkpoint")
    except InputError:
        if not config.regrid:
            return forecasters, ""
    else:
        return forecasters, ""
    how = (
        "states are interpolated to the network's grid and its changes back; scales that the "
        "network does not resolve stay as they are"
    )
    if config.resolution == "native":
        how = "the network works on the data's grid, with the wavenumbers of its own"
    text = (
        f"the data is on the grid {grid}, the network on {own}: {how} (forecast.regrid=false "
        "refuses this)"
    )
    return [forecaster.on_grid(grid, config.resolution) for forecaster in forecasters], text


def _init_times(config: ForecastConfig, times: np.ndarray, forecaster: Forecaster) -> np.ndarray:
    if config.init_times:
        return parse_init_times(config.init_times, config.init_interval_hours)
    return select_init_times(
        times,
        forecaster.spec,
        forecaster.num_history,
        interval_hours=config.init_interval_hours,
    )


def _place(source: SourceConfig | xr.Dataset | None) -> str:
    return ", ".join(source.paths) if isinstance(source, SourceConfig) else "prepared data"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]
