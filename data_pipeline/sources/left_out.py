"""Variables of a source that are not what their name stands for, and why.

A file may hold winds on model levels, or a daily maximum, next to what is read. Such a variable is
left out of the canonical dataset, and the reason is kept in its attributes: it becomes an error as
soon as the variable is requested.
"""

from collections.abc import Mapping, Sequence

import xarray as xr

_ATTRIBUTE = "left_out"


def leave_out(dataset: xr.Dataset, reasons: Mapping[str, str]) -> xr.Dataset:
    """Drop variables, and note for each why it is not taken, with the remedy."""
    dropped = dataset.drop_vars(list(reasons), errors="ignore")
    return note_reasons(dropped, {**reasons_left_out(dataset), **reasons})


def reasons_left_out(dataset: xr.Dataset) -> dict[str, str]:
    """Reasons by variable, see ``leave_out``."""
    return dict(dataset.attrs.get(_ATTRIBUTE, {}))


def with_all_reasons(result: xr.Dataset, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Note in a merged dataset what its parts have left out, and no other part has."""
    reasons: dict[str, str] = {}
    for part in parts:
        reasons = {**reasons_left_out(part), **reasons}
    return note_reasons(result, {k: why for k, why in reasons.items() if k not in result.data_vars})


def note_reasons(dataset: xr.Dataset, reasons: Mapping[str, str]) -> xr.Dataset:
    """Note reasons by variable, in place of those that there are."""
    attrs = {key: value for key, value in dataset.attrs.items() if key != _ATTRIBUTE}
    result = dataset.copy(deep=False)
    result.attrs = {**attrs, _ATTRIBUTE: dict(reasons)} if reasons else attrs
    return result
