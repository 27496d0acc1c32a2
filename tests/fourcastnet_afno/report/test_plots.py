"""Figures of scores and losses."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.cbook import is_math_text

from data_pipeline.terminal import printable
from fourcastnet_afno.report import plots

LEADS = np.arange(1, 4) * np.timedelta64(1, "D").astype("timedelta64[ns]")


def make_scores() -> xr.Dataset:
    """RMSE of a model and of its reference, at three lead times of one channel."""
    rmse = [[[1.0], [2.0], [np.nan]], [[2.0], [2.0], [2.0]]]
    coords = {"forecast": ["model", "persistence"], "lead_time": LEADS, "channel": ["t"]}
    dims = ("forecast", "lead_time", "channel")
    data = {
        "rmse": (dims, rmse),
        "rmse_verdict": (dims, [[[-1], [0], [0]], [[0], [0], [0]]]),
        "rmse_interval": ((*dims, "bound"), np.stack([np.array(rmse) - 0.5, rmse], -1)),
        "units": ("channel", ["K"]),
    }
    return xr.Dataset(data, coords, {"reference": "persistence"})


def test_curves_have_their_intervals_and_units() -> None:
    figure = plots.plot_score_curves(make_scores(), ["rmse"])
    (axis,) = figure.axes
    assert axis.get_ylabel() == "RMSE [K]"
    model, reference = axis.get_lines()
    np.testing.assert_array_equal(model.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(model.get_ydata(), [1, 2, np.nan])
    assert [model.get_color(), reference.get_color()] == ["#0b62a4", "#d1622b"]
    band = axis.collections[1].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1.5, 2)


def test_a_scorecard_hatches_what_chance_explains() -> None:
    figure = plots.plot_scorecard(make_scores(), "model")
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["-50", "+0"]
    assert len(axis.patches) == 2
    change, certain = plots.relative_change(make_scores(), "model")
    np.testing.assert_array_equal(change, [[-50, 0, np.nan]])
    np.testing.assert_array_equal(certain, [[True, False, False]])


def test_every_forecast_has_a_color_and_known_ones_their_own() -> None:
    colors = plots.assign_colors(["persistence", "a", "b"])
    assert colors["persistence"] == plots.COLORS["persistence"]
    assert len({colors["a"], colors["b"], *plots.COLORS.values()}) == 2 + len(plots.COLORS)


def test_loss_has_a_panel_for_each_stage() -> None:
    history = [
        {"stage": 1, "epoch": 1, "num_steps": 1, "train_losses": [2.0, 1.0], "validation_loss": 1},
        {"stage": 2, "epoch": 2, "num_steps": 4, "train_losses": [3.0, 2.5], "validation_loss": 2},
    ]
    first, second = plots.plot_loss_curve(history).axes
    assert [axis.get_title() for axis in (first, second)] == ["stage 1: 1 step", "stage 2: 4 steps"]
    np.testing.assert_allclose(first.lines[0].get_xdata(), [0.5, 1])
    np.testing.assert_allclose(second.lines[0].get_ydata(), [3, 2.5])
    np.testing.assert_allclose(second.lines[1].get_xdata(), [2])


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_files_of_figures(form: str, start: bytes) -> None:
    figure = plots.plot_run_losses({"a": [(1, 2.0), (2, 1.0)], "started": []})
    assert plots.render(figure, form).startswith(start)


@pytest.mark.parametrize("name", [r"$\foo$", "$x$", "a$", "_m", "[/x]\x1b", r"\$"])
def test_names_in_figures_are_no_formulas(name: str) -> None:
    losses = {name: [(1, 0.5), (2, 0.25)]}
    figure = plots.plot_run_losses(losses)
    assert plots.render(figure).startswith(b"\x89PNG")
    (label,) = figure.axes[0].get_legend().get_texts()
    assert not is_math_text(label.get_text())
    assert label.get_text().strip() == printable(name).replace("$", r"\$")
