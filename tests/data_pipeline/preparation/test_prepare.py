from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset


@pytest.fixture
def dataset() -> xr.Dataset:
    return make_dataset()


@pytest.fixture
def store(dataset: xr.Dataset, tmp_path: Path) -> PreparedStore:
    dataset.to_netcdf(tmp_path / "data.nc")
    return prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")


def test_store_holds_the_source(store: PreparedStore, dataset: xr.Dataset) -> None:
    names = ["mean_sea_level_pressure", "2m_temperature"]
    xr.testing.assert_equal(store.dataset().compute(), dataset[names])
    assert store.channels.labels == names


def test_any_layout_gives_the_same_canonical_dataset(dataset: xr.Dataset, tmp_path: Path) -> None:
    turned = dataset.isel(latitude=slice(None, None, -1)).transpose("longitude", "latitude", "time")
    turned = turned.assign_coords(longitude=(turned["longitude"] + 180) % 360 - 180)
    turned = turned.sortby("longitude").rename(
        latitude="lat", longitude="lon", time="valid_time", mean_sea_level_pressure="msl"
    )
    dataset.to_netcdf(tmp_path / "a.nc")
    turned.to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=3)
    first = open_source(SourceConfig(path=str(tmp_path / "a.nc"))).compute()
    second = open_source(SourceConfig(path=str(tmp_path / "b.zarr"))).compute()
    xr.testing.assert_equal(first, second)


def test_files_of_a_folder_are_joined(dataset: xr.Dataset, tmp_path: Path) -> None:
    dataset.drop_vars("height").isel(time=slice(70, None)).to_netcdf(tmp_path / "1.nc")
    dataset.drop_vars("height").isel(time=slice(0, 70)).to_netcdf(tmp_path / "2.nc")
    joined = open_source(SourceConfig(path=str(tmp_path))).compute()
    xr.testing.assert_equal(joined, dataset.drop_vars("height"))


def test_statistics_see_the_training_period_alone(
    store: PreparedStore, dataset: xr.Dataset, tmp_path: Path
) -> None:
    training = dataset["2m_temperature"].sel(time=slice("2001-01-01", "2001-03-01"))
    values = training.values.astype(float)
    weights = LatLonGrid.from_dataset(dataset).area_weights()
    mean = (weights * values).mean()
    std = np.sqrt((weights * (values - mean) ** 2).mean())
    change = np.diff(values, axis=0)
    change_std = np.sqrt((weights * (change - (weights * change).mean()) ** 2).mean())
    found = [getattr(store.statistics, name)[1] for name in ("mean", "std", "diff_std")]
    np.testing.assert_allclose(found, [mean, std, change_std], rtol=1e-9)


def test_climatology_fits_harmonics_exactly(tmp_path: Path) -> None:
    data = make_dataset(3 * 365)
    phase = (data["time"] - data["time"].astype("datetime64[Y]")) / np.timedelta64(1, "D")
    angle = 2 * np.pi * phase.values / 365.2425
    season = 1e5 + 500 * np.cos(angle) - 200 * np.sin(2 * angle)
    data["mean_sea_level_pressure"][:] = season[:, None, None]
    data.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(
        tmp_path / "data.nc",
        climatology_harmonics=2,
        train=Period(start="2001", end="2002-01-15"),
        validation=Period(start="2002-02-01", end="2002-03-01"),
        test=Period(start="2003-01-01", end="2003-12-01"),
    )
    coefficients = prepare(config, tmp_path / "data.zarr").climatology()
    found = climatology_at(coefficients, data["time"].values)["mean_sea_level_pressure"]
    np.testing.assert_allclose(found.values, data["mean_sea_level_pressure"].values, rtol=1e-6)


def with_nan(data: xr.Dataset) -> xr.Dataset:
    data["2m_temperature"][5, 2, 3] = np.nan
    return data


def with_units(units: str) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(data: xr.Dataset) -> xr.Dataset:
        data["mean_sea_level_pressure"].attrs["units"] = units
        return data

    return change


