"""Thresholds of events from training years and from tables."""

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel, Channels
from fourcastnet_afno.evaluation.inputs.companions import AlignedClimatology, AlignedYears
from fourcastnet_afno.evaluation.inputs.thresholds import quantile_thresholds, seeps_thresholds
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from tests.builders.errors import rejects
from tests.builders.forecasts import GRID, START, make_truth

TRUTH = make_truth()
RAIN = "total_precipitation_24hr"


def rain(units: str = "m") -> Channels:
    return Channels((Channel(name=RAIN, units=units),))


def climatology(thresholds: xr.Dataset | None = None) -> AlignedClimatology:
    return AlignedClimatology(
        at=lambda channel, times: np.zeros((len(times), *GRID.shape)),
        mean=lambda channel: np.zeros(GRID.shape),
        description="none",
        hours=[0],
        thresholds=thresholds,
    )


def series(amounts: list[float]) -> AlignedYears:
    values = np.array(amounts)[:, None, None] * np.ones(GRID.shape)
    times = START + np.arange(len(amounts)) * np.timedelta64(1, "D")
    dims = ("time", *GRID.dims)
    return AlignedYears(
        TruthFields(xr.Dataset({RAIN: (dims, values)}, {"time": times, **GRID.coords}))
    )


def table(units: str | None = None, threshold: float = 1.0) -> xr.Dataset:
    """A dry fraction of the day over 732, and a threshold for each day that grows by 1."""
    days = np.arange(1, 367)
    by_day = days[:, None, None] * np.ones(GRID.shape)
    dims, attrs = ("dayofyear", *GRID.dims), {} if units is None else {"units": units}
    data = {f"{RAIN}_seeps_dry_fraction": (dims, by_day / 732)}
    data |= {f"{RAIN}_seeps_threshold": (dims, threshold * by_day, attrs)}
    return xr.Dataset(data, {"dayofyear": days, **GRID.coords})


def test_quantiles_are_those_of_each_cell() -> None:
    channels = Channels.from_dataset(TRUTH, ["2m_temperature"])
    years = AlignedYears(TruthFields(TRUTH))
    thresholds = quantile_thresholds(years, channels, [0.1, 0.9])
    expected = np.quantile(TRUTH["2m_temperature"].values.astype(float), [0.1, 0.9], axis=0)
    np.testing.assert_allclose(thresholds["2m_temperature"], expected)


def test_seeps_of_a_series_and_of_nothing() -> None:
    assert seeps_thresholds(Channels.from_dataset(TRUTH, []), climatology(), None) == ({}, [])
    found, notes = seeps_thresholds(rain(), climatology(), None)
    assert not found
    assert "no SEEPS of total_precipitation_24hr" in notes[0]
    found, notes = seeps_thresholds(rain(), climatology(), series([0, 0, np.nan, 1, 2, 3, 4]))
    # A missing day is neither dry nor wet: 2 of 6 days are dry, 3 is the upper third of the others.
    np.testing.assert_allclose(found[RAIN].dry_fraction, 1 / 3)
    times = np.array(["2001-01-05", "2001-01-06"], "datetime64[ns]")
    np.testing.assert_allclose(found[RAIN].heavy(times), np.full((2, *GRID.shape), 3.0))
    assert notes == []


def test_seeps_of_cells_that_are_never_wet_or_always_missing() -> None:
    for amounts, fraction in (([0.0] * 4, 1.0), ([np.nan] * 4, np.nan)):
        found, _ = seeps_thresholds(rain(), climatology(), series(amounts))
        np.testing.assert_array_equal(found[RAIN].dry_fraction, fraction)
        assert np.isnan(found[RAIN].heavy(np.array(["2001-01-05"], "datetime64[ns]"))).all()


def test_seeps_of_a_table() -> None:
    found, _ = seeps_thresholds(rain(), climatology(table()), None)
    np.testing.assert_allclose(found[RAIN].dry_fraction, 367 / 2 / 732)
    heavy = found[RAIN].heavy(np.array(["2001-01-05"], "datetime64[ns]"))
    np.testing.assert_array_equal(heavy, np.full((1, *GRID.shape), 5.0))


@pytest.mark.parametrize(
    ("units", "stated", "dry", "heavy"),
    [
        ("mm", "m", 0.25, 5000.0),
        ("mm", "mm", 0.25, 5.0),
        ("kg m-2", None, 0.25, 5.0),
        ("m", "mm", 0.25e-3, 0.005),
        ("m", "", 0.25e-3, 5.0),
    ],
)
def test_seeps_has_the_units_of_truth(
    units: str, stated: str | None, dry: float, heavy: float
) -> None:
    found, notes = seeps_thresholds(rain(units), climatology(table(stated)), None)
    assert found[RAIN].dry == pytest.approx(dry)
    values = found[RAIN].heavy(np.array(["2001-01-05"], "datetime64[ns]"))
    np.testing.assert_allclose(values, heavy)
    assert notes == []


def test_units_of_seeps_that_are_unknown() -> None:
    found, notes = seeps_thresholds(rain("inch"), climatology(table()), None)
    assert not found
    assert "'inch'" in notes[0]
    found, notes = seeps_thresholds(rain(""), climatology(table()), None)
    assert found[RAIN].dry == pytest.approx(0.25e-3)
    assert "states no units" in notes[0]
    with rejects("units-mismatch", "seeps_threshold", "'inch'"):
        seeps_thresholds(rain(), climatology(table("inch")), None)
