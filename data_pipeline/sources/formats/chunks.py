"""Lazy arrays in chunks that fit in memory."""

import xarray as xr

PIECE_BYTES = 16 * 2**20


def with_bounded_chunks(
    dataset: xr.Dataset, opened: xr.Dataset, file: str, piece_bytes: int = PIECE_BYTES
) -> xr.Dataset:
    """The dataset with ``rechunk_to_bytes`` applied, which closes ``opened``, from ``file``."""
    arrays = dataset.data_vars.items()
    dataset = dataset.assign({name: rechunk_to_bytes(array, piece_bytes) for name, array in arrays})
    dataset.set_close(opened.close)
    dataset.encoding["source"] = file
    return dataset


def rechunk_to_bytes(array: xr.DataArray, piece_bytes: int = PIECE_BYTES) -> xr.DataArray:
    """Take the chunks of the file, or, without any, runs of ``piece_bytes`` along the first axis.

    An array that is lazy already keeps its chunks.
    """
    if array.chunks is not None or not array.ndim:
        return array
    chunks = array.encoding.get("chunksizes")
    if not chunks or len(chunks) != array.ndim:
        step_bytes = array.nbytes // max(1, array.shape[0])
        chunks = (max(1, piece_bytes // max(1, step_bytes)), *array.shape[1:])
    return array.chunk(dict(zip(array.dims, chunks, strict=True)))
