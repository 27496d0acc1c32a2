"""Perturbations, members that stand alone, and statistics without members."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.config import EnsembleConfig
from fourcastnet_afno.inference.ensemble import Perturber, summarize_members
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.integration import Integration
from fourcastnet_afno.inference.job import ForecastJob
from fourcastnet_afno.inference.rollout import forcings_from, rollout
from fourcastnet_afno.models.config import NoiseConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster as make_tiny
from tests.builders.experiments import make_states as states_of
from tests.builders.forecasters import (
    GRID,
    Growing,
    make_config,
    make_forecast,
    make_states,
)
from tests.fourcastnet_afno.forecaster.test_forecaster import make_forecaster


def histories(config: EnsembleConfig, pairs: list[tuple[int, int]], num_history: int = 1):  # noqa: ANN201
    stepper, data = Growing(num_history=num_history), make_states(40)
    states = InitialStates(data, stepper.spec, num_history, torch.device("cpu"))
    times = data["time"].values[[index for index, _ in pairs]]
    members = np.array([member for _, member in pairs])
    found = Perturber(config, states, stepper).histories(times, members)
    return found, states.read(times)


@pytest.mark.parametrize("kind", ["gaussian", "spherical"])
def test_a_member_is_the_same_alone_and_the_control_is_the_state(kind: str) -> None:
    config = EnsembleConfig(num_members=5, perturbation=kind, amplitude=0.3)  # type: ignore[arg-type]
    pairs = [(i, m) for i in (3, 5) for m in range(5)]
    together, given = histories(config, pairs)
    assert torch.equal(together[0], given[0])
    assert torch.equal(together[5], given[5])
    for index, pair in enumerate(pairs):
        alone, _ = histories(config, [pair])
        assert torch.equal(alone[0], together[index])
    differences = together - given
    different = {tuple(d.flatten()[:3].tolist()) for d in differences}
    assert len(different) == 9  # the two controls do not differ
    other, _ = histories(replace(config, seed=1), pairs)
    assert not torch.equal(other[1], together[1])


def test_gaussian_noise_has_the_size_that_was_asked_for_and_moves_the_whole_history() -> None:
    config = EnsembleConfig(num_members=200, perturbation="gaussian", amplitude=0.3)
    found, given = histories(config, [(4, m) for m in range(1, 200)], num_history=2)
    noise = found - given
    torch.testing.assert_close(noise[:, 0], noise[:, 1], rtol=0, atol=1e-6)
    assert noise[:, 0].std().item() == pytest.approx(0.3, rel=0.01)


def test_bred_vectors_are_the_growing_mode() -> None:
    """x -> A x with a channel that grows: what is bred is that channel alone, of given size."""

    class Linear(Growing):
        def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
            return state[:, -1] * torch.tensor([1.5, 0.2, 0.2])[:, None, None]

    stepper, data = Linear(), make_states(40)
    states = InitialStates(data, stepper.spec, 1, torch.device("cpu"))
    config = EnsembleConfig(
        num_members=3, perturbation="bred", amplitude=0.2, breeding_cycles=3, breeding_steps=4
    )
    times = data["time"].values[[20, 20, 20]]
    found = Perturber(config, states, stepper).histories(times, np.arange(3)) - states.read(times)
    assert torch.equal(found[0], torch.zeros_like(found[0]))
    weights = torch.from_numpy(GRID.area_weights()).float()
    for member in (1, 2):
        size = (weights * found[member].square()).mean().sqrt()
        assert size.item() == pytest.approx(0.2, rel=1e-5)
        assert found[member, 0, 1:].abs().max() < 1e-5
    assert not torch.allclose(found[1], found[2])


def test_lagged_members_start_earlier() -> None:
    config = EnsembleConfig(num_members=3, perturbation="lagged", lag_hours=12)
    found, given = histories(config, [(10, 0), (10, 2), (11, 1)])
    assert torch.equal(found[0], given[0])
    earlier, _ = histories(EnsembleConfig(), [(6, 0), (9, 0)])
    torch.testing.assert_close(found[1], earlier[0] + 4)
    torch.testing.assert_close(found[2], earlier[1] + 2)
    with rejects("no-times", "2019-12-31T12:00:00"):
        histories(config, [(2, 2)])
    with rejects("bad-setting", "ensemble.lag", "6h", "7h"):
        histories(replace(config, lag_hours=7), [(10, 1)])


def test_statistics_by_hand() -> None:
    fields = torch.tensor([1.0, 2.0, 4.0, 9.0])[:, None, None]
    mean, spread, quantiles = summarize_members(fields, [0.0, 0.25, 0.5, 1.0])
    assert mean.item() == 4
    assert spread.item() == pytest.approx(math.sqrt((9 + 4 + 0 + 25) / 3))
    assert quantiles.flatten().tolist() == [1.0, 1.75, 3.0, 9.0]
    assert summarize_members(fields[:1], [])[1].isnan().all()


def test_quantiles_are_numpys() -> None:
    fields = torch.randn(11, 4, 5, generator=torch.Generator().manual_seed(0))
    levels = [0.05, 0.3, 0.77, 0.9]
    found = summarize_members(fields, levels)[2]
    np.testing.assert_allclose(found, np.quantile(fields.numpy(), levels, axis=0), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_written_statistics_are_those_of_the_written_members(
    tmp_path: Path, batch_size: int
) -> None:
    options = {"num_members": 6, "perturbation": "gaussian", "batch_size": batch_size}
    options |= {"times": make_states()["time"].values[1:4], "num_steps": 3}
    members = make_forecast(tmp_path / "members.zarr", **options)
    mean = make_forecast(
        tmp_path / "statistics.zarr", **options, output="statistics", quantiles=[0.1, 0.5]
    )
    assert "realization" not in mean.dims
    assert mean["2m_temperature"].attrs["cell_methods"] == "realization: mean"
    group: dict = {"consolidated": False, "decode_timedelta": True}
    spread = xr.open_zarr(tmp_path / "statistics.zarr", group="spread", **group)
    quantiles = xr.open_zarr(tmp_path / "statistics.zarr", group="quantiles", **group)
    for name in ("geopotential", "2m_temperature"):
        values = members[name]
        np.testing.assert_allclose(mean[name], values.mean("realization"), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(spread[name], values.std("realization", ddof=1), rtol=1e-3)
        expected = values.compute().quantile([0.1, 0.5], "realization")
        np.testing.assert_allclose(quantiles[name], expected, rtol=1e-4, atol=1e-5)


def test_statistics_are_over_the_members_that_are_left(tmp_path: Path) -> None:
    options = {"num_members": 4, "perturbation": "gaussian", "amplitude": 1.0, "limit": 6.0}
    stepper = Growing(factor=1.3, std=1.0)
    members = make_forecast(tmp_path / "members.zarr", stepper, **options)
    mean = make_forecast(tmp_path / "mean.zarr", stepper, **options, output="statistics")
    ended = members["2m_temperature"].isnull().any(["latitude", "longitude"])
    assert 0 < int(ended.sum()) < ended.size
    expected = members["2m_temperature"].mean("realization", skipna=True)
    np.testing.assert_allclose(mean["2m_temperature"], expected, rtol=1e-4, atol=1e-5)


def test_one_member_alone_is_that_member(tmp_path: Path) -> None:
    options = {"num_members": 5, "perturbation": "spherical", "batch_size": 3}
    whole = make_forecast(tmp_path / "whole.zarr", **options)
    alone = make_forecast(tmp_path / "alone.zarr", **options, members=[3])
    assert alone["realization"].values.tolist() == [3]
    xr.testing.assert_equal(alone, whole.sel(realization=[3]))


def test_members_take_turns_with_the_checkpoints(tmp_path: Path) -> None:
    further = (Growing(factor=2.0), Growing(factor=3.0))
    first = Growing(factor=1.1)
    written = make_forecast(
        tmp_path / "f.zarr",
        first,
        num_members=5,
        checkpoints=["b", "c"],
        further=further,
        batch_size=20,
    )
    initial = make_states()["2m_temperature"].values[1]
    for member, factor in enumerate([1.1, 2.0, 3.0, 1.1, 2.0]):
        found = written["2m_temperature"].sel(realization=member).isel(init_time=0, lead_time=0)
        np.testing.assert_allclose(found, factor * initial + 1, rtol=1e-5, atol=1e-6)
    other = Growing(LatLonGrid.equiangular(8, 16))
    with rejects("other-configuration", "forecaster 1", "grid"):
        make_forecast(tmp_path / "g.zarr", num_members=2, checkpoints=["b"], further=(other,))


def test_stochastic_members_are_the_same_alone_and_the_control_drops_nothing(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    forecaster = make_forecaster(num_history=2).eval()
    for module in forecaster.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    channels = forecaster.spec.channels
    rng = np.random.default_rng(0)
    times = np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(6, "h")
    mean = np.array([1e5, 280])[:, None, None]
    fields = (mean + rng.standard_normal((6, 2, 6, 12))).astype("f4")
    data = channels.unstack(fields, {"time": times, **GRID.coords})

    def run(name: str, **changes: object) -> xr.Dataset:
        changes |= {"num_members": 3, "stochastic": True}
        return make_forecast(tmp_path / name, forecaster, data, times[2:4], **changes)

    whole, alone = run("a.zarr", batch_size=6), run("b.zarr", members=[2], batch_size=1)
    xr.testing.assert_equal(alone, whole.sel(realization=[2]))
    assert not forecaster.training
    with torch.inference_mode():
        history = torch.from_numpy(fields[1:3])[None]
        steps = rollout(forecaster, history, forcings_from(forecaster, times[2:3]), 5)
        expected = channels.stack(whole.sel(realization=0).isel(init_time=0)).values
        np.testing.assert_allclose(expected, torch.cat(list(steps)), rtol=1e-6)
    assert not np.allclose(whole["temperature"][0, 1], whole["temperature"][0, 2], atol=1e-7)


def test_what_cannot_drop_is_refused(tmp_path: Path) -> None:
    with rejects("bad-setting", "drop_path_rate"):
        make_forecast(tmp_path / "f.zarr", num_members=2, stochastic=True)
    assert not list(tmp_path.iterdir())


def make_noisy() -> tuple[Forecaster, xr.Dataset]:
    """A forecaster whose weights of noise are not zero, and states to start from."""
    noise = NoiseConfig(length_scales=[4000.0], channels=2, memory_hours=12.0, width=4)
    forecaster = make_tiny(noise=noise).eval().requires_grad_(False)
    for name, parameter in forecaster.named_parameters():
        if "modulation" in name:
            parameter.fill_(3.0)
    times = np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(6, "h")
    fields = states_of(forecaster, len(times)).numpy()
    return forecaster, forecaster.spec.channels.unstack(fields, {"time": times, **GRID.coords})


def test_members_of_a_model_with_noise_are_the_same_alone_and_in_any_batch(tmp_path: Path) -> None:
    forecaster, data = make_noisy()
    times = data["time"].values[1:3]
    options = {"num_members": 3, "num_steps": 3}
    whole = make_forecast(tmp_path / "a.zarr", forecaster, data, times, **options, batch_size=6)
    alone = make_forecast(
        tmp_path / "b.zarr", forecaster, data, times[1:], **options, members=[2], batch_size=1
    )
    xr.testing.assert_equal(alone, whole.sel(realization=[2]).isel(init_time=[1]))
    spread = whole["2m_temperature"].std("realization").mean(["latitude", "longitude"])
    assert (spread > 0.001).values.all()


@pytest.mark.parametrize("kind", ["gaussian", "bred", "lagged"])
def test_noise_of_the_model_and_perturbations_combine(tmp_path: Path, kind: str) -> None:
    forecaster, data = make_noisy()
    times = data["time"].values[5:]
    options = {"perturbation": kind, "lag_hours": 6, "breeding_cycles": 1, "breeding_steps": 2}
    common = {"num_members": 2, "num_steps": 1}
    perturbed = make_forecast(tmp_path / "a.zarr", forecaster, data, times, **options, **common)
    plain = make_forecast(tmp_path / "b.zarr", forecaster, data, times, **common)
    xr.testing.assert_equal(perturbed.sel(realization=0), plain.sel(realization=0))
    assert not perturbed.sel(realization=1).equals(plain.sel(realization=1))


def test_a_forecast_with_noise_resumes_with_the_same_bits() -> None:
    forecaster, data = make_noisy()
    times, members = data["time"].values[1:3], np.array([0, 4])
    job = ForecastJob(
        steppers=[forecaster], dataset=data, init_times=times, config=make_config(num_members=5)
    )
    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        first, second = (Integration(job, 0, times, members, pool) for _ in range(2))
        first.start()
        first.advance()
        first.advance()
        tensors = {name: tensor.clone() for name, tensor in first.tensors().items()}
        expected = [first.advance().fields for _ in range(2)]
        second.restart(tensors, 2)
        assert all(torch.equal(second.advance().fields, fields) for fields in expected)


def test_members_that_nothing_tells_apart_are_rejected(tmp_path: Path) -> None:
    with rejects("bad-setting", "3 members", "model.noise", "forecast.ensemble.perturbation"):
        make_forecast(tmp_path / "f.zarr", num_members=3)
    forecaster, data = make_noisy()
    silent = {"num_members": 3, "num_steps": 1, "noise_amplitude": 0.0}
    with rejects("bad-setting", "3 members", "noise_amplitude"):
        make_forecast(tmp_path / "g.zarr", forecaster, data, data["time"].values[1:2], **silent)
    assert not list(tmp_path.iterdir())
