import numpy as np
import pytest

from data_pipeline.errors import InputError
from data_pipeline.forcings import FORCINGS, compute_forcings
from data_pipeline.grid import LatLonGrid

GRID = LatLonGrid.equiangular(2, 8)


def test_phases_by_hand() -> None:
    times = np.array(["2001-01-01T00", "2001-01-01T06"], "datetime64[ns]")
    fields = dict(
        zip(FORCINGS, compute_forcings(FORCINGS, times, GRID).swapaxes(0, 1), strict=True)
    )
    assert (fields["day_of_year_sin"][0] == 0).all()
    assert (fields["day_of_year_cos"][0] == 1).all()
    # At 6 UTC it is noon at 90 degrees east and midnight at 270.
    np.testing.assert_allclose(fields["local_time_cos"][1, 0, [2, 6]], [-1, 1], atol=1e-6)
    np.testing.assert_allclose(fields["local_time_sin"][1, 0, [0, 4]], [1, -1], atol=1e-6)


def test_six_hours_turn_the_local_time_by_a_quarter() -> None:
    times = np.array(["2001-05-01T00", "2001-05-01T06"], "datetime64[ns]")
    first, later = compute_forcings(["local_time_sin"], times, GRID)
    np.testing.assert_allclose(np.roll(first, -2, axis=-1), later, atol=1e-6)


def test_unknown_names_are_listed() -> None:
    with pytest.raises(InputError, match=r"unknown names \['tide'\]; known are day_of_year_sin"):
        compute_forcings(["tide"], np.array([], "datetime64[ns]"), GRID)
