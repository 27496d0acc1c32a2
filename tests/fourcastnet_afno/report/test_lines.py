"""Figures of fields in one dimension."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from PIL import Image

from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.trajectory_times import SAVED_STEP, TrajectoryTimes
from fourcastnet_afno.report import lines

GRID = PlaneGrid.regular(1, 16, extent=(1.0, 2.0), periodic=("x",))
X = GRID.coords["x"]


def make_field(steps: int) -> xr.DataArray:
    """A wave of amplitude 1 that moves a point a step, for a trajectory of model time 0.5."""
    leads = (np.arange(1, steps + 1) * SAVED_STEP).astype("timedelta64[ns]")
    wave = np.stack([np.roll(np.sin(np.pi * X), step) for step in range(steps)])
    attrs = {"units": "1", **TrajectoryTimes(step=0.5, num_states=9).attrs}
    coords = {"lead_time": leads, **GRID.coords}
    return xr.DataArray(wave[:, None], coords, ("lead_time", "y", "x"), attrs=attrs)


def test_only_fields_with_a_single_row_are_lines() -> None:
    assert lines.is_line(make_field(2))
    assert not lines.is_line(make_field(2).isel(y=[0, 0]))


@pytest.mark.parametrize("steps", [1, 4])
def test_space_time_has_a_cell_for_each_step_and_point(steps: int) -> None:
    truth = make_field(steps)
    figure = lines.space_time(truth, truth + 0.25)
    *_, last = panels = figure.axes[:3]
    assert [axis.get_title() for axis in panels] == ["truth", "forecast", "forecast minus truth"]
    assert last.get_xlabel() == "lead time [steps of 0.5]"
    expected = (truth, truth + 0.25, xr.full_like(truth, 0.25))
    for axis, field in zip(panels, expected, strict=True):
        (mesh,) = axis.collections
        assert isinstance(mesh, QuadMesh)
        np.testing.assert_allclose(np.asarray(mesh.get_array()), field.values[:, 0].T)
        ends = mesh.get_datalim(axis.transData)
        assert (ends.x0, ends.x1) == (0.5, steps + 0.5)
        assert (ends.y0, ends.y1) == pytest.approx((X[0] - 1 / 16, X[-1] + 1 / 16))
    assert last.collections[0].get_clim() == pytest.approx((-0.25, 0.25))


def test_members_their_mean_and_truth_are_lines() -> None:
    truth = make_field(1)[0]
    members = xr.concat([truth - 1, truth + 3], "realization")
    (axis,) = lines.member_lines(truth, members).axes
    for line, offset in zip(axis.lines, (-1, 3, 1, 0), strict=True):
        np.testing.assert_allclose(np.asarray(line.get_ydata()), truth.values[0] + offset)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [  # type: ignore[union-attr]
        "2 members", "mean", "truth",
    ]  # fmt: skip
    assert axis.get_ylabel() == ""  # the field has no unit


def test_shares_are_lines_by_lead_time() -> None:
    truth = make_field(3)
    shares = truth.copy(data=np.linspace(0, 1, truth.size).reshape(truth.shape))
    axes = lines.share_lines(truth, shares, 0.5).axes
    assert [axis.get_title() for axis in axes] == ["1 step", "2 steps", "3 steps"]
    for axis, share in zip(axes, shares.values, strict=True):
        np.testing.assert_allclose(np.asarray(axis.lines[0].get_ydata()), share[0])


def test_mean_errors_are_lines_by_lead_time() -> None:
    leads = np.array([1, 5]) * SAVED_STEP.astype("timedelta64[ns]")
    dims = ("forecast", "map_channel", "map_lead_time", "y", "x")
    rmse = np.arange(32.0).reshape(1, 1, 2, 1, 16)
    scores = xr.Dataset(
        {"bias_map": (dims, -rmse), "rmse_map": (dims, rmse), "units": ("channel", ["m s-1"])},
        {"map_lead_time": leads, "forecast": ["model"], "map_channel": ["u"], "channel": ["u"]}
        | {"x": X},
        TrajectoryTimes(num_states=9).attrs,
    )
    bias, errors = lines.mean_lines(scores, "u", "model").axes
    for axis, sign in ((bias, -1), (errors, 1)):
        for line, values in zip(axis.lines, rmse[0, 0, :, 0], strict=False):
            np.testing.assert_allclose(np.asarray(line.get_ydata()), sign * values)
    assert errors.get_ylabel() == "RMSE [m s-1]"
    legend = bias.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1 step", "5 steps"]


def test_the_animation_has_a_frame_for_each_step(tmp_path: Path) -> None:
    field = make_field(3)
    lines.line_animation(field, field + 1, tmp_path / "rollout.gif")
    with Image.open(tmp_path / "rollout.gif") as movie:
        assert movie.n_frames == 3  # type: ignore[attr-defined]
        pictures = []
        for frame in range(3):
            movie.seek(frame)
            pictures.append(movie.convert("RGB").tobytes())
    assert len({*pictures}) == 3
