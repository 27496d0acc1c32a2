"""Numbers that stand for missing values and that files do not declare, read as NaN."""

from collections.abc import Mapping

import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.names import canonical_label

_TOLERANCE = 1e-5  # of a mark; files round it in several ways


def with_marks_missing(dataset: xr.Dataset, marks: Mapping[str, float | int]) -> xr.Dataset:
    """The dataset with NaN in place of the marks, by canonical or short name of the variable."""
    masked = {}
    for key, mark in marks.items():
        for name in {key, canonical_label(key)[0]} & set(map(str, dataset.data_vars)):
            array = dataset[name]
            masked[name] = array.where(abs(array - mark) > _TOLERANCE * abs(mark))
            masked[name].encoding = dict(array.encoding)
    return dataset.assign(masked)


def check_marks(dataset: xr.Dataset, marks: Mapping[str, float | int]) -> None:
    """Reject marks of variables that the data has not ("bad-setting")."""
    unknown = [key for key in marks if not {key, canonical_label(key)[0]} & set(dataset.data_vars)]
    if unknown:
        message = f"data.source.missing names {unknown}, the data has "
        message += f"{sorted(map(str, dataset.data_vars))}; correct data.source.missing"
        raise InputError(message, code="bad-setting")
