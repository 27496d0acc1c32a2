from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from data_pipeline.grid import LatLonGrid
from fourcastnet_afno import maps, plots

GRID = LatLonGrid.equiangular(4, 8)


def make_field(steps: int) -> xr.DataArray:
    leads = np.arange(1, steps + 1) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    values = np.linspace(0, 1, steps)[:, None, None] * np.ones(GRID.shape)
    coords = {"lead_time": leads, **GRID.coords}
    return xr.DataArray(values, coords, ["lead_time", *GRID.dims], attrs={"units": "K"})


def test_the_animation_shows_the_field_in_its_colors(tmp_path: Path) -> None:
    field = make_field(5)
    maps.rollout_animation(field, field, tmp_path / "rollout.gif")
    with Image.open(tmp_path / "rollout.gif") as movie:
        assert movie.n_frames == 5  # type: ignore[attr-defined]
        colors = []
        for frame in range(5):
            movie.seek(frame)
            image = movie.convert("RGB")
            colors.append(image.getpixel((image.width // 4, image.height // 2)))
    # The first and the last color of viridis, and another in every frame between.
    np.testing.assert_allclose(colors[0], (68, 1, 84), atol=8)
    np.testing.assert_allclose(colors[-1], (253, 231, 37), atol=8)
    assert len(set(colors)) == 5


def test_a_long_rollout_has_no_more_than_forty_frames(tmp_path: Path) -> None:
    maps.rollout_animation(make_field(50), make_field(50), tmp_path / "rollout.gif")
    with Image.open(tmp_path / "rollout.gif") as movie:
        assert movie.n_frames == 40  # type: ignore[attr-defined]


def test_loss_has_a_panel_for_each_stage() -> None:
    history = [
        {"stage": 1, "epoch": 1, "num_steps": 1, "train_losses": [2.0, 1.0], "validation_loss": 1},
        {"stage": 2, "epoch": 2, "num_steps": 4, "train_losses": [3.0, 2.5], "validation_loss": 2},
    ]
    first, second = plots.loss_curve(history).axes
    assert [axis.get_title() for axis in (first, second)] == ["stage 1: 1 step", "stage 2: 4 steps"]
    np.testing.assert_allclose(first.lines[0].get_xdata(), [0.5, 1])
    np.testing.assert_allclose(second.lines[0].get_ydata(), [3, 2.5])
    np.testing.assert_allclose(second.lines[1].get_xdata(), [2])


def test_maps_with_cartopy_lie_on_the_sphere_without_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crs = pytest.importorskip("cartopy.crs", reason="cartopy is optional")

    def refuse(*_: object) -> None:
        raise AssertionError("a map must not open the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    field = make_field(2)
    land = xr.DataArray(np.eye(*GRID.shape), GRID.coords, GRID.dims)
    figure = maps.error_maps(field, field, land)
    drawn = [axis for axis in figure.axes if hasattr(axis, "projection")]
    assert len(drawn) == 6
    for axis in drawn:
        assert axis.projection == crs.PlateCarree(central_longitude=180)
        mesh, coast = axis.collections[::-1][:2]
        assert mesh.get_array().size == field[0].size
        assert len(coast.get_paths()) > 0
    assert plots.png(figure).startswith(b"\x89PNG")
