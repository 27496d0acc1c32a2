import os
import shutil
from pathlib import Path

import pytest

from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.unchanged import unchanged
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import make_coefficients, make_forecast, make_truth


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_forecast(make_truth()).to_zarr(tmp_path / "f.zarr", zarr_format=3, consolidated=False)
    return tmp_path / "f.zarr"


def replace_store(store: Path) -> None:
    """Write the store again, as a forecast that overwrites another does."""
    shutil.copytree(store, store.with_name("new"))
    os.utime(store.with_name("new") / "zarr.json", (1, 1))
    shutil.rmtree(store)
    store.with_name("new").rename(store)


def test_a_forecast_that_is_replaced_while_it_is_read_is_named(store: Path) -> None:
    with rejects("files-differ", "f.zarr"), unchanged([str(store)]):
        replace_store(store)
    (state := store.with_name("state.npz")).touch()
    with rejects("files-differ", "f.zarr"), unchanged([str(store)], state):
        shutil.rmtree(store)
        raise FileNotFoundError(store / "2m_temperature/c/0/0/0/0")
    assert not state.exists()


def test_what_cannot_be_read_is_named_and_defects_stay(store: Path) -> None:
    with rejects("unreadable-file", "f.zarr", "invalid input"), unchanged([str(store)]):
        raise RuntimeError("Zstd decompression error: invalid input data")
    with pytest.raises(AssertionError, match="a defect"), unchanged([str(store)]):
        raise AssertionError("a defect")
    with unchanged([str(store), "https://data.example/a.zarr", "nowhere"]):
        pass


def test_evaluations_watch_their_forecasts(store: Path) -> None:
    truth = make_truth()
    chunk = next(
        path
        for path in (store / "2m_temperature").rglob("*")
        if "c/" in str(path) and path.is_file()
    )
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with rejects("unreadable-file", "f.zarr"):
        evaluate({"model": str(store)}, truth, make_coefficients(truth))
