"""Small datasets and configurations for tests."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.reader import PreparedStore
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.config import Stage, TrainingConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import build_forecaster

GRID = LatLonGrid.equiangular(6, 12)


def make_dataset(num_times: int = 120, grid: LatLonGrid = GRID, seed: int = 0) -> xr.Dataset:
    """Daily waves that travel eastward by a cell a day, with a little noise."""
    rng = np.random.default_rng(seed)
    times = np.datetime64("2001-01-01", "ns") + np.arange(num_times) * np.timedelta64(1, "D")
    longitude = np.deg2rad(grid.coords["longitude"])
    latitude = np.cos(np.deg2rad(grid.coords["latitude"]))
    phase = longitude - np.arange(num_times)[:, None] * (longitude[1] - longitude[0])
    wave = latitude[:, None] * np.sin(phase)[:, None, :]
    noise = 0.01 * rng.standard_normal((2, num_times, *grid.shape))
    dims = ("time", "latitude", "longitude")
    dataset = xr.Dataset(
        {
            "mean_sea_level_pressure": (dims, (1e5 + 1000 * (wave + noise[0])).astype("f4")),
            "2m_temperature": (dims, (280 + 10 * (wave + noise[1])).astype("f4")),
            "height": (dims[1:], 100 * rng.random(grid.shape).astype("f4")),
        },
        coords={"time": times, **grid.coords},
    )
    dataset["mean_sea_level_pressure"].attrs["units"] = "Pa"
    dataset["2m_temperature"].attrs["units"] = "K"
    dataset["height"].attrs["units"] = "m"
    return dataset


def make_data_config(path: Path, **changes: object) -> DataConfig:
    """A configuration for ``make_dataset`` written to ``path``."""
    settings: dict = {
        "source": SourceConfig(path=str(path)),
        "prognostic": ["mean_sea_level_pressure", "2m_temperature"],
        "static": ["height"],
        "forcings": ["day_of_year_sin"],
        "timestep_hours": 24,
        "climatology_harmonics": 0,
        "train": Period(start="2001-01-01", end="2001-03-01"),
        "validation": Period(start="2001-03-02", end="2001-03-20"),
        "test": Period(start="2001-03-21", end="2001-04-30"),
    }
    return DataConfig(**(settings | changes))


def make_forecaster(
    grid: LatLonGrid = GRID,
    *,
    num_history: int = 1,
    network: AFNONetConfig | None = None,
    units: tuple[str, str] = ("", ""),
    **model: object,
) -> Forecaster:
    """A tiny forecaster of geopotential and temperature whose fresh weights are always the same.

    The options are those of ``ModelConfig``; the mean state is the same everywhere.
    """
    channels = (
        Channel(name="geopotential", level=500, units=units[0]),
        Channel(name="2m_temperature", units=units[1]),
    )
    spec = FieldSpec(
        channels=Channels(channels),
        static_channels=Channels(()),
        forcings=("day_of_year_sin",),
        grid=grid,
        step=Timestep.parse("6h"),
    )
    network = network or AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean = torch.tensor([5e4, 280.0])
        return Forecaster(
            ModelConfig(num_history=num_history, network=network, **model),  # type: ignore[arg-type]
            spec,
            mean=mean,
            std=torch.tensor([1e3, 10.0]),
            diff_std=torch.tensor([300.0, 2.0]),
            static=torch.zeros(0, *grid.shape),
            mean_state=mean[:, None, None].expand(-1, *grid.shape),
        )


def make_states(forecaster: Forecaster, *shape: int, seed: int = 0) -> Tensor:
    """Random states (*shape, channel, latitude, longitude) in physical units."""
    normalizer, grid = forecaster.normalizer, forecaster.spec.grid
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, len(normalizer.mean), *grid.shape, generator=generator)
    return normalizer.denormalize(noise)


def make_experiment(path: Path, **training: object) -> ExperimentConfig:
    """A tiny experiment that trains in about a second."""
    settings: dict = {
        "stages": [Stage(epochs=2), Stage(epochs=1, num_steps=2)],
        "batch_size": 8,
        "ema_decay": 0.9,
        "input_noise": 0.01,
        "device": "cpu",
    }
    network = AFNONetConfig(
        patch_size=(3, 3), embed_dim=16, depth=2, num_blocks=2, drop_rate=0.1, drop_path_rate=0.1
    )
    return ExperimentConfig(
        data=make_data_config(path),
        model=ModelConfig(num_history=2, network=network),
        training=TrainingConfig(**(settings | training)),
        forecast=ForecastConfig(num_steps=5, init_interval_hours=24, batch_size=7),
    )


def make_untrained_run(config: ExperimentConfig, folder: Path) -> tuple[Path, PreparedStore]:
    """A run folder with its data and a checkpoint of fresh weights, as training leaves it.

    Returns:
        The checkpoint and the store.
    """
    store = prepare_run(config, folder)
    assert store is not None
    torch.manual_seed(0)
    forecaster = build_forecaster(config, store)
    checkpoint = folder / "checkpoints" / "best.safetensors"
    checkpoint.parent.mkdir()
    save_checkpoint(checkpoint, forecaster, {}, {"config": config.to_yaml()})
    return checkpoint, store
