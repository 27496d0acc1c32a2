"""Planted faults: changes of the synthetic Earth, and the one finding that each must make."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from data_pipeline.doctor.examination import Examination
from data_pipeline.doctor.findings import CHECKS, Finding
from data_pipeline.preparation.config import DataConfig
from tests.builders.earth import EARTH, examine_at, make_earth_config, only

Change = Callable[[xr.Dataset], xr.Dataset]


class Fault(NamedTuple):
    """A change of the data, and the finding that it must make, which names all of ``names``."""

    change: Change
    check: str
    severity: str
    names: Sequence[str]


def examine_data(data: xr.Dataset, folder: Path, config: DataConfig | None = None) -> Examination:
    data.to_netcdf(folder / "data.nc")
    config = config or make_earth_config(folder / "data.nc")
    return examine_at(config, folder / "data.zarr")


def full_text(finding: Finding) -> str:
    return f"{finding.what} | {finding.where} | {finding.remedy}"


def replaced(name: str, change: Callable[[xr.DataArray], Any]) -> Change:
    """The data with one variable changed, and its attributes kept."""

    def apply(data: xr.Dataset) -> xr.Dataset:
        changed = change(data[name]).astype(np.float32)
        return data.assign({name: changed.assign_attrs(data[name].attrs)})

    return apply


def flipped(*names: str) -> Change:
    """Fields stored upside down against their latitudes."""

    def apply(data: xr.Dataset) -> xr.Dataset:
        turned = {n: data[n].copy(data=data[n].isel(latitude=slice(None, None, -1))) for n in names}
        return data.assign(turned)

    return apply


def with_value(index: dict[str, Any], value: float) -> Callable[[xr.DataArray], xr.DataArray]:
    def change(array: xr.DataArray) -> xr.DataArray:
        array = array.copy(deep=True)
        array[index] = value
        return array

    return change


def check_fault(fault: Fault, folder: Path) -> None:
    """Assert that a fault is found, named and placed, and that nothing else is."""
    finding = only(examine_data(fault.change(EARTH.copy()), folder))
    assert (finding.check, finding.severity) == (fault.check, fault.severity)
    for text in fault.names:
        assert text in full_text(finding)
    assert finding.why == CHECKS[finding.check]
    assert finding.remedy
