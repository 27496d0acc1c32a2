"""Bytes behind a web address."""

from collections.abc import Iterator

import pytest

from data_pipeline.sources.open_data.transfer import read_bytes, read_text
from data_pipeline.sources.retry import RetryPolicy
from tests.builders.errors import rejects
from tests.builders.ranges import Bucket, serving_ranges

QUICK = RetryPolicy(attempts=2, delay=0.01, stall=5.0)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving_ranges() as served:
        served.files["/a"] = b"0123456789"
        yield served


def test_parts_of_a_file(bucket: Bucket) -> None:
    url = f"{bucket.url}/a"
    assert read_text(url, QUICK) == "0123456789"
    assert read_bytes(url, 2, 3, QUICK) == b"234"
    assert read_bytes(url, 7, None, QUICK) == b"789"
    assert bucket.sent["/a"] == 10 + 3 + 3


def test_a_part_that_the_file_does_not_have(bucket: Bucket) -> None:
    with rejects("unreadable-file", "/a"):
        read_bytes(f"{bucket.url}/a", 10, 1, QUICK)
    with rejects("transfer-failed", "/a", "5 bytes"):
        read_bytes(f"{bucket.url}/a", 8, 5, QUICK)


@pytest.mark.parametrize(("status", "code"), [(400, "transfer-failed"), (401, "no-permission")])
def test_an_answer_that_stays_is_final(bucket: Bucket, status: int, code: str) -> None:
    bucket.failures = [status]
    with rejects(code, str(status)):
        read_text(f"{bucket.url}/a", QUICK)
    assert len(bucket.requests) == 1


def test_a_file_that_is_not_there(bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError):
        read_text(f"{bucket.url}/b", QUICK)


def test_a_server_that_is_not_there() -> None:
    with serving_ranges() as gone:
        url = gone.url
    with rejects("transfer-failed", url, "2 attempts"):
        read_text(f"{url}/a", QUICK)
