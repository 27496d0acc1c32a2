"""Lazy arrays in chunks that fit in memory."""

import xarray as xr

_PIECE_BYTES = 16 * 2**20


def with_bounded_chunks(dataset: xr.Dataset, opened: xr.Dataset, file: str) -> xr.Dataset:
    """Lazy in pieces that fit in memory, closed with ``opened``."""
    pieces = {name: rechunk_to_bytes(array) for name, array in dataset.data_vars.items()}
    dataset = dataset.assign(pieces)
    dataset.set_close(opened.close)
    dataset.encoding["source"] = file
    return dataset


def rechunk_to_bytes(array: xr.DataArray) -> xr.DataArray:
    """In the chunks of the file, or where it has none in runs along the first axis."""
    if array.chunks is not None or not array.ndim:
        return array
    chunks = array.encoding.get("chunksizes")
    if not chunks or len(chunks) != array.ndim:
        step_bytes = array.nbytes // max(1, array.shape[0])
        chunks = (max(1, _PIECE_BYTES // max(1, step_bytes)), *array.shape[1:])
    return array.chunk(dict(zip(array.dims, chunks, strict=True)))
