"""Variables at several heights, split into the fields that have names: u at [10, 100] m is u10."""

from collections.abc import Collection

import xarray as xr

from data_pipeline.sources.fields.vertical import verticals_by_variable
from data_pipeline.sources.names import AT_HEIGHT, RENAME, STANDARD_NAMES


def with_heights_split(dataset: xr.Dataset, renamed: Collection[str] = ()) -> xr.Dataset:
    """Add the fields that are at one height of an axis in m, under their canonical names.

    Args:
        dataset: As opened; lazy arrays stay lazy, and the variables that are split are kept.
        renamed: Variables that the user names, which are not split.
    """
    found: dict[str, xr.DataArray] = {}
    for stored, verticals in verticals_by_variable(dataset).items():
        standard = str(dataset[stored].attrs.get("standard_name", ""))
        name = RENAME.get(stored) or STANDARD_NAMES.get(standard, (stored, stored))[1]
        if stored in renamed or name not in {base for base, _ in AT_HEIGHT}:
            continue
        for vertical in verticals:
            if not vertical.is_axis or vertical.kind != "height" or len(vertical.values) < 2:
                continue
            for index, height in enumerate(vertical.values):
                single = AT_HEIGHT.get((name, round(height, 2)))
                if single is not None and not _has(dataset, single):
                    found[single] = dataset[stored].isel({vertical.coordinate: index}, drop=True)
    return dataset.assign(found)


def _has(dataset: xr.Dataset, name: str) -> bool:
    return any(RENAME.get(str(variable), variable) == name for variable in dataset.data_vars)
