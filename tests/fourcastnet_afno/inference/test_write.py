"""What is written: values, layout, faults, and work that is interrupted or shared."""

import errno
import json
import multiprocessing
import random
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.inference.open import open_diagnostics, open_forecast
from fourcastnet_afno.inference.store import ForecastStore, bit_rounded
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.report.rows import stability
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, contents, make_config, make_states

ALONE: dict[str, str] = {}


def write(path: Path, stepper: Growing | None = None, **changes: object) -> xr.Dataset | None:
    options = {
        k: changes.pop(k)
        for k in ("existing", "environment", "report", "restart_every")
        if k in changes
    }
    data = make_states()
    config = make_config(**changes)
    times = data["time"].values[1:8]
    options.setdefault("environment", ALONE)
    return write_forecast(stepper or Growing(), data, times, config, path, {}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunks", ["init_time", "lead_time"])
@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_values_are_those_of_the_stepper(tmp_path: Path, chunks: str, suffix: str) -> None:
    written = write(tmp_path / f"f.{suffix}", chunks=chunks)
    assert written is not None
    states = make_states()
    for step in range(5):
        expected = states.isel(time=slice(1, 8)).rename(time="init_time") + (step + 1)
        found = written.isel(lead_time=step).drop_vars(["lead_time", "valid_time"])
        # A store lists levels as it likes: compare label by label.
        xr.testing.assert_allclose(found.sel(level=expected["level"]), expected, rtol=1e-6)
    written.close()


@pytest.mark.parametrize("chunks", ["init_time", "lead_time"])
def test_the_layout_is_weatherbench2s(tmp_path: Path, chunks: str) -> None:
    write(tmp_path / "f.zarr", chunks=chunks, num_members=3, perturbation="gaussian")
    stored = xr.open_zarr(tmp_path / "f.zarr", consolidated=False, decode_timedelta=True)
    dims = ("time", "realization", "prediction_timedelta", "level", "latitude", "longitude")
    assert stored["geopotential"].dims == dims
    assert stored["2m_temperature"].dims == tuple(d for d in dims if d != "level")
    assert stored["geopotential"].attrs["units"] == "m2 s-2"
    assert stored["2m_temperature"].attrs["standard_name"] == "air_temperature"
    assert stored["time"].attrs["standard_name"] == "forecast_reference_time"
    assert stored["prediction_timedelta"].attrs["standard_name"] == "forecast_period"
    assert stored["latitude"].attrs["units"] == "degrees_north"
    assert stored.attrs["Conventions"].startswith("CF-")
    hours = stored["prediction_timedelta"].values / np.timedelta64(1, "h")
    assert hours.tolist() == [6, 12, 18, 24, 30]
    expected = {"init_time": (1, 1, 5, 1, 6, 12), "lead_time": (1, 3, 1, 1, 6, 12)}[chunks]
    assert tuple(c[0] for c in stored["geopotential"].chunks) == expected
    meta = json.loads((tmp_path / "f.zarr" / "zarr.json").read_text())
    assert meta["zarr_format"] == 3


def test_names_are_translated_at_the_border(tmp_path: Path) -> None:
    written = write(tmp_path / "f.zarr")
    assert written is not None
    assert written["2m_temperature"].dims == ("init_time", "lead_time", "latitude", "longitude")
    valid = written["valid_time"].isel(init_time=2, lead_time=3).values
    assert valid == np.datetime64("2020-01-01T18", "ns") + np.timedelta64(24, "h")
    with rejects("missing-file", str(tmp_path / "nothing.zarr")):
        open_forecast(tmp_path / "nothing.zarr")
    make_states().to_zarr(tmp_path / "other.zarr", consolidated=False)
    with rejects("other-format", "['prediction_timedelta']"):
        open_forecast(tmp_path / "other.zarr")


def test_variables_and_levels_are_selected(tmp_path: Path) -> None:
    written = write(tmp_path / "a.zarr", variables=["geopotential"], levels=[500])
    assert written is not None
    assert list(written.data_vars) == ["geopotential"]
    assert written["level"].values.tolist() == [500]
    whole = write(tmp_path / "b.zarr")
    assert whole is not None
    xr.testing.assert_equal(
        written["geopotential"].drop_attrs(), whole["geopotential"].sel(level=[500]).drop_attrs()
    )
    one = write(tmp_path / "c.zarr", variables=["z850", "t2m"])
    assert one is not None
    assert sorted(map(str, one.data_vars)) == ["2m_temperature", "geopotential"]
    assert one["level"].values.tolist() == [850]
    with rejects("missing-variable", "['humidity', 'level 300']"):
        write(tmp_path / "d.zarr", variables=["humidity", "2m_temperature"], levels=[300])
    assert not list(tmp_path.glob("*d.zarr*"))


@pytest.mark.parametrize("bits", [1, 7, 12, 22])
def test_the_stated_rounding_error_holds_and_is_reached(bits: int) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(20_000) * 10 ** rng.uniform(-20, 20, 20_000)).astype("f4")
    error = np.abs(bit_rounded(values, bits).astype("f8") - values) / np.abs(values)
    assert 0.75 * 2.0 ** -(bits + 1) < error.max() <= 2.0 ** -(bits + 1)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], "f4")
    np.testing.assert_array_equal(bit_rounded(special, bits), special)


