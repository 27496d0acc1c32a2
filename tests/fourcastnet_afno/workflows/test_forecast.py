"""`forecast --checkpoint C --source S ... --output F.zarr`, and what it refuses."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, read_checkpoint, save_checkpoint
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.rollout import forcings_from, rollout
from fourcastnet_afno.models.config import NoiseConfig
from fourcastnet_afno.workflows.forecast import open_initial_data
from tests.builders.errors import rejects
from tests.builders.experiments import (
    GRID,
    make_dataset,
    make_experiment,
    make_forecaster,
    make_untrained_run,
)


@dataclass
class Files:
    checkpoint: Path
    source: Path
    prepared: Path
    folder: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A checkpoint of fresh weights, as training leaves it, and the data it was made for."""
    folder = tmp_path_factory.mktemp("files")
    make_dataset().to_netcdf(folder / "data.nc")
    config = make_experiment(folder / "data.nc")
    checkpoint, store = make_untrained_run(config, folder / "run")
    return Files(checkpoint, folder / "data.nc", store.path, folder)


def forecast(files: Files, output: Path, *words: str, source: Path | None = None) -> int:
    return main(
        [
            "forecast",
            "--checkpoint",
            str(files.checkpoint),
            "--source",
            str(source or files.source),
            "--steps=3",
            "--output",
            str(output),
            *words,
        ]
    )


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["f.zarr", "f.nc"])
def test_a_checkpoint_and_a_source_are_enough(files: Files, tmp_path: Path, name: str) -> None:
    assert forecast(files, tmp_path / name, "--init-times", "2001-03-01..2001-03-05/48h") == 0
    written = open_forecast(tmp_path / name)
    inits = np.array(["2001-03-01", "2001-03-03", "2001-03-05"], "datetime64[ns]")
    np.testing.assert_array_equal(written["init_time"], inits)
    assert written.attrs["checkpoint"] == str(files.checkpoint)
    assert len(written.attrs["checkpoint_digest"]) == 16
    assert written.attrs["initial_data"] == str(files.source)
    assert written.attrs["patch_size"] == "3 x 3"
    assert json.loads(written.attrs["versions"])["torch"]
    forecaster, data = load_forecaster(files.checkpoint), make_dataset()
    history = inits[:1] - np.array([1, 0]) * np.timedelta64(1, "D")
    state = torch.from_numpy(forecaster.spec.channels.stack(data.sel(time=history)).values)[None]
    with torch.inference_mode():
        steps = rollout(forecaster, state, forcings_from(forecaster, inits[:1]), 3)
        expected = torch.cat(list(steps)).numpy()
    found = forecaster.spec.channels.stack(written.isel(init_time=0)).values
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    written.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_digest_depends_on_weights_and_not_on_the_time_that_training_took(
    files: Files, tmp_path: Path
) -> None:
    tensors, metadata = read_checkpoint(files.checkpoint)
    forecaster, copy = load_forecaster(files.checkpoint), tmp_path / "copy.safetensors"
    digests = []
    for seconds, change in ((1, 0.0), (2, 0.0), (2, 1.0)):
        changed = {name: t + change if name.endswith(".mean") else t for name, t in tensors.items()}
        save_checkpoint(copy, forecaster, changed, {**metadata, "seconds": seconds})
        output = tmp_path / f"{len(digests)}.zarr"
        words = ["forecast", f"--checkpoint={copy}", f"--source={files.source}", "--steps=1"]
        assert main([*words, "--init-times=2001-03-01", f"--output={output}"]) == 0
        digests.append(open_forecast(output).attrs["checkpoint_digest"])
    assert digests[0] == digests[1] != digests[2]


def test_prepared_data_is_a_source_and_the_default(files: Files, tmp_path: Path) -> None:
    words = ("--init-times=2001-03-01,2001-04-02",)
    assert forecast(files, tmp_path / "a.zarr", *words) == 0
    assert forecast(files, tmp_path / "b.zarr", *words, source=files.prepared) == 0
    given = ["forecast", f"--checkpoint={files.checkpoint}", "--steps=3", *words]
    assert main([*given, f"--output={tmp_path / 'c.zarr'}"]) == 0
    first, second, third = (open_forecast(tmp_path / f"{name}.zarr") for name in "abc")
    xr.testing.assert_equal(first, second)
    xr.testing.assert_equal(first, third)


