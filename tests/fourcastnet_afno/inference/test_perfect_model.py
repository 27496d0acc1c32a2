"""The simulator as a perfect model, by the states that it has simulated."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preparation.simulator import simulator_of, states_at
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.inference import perfect_model
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.perfect_model import write_perfect_model
from fourcastnet_afno.inference.perturbations import generator_for
from tests.builders.errors import rejects
from tests.builders.simulated import PLANET, make_burgers_config, make_planet_config

NUM_INITS, NUM_STEPS, NUM_MEMBERS = 5, 6, 10


@pytest.fixture(scope="module")
def planet(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    return prepare(make_planet_config(), tmp_path_factory.mktemp("planet") / "data.zarr")


def forecasts_like(store: PreparedStore, init_times: np.ndarray, num_steps: int) -> xr.Dataset:
    """Forecasts whose values do not matter."""
    leads = np.arange(1, num_steps + 1) * store.timestep
    shape = len(init_times), num_steps, len(store.channels), *store.grid.shape
    coords = {"init_time": init_times, "lead_time": leads, **store.grid.coords}
    return store.channels.unstack(np.zeros(shape, np.float32), coords)


def write(
    store: PreparedStore,
    path: Path,
    config: DataConfig | None = None,
    *,
    is_ensemble: bool = False,
    **changes: Any,  # noqa: ANN401
) -> xr.Dataset:
    config = config or make_planet_config()
    init_times = store.times[config.test.contains(store.times)][::3][:NUM_INITS]
    like = forecasts_like(store, init_times, NUM_STEPS)
    if is_ensemble:
        like = like.expand_dims(realization=2)
    settings = {"num_members": NUM_MEMBERS, "seed": 3}
    write_perfect_model(config, store, like, path, **(settings | changes))
    return open_forecast(path)


@pytest.fixture(scope="module")
def written(planet: PreparedStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "perfect_model.zarr"
    write(planet, path)
    return path


def test_the_mean_and_spread_are_those_of_the_members(planet: PreparedStore, written: Path) -> None:
    forecast = open_forecast(written)
    time = forecast["init_time"].values[2:3]
    simulator, times = simulator_of(make_planet_config(), time), np.repeat(time, NUM_MEMBERS)
    noise = [generator_for(3, time[0], member) for member in range(NUM_MEMBERS)]
    states = states_at(simulator, planet, times)
    steps = np.stack(list(simulator.run(times, states, NUM_STEPS, noise)), axis=1)
    members = steps[:, :, simulator.variables.index("geopotential")].astype(float)
    found = forecast["geopotential"].sel(init_time=time[0])
    np.testing.assert_allclose(found, members.mean(axis=0), rtol=1e-5)
    spread = xr.open_zarr(written, group="spread", consolidated=False)["geopotential"][2]
    np.testing.assert_allclose(spread, members.std(axis=0, ddof=1), rtol=1e-2, atol=0.1)
    growth = np.diff(spread.mean(spread.dims[1:]).values)
    assert (growth > 0).all()


def test_next_to_an_ensemble_it_keeps_its_members(
    planet: PreparedStore, written: Path, tmp_path: Path
) -> None:
    """The mean of a single forecast's is replaced by them, as it would be scored as one member."""
    path = tmp_path / "perfect_model.zarr"
    shutil.copytree(written, path)
    members = write(planet, path, is_ensemble=True)
    assert members.sizes["realization"] == NUM_MEMBERS
    mean = members.mean("realization", dtype=np.float64).astype(np.float32)
    xr.testing.assert_allclose(mean, open_forecast(written), rtol=1e-6, atol=1e-9)
    spread = xr.open_zarr(written, group="spread", consolidated=False)["geopotential"]
    found = members["geopotential"].std("realization", ddof=1)
    np.testing.assert_allclose(found, spread, rtol=1e-2, atol=0.1)
    assert not (path / "spread").exists()


def test_it_is_closer_to_truth_than_persistence(planet: PreparedStore, written: Path) -> None:
    forecast, truth = open_forecast(written)["geopotential"], planet.dataset()["geopotential"]
    later = truth.sel(time=forecast["init_time"] + forecast["lead_time"])
    persistence = truth.sel(time=forecast["init_time"])
    errors = [float(((f - later) ** 2).mean()) ** 0.5 for f in (forecast, persistence)]
    assert errors[0] < 0.3 * errors[1]


def test_threads_and_a_kill_change_no_byte(
    planet: PreparedStore, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in its second unit and resumes, with another number of threads."""
    path, num_threads = tmp_path / "perfect_model.zarr", torch.get_num_threads()

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    def write_twice() -> None:
        original, calls = perfect_model.checksum, list[object]()

        def checksum(values: np.ndarray) -> str:
            calls.append(values)
            return original(values) if len(calls) < 3 else killed()  # type: ignore[return-value]

        with monkeypatch.context() as patch:
            patch.setattr(perfect_model, "checksum", checksum)
            write(planet, path)

    with pytest.raises(KeyboardInterrupt):
        write_twice()
    assert not path.exists()
    resumed = write(planet, path, num_threads=2)
    xr.testing.assert_identical(resumed.load(), open_forecast(written).load())
    assert torch.get_num_threads() == num_threads


def test_what_is_there_is_not_computed_again(
    planet: PreparedStore, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(perfect_model, "check_continues", pytest.fail)
        write(planet, written)


def test_what_was_damaged_is_computed_again(planet: PreparedStore, tmp_path: Path) -> None:
    path = tmp_path / "perfect_model.zarr"
    whole = write(planet, path, num_members=1).load()
    chunk = next(file for file in (path / "geopotential/c").rglob("*") if file.is_file())
    for damage in (chunk.unlink, lambda: (path / "latitude/c/0").write_bytes(b"")):
        damage()
        xr.testing.assert_identical(write(planet, path, num_members=1).load(), whole)


def test_other_settings_replace_it(planet: PreparedStore, tmp_path: Path) -> None:
    path = tmp_path / "perfect_model.zarr"
    first = write(planet, path, num_members=1).load()
    assert "spread" not in {file.name for file in path.iterdir()}
    second = write(planet, path, num_members=1, seed=4).load()
    assert not first["geopotential"].equals(second["geopotential"])


def test_a_deterministic_equation_is_truth(tmp_path: Path) -> None:
    config = make_burgers_config()
    store = prepare(config, tmp_path / "data.zarr")
    starts = store.times[config.test.contains(store.times)][::9]
    path = tmp_path / "perfect_model.zarr"
    like = forecasts_like(store, starts, 8)
    write_perfect_model(config, store, like, path, num_members=NUM_MEMBERS, seed=0)
    forecast, (name,) = open_forecast(path), config.prognostic
    truth = store.dataset()[name]
    later = truth.sel(time=forecast["init_time"] + forecast["lead_time"])
    np.testing.assert_allclose(forecast[name], later, atol=1e-5)
    assert "spread" not in {file.name for file in path.iterdir()}


def test_another_store_or_file_is_kept(planet: PreparedStore, tmp_path: Path) -> None:
    path = tmp_path / "perfect_model.zarr"
    path.write_text("mine")
    with rejects("output-exists", str(path)):
        write(planet, path)
    assert path.read_text() == "mine"


def test_a_simulator_that_does_not_continue_the_store_writes_nothing(
    planet: PreparedStore, tmp_path: Path
) -> None:
    config = make_planet_config(simulation=replace(PLANET, seed=1))
    with rejects("other-simulator", str(planet.path)):
        write(planet, tmp_path / "perfect_model.zarr", config)
    assert not list(tmp_path.iterdir())
