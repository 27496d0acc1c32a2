"""Checkpoints run by earth2studio's own workflows; skipped where it is not installed."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.forecaster.config import DiagnosticConfig
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference.perturbations import noise_of
from fourcastnet_afno.inference.rollout import forcings_from, rollout
from fourcastnet_afno.interop.earth2studio import Earth2StudioDiagnostic, Earth2StudioForecaster
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states

earth2studio = pytest.importorskip("earth2studio", reason="needs the extra interop")
pytestmark = pytest.mark.filterwarnings("default")  # of its dependencies

TIMES = np.array(["2020-01-01T00", "2020-03-01T12"], dtype="datetime64[ns]")
NUM_STEPS = 3


@pytest.fixture(params=[1, 2])
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return make_forecaster(num_history=request.param).eval()


def noisy() -> Forecaster:
    noise = NoiseConfig(length_scales=[4000.0], channels=1, memory_hours=12.0)
    forecaster = make_forecaster(noise=noise).eval()
    for name, parameter in forecaster.named_parameters():
        if "modulation" in name:  # which starts without effect
            torch.nn.init.constant_(parameter, 3.0)
    return forecaster


def source(forecaster: Forecaster, folder: Path, names: list[str]):  # noqa: ANN201
    """The states before both initial times as a file that earth2studio reads."""
    from earth2studio.data import DataArrayFile

    step = forecaster.spec.timestep
    times = np.sort(np.concatenate([TIMES - i * step for i in range(forecaster.num_history)]))
    coords = forecaster.spec.grid.coords
    states = make_states(forecaster, len(times)).numpy()
    array = xr.DataArray(
        states,
        dims=("time", "variable", "lat", "lon"),
        coords={
            "time": times,
            "variable": names,
            "lat": coords["latitude"],
            "lon": coords["longitude"],
        },
    )
    path = folder / "states.nc"
    array.to_netcdf(path)
    return DataArrayFile(str(path)), array


def history_of(forecaster: Forecaster, array: xr.DataArray, times: np.ndarray) -> Tensor:
    step = forecaster.spec.timestep
    offsets = np.arange(1 - forecaster.num_history, 1) * step
    return torch.from_numpy(array.sel(time=(times[:, None] + offsets).ravel()).values).reshape(
        len(times), len(offsets), *array.shape[1:]
    )


def expected(forecaster: Forecaster, array: xr.DataArray, members: int = 1) -> Tensor:
    """States (member, time, lead, channel, lat, lon) of our own rollout."""
    times = np.tile(TIMES, members)
    numbers = np.repeat(np.arange(members), len(TIMES))
    initial = history_of(forecaster, array, times)
    forcings = forcings_from(forecaster, times, noise_of(forecaster, 0, times, numbers))
    with torch.no_grad():
        states = [initial[:, -1], *rollout(forecaster, initial, forcings, NUM_STEPS)]
    return torch.stack(states, dim=1).unflatten(0, (members, len(TIMES)))


def names_of(model: Earth2StudioForecaster) -> list[str]:
    return [str(name) for name in model.input_coords()["variable"]]


def fields_of(io, names: list[str]) -> np.ndarray:  # noqa: ANN001
    """(..., time, lead, variable, lat, lon) of an output."""
    return np.stack([io[name][:] for name in names], axis=-3)


def test_it_meets_the_protocols(forecaster: Forecaster) -> None:
    from earth2studio.models.dx import DiagnosticModel
    from earth2studio.models.px import PrognosticModel

    assert isinstance(Earth2StudioForecaster(forecaster), PrognosticModel)
    assert isinstance(Earth2StudioDiagnostic(*make_head(forecaster)), DiagnosticModel)


def test_deterministic_forecasts_are_those_of_rollout_bit_for_bit(
    forecaster: Forecaster, tmp_path: Path
) -> None:
    from earth2studio.io import ZarrBackend
    from earth2studio.run import deterministic

    model = Earth2StudioForecaster(forecaster)
    data, array = source(forecaster, tmp_path, names_of(model))
    io = ZarrBackend(str(tmp_path / "out.zarr"))
    deterministic(list(TIMES), NUM_STEPS, model, data, io, device=torch.device("cpu"))
    found = fields_of(io, names_of(model))
    assert np.array_equal(found, expected(forecaster, array)[0].numpy())
    leads = np.arange(NUM_STEPS + 1) * np.timedelta64(6, "h")
    assert (io.coords["lead_time"] == leads).all()


@pytest.mark.parametrize("batch_size", [None, 2])
def test_members_of_an_ensemble_are_those_of_rollout(
    tmp_path: Path, batch_size: int | None
) -> None:
    from earth2studio.io import KVBackend
    from earth2studio.perturbation import Zero
    from earth2studio.run import ensemble

    forecaster = noisy()
    model = Earth2StudioForecaster(forecaster)
    data, array = source(forecaster, tmp_path, names_of(model))
    io = KVBackend()
    cpu = torch.device("cpu")
    ensemble(list(TIMES), NUM_STEPS, 3, model, data, io, Zero(), batch_size=batch_size, device=cpu)
    found = torch.from_numpy(fields_of(io, names_of(model)))
    states = expected(forecaster, array, members=3)
    if batch_size is None:
        assert torch.equal(found, states)
    torch.testing.assert_close(found, states, rtol=1e-5, atol=1e-2)
    assert (found[0, :, 1:] != found[1, :, 1:]).any()
    assert (found[1, :, 1:] != found[2, :, 1:]).any()


def test_initial_perturbations_of_earth2studio_reach_the_forecast(tmp_path: Path) -> None:
    from earth2studio.io import KVBackend
    from earth2studio.perturbation import Gaussian
    from earth2studio.run import ensemble

    forecaster = make_forecaster().eval()
    model = Earth2StudioForecaster(forecaster)
    data, _ = source(forecaster, tmp_path, names_of(model))
    io = KVBackend()
    ensemble(list(TIMES), 1, 2, model, data, io, Gaussian(1.0), device=torch.device("cpu"))
    found = fields_of(io, names_of(model))
    assert (found[0] != found[1]).any(axis=(-1, -2)).all()


def make_head(forecaster: Forecaster) -> tuple[DiagnosticHead, Forecaster]:
    config = DiagnosticConfig(
        network=AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=1, num_blocks=2)
    )
    channels = Channels((Channel(name="total_precipitation", units="m"),))
    one = torch.ones(1)
    return DiagnosticHead(config, forecaster, channels, mean=one, std=one).eval(), forecaster


def test_a_head_runs_behind_its_forecaster(tmp_path: Path) -> None:
    from earth2studio.io import KVBackend
    from earth2studio.run import diagnostic

    forecaster = make_forecaster().eval()
    head, _ = make_head(forecaster)
    model, further = Earth2StudioForecaster(forecaster), Earth2StudioDiagnostic(head, forecaster)
    data, array = source(forecaster, tmp_path, names_of(model))
    io = KVBackend()
    cpu = torch.device("cpu")
    diagnostic(list(TIMES), NUM_STEPS, model, further, data, io, device=cpu)
    states = expected(forecaster, array)[0]
    with torch.no_grad():
        fields = [head(states[:, lead])[:, 0] for lead in range(NUM_STEPS + 1)]
    assert torch.equal(torch.as_tensor(io["tp"][:]), torch.stack(fields, dim=1))


def inputs(model: Earth2StudioForecaster) -> tuple[Tensor, OrderedDict[str, np.ndarray]]:
    coords = model.input_coords()
    del coords["batch"]
    coords["time"] = TIMES
    states = make_states(model.forecaster, len(TIMES), len(coords["lead_time"]))
    return states, coords


def test_a_call_is_a_step_of_the_iterator_and_axes_in_front_are_kept(
    forecaster: Forecaster,
) -> None:
    model = Earth2StudioForecaster(forecaster)
    x, coords = inputs(model)
    coords = OrderedDict({"ensemble": np.arange(1), **coords})
    following, reached = model(x[None], coords)
    iterator = model.create_iterator(x[None], coords)
    next(iterator)
    again, axes = next(iterator)
    assert torch.equal(following, again)
    assert list(reached) == list(axes) == list(coords)
    assert following.shape == (1, 2, 1, *x.shape[-3:])
    assert reached["lead_time"] == [np.timedelta64(6, "h")]
    assert {*map(str, model.output_coords(coords))} == {*coords}


def test_hooks_see_and_change_the_states(forecaster: Forecaster) -> None:
    model = Earth2StudioForecaster(forecaster)
    x, coords = inputs(model)
    seen = []
    model.front_hook = lambda x, coords: (x, seen.append(coords["lead_time"][-1]) or coords)
    model.rear_hook = lambda x, coords: (torch.zeros_like(x), coords)
    iterator = model.create_iterator(x, coords)
    fields = [next(iterator)[0] for _ in range(3)]
    assert torch.equal(fields[0][:, 0], x[:, -1])
    assert not fields[1].any()
    assert not fields[2].any()
    assert seen == [np.timedelta64(0, "h"), np.timedelta64(6, "h")]


def test_a_stopped_run_resumes_to_the_same_fields(tmp_path: Path) -> None:
    from earth2studio.io import KVBackend
    from earth2studio.run import deterministic
    from earth2studio.utils.checkpoint import Checkpoint

    forecaster = noisy()
    folder, cpu = tmp_path / "kept", torch.device("cpu")

    def run(num_steps: int, io: object, **options: object) -> None:
        model = Earth2StudioForecaster(forecaster)
        data, _ = source(forecaster, tmp_path, names_of(model))
        deterministic(list(TIMES), num_steps, model, data, io, device=cpu, **options)

    whole, parts = KVBackend(), KVBackend()
    run(NUM_STEPS, whole)
    run(1, KVBackend(), checkpoint=Checkpoint("run", path=folder, level=2))
    run(NUM_STEPS, parts, checkpoint=Checkpoint("run", path=folder, level=2))
    names = names_of(Earth2StudioForecaster(forecaster))
    assert np.array_equal(fields_of(whole, names)[:, 2:], fields_of(parts, names)[:, 2:])


def test_a_package_holds_the_checkpoint(forecaster: Forecaster, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.safetensors", forecaster, {}, {})
    model = Earth2StudioForecaster.from_pretrained(str(tmp_path))
    x, coords = inputs(model)
    found, _ = model(x, coords)
    assert torch.equal(found, Earth2StudioForecaster(forecaster)(x, coords)[0])
    with rejects("missing-file", "other.safetensors"):
        Earth2StudioForecaster.load_model(
            earth2studio.models.auto.Package(str(tmp_path)), "other.safetensors"
        )


def test_other_axes_are_rejected(forecaster: Forecaster) -> None:
    model = Earth2StudioForecaster(forecaster)
    x, coords = inputs(model)
    with rejects("channels-mismatch", "z500"):
        model(x, OrderedDict(coords, variable=np.array(["z500", "q700"])))
    with rejects("grid-mismatch", "lat", "6"):
        model(x, OrderedDict(coords, lat=np.linspace(90, -90, 6)))
    with rejects("timestep-mismatch", "lead_time"):
        model(x, OrderedDict(coords, lead_time=np.arange(3) * np.timedelta64(1, "h")))
    with rejects("wrong-dimensions", "lon"):
        model(x, OrderedDict(list(coords.items())[::-1]))


def test_steps_of_months_are_rejected(forecaster: Forecaster) -> None:
    spec = forecaster.spec
    forecaster.spec = FieldSpec(
        channels=spec.channels,
        static_channels=spec.static_channels,
        forcings=(),
        grid=spec.grid,
        step=Timestep.parse("1MS"),
    )
    with rejects("timestep-mismatch", "month"):
        Earth2StudioForecaster(forecaster)
