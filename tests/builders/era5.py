"""A small dataset with the variables of ERA5, in the files in which it is handed out."""

from pathlib import Path

import eccodes
import numpy as np
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig

ERA5_GRID = LatLonGrid.equiangular(7, 12, poles=True)
LEVELS = [500, 850]


def make_era5(num_times: int = 8, start: str = "2001-01-01") -> xr.Dataset:
    """A canonical dataset with a variable of each kind."""
    rng = np.random.default_rng(0)
    times = np.datetime64(start, "ns") + np.arange(num_times) * np.timedelta64(6, "h")
    plane, shape = ("latitude", "longitude"), ERA5_GRID.shape

    def draw(*leading: int) -> np.ndarray:
        return rng.random((*leading, *shape)).astype(np.float32)

    dataset = xr.Dataset(
        {
            "geopotential": (("time", "level", *plane), 5e4 + 1e3 * draw(num_times, 2)),
            "temperature": (("time", "level", *plane), 250 + 20 * draw(num_times, 2)),
            "2m_temperature": (("time", *plane), 280 + 20 * draw(num_times)),
            "geopotential_at_surface": (plane, 1e4 * draw()),
        },
        coords={"time": times, "level": LEVELS, **ERA5_GRID.coords},
    )
    units = {"geopotential": "m2 s-2", "geopotential_at_surface": "m2 s-2"}
    for name, variable in dataset.data_vars.items():
        variable.attrs["units"] = units.get(str(name), "K")
    return dataset


def read_source(path: object, **options: object) -> xr.Dataset:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return open_source(SourceConfig(path=paths, **options)).compute()  # type: ignore[arg-type]


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    names = [str(name) for name in expected.data_vars]
    for name in names:
        assert found[name].dims == expected[name].dims
        for axis in expected[name].dims:
            np.testing.assert_array_equal(found[axis], expected[axis])
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-7)
        assert found[name].attrs["units"] == expected[name].attrs["units"]


def make_grib(array: xr.DataArray, short_name: str, path: Path) -> None:
    """One message for each time and level."""
    levels = array["level"].values if "level" in array.dims else [None]
    sample = "regular_ll_sfc_grib2" if levels[0] is None else "regular_ll_pl_grib2"
    step = 360 / array.sizes["longitude"]
    with path.open("wb") as file:
        for time in array["time"].values:
            for level in levels:
                message = eccodes.codes_grib_new_from_samples(sample)
                stamp = str(time.astype("datetime64[h]"))
                keys = {
                    "Ni": array.sizes["longitude"],
                    "Nj": array.sizes["latitude"],
                    "latitudeOfFirstGridPointInDegrees": 90,
                    "latitudeOfLastGridPointInDegrees": -90,
                    "longitudeOfFirstGridPointInDegrees": 0,
                    "longitudeOfLastGridPointInDegrees": 360 - step,
                    "iDirectionIncrementInDegrees": step,
                    "jDirectionIncrementInDegrees": 180 / (array.sizes["latitude"] - 1),
                    "dataDate": int(stamp[:10].replace("-", "")),
                    "dataTime": 100 * int(stamp[11:13]),
                    "shortName": short_name,
                    "bitsPerValue": 24,
                }
                values = array.sel(time=time)
                if level is not None:
                    keys["level"], values = int(level), values.sel(level=level)
                for key, value in keys.items():
                    eccodes.codes_set(message, key, value)
                eccodes.codes_set_values(message, values.values.ravel().astype(float))
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)