def test_rounding_is_stated_and_saves_space(tmp_path: Path) -> None:
    whole, rounded = write(tmp_path / "a.zarr"), write(tmp_path / "b.zarr", keep_bits=7)
    assert whole is not None
    assert rounded is not None
    name = "2m_temperature"
    assert rounded[name].attrs["quantization_maximum_relative_error"] == 2**-8
    error = np.abs(rounded[name] / whole[name] - 1).max()
    assert 0 < error <= 2**-8
    sizes = [sum(map(len, contents(tmp_path / f"{x}.zarr" / name).values())) for x in "ab"]
    assert sizes[1] < 0.7 * sizes[0]


def test_without_compression_chunks_are_the_values(tmp_path: Path) -> None:
    written = write(tmp_path / "f.zarr", compression="none", chunks="lead_time")
    assert written is not None
    raw = (tmp_path / "f.zarr" / "2m_temperature" / "c/0/2/0/0").read_bytes()
    expected = written["2m_temperature"].isel(init_time=slice(0, 4), lead_time=[2]).values
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(expected.shape), expected)


def test_a_history_of_two_moves_on(tmp_path: Path) -> None:
    written = write(tmp_path / "f.zarr", Growing(num_history=2))
    assert written is not None
    before, now = (make_states().isel(time=i)["2m_temperature"].values for i in (0, 1))
    found = written["2m_temperature"].isel(init_time=0).values
    for step, (a, b) in enumerate([(1, 1), (1, 2), (2, 3), (3, 5), (5, 8)]):  # Fibonacci
        np.testing.assert_allclose(found[step], a * before + b * now, rtol=1e-4, atol=1e-5)


class Averaging(Growing):
    """A diagnostic model: the mean of the geopotentials."""

    channels = Channels((Channel(name="mean_geopotential", units="m2 s-2"),))

    def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
        return state[:, -1, :2].mean(dim=1, keepdim=True)


def test_diagnostic_models_see_the_new_state_and_are_not_fed_back(tmp_path: Path) -> None:
    data = make_states()
    written = write_forecast(
        Growing(),
        data,
        data["time"].values[:2],
        make_config(),
        tmp_path / "f.zarr",
        {},
        diagnostic=Averaging(),
        environment=ALONE,
    )
    assert written is not None
    expected = written["geopotential"].mean("level")
    np.testing.assert_allclose(written["mean_geopotential"], expected, rtol=1e-5, atol=1e-6)
    initial = data["2m_temperature"].values[:2, None]
    found = written["2m_temperature"].values
    np.testing.assert_allclose(
        found - initial, np.arange(1, 6)[:, None, None] + 0 * found, rtol=1e-5
    )


# Interrupted and shared work


def write_slowly(path: Path, seconds: float, options: dict) -> None:
    """In a process of its own, a little time for each part; statistics too."""
    original = ForecastStore.write

    def slow(*arguments: object, **named: object) -> None:
        time.sleep(seconds)
        original(*arguments, **named)  # type: ignore[arg-type]

    ForecastStore.write = slow  # type: ignore[method-assign]
    write(path, **options, restart_every=10)


def start(path: Path, options: dict) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=write_slowly, args=(path, 0.004, options))
    process.start()
    return process


LONG = {
    "num_steps": 40,
    "batch_size": 12,
    "chunks": "lead_time",
    "num_members": 3,
    "perturbation": "gaussian",
    "output": "statistics",
    "quantiles": [0.5],
}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    path, generator = tmp_path / "killed.zarr", random.Random(0)
    work = tmp_path / ".killed.zarr.partial"

    def parts() -> int:
        return sum(p.read_bytes().count(b"\n") for p in work.glob("ledger-*"))

    for _ in range(4):
        before = parts()
        process = start(path, LONG)
        while parts() < before + generator.choice([1, 7, 15]) and process.is_alive():
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert parts() > before
    write(path, **LONG)
    write(tmp_path / "whole.zarr", **LONG)
    assert contents(path) == contents(tmp_path / "whole.zarr")
    assert not work.exists()


