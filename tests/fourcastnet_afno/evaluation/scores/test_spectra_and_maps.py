"""Spectra in groups of initial times, and their intervals."""

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.scores.significance import (
    interval,
    resample_counts,
)
from fourcastnet_afno.evaluation.scores.spectra_and_maps import group_length
from fourcastnet_afno.evaluation.statistics.spectra import zonal_energy_spectrum
from tests.builders.forecasts import GRID, make_climatology, make_forecast, make_truth

TRUTH = make_truth()


FORECAST = make_forecast(TRUTH)


def test_intervals_of_spectra_resample_those_of_each_forecast() -> None:
    config = EvaluationConfig(num_resamples=40, baselines=[], maps=False)
    scores = evaluate({"m": FORECAST}, TRUTH, make_climatology(TRUTH), config)
    name, leads = "2m_temperature", FORECAST["lead_time"].values
    inits = FORECAST["init_time"].values
    valid = TRUTH[name].sel(time=xr.DataArray(inits[:, None] + leads, dims=("i", "l"))).values
    weights = GRID.area_weights()
    ours, theirs = (zonal_energy_spectrum(v, weights) for v in (FORECAST[name].values, valid))
    np.testing.assert_allclose(
        scores["spectrum"].sel(source="m", channel=name), ours.mean(axis=0), rtol=1e-10
    )
    length = int(scores.attrs["block_length"])
    counts = resample_counts(len(inits), 40, length, np.random.default_rng(0))
    means = [np.einsum("ri,ilk->rlk", counts, v) / len(inits) for v in (ours, theirs)]
    expected = {"spectrum": means[0], "spectrum_ratio": means[0] / means[1]}
    for what, values in expected.items():
        found = scores[f"{what}_interval"].sel(source="m", channel=name)
        np.testing.assert_allclose(found, interval(values, 0.95), rtol=1e-10)
    certain = scores["spectrum_ratio_interval"].sel(source="truth")
    np.testing.assert_allclose(certain, 1, rtol=1e-12)


def test_groups_of_initial_times_bound_the_memory_of_spectra() -> None:
    assert group_length(730, 10**4, with_intervals=False) == 730
    assert group_length(40, 10**4, with_intervals=True) == 1
    assert group_length(730, 10**4, with_intervals=True) == 12  # at most 64 groups
    assert group_length(730, 10**9, with_intervals=True) == 46  # at least 16


def test_groups_do_not_change_mean_spectra(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EvaluationConfig(num_resamples=20, baselines=[], maps=False)
    given = ({"m": FORECAST}, TRUTH, make_climatology(TRUTH), config)
    alone = evaluate(*given)
    monkeypatch.setattr("fourcastnet_afno.evaluation.scoring.group_length", lambda *_: 3)
    for block_bytes in (None, 3000):
        grouped = evaluate(*given, block_bytes=block_bytes)
        np.testing.assert_allclose(grouped["spectrum"], alone["spectrum"], rtol=1e-12)
    assert "spectrum_interval" not in grouped  # four groups are too few
