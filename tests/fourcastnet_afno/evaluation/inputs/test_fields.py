"""Sources give the same fields in blocks, by valid time and from stores."""

import numpy as np
import pytest

from data_pipeline.channels import Channel
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.inputs.fields import (
    DatasetFields,
    FieldSource,
    HeldFields,
    PersistenceFields,
    ValidTimeFields,
    chunk_lengths,
    coarsening_between,
    holds_levels_together,
)
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.inputs.valid_times import valid_times_of
from tests.builders.forecasts import GRID, LEADS, make_forecast, make_truth

TRUTH = make_truth()
FORECAST = make_forecast(TRUTH, members=3)
UPPER = Channel(name="geopotential", level=850, units="m2 s-2")
INITS = FORECAST["init_time"].values


def read(source: FieldSource, leads: slice) -> np.ndarray:
    """Fields (init_time, lead_time, realization, latitude, longitude) of some initial times."""
    return np.concatenate([block.copy() for block in source.read(UPPER, INITS[[1, 2, 5]], leads)])


def test_a_dataset_gives_its_members() -> None:
    source = DatasetFields(FORECAST)
    assert source.num_members == 3
    expected = FORECAST["geopotential"].isel(init_time=[1, 2, 5], lead_time=slice(1, 3), level=1)
    np.testing.assert_array_equal(read(source, slice(1, 3)), expected)


def test_a_coarser_grid_has_the_means_of_the_fields() -> None:
    coarse = LatLonGrid.equiangular(3, 4)
    coarsening = coarsening_between(GRID, coarse)
    assert isinstance(coarsening, Coarsening)
    assert coarsening_between(GRID, GRID) is None
    fields = read(DatasetFields(FORECAST), slice(0, 2))
    np.testing.assert_allclose(
        read(DatasetFields(FORECAST, coarsening), slice(0, 2)), coarsening.apply(fields)
    )


def test_held_fields_are_those_given_on_the_grid_of_the_scores() -> None:
    forecast = make_forecast(TRUTH, members=2)
    channel, coarse = Channel(name="2m_temperature"), LatLonGrid.equiangular(3, 4)
    for coarsening in (None, Coarsening(GRID, coarse)):
        stored = DatasetFields(forecast, coarsening)
        held = HeldFields(stored)
        assert (held.num_members, held.lead_times.tolist()) == (2, stored.lead_times.tolist())
        inits, leads = forecast["init_time"].values[1:3], slice(1, 3)
        held.hold({channel.label: forecast[channel.name].values[1:3, 1:3]})
        (found,) = [np.concatenate(list(held.read(channel, inits, leads)))]
        expected = np.concatenate(list(stored.read(channel, inits, leads)))
        np.testing.assert_array_equal(found, expected)


def test_persistence_is_the_initial_state_or_missing() -> None:
    truth = TruthFields(TRUTH.drop_sel(time=INITS[2]))
    fields = read(PersistenceFields(truth, LEADS), slice(0, 4))
    assert fields.shape == (3, 4, 1, *GRID.shape)
    assert np.isnan(fields[1]).all()
    expected = TRUTH["geopotential"].sel(time=INITS[[1, 5]], level=850).values
    for lead in range(4):
        np.testing.assert_array_equal(fields[[0, 2], lead, 0], expected)


def test_a_function_of_the_valid_time() -> None:
    source = ValidTimeFields(TruthFields(TRUTH).at, valid_times_of(FORECAST))
    valid = INITS[[1, 2, 5], None] + LEADS[1:3]
    expected = (
        TRUTH["geopotential"].sel(level=850).values[np.searchsorted(TRUTH["time"].values, valid)]
    )
    np.testing.assert_array_equal(read(source, slice(1, 3))[:, :, 0], expected)


@pytest.mark.parametrize(("level", "together"), [(1, False), (2, True)])
def test_chunks_of_a_store(level: int, together: bool) -> None:
    stored = FORECAST.copy()
    chunks = {"time": 4, "prediction_timedelta": 2, "level": level}
    stored["geopotential"].encoding["preferred_chunks"] = chunks
    assert chunk_lengths(stored) == (4, 2)
    assert holds_levels_together(stored) == together
