"""One pass in bounded pieces: the cut, the layout and interruptions do not change the scores."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation import engine
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.fields import DatasetFields
from fourcastnet_afno.evaluation.forecasts import canonical_forecast, open_forecast
from tests.fourcastnet_afno.evaluation.builders import (
    GRID,
    LEADS,
    NAMES,
    make_climatology,
    make_forecast,
    make_truth,
    stacked,
    to_weatherbench,
)

CONFIG = EvaluationConfig(
    channels=["z850", "t2m"],
    regions=["global", "tropics"],
    baselines=["persistence", "climatology", "linear"],
    quantiles=[0.8],
    extremes=True,
    num_resamples=20,
)


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return make_truth()


def score(truth: xr.Dataset, forecast: xr.Dataset, **options: object) -> xr.Dataset:
    config = options.pop("config", CONFIG)
    return evaluate(
        {"ours": forecast},
        truth,
        make_climatology(truth),
        config,  # type: ignore[arg-type]
        training=truth,
        **options,  # type: ignore[arg-type]
    )


def assert_close(found: xr.Dataset, expected: xr.Dataset, rtol: float = 1e-12) -> None:
    assert set(found.data_vars) == set(expected.data_vars)
    for name in expected.data_vars:
        np.testing.assert_allclose(
            found[name].values, expected[name].values, rtol=rtol, atol=1e-12, err_msg=str(name)
        )


def test_scores_do_not_depend_on_the_cut(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth, members=3)
    whole = score(truth, forecast)
    field_bytes = 4 * 3 * GRID.shape[0] * GRID.shape[1]
    for fields in (1, 7):
        assert_close(score(truth, forecast, block_bytes=fields * field_bytes), whole)


def test_tasks_cover_every_field_once(truth: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list = []
    original = engine.run

    def recorded(plan, tasks, **options):  # noqa: ANN001, ANN003, ANN202
        seen.extend(tasks)
        return original(plan, tasks, **options)

    monkeypatch.setattr("fourcastnet_afno.evaluation.evaluate.run", recorded)
    scores = score(truth, make_forecast(truth), block_bytes=5 * 4 * 48)
    covered = np.zeros((12, 4, len(scores["channel"])), int)
    for task in seen:
        for channel in task.channels:
            covered[task.inits, task.leads, channel] += 1
    assert len(seen) > 2
    np.testing.assert_array_equal(covered, 1)


def test_an_interrupted_evaluation_goes_on_bit_for_bit(
    truth: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast, state = make_forecast(truth, members=2), tmp_path / "state.npz"
    options = {"block_bytes": 3 * 2 * 4 * 48}
    whole = score(truth, forecast, **options)
    original, reads, limit = DatasetFields.read, [0], [12]

    def failing(self: DatasetFields, *arguments: object) -> object:
        reads[0] += 1
        if reads[0] == limit[0]:
            raise KeyboardInterrupt
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DatasetFields, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        score(truth, forecast, state=state, **options)
    assert state.exists()
    limit[0], reads[0] = 0, 0
    again = score(truth, forecast, state=state, **options)
    resumed, reads[0] = reads[0], 0
    score(truth, forecast, **options)
    assert 0 < resumed < reads[0] - 6  # what was done is not done again
    for name in whole.data_vars:
        np.testing.assert_array_equal(again[name].values, whole[name].values, err_msg=str(name))
    assert not state.exists()


def test_a_state_of_another_evaluation_is_not_taken_up(
    truth: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, forecast = tmp_path / "state.npz", make_forecast(truth)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_SAVE_SECONDS", 0.0)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        score(truth, forecast, state=state)
    assert state.exists()
    other = EvaluationConfig(regions=["tropics"], baselines=[])
    found = score(truth, forecast, state=state, config=other)
    assert_close(found, score(truth, forecast, config=other))


def test_other_processes_give_the_same_scores(truth: xr.Dataset, tmp_path: Path) -> None:
    make_forecast(truth).to_zarr(tmp_path / "f.zarr", zarr_format=3, consolidated=False)
    truth.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
    config = EvaluationConfig(baselines=["persistence"], num_resamples=0)
    with xr.open_zarr(tmp_path / "t.zarr", consolidated=False) as opened:
        forecasts = {"ours": open_forecast(str(tmp_path / "f.zarr"))}
        coefficients = make_climatology(opened).compute()
        plain = evaluate(forecasts, opened, coefficients, config)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            found = evaluate(forecasts, opened, coefficients, config, executor=executor)
    assert_close(found, plain, rtol=0)


def plain_chunks(dataset: xr.Dataset, sizes: dict[str, int]) -> dict[str, dict]:
    return {
        str(name): {
            "compressors": None,
            "chunks": tuple(sizes.get(str(d), dataset.sizes[d]) for d in array.dims),
        }
        for name, array in dataset.data_vars.items()
    }


@pytest.mark.parametrize(
    ("change", "sizes", "is_mapped"),
    [
        (lambda d: d, {"init_time": 3, "lead_time": 2}, True),
        (lambda d: d, {"init_time": 5}, True),
        (to_weatherbench, {"time": 2, "prediction_timedelta": 3, "level": 1}, True),
        (lambda d: d.isel(latitude=slice(None, None, -1)), {"level": 1}, True),
        (lambda d: d.rename(latitude="lat", longitude="lon"), {"init_time": 4}, True),
        (lambda d: d.rename(realization="number"), {"init_time": 4}, True),
        (lambda d: d, {"latitude": 2}, False),
        (
            lambda d: d.assign_coords(longitude=(d.longitude + 180) % 360 - 180),
            {"init_time": 3},
            False,
        ),
    ],
    ids=["chunks", "long", "weatherbench2", "south_first", "lat_lon", "number", "rows", "centered"],
)
def test_files_in_any_layout_are_read_as_they_are(
    truth: xr.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[xr.Dataset], xr.Dataset],
    sizes: dict[str, int],
    is_mapped: bool,
) -> None:
    monkeypatch.setattr("fourcastnet_afno.evaluation.fields._MIN_MAPPED_BYTES", 0)
    forecast = make_forecast(truth, members=2)
    stored = change(forecast)
    encoding = plain_chunks(stored, sizes)
    path = tmp_path / "f.zarr"
    stored.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    opened = open_forecast(str(path))
    fields = DatasetFields(opened)
    assert (fields._mapped("geopotential") is not None) == is_mapped
    expected = canonical_forecast(forecast)
    np.testing.assert_array_equal(stacked(opened), stacked(expected))
    inits = expected["init_time"].values[[1, 4, 5, 11]]
    from data_pipeline.channels import Channels

    for channel in Channels.from_dataset(truth, NAMES):
        wanted = expected[channel.name].sel(init_time=inits).isel(lead_time=slice(1, 4))
        wanted = wanted if channel.level is None else wanted.sel(level=channel.level)
        found = np.stack(list(fields.read(channel, inits, slice(1, 4))))
        np.testing.assert_array_equal(found, wanted.values)


def test_a_netcdf_file_and_hours_as_numbers(truth: xr.Dataset, tmp_path: Path) -> None:
    forecast = make_forecast(truth)
    hours = (LEADS / np.timedelta64(1, "h")).astype(int)
    numbered = forecast.assign_coords(lead_time=("lead_time", hours, {"units": "hours"}))
    numbered.to_netcdf(tmp_path / "f.nc")
    opened = open_forecast(str(tmp_path / "f.nc"))
    np.testing.assert_array_equal(opened["lead_time"].values, LEADS)
    np.testing.assert_array_equal(stacked(opened), stacked(forecast))


def test_seasons_and_init_hours_are_the_scores_of_their_times(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    config = EvaluationConfig(by_season=True, by_init_hour=True, baselines=[])
    scores = score(truth, forecast, config=config).isel(forecast=0)
    np.testing.assert_allclose(scores["rmse_by_season"].sel(season="DJF"), scores["rmse"])
    assert np.isnan(scores["rmse_by_season"].sel(season="JJA")).all()
    for hour in (0, 12):
        chosen = forecast.sel(init_time=forecast["init_time"].dt.hour == hour)
        alone = score(truth, chosen, config=EvaluationConfig(baselines=[])).isel(forecast=0)
        for name in ("rmse", "acc"):
            found = scores[f"{name}_by_init_hour"].sel(init_hour=hour)
            np.testing.assert_allclose(found, alone[name], rtol=1e-12)


def test_maps_average_to_the_scores(truth: xr.Dataset) -> None:
    scores = score(truth, make_forecast(truth), config=EvaluationConfig(baselines=[]))
    leads, channels = scores["map_lead_time"], scores["map_channel"]
    weights = xr.DataArray(GRID.area_weights(), dims=("latitude", "longitude"))
    chosen = scores.sel(lead_time=leads.values, channel=channels.values)
    bias = (scores["bias_map"] * weights).mean(("latitude", "longitude"))
    square = (scores["rmse_map"].astype(float) ** 2 * weights).mean(("latitude", "longitude"))
    np.testing.assert_allclose(bias.values, chosen["bias"].values, atol=1e-5)
    np.testing.assert_allclose(np.sqrt(square).values, chosen["rmse"].values, rtol=1e-5)
