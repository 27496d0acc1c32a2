"""Readers of mapped and compressed fields."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BytesCodec

from data_pipeline.store.integrity import seal
from data_pipeline.store.packing import StorageConfig, StoredType
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.states import MappedReader, ZarrReader, contiguous_runs
from tests.builders.errors import rejects

READ_TRUNCATED = """
import os, sys
from pathlib import Path
import numpy as np
from data_pipeline.store.integrity import seal
from data_pipeline.store.packing import Packing
from data_pipeline.store.states import MappedReader, ReadWindow, shard_path

path, rows = Path(sys.argv[1]), int(sys.argv[2])
reader = MappedReader(path, (1, 1, 64, 1024), np.dtype("<f4"), 1, ReadWindow(rows=slice(0, rows)))
buffer = np.zeros((1, *reader.shape[1:]), np.float32)
reader.read_into(buffer, np.array([0]))  # maps the file
os.truncate(shard_path(path, 0), 32 * 1024 * 4)
buffer[:] = 0
reader.read_into(buffer, np.array([0]))
assert (buffer == 1).all()
"""


@pytest.mark.parametrize(("rows", "status"), [(32, 0), (64, -7)])
def test_a_crop_touches_its_bytes_alone(rows: int, status: int, tmp_path: Path) -> None:
    """Reading what has been cut off a mapped file ends the process with SIGBUS."""
    file = tmp_path / "fields/c/0/0/0/0"
    file.parent.mkdir(parents=True)
    index = np.array([0, 64 * 1024 * 4], "<u8").tobytes()
    file.write_bytes(np.ones((64, 1024), "<f4").tobytes() + index + bytes(4))
    command = [sys.executable, "-c", READ_TRUNCATED, str(tmp_path), str(rows)]
    finished = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, check=False)
    assert finished.returncode == status


@given(indices=st.lists(st.integers(0, 30), max_size=20), length=st.integers(1, 8))
def test_runs_cover_the_indices_within_shards(indices: list[int], length: int) -> None:
    array = np.array(indices, int)
    runs = contiguous_runs(array, length)
    assert [i for start, stop in runs for i in range(start, stop)] == list(range(len(indices)))
    for start, stop in runs:
        run = array[start:stop]
        np.testing.assert_array_equal(run, run[0] + np.arange(stop - start))
        assert run[0] // length == run[-1] // length


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_one_variable_is_read_without_the_others(
    store_of_kind: Callable[[StorageConfig], PreparedStore],
    monkeypatch: pytest.MonkeyPatch,
    dtype: StoredType,
    compression: Literal["none", "zstd"],
) -> None:
    store = store_of_kind(StorageConfig(dtype=dtype, compression=compression))
    every = store.states[:, :, :, :]
    read: list[int] = []
    for reader in (MappedReader, ZarrReader):
        whole = reader.read_into

        def counted(self, buffer, indices, whole=whole) -> None:  # noqa: ANN001
            read.append(buffer.shape[1])
            whole(self, buffer, indices)

        monkeypatch.setattr(reader, "read_into", counted)
    dataset, labels = store.dataset(), store.channels.labels
    for index, channel in enumerate(store.channels):
        field = dataset[channel.name].isel(time=slice(3, 9))
        field = field if channel.level is None else field.sel(level=channel.level)
        np.testing.assert_array_equal(field.values, every[3:9, index])
    assert len(labels) > 1
    assert set(read) == {1}
    np.testing.assert_array_equal(store.states[2, [1, 0], :, 1], every[2, [1, 0], :, 1])


def test_zarr_reads_what_is_mapped(store: PreparedStore) -> None:
    fields = zarr.open_group(store.path, mode="r")["fields"]
    assert isinstance(fields, zarr.Array)
    mapped = store.states[(slice(None), slice(None), slice(None), slice(None))]
    np.testing.assert_array_equal(fields[...], mapped)


EVERYTHING = (slice(None),) * 4


def test_bytes_in_the_other_order_are_read_by_zarr(store: PreparedStore, tmp_path: Path) -> None:
    other = shutil.copytree(store.path, tmp_path / "store")
    fields = zarr.open_array(other / "fields", mode="r")
    swapped = zarr.open_group(other, mode="a").create_array(
        "fields",
        shape=fields.shape,
        chunks=fields.chunks,
        shards=fields.shards,
        dtype=fields.dtype,
        compressors=None,
        serializer=BytesCodec(endian="big"),
        overwrite=True,
    )
    swapped[...] = store.states[EVERYTHING]
    seal(other)
    np.testing.assert_array_equal(PreparedStore(other).states[EVERYTHING], store.states[EVERYTHING])


def test_a_store_that_is_prepared_again_is_noticed(store: PreparedStore, tmp_path: Path) -> None:
    other = shutil.copytree(store.path, tmp_path / "store")
    opened = PreparedStore(other).states
    metadata = other / "fields" / "zarr.json"
    metadata.write_text(metadata.read_text() + " ")
    with rejects("files-differ", str(other)):
        opened.read(np.array([0]))