BAD_DATA: list[tuple[Callable[[xr.Dataset], xr.Dataset], str, list[str]]] = [
    (lambda d: d.drop_vars("2m_temperature"), "missing-variable", ["2m_temperature"]),
    (with_units("hPa"), "units-mismatch", ["mean_sea_level_pressure", "'hPa'", "'Pa'"]),
    (with_units(""), "missing-units", ["mean_sea_level_pressure", "data.source.units"]),
    (with_nan, "not-finite", ["2m_temperature", "2001-01-06"]),
    (lambda d: d.drop_isel(time=10), "gap-in-time", ["2001-01-10", "data.allow_gaps"]),
    (lambda d: d.isel(time=[0, 1, 1, 2, 3]), "unordered-times", ["repeats", "index 2"]),
    (lambda d: d.isel(time=[0, 2, 1, 3]), "unordered-times", ["decreases", "index 2"]),
    (lambda d: d.isel(time=slice(0, 70)), "no-times", ["data.test", " 0 states"]),
    (lambda d: d.isel(time=slice(0, None, 2)), "timestep-mismatch", ["24 h", "2D"]),
    (lambda d: d.isel(longitude=0, drop=True), "missing-axis", ["longitude"]),
]


@pytest.mark.parametrize(("change", "code", "named"), BAD_DATA)
def test_bad_data_is_rejected(
    change: Callable[[xr.Dataset], xr.Dataset],
    code: str,
    named: list[str],
    dataset: xr.Dataset,
    tmp_path: Path,
) -> None:
    change(dataset).to_netcdf(tmp_path / "data.nc")
    with rejects(code, *named):
        prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["data.nc"]


@pytest.mark.parametrize(
    ("value", "code"), [(1.0, "impossible-values"), (np.nan, "gap-in-time"), (np.inf, "not-finite")]
)
def test_values_that_are_rejected_name_their_file(
    value: float, code: str, dataset: xr.Dataset, tmp_path: Path
) -> None:
    dataset["mean_sea_level_pressure"][100] = value
    for index in range(2):
        part = dataset.isel(time=slice(60 * index, 60 * index + 60))
        part.to_netcdf(tmp_path / f"{index}.nc")
    config = make_data_config(tmp_path / "*.nc", fill={"mean_sea_level_pressure": "climatology"})
    with rejects(code, "mean_sea_level_pressure", str(tmp_path / "1.nc"), "2001-04-11"):
        prepare(config, tmp_path / "data.zarr")


def test_flat_fields_and_periods_that_the_data_lacks_are_said(
    dataset: xr.Dataset, tmp_path: Path
) -> None:
    dataset["2m_temperature"][20:23] = 273.15
    dataset.isel(time=slice(-1)).to_netcdf(tmp_path / "data.nc")
    said: list[str] = []
    prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr", report=said.append)
    assert "data.test" in said[0]
    assert "2001-04-29" in said[0]
    named = ("2m_temperature", str(tmp_path / "data.nc"), "3 of 119 states", "2001-01-21")
    assert all(name in said[1] for name in named)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with rejects("missing-file", "nothing.nc"):
        prepare(make_data_config(tmp_path / "nothing.nc"), tmp_path / "data.zarr")


def test_stated_units_replace_a_wrong_label(dataset: xr.Dataset, tmp_path: Path) -> None:
    with_units("hPa")(dataset).to_netcdf(tmp_path / "data.nc")
    source = SourceConfig(path=str(tmp_path / "data.nc"), units={"mean_sea_level_pressure": "Pa"})
    config = make_data_config(tmp_path / "data.nc", source=source)
    assert next(iter(prepare(config, tmp_path / "data.zarr").channels)).units == "Pa"


def test_a_store_of_another_configuration_is_not_reused(
    store: PreparedStore, tmp_path: Path
) -> None:
    same = make_data_config(tmp_path / "data.nc")
    assert prepare(same, store.path).fingerprint == store.fingerprint
    other = make_data_config(tmp_path / "data.nc", prognostic=["2m_temperature"])
    with rejects("other-configuration", "data.prognostic"):
        prepare(other, store.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "one of data.source, data.simulation and data.pde"),
        ({"prognostic": []}, r"data\.prognostic"),
        ({"train": Period(start="2001-01-01", end="2001-03-02")}, "train must end before"),
        ({"forcings": ["moon"]}, "unknown names.*moon"),
    ],
)
def test_bad_configuration_is_rejected(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make_data_config(tmp_path, **changes)


def test_config_round_trip(tmp_path: Path) -> None:
    assert isinstance(make_data_config(tmp_path), DataConfig)
    with pytest.raises(ValueError, match="ISO dates"):
        Period(start="yesterday", end="2001-01-01")
