"""Artifacts of the commit before, unpacked where a test works."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.compatibility.machine import rounds_alike

ARTIFACTS = Path(__file__).parent / "artifacts"
MANIFEST: dict[str, Any] = json.loads((ARTIFACTS / "manifest.json").read_text())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread, as the artifacts were, since sums depend on the number of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Unpack artifacts by name into an empty folder and work there, as relative paths need it."""
    monkeypatch.chdir(tmp_path)

    def unpacked(*names: str) -> Path:
        for name in names:
            with zipfile.ZipFile(ARTIFACTS / f"{name}.zip") as packed:
                packed.extractall(tmp_path)
        return tmp_path

    return unpacked


@pytest.fixture(scope="session")
def expected() -> dict[str, np.ndarray]:
    """Fields and scores that the code of before has computed."""
    with np.load(ARTIFACTS / "expected.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def assert_computed() -> Callable[..., None]:
    """Compare computed numbers with those of before.

    They are the same to the bit where processor, its instructions and libraries are those that the
    manifest names. Elsewhere products of matrices add in another order: there they may differ by
    ``rounding`` times the largest value.
    """
    exact = rounds_alike(MANIFEST["machine"])

    def compare(found: Any, before: Any, *, rounding: float) -> None:  # noqa: ANN401
        found, before = np.asarray(found), np.asarray(before)
        assert found.dtype == before.dtype
        if exact or found.dtype.kind not in "fc":
            np.testing.assert_array_equal(found, before)
            return
        finite = np.abs(before[np.isfinite(before)])
        largest = finite.max() if finite.size else 0.0
        np.testing.assert_allclose(found, before, rtol=rounding, atol=rounding * largest)

    return compare
