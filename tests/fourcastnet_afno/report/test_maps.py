"""Maps and animations."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.contour import QuadContourSet
from PIL import Image

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.report import maps, plots

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


def test_a_long_rollout_has_its_first_and_last_state_and_some_between(tmp_path: Path) -> None:
    field = make_field(9)
    maps.rollout_animation(field, field, tmp_path / "rollout.gif", max_frames=4)
    with Image.open(tmp_path / "rollout.gif") as movie:
        assert movie.n_frames == 4  # type: ignore[attr-defined]
        for frame, color in ((0, (68, 1, 84)), (3, (253, 231, 37))):
            movie.seek(frame)
            image = movie.convert("RGB")
            pixel = image.getpixel((image.width // 4, image.height // 2))
            np.testing.assert_allclose(pixel, color, atol=8)


@pytest.mark.parametrize(("extent", "is_to_scale"), [((1.0, 2.0), True), ((1.0, 9.0), False)])
def test_planes_are_drawn_to_scale_unless_they_are_long(
    extent: tuple[float, float], is_to_scale: bool
) -> None:
    plane = PlaneGrid.regular(6, 8, extent=extent)
    coords = {"lead_time": [np.timedelta64(1, "h")], **plane.coords}
    field = xr.DataArray(np.zeros((1, 6, 8)), coords, ("lead_time", "y", "x"))
    figure = maps.error_maps(field, field)
    aspects = {axis.get_aspect() for axis in figure.axes if axis.get_title()}
    assert aspects == ({1.0} if is_to_scale else {"auto"})
    lengths = figure.get_size_inches()
    assert 1 < lengths[0] / lengths[1] / 3 < 5


# In a process of its own, as cartopy's PROJ does not bear that of eccodes beside it.
_WITH_CARTOPY = """
import socket
import numpy as np, xarray as xr
from cartopy.crs import PlateCarree
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.report import maps, plots

def refuse(*_):
    raise AssertionError("a map must not open the network")

socket.socket.connect = refuse
grid = LatLonGrid.equiangular(4, 8)
leads = np.arange(1, 3) * np.timedelta64(6, "h").astype("timedelta64[ns]")
coords = {"lead_time": leads, **grid.coords}
field = xr.DataArray(np.random.default_rng(0).random((2, 4, 8)), coords)
figure = maps.error_maps(field, field, xr.DataArray(np.eye(4, 8), grid.coords))
drawn = [axis for axis in figure.axes if hasattr(axis, "projection")]
assert len(drawn) == 6
for axis in drawn:
    assert axis.projection == PlateCarree(central_longitude=180)
    assert len(axis.collections) >= 2
assert plots.render(figure).startswith(b"\\x89PNG")
"""


@pytest.mark.skipif(find_spec("cartopy") is None, reason="cartopy is optional")
def test_maps_with_cartopy_need_no_network() -> None:
    subprocess.run([sys.executable, "-c", _WITH_CARTOPY], check=True)


class StandIn:
    """What maps ask of a projection of cartopy."""

    def __init__(self, central_longitude: float = 0.0) -> None:
        self.central_longitude = central_longitude

    def _as_mpl_axes(self) -> tuple[type[Axes], dict]:
        return GlobeAxes, {"projection": self}


class GlobeAxes(Axes):
    """Axes that take the arguments of cartopy's, and remember them."""

    name = "globe"

    def __init__(self, *args: Any, projection: StandIn, **further: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **further)
        self.projection, self.sources, self.sides = projection, [], []

    def gridlines(self, draw_labels: list[str], **_: object) -> SimpleNamespace:
        self.sides = draw_labels
        return SimpleNamespace()

    def pcolormesh(self, *args: Any, transform: StandIn, **further: Any) -> QuadMesh:  # noqa: ANN401
        self.sources.append(transform)
        return super().pcolormesh(*args, **further)

    def contour(self, *args: Any, transform: StandIn, **further: Any) -> QuadContourSet:  # noqa: ANN401
        self.sources.append(transform)
        return super().contour(*args, **further)


def test_maps_give_cartopy_the_coordinates_of_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("cartopy.crs")
    module.PlateCarree = StandIn  # type: ignore[attr-defined]
    package = ModuleType("cartopy")
    monkeypatch.setitem(sys.modules, "cartopy", package)
    monkeypatch.setitem(sys.modules, "cartopy.crs", module)
    monkeypatch.setattr(maps, "find_spec", lambda _: object())
    field, land = make_field(2), xr.DataArray(np.eye(*GRID.shape), GRID.coords, GRID.dims)
    monkeypatch.delitem(sys.modules, "eccodes", raising=False)
    figure = maps.error_maps(field, field, land)
    globes = [axis for axis in figure.axes if isinstance(axis, GlobeAxes)]
    assert [axis.projection.central_longitude for axis in globes] == [180.0] * 6
    assert [s.central_longitude for axis in globes for s in axis.sources] == [0.0] * 12
    assert [axis.sides for axis in globes] == [["left"], [], [], ["left", "bottom"]] + [
        ["bottom"]
    ] * 2
    assert plots.render(figure).startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "eccodes", ModuleType("eccodes"))
    monkeypatch.delitem(sys.modules, "pyproj", raising=False)
    plain = maps.error_maps(field, field, land)
    assert not any(isinstance(axis, GlobeAxes) for axis in plain.axes)
