"""Memory of this machine, and sizes that do not fit it."""

import resource

import psutil
import pytest

from data_pipeline.memory import available_memory, memory_limit, require_memory
from tests.builders.errors import rejects


def test_memory_is_bounded_by_machine_and_container() -> None:
    assert 0 < available_memory() <= memory_limit() <= psutil.virtual_memory().total


def test_memory_is_bounded_by_the_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_AS: (2**30, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[kind])
    assert memory_limit() == 2**30


def test_what_does_not_fit_is_named_with_its_size() -> None:
    require_memory(2**30, "a field", "coarsen it", limit=2**30)
    with rejects("too-little-memory", "a field", "3 GiB", "1 GiB", "coarsen it"):
        require_memory(3 * 2**30, "a field", "coarsen it", limit=2**30)
    with rejects("too-little-memory", "a field"):
        require_memory(2 * memory_limit(), "a field", "coarsen it")