def test_a_single_state_is_a_source(files: Files, tmp_path: Path) -> None:
    make_dataset().isel(time=[40, 41]).to_netcdf(tmp_path / "state.nc")
    assert forecast(files, tmp_path / "f.zarr", source=tmp_path / "state.nc") == 0
    written = open_forecast(tmp_path / "f.zarr")
    assert written["init_time"].values.tolist() == [
        make_dataset()["time"].values[41].astype("int64")
    ]


def test_a_run_folder_takes_init_times_too(files: Files, tmp_path: Path) -> None:
    words = ["forecast", f"--config={files.prepared.parent / 'config.yaml'}"]
    words += [f"--checkpoint={files.checkpoint}", f"--output={tmp_path}", "--steps=2"]
    words += [f"--data.store={files.prepared}"]
    assert main([*words, "--init-times=2001-02-03"]) == 0
    assert open_forecast(tmp_path / "forecast.zarr").sizes["init_time"] == 1
    assert main(words) == 0  # in a run folder the forecast is replaced
    assert open_forecast(tmp_path / "forecast.zarr").sizes["init_time"] > 1


def test_another_grid_is_taken_and_said_to_be(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(12, grid=LatLonGrid.equiangular(8, 16)).to_netcdf(tmp_path / "fine.nc")
    assert forecast(files, tmp_path / "f.zarr", source=tmp_path / "fine.nc") == 0
    assert "the data is on the grid 8 x 16" in capsys.readouterr().out
    written = open_forecast(tmp_path / "f.zarr")
    assert written.sizes["latitude"] == 8
    assert "network on 6 x 12" in written.attrs["regridded"]
    code = forecast(
        files, tmp_path / "g.zarr", "--forecast.regrid=false", source=tmp_path / "fine.nc"
    )
    assert code == 2
    assert "expects the grid 6 x 12" in refused(capsys)
    region = make_dataset(12).isel(longitude=slice(0, 5))
    region.to_netcdf(tmp_path / "region.nc")
    assert forecast(files, tmp_path / "h.zarr", source=tmp_path / "region.nc") == 2
    assert "is not covered by" in refused(capsys)


def test_members_of_a_model_with_noise_need_no_setting(files: Files, tmp_path: Path) -> None:
    """They differ, and each is the same without the others."""
    config = make_experiment(files.source)
    noise = NoiseConfig(length_scales=[2000.0], channels=2, memory_hours=24.0)
    config = replace(config, model=replace(config.model, noise=noise))
    checkpoint, _ = make_untrained_run(config, tmp_path / "run")
    forecaster = load_forecaster(checkpoint)
    for name, parameter in forecaster.named_parameters():
        if "modulation" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_checkpoint(checkpoint, forecaster, {}, {"config": config.to_yaml()})
    noisy = Files(checkpoint, files.source, files.prepared, files.folder)
    words = ["--init-times=2001-03-01,2001-03-05", "--members=3"]
    assert forecast(noisy, tmp_path / "all.zarr", *words) == 0
    assert forecast(noisy, tmp_path / "one.zarr", *words, "--forecast.ensemble.members=[2]") == 0
    together, alone = (open_forecast(tmp_path / f"{name}.zarr") for name in ("all", "one"))
    name = next(iter(together.data_vars))
    members = together[name].transpose("realization", ...).values
    assert all((members[i] != members[j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))
    np.testing.assert_array_equal(alone[name].transpose("realization", ...).values[0], members[2])


def test_an_ensemble_from_the_command_line(files: Files, tmp_path: Path) -> None:
    words = ["--init-times=2001-03-01", "--members=3", "--forecast.ensemble.stochastic=true"]
    words += ["--forecast.ensemble.output=statistics", "--forecast.ensemble.quantiles=[0.5]"]
    assert forecast(files, tmp_path / "f.zarr", *words) == 0
    spread = xr.open_zarr(
        tmp_path / "f.zarr", group="spread", consolidated=False, decode_timedelta=True
    )
    assert (spread["2m_temperature"] > 0).all()


# What is refused, before anything runs


def _without_variable(data: xr.Dataset) -> xr.Dataset:
    return data.drop_vars("2m_temperature")


def _in_celsius(data: xr.Dataset) -> xr.Dataset:
    data["2m_temperature"].attrs["units"] = "degC"
    return data


def _with_nan(data: xr.Dataset) -> xr.Dataset:
    data["2m_temperature"][59, 2, 3] = np.nan
    return data


def _every_other_day(data: xr.Dataset) -> xr.Dataset:
    return data.isel(time=slice(1, None, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_variable, "expects the variables ['2m_temperature']"),
        (_in_celsius, "2m_temperature in 'degC', expected 'K'"),
        (_with_nan, "not finite, the first in 2m_temperature at 2001-03-01"),
        (_every_other_day, "the data has 60 times every 2 days from 2001-01-02"),
    ],
)
def test_data_that_does_not_suit_is_refused_by_name(
    files: Files,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change,  # noqa: ANN001
    message: str,
) -> None:
    change(make_dataset()).to_netcdf(tmp_path / "data.nc")
    words = ("--init-times", "2001-03-01")
    assert forecast(files, tmp_path / "f.zarr", *words, source=tmp_path / "data.nc") == 2
    assert message in refused(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["data.nc"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init-times=2002-01-01"], "2002-01-01T00:00:00"),
        (["--init-times=someday"], "'someday'"),
        (["--source=missing.nc"], "missing.nc"),
        (["--forecast.store.variables=[rain]"], "['rain']"),
        (["--forecast.ensemble.checkpoints=[no.safetensors]"], "no.safetensors"),
        (["--forecast.stability.damping_power=1"], "a forecaster with model.damping_days"),
        (["--steps=0"], "forecast.num_steps must be at least 1"),
        (["--forecast.store.chunks=day"], "forecast.store.chunks"),
    ],
)
def test_settings_that_do_not_suit_are_refused_by_name(
    files: Files,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert forecast(files, tmp_path / "f.zarr", *words) == 2
    assert message in refused(capsys)
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--init-times=2001-03-01"]
    assert forecast(files, tmp_path / "f.zarr", *words) == 0
    assert forecast(files, tmp_path / "f.zarr", *words) == 2
    assert "exists; write to another path, or give --existing overwrite" in refused(capsys)
    assert forecast(files, tmp_path / "f.zarr", *words, "--existing=resume") == 0
    assert forecast(files, tmp_path / "f.zarr", *words, "--existing", "overwrite") == 0


def test_checkpoints_that_are_none_are_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = files.checkpoint.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    save_file(load_file(files.checkpoint), tmp_path / "old", {"format": "0"})
    (tmp_path / "text").write_text("weights")
    for name, named in [
        ("cut", "cut"),
        ("text", "text"),
        ("old", "format"),
        ("none", "no checkpoint at"),
    ]:
        damaged = Files(tmp_path / name, files.source, files.prepared, files.folder)
        assert forecast(damaged, tmp_path / "f.zarr") == 2
        assert named in refused(capsys)
        config = f"--config={files.prepared.parent / 'config.yaml'}"
        assert forecast(damaged, tmp_path / "f.zarr", config) == 2
    assert str(tmp_path / "none") in refused(capsys)
    assert not (tmp_path / "f.zarr").exists()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("{static: 3}", "config.data.static"),
        ("{source: [a]}", "config.data.source"),
        ("{source: {rename: 3}}", "rename"),
        ("{accumulate: {total_precipitation: none}}", "config.data.accumulate"),
        ("{fill: {2m_temperature: [1]}}", "config.data.fill"),
        ("[", "config"),
    ],
)
def test_settings_of_the_training_are_checked_before_they_are_used(
    tmp_path: Path, data: str, named: str
) -> None:
    checkpoint, forecaster = tmp_path / "a.safetensors", make_forecaster(GRID)
    save_checkpoint(checkpoint, forecaster, {}, {"config": f"data: {data}"})
    source = SourceConfig(path=str(tmp_path / "data.nc"))
    with rejects("damaged-checkpoint", "a.safetensors", named):
        open_initial_data(source, forecaster.spec, checkpoint)


def test_a_file_needs_a_checkpoint(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = f"--config={files.prepared.parent / 'config.yaml'}"
    assert main(["forecast", config, f"--output={tmp_path / 'f.zarr'}"]) == 2
    assert "needs --checkpoint FILE" in refused(capsys)
