"""Planar grids: coordinates, boundaries, sources, training stores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.doctor.examination import examine
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid, grid_from_json, grid_of
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.forcings import compute_forcings
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.planes import SQUARE, TORUS, make_advection, make_plane_config, make_steady

LINE = PlaneGrid.regular(1, 16, extent=(1.0, 2 * np.pi), periodic=("x",))


def test_a_known_origin_makes_places_the_same_at_any_resolution() -> None:
    """Points at i / n, of which only the first lies on the boundary."""

    def grid(count: int) -> PlaneGrid:
        points = tuple((np.arange(count) / count).tolist())
        return PlaneGrid(y=points, x=points, periodic=(), extent=(1.0, 1.0), origin=(0.0, 0.0))

    coarse, fine = grid(8), grid(24)
    np.testing.assert_allclose(
        fine.coordinate_channels()[:, ::3, ::3], coarse.coordinate_channels(), atol=1e-12
    )
    assert coarse.coordinate_channels()[0, 0, 0] == -1
    assert coarse.same_domain(fine)
    assert not coarse.same_domain(replace(fine, origin=None))
    dataset = xr.Dataset(coords=fine.coords, attrs=fine.attrs)
    assert grid_of(dataset) == fine == grid_from_json(fine.to_json())


@pytest.mark.parametrize("grid", [TORUS, SQUARE, LINE, LatLonGrid.equiangular(4, 8)], ids=str)
def test_grids_survive_json_and_datasets(grid: PlaneGrid | LatLonGrid) -> None:
    assert grid_from_json(json.loads(json.dumps(grid.to_json()))) == grid
    assert grid_of(xr.Dataset(coords=grid.coords, attrs=grid.attrs)) == grid
    assert grid.area_weights().mean() == pytest.approx(1)
    assert grid.is_same(grid)


def test_records_of_earlier_versions_are_on_the_sphere() -> None:
    grid = LatLonGrid.equiangular(4, 8)
    record = {"latitude": list(grid.latitude), "longitude": list(grid.longitude)}
    assert grid_from_json(record) == grid


def test_coordinates_agree_across_resolutions_and_close_where_the_axis_does() -> None:
    grids = [PlaneGrid.regular(n, 3 * n, extent=(2.0, 6.0), periodic=("x",)) for n in (4, 12)]
    coarse, fine = (grid.coordinate_channels() for grid in grids)
    np.testing.assert_allclose(fine[:, 1::3, 1::3], coarse, atol=1e-12)  # cells share centers
    sine, cosine = coarse[2:]
    angle = np.arctan2(sine[0], cosine[0]) % (2 * np.pi)
    np.testing.assert_allclose(np.diff(angle), 2 * np.pi / 12)
    place, distance = coarse[:2, :, 0]
    np.testing.assert_allclose(place, [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(distance, [0.25, 0.75, 0.75, 0.25])
    assert len(LINE.coordinate_channels()) == 2


@pytest.mark.parametrize("grid", [TORUS, SQUARE, LatLonGrid.equiangular(8, 16)], ids=str)
def test_bands_have_the_rows_of_the_grid(grid: PlaneGrid | LatLonGrid) -> None:
    for rows in (slice(0, 3), slice(3, 8)):
        shard = grid.select_rows(rows)
        assert shard.shape == (rows.stop - rows.start, grid.shape[1])
        assert shard.periodic_axes == ((grid.dims[1],) if grid.is_periodic else ())
        for axis in grid.dims:
            expected = grid.coords[axis][rows] if axis == grid.dims[0] else grid.coords[axis]
            np.testing.assert_array_equal(shard.coords[axis], expected)
    assert grid.select_rows(slice(0, 8)) == grid


def test_grids_differ_by_kind_shape_boundary_and_place() -> None:
    others = (
        LatLonGrid.equiangular(8, 12),
        PlaneGrid.regular(8, 24, extent=(2.0, 3.0)),
        PlaneGrid.regular(8, 12, extent=(2.0, 3.0), periodic=("y",)),
        PlaneGrid.regular(8, 12, extent=(2.0, 3.3)),
    )
    for other in others:
        assert not TORUS.is_same(other)
    with rejects("grid-mismatch", "the checkpoint", "8 x 12", "periodic in y"):
        TORUS.require_same(others[2], "the checkpoint")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"x": (0.0, 2.0, 1.0)}, "x must have"),
        ({"x": (0.0, 1.0, 3.0)}, "x must have"),
        ({"x": (0.0,)}, "got 1 values"),
        ({"periodic": ("z",)}, "['z']"),
        ({"extent": (1.0, 2.0)}, "extent_x must be 3"),
        ({"periodic": (), "extent": (1.0, 1.0)}, "extent_x must be at least 2"),
    ],
)
def test_bad_axes_are_rejected(changes: dict, named: str) -> None:
    good = {"y": (0.0,), "x": (0.0, 1.0, 2.0), "periodic": ("x",), "extent": (1.0, 3.0)}
    PlaneGrid(**good)
    with rejects("bad-grid", named):
        PlaneGrid(**(good | changes))


def test_what_is_of_the_sphere_is_rejected_by_name() -> None:
    with rejects("needs-sphere", "data.crop"):
        CropConfig(north=10.0).apply(TORUS)
    with rejects("needs-sphere", "data.forcings=toa_insolation"):
        compute_forcings(["toa_insolation"], np.array(["2001"], "datetime64[ns]"), TORUS)
    with rejects("needs-sphere", "data.grid"):
        Coarsening(TORUS, LatLonGrid.equiangular(2, 4))


@pytest.mark.parametrize("periodic", [("y", "x"), ()])
def test_means_over_cells_keep_the_integral(periodic: tuple[str, ...]) -> None:
    fine, coarse = (PlaneGrid.regular(n, n, periodic=periodic) for n in (12, 8))
    fields = np.random.default_rng(0).random((3, 12, 12))
    means = Coarsening(fine, coarse).apply(fields)
    np.testing.assert_allclose(means.mean((1, 2)), fields.mean((1, 2)), rtol=1e-6)
    nested = Coarsening(fine, PlaneGrid.regular(6, 6, periodic=periodic)).apply(fields)
    blocks = fields.reshape(3, 6, 2, 6, 2).mean((2, 4))
    np.testing.assert_allclose(nested, blocks, rtol=1e-6)
    with rejects("grid-mismatch"):
        Coarsening(fine, PlaneGrid.regular(8, 8, extent=(1.0, 2.0), periodic=periodic))


def test_sources_say_what_is_periodic(tmp_path: Path) -> None:
    path, dataset = tmp_path / "plane.nc", make_advection()
    shuffled = dataset.isel(y=slice(None, None, -1)).transpose("x", "time", "y")
    shuffled.rename(x="east", tracer="u").to_netcdf(path)
    config = SourceConfig(path=str(path), rename={"east": "x"})
    opened = open_source(config)
    assert grid_of(opened) == TORUS
    assert opened["u"].dims == ("time", "y", "x")  # u is no wind here
    assert opened["u"].attrs["units"] == "1"
    np.testing.assert_array_equal(opened["u"], dataset["tracer"])
    dataset.assign_attrs(periodic="").drop_attrs(deep=False).to_netcdf(tmp_path / "bare.nc")
    with rejects("bad-grid", "bare.nc", "data.source.periodic"):
        open_source(SourceConfig(path=str(tmp_path / "bare.nc")))
    said = open_source(SourceConfig(path=str(tmp_path / "bare.nc"), periodic=["x"]))
    assert said.attrs["periodic"] == "x"


def test_stores_of_planes_hold_the_source(tmp_path: Path) -> None:
    dataset = make_advection()
    dataset.to_netcdf(tmp_path / "plane.nc")
    config = make_plane_config(tmp_path / "plane.nc", ["tracer"])
    assert "periodic" not in config.store_settings()["source"]
    prepare(config, tmp_path / "data.zarr")
    store = PreparedStore(tmp_path / "data.zarr")
    assert store.grid == TORUS
    xr.testing.assert_allclose(store.dataset()["tracer"].compute(), dataset["tracer"], rtol=0)
    assert grid_of(store.dataset()) == TORUS
    with xr.open_zarr(store.path, consolidated=False) as plain:
        assert plain["fields"].dims == ("time", "channel", "y", "x")
        assert grid_of(plain) == TORUS
    training = dataset["tracer"].sel(time=slice("2001", "2100"))
    assert store.statistics.mean[0] == pytest.approx(float(training.mean()), abs=1e-6)
    at_two = training.isel(time=training["time"].dt.hour == 2).mean("time")
    mean = store.climatology()["tracer"].isel(harmonic=0).sel(hour=2)
    np.testing.assert_allclose(mean, at_two, atol=1e-5)
    # 6 trajectories of 8 states have 6 x 5 windows of 1 + 3 states: none crosses a gap.
    windows = WindowDataset(store, config.train, 1, 3)
    assert len(windows) == 30
    assert windows.read(np.arange(2)).state.shape == (2, 1, 1, 8, 12)


def test_steady_problems_have_a_channel_without_change(tmp_path: Path) -> None:
    make_steady().to_netcdf(tmp_path / "steady.nc")
    config = make_plane_config(tmp_path / "steady.nc", ["source", "solution"])
    store = prepare(config, tmp_path / "data.zarr")
    source, solution = store.statistics.diff_std
    assert source == 0
    assert solution > 0
    assert len(WindowDataset(store, config.train, 1, 1)) == 24


@pytest.mark.parametrize("steady", [False, True])
def test_the_doctor_looks_at_planes(steady: bool, tmp_path: Path) -> None:
    names = ["source", "solution"] if steady else ["tracer"]
    (make_steady() if steady else make_advection()).to_netcdf(tmp_path / "plane.nc")
    config: DataConfig = make_plane_config(tmp_path / "plane.nc", names)
    examined = examine(config, str(tmp_path / "data.zarr"), PeriodNeeds())
    assert not [f for f in examined.report.findings if f.severity != "info"]
    assert examined.report.facts["grid"]["kind"] == "plane"
    assert examined.grid == (SQUARE if steady else TORUS)
