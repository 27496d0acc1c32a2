"""States of weather services over HTTP: only what is asked for travels, and once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.formats.grib_messages import check_messages
from data_pipeline.sources.open_data.fetch import WantedField, fetch_states, newest_state
from data_pipeline.sources.open_data.indices import read_index
from data_pipeline.sources.retry import RetryPolicy
from tests.builders.era5 import read_source
from tests.builders.errors import rejects
from tests.builders.open_data import OpenDataFile, gfs_file, ifs_file
from tests.builders.ranges import Bucket, serving_ranges

GRID = LatLonGrid.equiangular(7, 12, poles=True)
MIDNIGHT = np.datetime64("2026-11-30T00", "ns")
QUICK = RetryPolicy(attempts=3, delay=0.01, stall=5.0)
GFS_PATH = "/gfs.20261130/00/atmos/gfs.t00z.pgrb2.0p25.f000"
IFS_PATH = "/20261130/00z/ifs/0p25/oper/20261130000000-0h-oper-fc"
HEIGHT = 5500 + np.random.default_rng(0).random(GRID.shape)
WANTED = [
    WantedField(label="geopotential_500", field=("geopotential", 500)),
    WantedField(label="2m_temperature", field=("2m_temperature", None)),
    WantedField(label="u_component_of_wind_850", field=("u_component_of_wind", 850)),
]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving_ranges() as served:
        yield served


@pytest.fixture(scope="module")
def gfs() -> OpenDataFile:
    return gfs_file(GRID, MIDNIGHT, 0, {("HGT", "500 mb"): HEIGHT})


@pytest.fixture(scope="module")
def ifs() -> OpenDataFile:
    return ifs_file(GRID, MIDNIGHT, 0, {("gh", "500"): HEIGHT})


def publish(bucket: Bucket, file: OpenDataFile, path: str) -> None:
    content, index = (path, f"{path}.idx") if "gfs" in path else (f"{path}.grib2", f"{path}.index")
    bucket.files |= {content: file.content, index: file.index.encode()}


def fetch(
    bucket: Bucket, folder: Path, service: str = "gfs", time: np.datetime64 = MIDNIGHT
) -> Path:
    path = f"{service}+{bucket.url}"
    fetched = fetch_states(path, WANTED, np.array([time]), policy=QUICK, folder=folder)
    return fetched.paths[0]


def lengths(file: OpenDataFile, names: list[tuple[str, str]]) -> int:
    messages = read_index(file.index, "index")
    return sum(m.length or 0 for m in messages if (m.name, m.level) in names)


@pytest.mark.parametrize("service", ["gfs", "ifs"])
def test_only_the_wanted_messages_travel(
    bucket: Bucket, tmp_path: Path, service: str, gfs: OpenDataFile, ifs: OpenDataFile
) -> None:
    publish(bucket, gfs, GFS_PATH)
    publish(bucket, ifs, IFS_PATH)
    path = fetch(bucket, tmp_path, service)
    if service == "gfs":
        names = [("HGT", "500 mb"), ("TMP", "2 m above ground"), ("UGRD", "850 mb")]
        assert bucket.sent[GFS_PATH] == lengths(gfs, names) < len(gfs.content) / 10
    else:
        names = [("gh", "pl 500"), ("2t", "sfc"), ("u", "pl 850")]
        assert bucket.sent[f"{IFS_PATH}.grib2"] == lengths(ifs, names) < len(ifs.content) / 10
    found = read_source(path)
    np.testing.assert_allclose(found["geopotential"].sel(level=500)[0], 9.80665 * HEIGHT, rtol=1e-6)
    assert {"2m_temperature", "u_component_of_wind"} < {*found.data_vars}
    np.testing.assert_array_equal(found["time"], [MIDNIGHT])


def test_the_cache_needs_no_network(bucket: Bucket, tmp_path: Path, gfs: OpenDataFile) -> None:
    publish(bucket, gfs, GFS_PATH)
    content = fetch(bucket, tmp_path).read_bytes()
    bucket.requests.clear()
    assert fetch(bucket, tmp_path).read_bytes() == content
    assert bucket.requests == []


def test_further_messages_follow_those_that_are_there(
    bucket: Bucket, tmp_path: Path, gfs: OpenDataFile
) -> None:
    """Another process may be reading them."""
    publish(bucket, gfs, GFS_PATH)
    path, times = f"gfs+{bucket.url}", np.array([MIDNIGHT])
    (before,) = fetch_states(path, WANTED[:1], times, policy=QUICK, folder=tmp_path).paths
    content = before.read_bytes()
    (after,) = fetch_states(path, WANTED, times, policy=QUICK, folder=tmp_path).paths
    assert after == before
    assert after.read_bytes().startswith(content)
    assert len(check_messages(str(after))) == 3


def test_a_damaged_copy_is_fetched_again(bucket: Bucket, tmp_path: Path, gfs: OpenDataFile) -> None:
    publish(bucket, gfs, GFS_PATH)
    path = fetch(bucket, tmp_path)
    content, sent = path.read_bytes(), bucket.sent[GFS_PATH]
    damaged = bytearray(content)
    damaged[50] ^= 1
    path.write_bytes(damaged)
    read_again = fetch(bucket, tmp_path)
    assert 0 < bucket.sent[GFS_PATH] - sent < sent
    assert sorted(read_again.read_bytes().split(b"GRIB")) == sorted(content.split(b"GRIB"))


def test_grids_of_one_degree_and_of_half_a_degree(bucket: Bucket, tmp_path: Path) -> None:
    """States come from the file of their resolution, of several at the same time."""
    for resolution, shape in {"1p00": (19, 36), "0p50": (37, 72), "0p25": (73, 144)}.items():
        grid = LatLonGrid.equiangular(*shape, poles=True)
        fields = {("HGT", "500 mb"): np.full(shape, 5000.0 + shape[0])}
        file = gfs_file(grid, MIDNIGHT - np.timedelta64(6, "h"), 3, fields)
        path = GFS_PATH.replace("20261130/00", "20261129/18").replace("t00z", "t18z")
        publish(bucket, file, path.replace("0p25", resolution).replace("f000", "f003"))
    time = MIDNIGHT - np.timedelta64(3, "h")
    for service, rows in (("gfs-1p00", 19), ("gfs-0p50", 37), ("gfs", 73)):
        found = read_source(fetch(bucket, tmp_path, service, time))
        assert found.sizes["latitude"] == rows
        height = found["geopotential"].sel(level=500) / 9.80665
        np.testing.assert_allclose(height, 5000 + rows, rtol=1e-6)


@pytest.mark.parametrize("fault", ["failures", "cuts"])
def test_a_transfer_that_fails_is_tried_again(
    bucket: Bucket, tmp_path: Path, gfs: OpenDataFile, fault: str
) -> None:
    publish(bucket, gfs, GFS_PATH)
    bucket.failures, bucket.cuts = ([503, 429], 0) if fault == "failures" else ([], 2)
    assert len(check_messages(str(fetch(bucket, tmp_path)))) == 3
    bucket.failures, bucket.cuts = ([503] * 9, 0) if fault == "failures" else ([], 9)
    with rejects("transfer-failed", bucket.url, "3 attempts"):
        fetch(bucket, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*f000"))


def test_a_state_that_is_not_there_yet_is_named(
    bucket: Bucket, tmp_path: Path, gfs: OpenDataFile
) -> None:
    publish(bucket, gfs, GFS_PATH)
    with rejects("missing-file", "2026-11-30T06", "t06z.pgrb2.0p25.f000.idx", "--init-times"):
        fetch(bucket, tmp_path, time=MIDNIGHT + np.timedelta64(6, "h"))
    del bucket.files[GFS_PATH]
    with rejects("missing-file", GFS_PATH, "try again later"):
        fetch(bucket, tmp_path)


def test_answers_that_no_retry_mends(bucket: Bucket, tmp_path: Path, gfs: OpenDataFile) -> None:
    publish(bucket, gfs, GFS_PATH)
    bucket.failures = [403]
    with rejects("no-permission", bucket.url):
        fetch(bucket, tmp_path)
    bucket.ranges = False
    with rejects("other-layout", GFS_PATH, "byte"):
        fetch(bucket, tmp_path)
    bucket.ranges, bucket.files[GFS_PATH] = True, gfs.content[:100]
    with rejects("unreadable-file", GFS_PATH):
        fetch(bucket, tmp_path)
    bucket.files[GFS_PATH] = gfs.content[1:] + b" "
    with rejects("unreadable-file", GFS_PATH, "HGT at 500 mb"):
        fetch(bucket, tmp_path)


def test_fields_that_a_service_lacks_are_named(
    bucket: Bucket, tmp_path: Path, gfs: OpenDataFile
) -> None:
    """What can be computed is not missing; an analysis has no precipitation."""
    publish(bucket, gfs, GFS_PATH)
    path, times = f"gfs+{bucket.url}", np.array([MIDNIGHT])
    components = (("u_component_of_wind", 500), ("v_component_of_wind", 500))
    speed = WantedField(label="wind_speed_500", field=("wind_speed", 500), inputs=components)
    (found,) = fetch_states(path, [speed], times, policy=QUICK, folder=tmp_path).paths
    assert len(check_messages(str(found))) == 2
    rain = WantedField(label="total_precipitation", field=("total_precipitation", None))
    other = WantedField(label="geopotential_13", field=("geopotential", 13))
    with rejects("missing-variable", "['total_precipitation', 'geopotential_13']", "analysis"):
        fetch_states(path, [*WANTED, rain, other], times, policy=QUICK, folder=tmp_path)


def test_a_time_between_analyses_is_a_forecast(bucket: Bucket, tmp_path: Path) -> None:
    file = gfs_file(GRID, MIDNIGHT, 3, {})
    publish(bucket, file, GFS_PATH.replace("f000", "f003"))
    time = MIDNIGHT + np.timedelta64(3, "h")
    found = read_source(fetch(bucket, tmp_path, time=time))
    np.testing.assert_array_equal(found["time"], [time])


def test_the_newest_state_is_the_last_that_is_there(bucket: Bucket, gfs: OpenDataFile) -> None:
    publish(bucket, gfs, GFS_PATH)
    evening = (MIDNIGHT + np.timedelta64(20, "h")).astype("M8[s]").astype(int)
    path = f"gfs+{bucket.url}"
    assert newest_state(path, now=float(evening), policy=QUICK) == MIDNIGHT
    with rejects("missing-file", bucket.url, "--init-times"):
        newest_state(path, now=float(evening) + 5 * 86400, policy=QUICK)


def test_an_index_that_changed_is_read_again(
    bucket: Bucket, tmp_path: Path, gfs: OpenDataFile
) -> None:
    """The first one was still being written."""
    part = "\n".join(gfs.index.splitlines()[:14]) + "\n"
    publish(bucket, OpenDataFile(gfs.content, part), GFS_PATH)
    path, times = f"gfs+{bucket.url}", np.array([MIDNIGHT])
    fetch_states(path, WANTED[:1], times, policy=QUICK, folder=tmp_path)
    publish(bucket, gfs, GFS_PATH)
    assert len(check_messages(str(fetch(bucket, tmp_path)))) == 3
