"""Stores of anemoi-datasets as sources.

The package needs zarr 2 and cannot be installed next to this project; set ANEMOI_PYTHON to the
interpreter of an environment with it, and a store that it made is read too.
"""

import os
import subprocess
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr
import zarr

from data_pipeline.sources.fields.levels_joined import levels_of
from data_pipeline.sources.formats.anemoi import anemoi_fields
from tests.builders.era5 import ERA5_GRID, assert_same, make_era5, make_grib, read_source
from tests.builders.errors import rejects

NAMES = {
    "2t": ("2m_temperature", None),
    "t_850": ("temperature", 850),
    "z_500": ("geopotential", 500),
}
NAMES |= {"z_850": ("geopotential", 850), "cos_latitude": ("", None), "t_500": ("temperature", 500)}
ATTRS = {"variables": list(NAMES), "field_shape": list(ERA5_GRID.shape), "missing_dates": []}


def flattened(era5: xr.Dataset) -> np.ndarray:
    """Values in the order of the format: time, variable, ensemble, cell."""
    fields = []
    for name, level in NAMES.values():
        if not name:
            fields.append(np.zeros((era5.sizes["time"], *ERA5_GRID.shape), np.float32))
        else:
            fields.append((era5[name] if level is None else era5[name].sel(level=level)).values)
    values = np.stack(fields, axis=1)
    return values.reshape(*values.shape[:2], 1, -1).astype(np.float32)


def write(path: Path, era5: xr.Dataset, **attrs: object) -> None:
    """A store as the package writes it, in zarr 2, where 0 is what missing chunks have."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    latitude, longitude = np.meshgrid(ERA5_GRID.latitude, ERA5_GRID.longitude, indexing="ij")
    arrays = {
        "data": (flattened(era5), ["time", "variable", "ensemble", "cell"]),
        "dates": (era5["time"].values.astype("M8[s]"), ["time"]),
        "latitudes": (latitude.ravel(), ["cell"]),
        "longitudes": (longitude.ravel(), ["cell"]),
        "mean": (np.zeros(len(NAMES)), ["variable"]),
    }
    for name, (values, dims) in arrays.items():
        chunks = (1, *values.shape[1:]) if name == "data" else values.shape
        fill = None if name == "dates" else 0
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=chunks, fill_value=fill
        )
        array[...] = values
        array.attrs["_ARRAY_DIMENSIONS"] = dims
    group.attrs.update({**ATTRS, **attrs})


@pytest.fixture
def era5() -> xr.Dataset:
    dataset = make_era5().drop_vars("geopotential_at_surface")
    dataset["2m_temperature"][0, 0, 0] = 0.0  # is a value
    return dataset


def test_a_store_is_the_same_dataset(era5: xr.Dataset, tmp_path: Path) -> None:
    write(tmp_path / "anemoi.zarr", era5)
    found = read_source(tmp_path / "anemoi.zarr")
    assert_same(found, era5)
    assert "cos_latitude" in found


def test_units_are_those_of_the_store(era5: xr.Dataset, tmp_path: Path) -> None:
    levels = {"levtype": "ml"}
    metadata = {"cos_latitude": {"units": "1"}, "t_850": {"units": "K", "mars": levels}}
    write(tmp_path / "anemoi.zarr", era5, variables_metadata=metadata)
    found = read_source(tmp_path / "anemoi.zarr")
    assert found["cos_latitude"].attrs["units"] == "1"
    assert "t_850" in found  # is on a model level
    assert levels_of(found["temperature"]) == [500]


def test_dates_without_data_are_left_out(era5: xr.Dataset, tmp_path: Path) -> None:
    lost = [str(time.astype("M8[s]")) for time in era5["time"].values[[2, 5]]]
    write(tmp_path / "anemoi.zarr", era5, missing_dates=lost)
    assert_same(read_source(tmp_path / "anemoi.zarr"), era5.isel(time=[0, 1, 3, 4, 6, 7]))


def test_other_grids_and_attributes_are_named(era5: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "anemoi.zarr"
    for shape in ([84], [12, 7], [5, 5], []):
        write(path, era5, field_shape=shape)
        with rejects("other-layout", "anemoi.zarr", str(shape)):
            read_source(path)
    write(path, era5, variables=["2t"])
    with rejects("unreadable-file", "anemoi.zarr", "1 names"):
        read_source(path)


def test_each_chunk_is_read_once_for_all_variables(era5: xr.Dataset) -> None:
    """A chunk holds all variables of a time."""

    class Counted:
        def __init__(self, values: np.ndarray) -> None:
            self.values, self.reads = values, 0
            self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            self.reads += 1
            return self.values[key]

    counted = Counted(flattened(era5))
    meta = np.empty((0,) * 4, np.float32)
    data = dask.array.from_array(counted, (1, *counted.shape[1:]), name=False, meta=meta)
    latitude, longitude = np.meshgrid(ERA5_GRID.latitude, ERA5_GRID.longitude, indexing="ij")
    opened = xr.Dataset(
        {
            "data": (("time", "variable", "ensemble", "cell"), data),
            "dates": ("time", era5["time"].values),
            "latitudes": ("cell", latitude.ravel()),
            "longitudes": ("cell", longitude.ravel()),
        },
        attrs=ATTRS,
    )
    anemoi_fields(opened, "anemoi.zarr").compute(scheduler="sync")
    assert counted.reads == era5.sizes["time"]


@pytest.mark.skipif("ANEMOI_PYTHON" not in os.environ, reason="needs ANEMOI_PYTHON, see above")
def test_a_store_of_the_package(era5: xr.Dataset, tmp_path: Path) -> None:
    for name, short in (("geopotential", "z"), ("temperature", "t"), ("2m_temperature", "2t")):
        make_grib(era5[name], short, tmp_path / short)
        with (tmp_path / "era5.grib").open("ab") as whole:
            whole.write((tmp_path / short).read_bytes())
    start, end = (str(time.astype("M8[s]")) for time in era5["time"].values[[0, -1]])
    recipe = f"dates: {{start: {start}, end: {end}, frequency: 6h}}\n"
    recipe += f"input: {{grib: {{path: {tmp_path}/era5.grib}}}}\n"
    (tmp_path / "recipe.yaml").write_text(
        f"{recipe}input: {{grib: {{path: {tmp_path}/era5.grib}}}}\n"
    )
    program = Path(os.environ["ANEMOI_PYTHON"]).parent / "anemoi-datasets"
    command = [program, "create", tmp_path / "recipe.yaml", tmp_path / "anemoi.zarr"]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    found = read_source(tmp_path / "anemoi.zarr")
    for name in ("geopotential", "temperature", "2m_temperature"):
        np.testing.assert_allclose(found[name], era5[name], rtol=1e-6, atol=1e-4)
