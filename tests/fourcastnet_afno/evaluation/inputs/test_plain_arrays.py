"""Arrays count as plain only where nothing in their metadata asks for decoding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, TransposeCodec
from zarr.errors import ZarrUserWarning

from fourcastnet_afno.evaluation.inputs.plain_arrays import PlainArray, plain_array
from tests.builders.errors import rejects

VALUES = np.arange(24, dtype="f4").reshape(4, 6)


def inspect(store: Path) -> PlainArray | None:
    opened = xr.open_zarr(store, consolidated=False)
    return plain_array(str(store), "t", opened["t"].encoding)


def by_xarray(store: Path, **encoding: object) -> None:
    encoding = {"chunks": (2, 6), "compressors": None} | encoding
    dataset = xr.Dataset({"t": (("y", "x"), VALUES)})
    dataset.to_zarr(store, zarr_format=3, consolidated=False, encoding={"t": encoding})


def by_zarr(store: Path, **options: Any) -> None:  # noqa: ANN401
    chosen = {"dtype": "f4", "compressors": None, "chunks": (2, 6), **options}
    array = zarr.open_group(store, mode="w").create_array(
        "t", shape=VALUES.shape, dimension_names=("y", "x"), **chosen
    )
    array[:] = VALUES


@pytest.mark.parametrize("separator", ["/", "."])
@pytest.mark.parametrize("keys", ["default", "v2"])
def test_files_of_a_plain_array_hold_its_numbers(tmp_path: Path, keys: str, separator: str) -> None:
    by_zarr(tmp_path / "s", chunk_key_encoding={"name": keys, "separator": separator})
    array = inspect(tmp_path / "s")
    assert array is not None
    assert (array.shape, array.chunks, array.chunk_bytes) == ((4, 6), (2, 6), 48)
    found = np.fromfile(array.chunk_path((1, 0)), array.dtype).reshape(2, 6)
    np.testing.assert_array_equal(found, VALUES[2:])


def test_arrays_of_xarray_whose_missing_values_are_nan_are_plain(tmp_path: Path) -> None:
    by_xarray(tmp_path / "s")
    assert np.isnan(xr.open_zarr(tmp_path / "s", consolidated=False)["t"].encoding["_FillValue"])
    assert inspect(tmp_path / "s") is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda store: by_zarr(store, serializer=BytesCodec(endian="big")),
        lambda store: by_zarr(store, compressors=[Crc32cCodec()]),
        lambda store: by_zarr(store, filters=[TransposeCodec(order=(1, 0))]),
        lambda store: by_zarr(store, chunks=(2, 3), shards=(2, 6)),
        lambda store: by_zarr(store, dtype="i4"),
        lambda store: by_zarr(store, attributes={"scale_factor": 2.0}),
        lambda store: by_zarr(store, attributes={"add_offset": 2.0}),
        lambda store: by_zarr(store, attributes={"missing_value": 5.0}),
        lambda store: by_zarr(store, attributes={"units": "days since 2001-01-01"}),
        lambda store: by_xarray(store, _FillValue=np.float32(-9999)),
        lambda store: by_xarray(store, dtype="int16", scale_factor=0.5, _FillValue=-1),
    ],
)
def test_what_is_decoded_is_not_plain(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "s")
    assert inspect(tmp_path / "s") is None


def test_what_is_unknown_is_not_plain(tmp_path: Path) -> None:
    by_xarray(tmp_path / "s")
    encoding = xr.open_zarr(tmp_path / "s", consolidated=False)["t"].encoding
    assert plain_array(str(tmp_path / "s"), "t", encoding) is not None
    assert plain_array(str(tmp_path / "s"), "t", encoding | {"new_codec": "x"}) is None
    file = tmp_path / "s" / "t" / "zarr.json"
    metadata = json.loads(file.read_text())
    for other in ({"extension": {}}, {"chunk_grid": {"name": "rectilinear"}}, {"zarr_format": 4}):
        file.write_text(json.dumps(metadata | other))
        assert plain_array(str(tmp_path / "s"), "t", encoding) is None


def test_consolidated_metadata_that_says_otherwise_counts(tmp_path: Path) -> None:
    by_xarray(tmp_path / "s")
    with pytest.warns(ZarrUserWarning, match="Consolidated"):
        zarr.consolidate_metadata(tmp_path / "s")
    encoding = xr.open_zarr(tmp_path / "s")["t"].encoding
    assert plain_array(str(tmp_path / "s"), "t", encoding) is not None
    array = zarr.open_array(tmp_path / "s" / "t", mode="r+")
    array.attrs["scale_factor"] = 2.0
    assert plain_array(str(tmp_path / "s"), "t", encoding) is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[]", b"7", b"[" * 9000, b'{"zarr_format": 3, "shape": 1}']
)
def test_damaged_metadata_is_left_to_others(tmp_path: Path, text: bytes) -> None:
    by_xarray(tmp_path / "s")
    encoding = xr.open_zarr(tmp_path / "s", consolidated=False)["t"].encoding
    for file in ("t/zarr.json", "zarr.json"):
        kept = (tmp_path / "s" / file).read_bytes()
        (tmp_path / "s" / file).write_bytes(text)
        assert plain_array(str(tmp_path / "s"), "t", encoding) is None or file == "zarr.json"
        (tmp_path / "s" / file).write_bytes(kept)


def test_an_array_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    by_xarray(tmp_path / "s")
    array = inspect(tmp_path / "s")
    assert array is not None
    array.require_unchanged()
    by_xarray(tmp_path / "other", chunks=(1, 6))
    (tmp_path / "other" / "t" / "zarr.json").replace(tmp_path / "s" / "t" / "zarr.json")
    with rejects("files-differ", str(tmp_path / "s" / "t")):
        array.require_unchanged()
