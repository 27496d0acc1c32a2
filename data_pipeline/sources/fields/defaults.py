"""Settings of another source of the same kind, such as the one that a forecaster was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import xarray as xr

from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.rename import present_renames
from data_pipeline.sources.fields.select import present_entries
from data_pipeline.sources.missing_marks import with_marks_missing
from data_pipeline.sources.names import canonical_label

_TABLES = ("rename", "units", "select", "missing", "convert")


def recorded_settings(record: Mapping[str, Any]) -> SourceConfig | None:
    """Names, units, entries, marks and conversions of a stored configuration, without its paths."""
    known = {field.name for field in fields(SourceConfig)} & {*_TABLES}
    settings = {key: record[key] for key in known if record.get(key)}
    return SourceConfig(path=[], **settings) if settings else None


def with_defaults(
    config: SourceConfig, defaults: SourceConfig, opened: Sequence[xr.Dataset]
) -> SourceConfig:
    """The configuration with those defaults that its files have; what it states itself wins."""
    return replace(
        config,
        rename={**present_renames(defaults.rename, opened), **config.rename},
        select={**present_entries(defaults.select, opened), **config.select},
        convert=config.convert or defaults.convert,
    )


def with_default_units_and_marks(
    dataset: xr.Dataset, config: SourceConfig, defaults: SourceConfig
) -> xr.Dataset:
    """Units of variables that state none, and marks of missing values, in a canonical dataset.

    A label that the data has is never replaced: it may be right here.
    """
    units = {canonical_label(key)[0]: value for key, value in defaults.units.items()}
    for name, array in dataset.data_vars.items():
        if not array.attrs.get("units") and str(name) in units:
            dataset[name].attrs["units"] = units[str(name)]
    marks = {k: mark for k, mark in defaults.missing.items() if k not in config.missing}
    return with_marks_missing(dataset, marks)
