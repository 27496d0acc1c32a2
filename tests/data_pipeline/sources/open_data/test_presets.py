"""Addresses of services."""

import numpy as np
import pytest

from data_pipeline.sources.open_data.presets import Service, is_open_data
from tests.builders.errors import rejects


def urls(path: str, time: str) -> list[str]:
    return [file for file, _, _ in Service.at(path).urls(np.datetime64(time, "ns"))]


def test_files_of_gfs() -> None:
    """The analysis of its hour, and between these the forecast of the last one."""
    root = "https://noaa-gfs-bdp-pds.s3.amazonaws.com/gfs.20261130/06/atmos/gfs.t06z.pgrb2.0p25"
    assert urls("gfs://", "2026-11-30T06") == urls("gfs://aws", "2026-11-30T06") == [f"{root}.f000"]
    ((_, index, step),) = Service.at("gfs://aws").urls(np.datetime64("2026-11-30T11", "ns"))
    assert (index, step) == (f"{root}.f005.idx", 5)
    assert urls("gfs://gcs/", "2026-11-30T06")[0].startswith(
        "https://storage.googleapis.com/global-forecast-system/gfs.20261130/06/"
    )


@pytest.mark.parametrize("resolution", ["0p50", "1p00"])
def test_files_of_gfs_on_coarser_grids(resolution: str) -> None:
    """They are every 3 hours, in the folders of the fine ones."""
    fine = urls("gfs://gcs", "2026-11-30T09")
    assert urls(f"gfs-{resolution}://gcs", "2026-11-30T09") == [
        url.replace("0p25", resolution) for url in fine
    ]
    ((_, index, step),) = Service.at(f"gfs-{resolution}+https://host/b").urls(
        np.datetime64("2026-11-30T09", "ns")
    )
    assert index == f"https://host/b/gfs.20261130/06/atmos/gfs.t06z.pgrb2.{resolution}.f003.idx"
    assert step == 3
    with rejects("no-times", f"3 h at the resolution {resolution}", "2026-11-30T01"):
        urls(f"gfs-{resolution}://", "2026-11-30T01")


def test_files_of_the_ifs_moved_several_times() -> None:
    root = "https://data.ecmwf.int/forecasts/20261130/00z/ifs/0p25/oper"
    expected = f"{root}/20261130000000-3h-oper-fc.grib2"
    assert urls("ifs://ecmwf", "2026-11-30T03") == [expected]
    evening = urls("ifs://gcs", "2025-11-30T18")
    assert [url.rsplit("-", 2)[1] for url in evening] == ["scda", "oper"]
    folders = [url.split("/oper/")[0].partition("00z/")[2] for url in urls("ifs://", "2023-06-01")]
    assert folders == ["ifs/0p25", "0p25", "0p4-beta"]


def test_a_mirror_of_ones_own() -> None:
    assert urls("gfs+http://127.0.0.1:8000/b/", "2026-11-30")[0].startswith(
        "http://127.0.0.1:8000/b/gfs.20261130/00/"
    )


@pytest.mark.parametrize(
    "path", ["gfs.grib2", "gs://bucket", "gfs-://aws", "/data/ifs://x", "gfs+ftp://host"]
)
def test_other_paths_are_no_services(path: str) -> None:
    assert not is_open_data(path)


def test_what_a_service_does_not_have_is_named() -> None:
    with rejects("bad-setting", "gfs://azure", "aws, gcs"):
        Service.at("gfs://azure")
    with rejects("bad-setting", "gfs-2p50://aws", "'2p50'", "0p25, 0p50, 1p00"):
        Service.at("gfs-2p50://aws")
    with rejects("bad-setting", "ifs-1p00+http://host", "of ifs are 0p25"):
        Service.at("ifs-1p00+http://host")
    with rejects("no-times", "ifs", "2026-11-30T01", "3 h"):
        urls("ifs://aws", "2026-11-30T01")
    with rejects("no-times", "gfs", "2026-11-30T00:30"):
        urls("gfs://aws", "2026-11-30T00:30")


def test_fields_have_the_names_of_each_service() -> None:
    gfs, ifs = Service.at("gfs://"), Service.at("ifs://")
    assert gfs.field("geopotential", 500) == ("HGT", "500 mb")
    assert ifs.field("geopotential", 500) == ("gh", "pl 500")
    assert ifs.field("2m_temperature", None) == ("2t", "sfc")
    assert gfs.field("potential_vorticity", 500) is gfs.field("geopotential", None) is None
