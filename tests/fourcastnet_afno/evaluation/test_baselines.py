"""Baselines: persistence, climatologies and the linear model."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.sources import SourceConfig
from fourcastnet_afno.evaluation import baselines
from fourcastnet_afno.evaluation.baselines import LinearFields, fit_linear
from fourcastnet_afno.evaluation.climatologies import (
    Constant,
    Weekly,
    from_coefficients,
    from_series,
    from_table,
    open_climatology,
)
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.fields import TruthFields
from tests.fourcastnet_afno.evaluation.builders import (
    GRID,
    HOUR,
    LEADS,
    START,
    make_climatology,
    make_forecast,
    make_truth,
)

DIMS = ("time", "latitude", "longitude")


def make_waves(num_times: int) -> xr.Dataset:
    """Two standing shapes whose amplitudes turn into each other: a linear system."""
    angle = np.deg2rad(7.0) * np.arange(num_times)[:, None, None]
    shapes = np.random.default_rng(0).standard_normal((2, *GRID.shape))
    values = 280 + np.cos(angle) * shapes[0] + np.sin(angle) * shapes[1]
    times = START + np.arange(num_times) * 6 * HOUR
    return xr.Dataset(
        {"2m_temperature": (DIMS, values.astype("f4"), {"units": "K"})},
        coords={"time": times, **GRID.coords},
    )


def fit(series: xr.Dataset, components: int, leads: np.ndarray = LEADS) -> LinearFields:
    channels = Channels.from_dataset(series, ["2m_temperature"])
    truth = TruthFields(series)
    mean = Constant({c: truth.mean(c, truth.times) for c in channels})
    model = fit_linear(truth, channels, GRID, mean, leads, components)
    return LinearFields(model, channels, truth, mean, leads)


def test_the_linear_model_forecasts_a_linear_system() -> None:
    waves = make_waves(360)
    linear = fit(waves, 2)
    (channel,) = Channels.from_dataset(waves, ["2m_temperature"])
    inits = waves["time"].values[[3, 100]]
    found = np.stack(list(linear.read(channel, inits, slice(1, 4))))[:, :, 0]
    for row, init in enumerate((3, 100)):
        expected = waves["2m_temperature"].values[init + 2 : init + 5]
        np.testing.assert_allclose(found[row], expected, atol=0.02)


def test_the_linear_model_of_noise_is_the_climatology() -> None:
    truth = make_truth(400)[["2m_temperature"]]
    linear = fit(truth, 20)
    (channel,) = Channels.from_dataset(truth, ["2m_temperature"])
    found = np.stack(list(linear.read(channel, truth["time"].values[:50], slice(0, 4))))
    mean = truth["2m_temperature"].mean("time").values
    error = found[:, :, 0] - mean
    # The noise has the standard deviation 10.
    assert np.sqrt((error**2).mean()) < 3
    assert (linear._model.alphas > 0).all()


def test_the_linear_model_needs_pairs_a_lead_time_apart() -> None:
    with pytest.raises(
        InputError, match=r"0 pairs of states.*leave it out of evaluation.baselines"
    ):
        fit(make_waves(40), 2, np.array([np.timedelta64(100, "D").astype("timedelta64[ns]")]))


def test_baselines_stand_beside_the_forecast() -> None:
    truth = make_truth(200)
    forecast = make_forecast(truth)
    inits = forecast["init_time"].values
    mean = make_climatology(truth)
    names = ["persistence", "climatology", "weekly_climatology", "linear"]
    config = EvaluationConfig(baselines=names)  # type: ignore[arg-type]
    scores = evaluate({"ours": forecast}, truth, mean, config, training=truth)
    assert scores["forecast"].values.tolist() == ["ours", *names]
    assert np.isfinite(scores["rmse"]).all()
    # The datasets of the same baselines have the same scores.
    given = {
        "persistence": baselines.persistence(truth, inits, LEADS),
        "climatology": baselines.climatology(mean, inits, LEADS),
    }
    again = evaluate(given, truth, mean, EvaluationConfig(baselines=[]))
    for name in given:
        for score in ("rmse", "acc", "bias", "spectrum"):
            axis = "source" if score == "spectrum" else "forecast"
            np.testing.assert_allclose(
                again[score].sel({axis: name}), scores[score].sel({axis: name}), 1e-5, 1e-6
            )


def test_without_training_years_there_is_no_linear_model() -> None:
    truth = make_truth()
    scores = evaluate({"ours": make_forecast(truth)}, truth, make_climatology(truth))
    assert "linear" not in scores["forecast"]
    assert "no baseline linear: there are no training years" in scores.attrs["notes"]


def test_weekly_climatology_is_the_mean_over_seven_days() -> None:
    axes = {"hour": [0, 12], "dayofyear": np.arange(1, 367)}
    values = np.arange(366.0) + np.array([[0.0], [1000.0]])
    table = xr.DataArray(values, coords=axes, dims=("hour", "dayofyear"))
    space = xr.DataArray(np.ones(GRID.shape), coords=GRID.coords, dims=("latitude", "longitude"))
    base = from_table(xr.Dataset({"2m_temperature": table * space}))
    (channel,) = Channels.from_dataset(
        xr.Dataset({"2m_temperature": table * space}), ["2m_temperature"]
    )
    days = np.array(["2003-01-03T12", "2003-01-08", "2003-12-31", "2004-12-31"], "datetime64[ns]")
    found = Weekly(base)(channel, days)[:, 0, 0]
    np.testing.assert_allclose(found, [3 + 500, 10 + 500, 360.5 + 500, 360.5 + 500])
    # By day: January 1st is 0, and the leap year's last day has the row 366.
    np.testing.assert_allclose(base.at(channel, days)[:, 0, 0][[1, 3]], [7, 365])
    assert base.mean(channel).shape == GRID.shape
    np.testing.assert_allclose(base.mean(channel), values.mean())


def test_a_climatology_is_fitted_to_a_series_or_read_from_a_table(tmp_path: Path) -> None:
    truth = make_truth(200)
    channels = Channels.from_dataset(truth, ["geopotential", "2m_temperature"])
    fitted = from_series(truth, channels)
    expected = from_coefficients(make_climatology(truth))
    times = truth["time"].values[5:9]
    for channel in channels:
        np.testing.assert_allclose(
            fitted.at(channel, times), expected.at(channel, times), rtol=1e-5, atol=1e-4
        )
    assert fitted.period == (truth["time"].values[0], truth["time"].values[-1])
    axes = {"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 367)}
    ones = xr.DataArray(np.ones((4, 366)), coords=axes, dims=("hour", "dayofyear"))
    mean = truth.mean("time", keep_attrs=True)
    table = xr.Dataset({n: (ones * mean[n]).assign_attrs(mean[n].attrs) for n in mean.data_vars})
    table.isel(latitude=slice(None, None, -1)).to_zarr(tmp_path / "c.zarr", zarr_format=2)
    opened = open_climatology(SourceConfig(path=str(tmp_path / "c.zarr")), channels)
    for channel in channels:
        wanted = mean[channel.name]
        wanted = wanted if channel.level is None else wanted.sel(level=channel.level)
        found = opened.at(channel, times)
        np.testing.assert_allclose(found, np.broadcast_to(wanted.values, found.shape), rtol=1e-6)
    with pytest.raises(InputError, match="the climatology lacks temperature"):
        opened.at(Channel(name="temperature", level=500), times)
