"""Static fields: classes become masks, and fields that change are rejected."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.derived import with_derived
from data_pipeline.preprocessing.filling import FillRule
from data_pipeline.preprocessing.static_fields import StaticFields
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.layouts import publish

GRID = LatLonGrid.equiangular(12, 24)
PLANE = ("latitude", "longitude")


def invariants() -> xr.Dataset:
    """Orography, land and soil of a small planet."""
    rng = np.random.default_rng(0)
    soil = rng.integers(0, 4, GRID.shape) * 2.0  # classes 0, 2, 4 and 6
    return xr.Dataset(
        {
            "geopotential_at_surface": (PLANE, 1e4 * rng.random(GRID.shape), {"units": "m2 s-2"}),
            "land_sea_mask": (PLANE, (soil > 0).astype(float), {"units": "(0 - 1)"}),
            "soil_type": (PLANE, soil, {"units": "~"}),
        },
        GRID.coords,
    )


def read(
    dataset: xr.Dataset, *names: str, rules: dict[str, FillRule] | None = None
) -> dict[str, np.ndarray]:
    static = StaticFields.read(dataset, names, [], rules or {})
    assert static.fields.dtype == np.float32
    return dict(zip(static.channels.labels, static.fields, strict=True))


def test_classes_become_masks_that_share_the_globe() -> None:
    dataset = invariants()
    found = read(dataset, "slt", "land_sea_mask")
    assert list(found) == [*(f"soil_type_{code}" for code in (0, 2, 4, 6)), "land_sea_mask"]
    np.testing.assert_array_equal(sum(list(found.values())[:4]), 1)
    np.testing.assert_array_equal(found["soil_type_4"], dataset["soil_type"] == 4)
    assert found["soil_type_4"].any()


def test_flag_values_of_cf_mark_classes() -> None:
    dataset = invariants().rename(soil_type="biome")
    dataset["biome"].attrs = {"flag_values": [0, 2, 4, 6], "units": "1"}
    assert list(read(dataset, "biome")) == ["biome_0", "biome_2", "biome_4", "biome_6"]
    dataset["biome"].attrs = {"units": "1"}
    assert list(read(dataset, "biome")) == ["biome"]


def test_coarser_masks_are_shares_of_the_area(tmp_path: Path) -> None:
    dataset = make_dataset(grid=GRID)
    dataset["soil_type"] = invariants()["soil_type"]
    dataset.to_netcdf(tmp_path / "data.nc")
    grid = GridConfig(num_latitudes=6, num_longitudes=12)
    config = make_data_config(tmp_path / "data.nc", grid=grid, static=["soil_type"])
    store = prepare(config, tmp_path / "data.zarr")
    assert store.static_channels.labels == [f"soil_type_{code}" for code in (0, 2, 4, 6)]
    shares = np.asarray(store._read("static"))
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-6)
    weights = GRID.area_weights()[:2, :1].repeat(2, axis=1)
    corner = dataset["soil_type"].values[:2, :2] == 2
    np.testing.assert_allclose(shares[1, 0, 0], (weights * corner).sum() / weights.sum(), rtol=1e-6)
    assert ((shares > 0) & (shares < 1)).any()


@pytest.mark.parametrize("given", ["geopotential_at_surface", "surface_altitude"])
def test_orography_is_a_name_of_either_kind(given: str) -> None:
    dataset = invariants()
    altitude = dataset["geopotential_at_surface"] / 9.80665
    if given == "surface_altitude":
        dataset = dataset.drop_vars("geopotential_at_surface")
        dataset["surface_altitude"] = altitude.assign_attrs(units="m")
    for name, expected in (("orography", altitude), ("zs", 9.80665 * altitude)):
        found = list(read(with_derived(dataset, [name]), name).values())
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def cds_invariants(new: bool) -> xr.Dataset:
    """As the Climate Data Store hands them out: short names, one time, geopotential as z."""
    names = {"geopotential_at_surface": "z", "land_sea_mask": "lsm", "soil_type": "slt"}
    dataset = invariants().rename(names)
    dataset["z"].attrs["units"] = "m**2 s**-2"
    time = "valid_time" if new else "time"
    dataset = dataset.expand_dims({time: [np.datetime64("1979-06-01", "ns")]})
    if new:
        dataset = dataset.assign_coords(number=0, expver=("valid_time", ["0001"]))
    return dataset


@pytest.mark.parametrize("new", [False, True])
def test_invariants_of_cds_with_one_time_of_their_own(tmp_path: Path, new: bool) -> None:
    cds_invariants(new).to_netcdf(tmp_path / "invariants.nc")
    make_dataset(grid=GRID).drop_vars("height").to_netcdf(tmp_path / "states.nc")
    config = make_data_config(tmp_path, static=["orography", "lsm", "slt"])
    store = prepare(config, tmp_path / "data.zarr")
    assert len(store.times) == 120
    labels = store.static_channels.labels
    assert labels[:3] == ["surface_altitude", "land_sea_mask", "soil_type_0"]
    static = np.asarray(store._read("static"))
    altitude = invariants()["geopotential_at_surface"] / 9.80665
    np.testing.assert_allclose(static[0], altitude, rtol=1e-6)


def test_other_invariants_with_one_time_are_named_in_the_configuration(tmp_path: Path) -> None:
    roughness = invariants()["land_sea_mask"].rename("roughness").assign_attrs(units="m")
    one = roughness.expand_dims(time=[np.datetime64("1979-06-01", "ns")])
    one.to_netcdf(tmp_path / "roughness.nc")
    make_dataset(grid=GRID).to_netcdf(tmp_path / "states.nc")
    with rejects("no-common-times", "data.static"):
        open_source(SourceConfig(path=str(tmp_path)))
    store = prepare(make_data_config(tmp_path, static=["roughness"]), tmp_path / "data.zarr")
    np.testing.assert_array_equal(store._read("static")[0], invariants()["land_sea_mask"])


@pytest.mark.parametrize("preset", ["weatherbench2_1440x721", "arco_era5"])
def test_static_fields_of_published_stores(tmp_path: Path, preset: str) -> None:
    names = ["2m_temperature", "geopotential_at_surface", "land_sea_mask", "soil_type"]
    source = publish(tmp_path / "store.zarr", preset, names, hours=6, stride=30)
    found = read(open_source(SourceConfig(path=str(tmp_path / "store.zarr"))), "lsm", "soil_type")
    assert list(found) == ["land_sea_mask", *(f"soil_type_{code}" for code in range(8))]
    np.testing.assert_array_equal(found["soil_type_3"], source["soil_type"] == 3)


def over_time(dataset: xr.Dataset, name: str, num_times: int = 5) -> xr.Dataset:
    times = np.datetime64("2001-01-01", "ns") + np.arange(num_times) * np.timedelta64(6, "h")
    return dataset.assign({name: dataset[name].expand_dims(time=times).copy()})


def test_a_field_that_does_not_change_needs_no_time() -> None:
    dataset = over_time(invariants(), "geopotential_at_surface")
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.5, dataset["geopotential_at_surface"].shape)  # of packing, in 1e4
    dataset["geopotential_at_surface"] = dataset["geopotential_at_surface"] + noise
    dataset["geopotential_at_surface"].attrs["units"] = "m2 s-2"
    found = read(dataset, "geopotential_at_surface")["geopotential_at_surface"]
    np.testing.assert_allclose(found, dataset["geopotential_at_surface"][0], rtol=1e-6)


@pytest.mark.parametrize("name", ["geopotential_at_surface", "soil_type"])
def test_a_field_that_changes_is_rejected_by_name(name: str) -> None:
    dataset = over_time(invariants(), name)
    dataset[name][3, 2, 2] += 100
    with rejects("not-invariant", name, "2001-01-01T18"):
        read(dataset, name)


def with_hole(name: str) -> xr.Dataset:
    dataset = invariants()
    dataset[name][4, 5] = np.nan
    return dataset


def test_missing_values_are_filled_by_rule() -> None:
    name = "geopotential_at_surface"
    filled = read(with_hole(name), name, rules={name: 17.0})
    assert list(filled) == [name]
    assert filled[name][4, 5] == 17
    filled = read(with_hole(name), name, rules={name: "climatology"})
    assert list(filled) == [name, f"{name}_missing"]
    assert filled[f"{name}_missing"].sum() == filled[f"{name}_missing"][4, 5] == 1
    weights = GRID.area_weights()
    weights[4, 5] = 0
    mean = (weights * invariants()[name].values).sum() / weights.sum()
    assert filled[name][4, 5] == pytest.approx(mean, rel=1e-6)
    soil = read(with_hole("soil_type"), "soil_type", rules={"soil_type": 0.0})
    assert soil["soil_type_0"][4, 5] == 1


def fractions(dataset: xr.Dataset) -> xr.Dataset:
    dataset["soil_type"][0, 0] = 2.31
    return dataset


def many(dataset: xr.Dataset) -> xr.Dataset:
    dataset["soil_type"][:] = np.arange(288).reshape(12, 24)
    return dataset


BAD = [
    (with_hole("land_sea_mask"), "land_sea_mask", {}, "not-finite", "land_sea_mask has 1 values"),
    (with_hole("soil_type"), "soil_type", {}, "not-finite", "number of a class"),
    (with_hole("soil_type"), "slt", {"soil_type": "climatology"}, "not-finite", "soil_type"),
    (fractions(invariants()), "soil_type", {}, "bad-classes", "2.31"),
    (many(invariants()), "soil_type", {}, "bad-classes", "288 classes"),
    (invariants().expand_dims(band=2), "land_sea_mask", {}, "wrong-dimensions", "band"),
    (invariants(), "lake_depth", {}, "missing-variable", "lake_depth"),
]


@pytest.mark.parametrize(("dataset", "name", "rules", "code", "named"), BAD)
def test_bad_static_fields_are_rejected(
    dataset: xr.Dataset, name: str, rules: dict[str, FillRule], code: str, named: str
) -> None:
    with rejects(code, named):
        read(dataset, name, rules=rules)


def test_a_static_needs_units_but_classes_do_not() -> None:
    dataset = invariants()
    for name in dataset.data_vars:
        dataset[name].attrs = {}
    with rejects("missing-units", "['land_sea_mask']"):
        read(dataset, "land_sea_mask", "soil_type")
    assert read(dataset, "soil_type")


def test_a_store_remembers_its_masks(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset["height"][1, 1] = np.nan
    dataset.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", fill={"height": "climatology"})
    prepare(config, tmp_path / "data.zarr")
    store = PreparedStore(tmp_path / "data.zarr")
    assert store.static_channels.labels == ["height", "height_missing"]
    assert store.normalized_static().shape == (2, 6, 12)
