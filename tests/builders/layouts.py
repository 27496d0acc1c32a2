"""Small stores in the layouts that publishers use, and a server that fails when told to.

Verified in public sources in 2026-11, not over the network:

- WeatherBench 2's data guide (docs/source/data-guide.ipynb) prints the store of 1440 x 721: axes
  (time, latitude, longitude), chunks of one time with all levels, float32 coordinates with
  long_name and units, int64 levels without attributes, variables with long_name, short_name and
  units, static ones without time, derived ones without any attribute.
- Public code prints the coordinates of the 64 x 32 store, from south to north, and the metadata of
  a sibling (longitude before latitude, Blosc LZ4 with shuffle).
- ARCO-ERA5: its pipeline (src/netcdf_to_zarr.py, source_data.py: 37 levels, static variables
  without time, chunks of one time) and readers of its attributes (valid_time_start and
  valid_time_stop are dates; the axis goes on, unfilled, to 2050). The "v3" in its name is a version
  of the data: the store is zarr v2.

The number of times in a chunk of the coarse stores is a guess; nothing depends on it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numcodecs
import numpy as np
import xarray as xr

WB13 = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
FULL37 = (1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450)
FULL37 += (500, 550, 600, 650, 700, 750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000)


class Layout(NamedTuple):
    """How a publisher lays out a store."""

    latitude: np.ndarray
    longitude_first: bool
    step_hours: int
    levels: tuple[int, ...]
    times_in_chunk: int
    attrs: dict[str, str]


LAYOUTS = {
    "weatherbench2_64x32": Layout(-87.1875 + np.arange(32) * 5.625, True, 6, WB13, 100, {}),
    "weatherbench2_240x121": Layout(-90 + np.arange(121) * 1.5, True, 6, WB13, 8, {}),
    "weatherbench2_1440x721": Layout(90 - np.arange(721) * 0.25, False, 6, WB13, 1, {}),
    "arco_era5": Layout(
        90 - np.arange(721) * 0.25,
        False,
        1,
        FULL37,
        1,
        {"valid_time_start": "2019-12-31", "valid_time_stop": "2020-01-03"},
    ),
}

# name: (short name, units, has levels)
_ERA5 = {
    "geopotential": ("z", "m**2 s**-2", True),
    "temperature": ("t", "K", True),
    "specific_humidity": ("q", "kg kg**-1", True),
    "u_component_of_wind": ("u", "m s**-1", True),
    "v_component_of_wind": ("v", "m s**-1", True),
    "2m_temperature": ("t2m", "K", False),
    "10m_u_component_of_wind": ("u10", "m s**-1", False),
    "10m_v_component_of_wind": ("v10", "m s**-1", False),
    "100m_u_component_of_wind": ("u100", "m s**-1", False),
    "100m_v_component_of_wind": ("v100", "m s**-1", False),
    "mean_sea_level_pressure": ("msl", "Pa", False),
    "surface_pressure": ("sp", "Pa", False),
    "total_column_water_vapour": ("tcwv", "kg m**-2", False),
    "total_precipitation": ("tp", "m", False),
}
_STATIC = {
    "geopotential_at_surface": ("z", "m**2 s**-2"),
    "land_sea_mask": ("lsm", "(0 - 1)"),
    "soil_type": ("slt", "~"),
}
_DERIVED = {"relative_humidity": True, "10m_wind_speed": False, "total_precipitation_6hr": False}


def publish(
    path: Path,
    preset: str,
    variables: list[str],
    hours: int = 48,
    levels: tuple[int, ...] | None = None,
    start: str = "2020-01-01",
    stride: int = 1,
) -> xr.Dataset:
    """Write random numbers in the layout of a published store.

    Args:
        path: Folder to make.
        preset: One of ``LAYOUTS``.
        variables: Names; what WeatherBench 2 derives has no attributes.
        hours: Length of the period.
        levels: Some of the store's levels, to keep a test small.
        start: First time.
        stride: Takes every so many rows and columns, where the grid itself is no matter.
    """
    layout = LAYOUTS[preset]
    count = {32: 64, 121: 240, 721: 1440}[len(layout.latitude)]
    steps = np.arange(0, hours, layout.step_hours) * np.timedelta64(1, "h")
    coords = {
        "time": ("time", np.datetime64(start, "ns") + steps),
        "level": ("level", np.array(levels or layout.levels, np.int64)),
        "latitude": _axis("latitude", layout.latitude[::stride], "degrees_north"),
        "longitude": _axis("longitude", np.arange(0, count, stride) * 360 / count, "degrees_east"),
    }
    plane = ("longitude", "latitude") if layout.longitude_first else ("latitude", "longitude")
    rng = np.random.default_rng(0)
    data = {}
    for name in variables:
        dims, attrs = _describe(name, plane)
        values = rng.random([len(coords[dim][1]) for dim in dims], dtype=np.float32)
        data[name] = (dims, _plausible(name, values, coords["level"][1]), attrs)
    dataset = xr.Dataset(data, coords, layout.attrs)
    compressor = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=1)
    dataset.chunk(time=layout.times_in_chunk).to_zarr(
        path,
        zarr_format=2,
        consolidated=True,
        encoding={name: {"compressors": [compressor]} for name in data},
    )
    return dataset


def _plausible(name: str, values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if name == "soil_type":
        return np.floor(8 * values)
    if name == "specific_humidity":
        return values / 1000
    if name == "geopotential":
        heights = 7000 * np.log(1013 / levels.astype(np.float32))
        return 9.80665 * (heights[:, None, None] + 100 * values)
    if name.endswith("pressure"):
        return 95e3 + 1e4 * values
    return 250 + 50 * values if name.endswith("temperature") else values


def _axis(name: str, values: np.ndarray, units: str) -> tuple[str, np.ndarray, dict[str, str]]:
    return name, values.astype(np.float32), {"long_name": name, "units": units}


def _describe(name: str, plane: tuple[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    if name in _STATIC:
        short, units = _STATIC[name]
        return plane, {"long_name": name, "short_name": short, "units": units}
    if name in _DERIVED:
        return ("time", *(["level"] if _DERIVED[name] else []), *plane), {}
    short, units, leveled = _ERA5[name]
    dims = ("time", *(["level"] if leveled else []), *plane)
    return dims, {"long_name": name, "short_name": short, "units": units}


class FaultyServer(SimpleHTTPRequestHandler):
    """Serves a folder, after as many failures of each kind as it was told."""

    failures: int = 0
    stalls: int = 0
    status: int = 503
    lists: bool = True
    requests: int = 0
    release = threading.Event()

    def do_GET(self) -> None:
        kind = type(self)
        kind.requests += 1
        if kind.failures > 0:
            kind.failures -= 1
            self.send_error(kind.status)
        elif kind.stalls > 0:
            kind.stalls -= 1
            kind.release.wait(20)
        else:
            super().do_GET()

    def list_directory(self, path: str) -> None:  # type: ignore[override]
        if type(self).lists:
            return super().list_directory(path)  # type: ignore[return-value]
        self.send_error(404)
        return None

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # zarr asks for all metadata at once


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, type[FaultyServer]]]:
    """The URL of ``folder`` and the class that answers, to tell it its failures."""
    handler = type("Handler", (FaultyServer,), {"release": threading.Event()})
    httpd = _Server(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", handler
    finally:
        handler.release.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()
