"""What the pictures of an ensemble show."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import Collection

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.report.ensembles import (
    cell_of,
    exceedance_maps,
    exceedance_shares,
    plume,
    stamps,
    widest_cell,
)
from tests.builders.errors import rejects

GRID = LatLonGrid.equiangular(6, 12)
LEADS = np.arange(1, 4) * np.timedelta64(1, "D").astype("timedelta64[ns]")


def make_pair(num_members: int = 4) -> tuple[xr.DataArray, xr.DataArray]:
    """Truth is 10 times the lead in days, plus the row; members are a unit apart around it."""
    rows = np.arange(6.0)[:, None] + np.zeros((6, 12))
    truth = xr.DataArray(
        10 * np.arange(1, 4)[:, None, None] + rows,
        dims=("lead_time", "latitude", "longitude"),
        coords={"lead_time": LEADS, **GRID.coords},
        attrs={"units": "K"},
    )
    offsets = xr.DataArray(
        np.arange(num_members) - (num_members - 1) / 2,
        dims="realization",
        coords={"realization": np.arange(num_members) + 5},
    )
    return truth, (truth + offsets).transpose("realization", ...)


def values_of(drawn: Collection) -> np.ndarray:
    """Values of the cells of a map, in one row."""
    values = drawn.get_array()
    assert values is not None
    return np.ravel(np.asarray(values))


def test_a_plume_shows_members_mean_and_truth_of_the_cell() -> None:
    truth, members = make_pair()
    here = {"latitude": 2, "longitude": 3}
    (axis,) = plume(truth.isel(here), members.isel(here)).axes
    *lines, mean, actual = axis.lines
    assert len(lines) == 4
    for line, offset in zip(lines, (-1.5, -0.5, 0.5, 1.5), strict=True):
        np.testing.assert_allclose(np.asarray(line.get_ydata()), np.array([12, 22, 32]) + offset)
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), [12, 22, 32])
    np.testing.assert_allclose(np.asarray(actual.get_ydata()), [12, 22, 32])
    np.testing.assert_allclose(np.asarray(actual.get_xdata()), [1, 2, 3])
    band = np.asarray(axis.collections[0].get_paths()[0].vertices)[:, 1]
    assert band.min() == pytest.approx(12 - 1.2)  # 10 % of the way from the lowest to the highest
    assert band.max() == pytest.approx(32 + 1.2)
    assert axis.get_ylabel() == "[K]"


def test_stamps_show_truth_the_mean_and_the_first_members_in_the_same_colors() -> None:
    truth, members = make_pair(14)
    figure = stamps(truth[1], members[:, 1])
    shown = [axis for axis in figure.axes if axis.get_title()]
    titles = ["truth", "mean", *(f"member {number}" for number in range(5, 15))]
    assert [axis.get_title() for axis in shown] == titles
    for axis, field in zip(shown, [truth[1], truth[1], *members[:10, 1]], strict=True):
        (mesh,) = axis.collections
        np.testing.assert_allclose(values_of(mesh), field.values.ravel())
        assert mesh.get_clim() == (20 - 6.5, 25 + 2.5)  # of all that is shown


def test_exceedance_is_the_share_of_members_and_lines_are_truths() -> None:
    truth, members = make_pair()
    members[0, 2, 0, 0] = np.nan
    shares = exceedance_shares(members, 22.0)
    np.testing.assert_allclose(shares[1, :, 0], [0, 0.25, 0.5, 0.75, 1, 1])
    assert np.isnan(shares[2, 0, 0])
    assert (shares[0] == 0).all()
    axes = [axis for axis in exceedance_maps(truth, members, 22.0).axes if axis.get_title()]
    assert [axis.get_title() for axis in axes] == ["24 h", "2 days", "3 days"]
    for axis, share in zip(axes, shares, strict=True):
        np.testing.assert_allclose(values_of(axis.collections[0]), share.ravel())
        assert axis.collections[0].get_clim() == (0, 1)
    assert [len(axis.collections) for axis in axes] == [1, 2, 1]  # truth crosses it on day 2
    (line,) = axes[1].collections[1].get_paths()
    np.testing.assert_allclose(np.asarray(line.vertices)[:, 1], GRID.latitude[2])


def test_the_widest_cell_is_where_members_end_farthest_apart() -> None:
    _, members = make_pair()
    members[0, 0, 1, 1] -= 100
    members[0, 2, 4, 7] -= 10
    assert widest_cell(members) == (4, 7)


def test_a_point_is_in_the_cell_around_it_and_one_outside_is_named() -> None:
    assert cell_of(GRID, (80.0, 1.0)) == (0, 0)
    assert cell_of(GRID, (-1.0, 359.0)) == (3, 0)
    assert cell_of(GRID, (90.0, -31.0)) == cell_of(GRID, (75.0, 329.0)) == (0, 11)
    with rejects("bad-setting", "latitude=91", "from -90 to 90"):
        cell_of(GRID, (91.0, 0.0))
    box = LatLonGrid(latitude=GRID.latitude[:3], longitude=GRID.longitude[:4])
    with rejects("bad-setting", "longitude=200"):
        cell_of(box, (75.0, 200.0))


def test_a_point_has_two_numbers() -> None:
    with pytest.raises(ValueError, match=r"evaluation.point must be two numbers"):
        EvaluationConfig(point=[1.0])
    assert "point" not in EvaluationConfig().settings()
    assert EvaluationConfig(point=[1.0, 2.0]).settings()["point"] == [1.0, 2.0]