class Failing:
    """Lets a number of writes pass, then raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
        self.left, self.error = writes, error
        self.original = ForecastStore.write
        monkeypatch.setattr(ForecastStore, "write", lambda *a, **k: self(*a, **k))

    def __call__(self, *arguments: object, **named: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error
        self.original(*arguments, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("writes", "suffix"), [(0, "zarr"), (1, "zarr"), (7, "zarr"), (12, "zarr"), (20, "nc")]
)
def test_interrupted_it_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, suffix: str
) -> None:
    options = {"num_steps": 12, "chunks": "lead_time", "batch_size": 4, "restart_every": 5}
    path = tmp_path / f"f.{suffix}"
    with monkeypatch.context() as patch:
        Failing(patch, writes, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write(path, **options)
    assert not path.exists()
    steps = []
    monkeypatch.setattr(
        Growing,
        "__call__",
        lambda self, state, forcing: (steps.append(1), self.factor * state[:, -1] + 1)[1],
    )
    first = write(path, **options)
    second = write(tmp_path / f"whole.{suffix}", **options)
    assert first is not None
    assert second is not None
    xr.testing.assert_identical(first.load(), second.load())
    first.close()
    second.close()
    if suffix == "zarr":
        assert contents(path) == contents(tmp_path / "whole.zarr")
    # At most the steps since the last restart file are taken again.
    assert len(steps) - 24 <= 24 - writes + 6


def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    options = {"num_members": 2, "perturbation": "spherical", "batch_size": 3}
    write(tmp_path / "one.zarr", **options)
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    told: list[str] = []
    first = write(tmp_path / "two.zarr", environment=ranks[0], report=told.append, **options)
    assert first is None
    assert "other processes have not" in told[0]
    assert not (tmp_path / "two.zarr").exists()
    assert write(tmp_path / "two.zarr", environment=ranks[1], **options) is not None
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "two.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"one.zarr", "two.zarr"}


@pytest.mark.slow
def test_processes_at_the_same_time_write_the_bytes_of_one(tmp_path: Path) -> None:
    write(tmp_path / "one.zarr", **LONG)
    processes = [
        start(tmp_path / "two.zarr", {**LONG, "environment": environment})
        for environment in ({"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2))
    ]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "two.zarr")


def test_work_of_four_processes_is_finished_by_one(tmp_path: Path) -> None:
    for rank in (1, 3):
        write(tmp_path / "f.zarr", environment={"RANK": str(rank), "WORLD_SIZE": "4"}, batch_size=1)
    assert not (tmp_path / "f.zarr").exists()
    write(tmp_path / "f.zarr", batch_size=1)
    write(tmp_path / "one.zarr", batch_size=1)
    assert contents(tmp_path / "f.zarr") == contents(tmp_path / "one.zarr")


@pytest.mark.parametrize("existing", ["refuse", "overwrite"])
def test_a_process_that_comes_too_late_finds_the_output(tmp_path: Path, existing: str) -> None:
    """Two processes for one unit of work: nothing is left for the second."""
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    options = {"batch_size": 7, "existing": existing}
    assert write(tmp_path / "f.zarr", environment=ranks[0], **options) is not None
    before = contents(tmp_path / "f.zarr")
    assert write(tmp_path / "f.zarr", environment=ranks[1], **options) is not None
    assert contents(tmp_path / "f.zarr") == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.zarr"]


# Faults


def test_an_output_that_exists_is_refused_resumed_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    write(path, existing="refuse")
    before = contents(path)
    with rejects("output-exists", "f.zarr", "--existing overwrite"):
        write(path, existing="refuse")
    assert write(path, existing="resume") is not None  # these very forecasts: nothing to do
    with rejects("output-exists", "f.zarr"):
        write(path, existing="resume", num_steps=3)
    assert contents(path) == before
    replaced = write(path, existing="overwrite", num_steps=3)
    assert replaced is not None
    assert replaced.sizes["lead_time"] == 3


def test_interrupted_work_of_other_settings_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.zarr"
    with monkeypatch.context() as patch:
        Failing(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write(path)
    with rejects("other-configuration", "forecast.num_steps"):
        write(path, existing="resume", num_steps=3)
    written = write(path, existing="overwrite", num_steps=3)
    assert written is not None
    assert written.sizes["lead_time"] == 3


def test_a_full_disk_keeps_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.zarr"
    with monkeypatch.context() as patch:
        Failing(patch, 3, OSError(errno.ENOSPC, "No space left on device"))
        with rejects("disk-full", "f.zarr"):
            write(path, chunks="lead_time")
    assert not path.exists()
    assert (tmp_path / ".f.zarr.partial" / "ledger-0.jsonl").read_text().count("\n") == 3
    write(path, chunks="lead_time")
    write(tmp_path / "whole.zarr", chunks="lead_time")
    assert contents(path) == contents(tmp_path / "whole.zarr")


def test_a_small_disk_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with rejects("disk-full", "the forecasts", "0.00 GiB free"):
        write(tmp_path / "f.zarr", compression="none")
    assert not list(tmp_path.iterdir())


def test_nan_in_the_initial_state_is_named(tmp_path: Path) -> None:
    data = make_states()
    data["2m_temperature"][3, 2, 5] = np.nan
    with rejects("not-finite", "1 values", "2m_temperature at 2020-01-01T18"):
        write_forecast(
            Growing(), data, data["time"].values[2:5], make_config(), tmp_path / "f.zarr", {},
            environment=ALONE,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_stepper_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(Growing):
        def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write(tmp_path / "f.zarr", Broken())
    assert not (tmp_path / "f.zarr").exists()


def test_two_processes_of_one_rank_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    process = start(path, LONG)
    while not (tmp_path / ".f.zarr.partial" / "identity.json").exists():
        assert process.is_alive()
        time.sleep(0.005)
    with rejects("busy", str(path)):
        write(path, **LONG)
    process.kill()
    process.join()


# Blow-ups


def test_a_blow_up_ends_one_member_and_is_named(tmp_path: Path) -> None:
    data = make_states()
    data["geopotential"][3, 1, 2, 5] = 100.0  # at 2020-01-01T18, level 500 after 850
    told: list[str] = []
    written = write_forecast(
        Growing(factor=2.0, std=1.0),
        data,
        data["time"].values[2:5],
        make_config(limit=1000.0, num_steps=8, chunks="lead_time"),
        tmp_path / "f.zarr",
        {},
        environment=ALONE,
        report=told.append,
    )
    assert written is not None
    (record,) = json.loads(written.attrs["blow_ups"])[:1]
    level = int(data["level"][1])
    latitude, longitude = (float(data[axis][i]) for axis, i in (("latitude", 2), ("longitude", 5)))
    assert record["channel"] == f"geopotential_{level}"
    assert (record["latitude"], record["longitude"]) == (latitude, longitude)
    assert (record["init_time"], record["step"]) == ("2020-01-01T18:00:00", 4)  # 16 * 100 + 15
    assert float(record["value"]) == 1615.0
    assert told[0].startswith(
        f"the forecast from 2020-01-01T18:00:00 (member 0) blew up in step 4, after 24 h: "
        f"geopotential_{level} is 1615.0 at {latitude:g} N, {longitude:g} E"
    )
    ended = written.isel(init_time=1)
    assert ended.isel(lead_time=slice(0, 3)).notnull().all().to_array().all()
    assert ended.isel(lead_time=slice(3, None)).isnull().all().to_array().all()
    others = written.isel(init_time=[0, 2], lead_time=slice(0, 5))
    assert others.notnull().all().to_array().all()
    maximum = open_diagnostics(tmp_path / "f.zarr")["maximum"].sel(channel=record["channel"])
    np.testing.assert_array_equal(maximum[1, :4], [201, 403, 807, 1615])
    assert maximum[1, 4:].isnull().all()
    in_report = stability({"growing": written})["growing"]
    assert "of 3 forecasts blew up within 48 h, the first one, from 2020-01-01T" in in_report


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_the_report_says_whether_forecasts_stayed_bounded(tmp_path: Path, factor: float) -> None:
    written = write(tmp_path / "f.zarr", Growing(factor=factor, std=1.0), num_steps=3)
    assert written is not None
    told = stability({"growing": written})["growing"]
    assert "all 7 forecasts stayed within bounds for 18 h" in told
    assert f"to {factor**2:.2f} times what it was" in told


def test_when_all_have_ended_the_rest_is_nan(tmp_path: Path) -> None:
    written = write(tmp_path / "f.zarr", Growing(factor=100.0, std=1.0), num_steps=6)
    assert written is not None
    records = json.loads(written.attrs["blow_ups"])
    assert len(records) == 7
    assert written.isel(lead_time=5).isnull().all().to_array().all()
    statistics = open_diagnostics(tmp_path / "f.zarr")
    assert statistics["mean"].isel(lead_time=5).isnull().all()


# Memory


@pytest.mark.slow
def test_memory_does_not_depend_on_the_number_of_steps(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    peaks = []
    for num_steps in (10, 1000):
        queue = context.Queue()
        process = context.Process(
            target=peak_of, args=(tmp_path / f"{num_steps}.zarr", num_steps, queue)
        )
        process.start()
        peaks.append(queue.get())
        process.join()
    assert peaks[1] < 1.05 * peaks[0]


def peak_of(path: Path, num_steps: int, queue: multiprocessing.Queue) -> None:
    """Peak memory in bytes of forecasts whose fields would be 150 MB in all."""
    import resource

    grid = LatLonGrid.equiangular(32, 64)
    data = make_states(4, grid)
    config = make_config(num_steps=num_steps, chunks="lead_time", variables=["2m_temperature"])
    write_forecast(
        Growing(grid, factor=0.9), data, data["time"].values, config, path, {}, environment=ALONE
    )
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
