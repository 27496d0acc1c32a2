"""Files of a forecast are joined along the axes in which they differ."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.inputs.joined import join_forecasts
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import make_forecast, make_truth

WHOLE = canonical_forecast(make_forecast(make_truth(), num_members=2).isel(init_time=slice(4)))


def part(name: str = "part.nc", **indices: object) -> xr.Dataset:
    piece = WHOLE.isel(indices).copy()
    piece.encoding["source"] = name
    return piece


def parts(axis: str, *others: str) -> list[xr.Dataset]:
    """One file for each entry of some axes."""
    files = [WHOLE]
    for name in (axis, *others):
        files = [f.isel({name: [i]}) for f in files for i in range(WHOLE.sizes[name])]
    return [f.assign_attrs(file=str(i)) for i, f in enumerate(files)]


@pytest.mark.parametrize(
    "files",
    [
        parts("init_time"),
        parts("lead_time"),
        parts("realization"),
        parts("init_time", "lead_time", "realization"),
        [WHOLE[["temperature"]], WHOLE[["2m_temperature"]]],
        [WHOLE[["2m_temperature"]], *(f[["temperature"]] for f in parts("level"))],
    ],
)
def test_parts_make_the_whole(files: list[xr.Dataset]) -> None:
    order = np.random.default_rng(0).permutation(len(files))
    joined = join_forecasts([files[i] for i in order])
    xr.testing.assert_equal(joined, WHOLE)


@pytest.mark.parametrize(
    ("second", "code", "named"),
    [
        (lambda: part("b.nc"), "repeated-times", "a.nc"),
        (lambda: part("b.nc", init_time=[0, 1], lead_time=[0]), "files-differ", "b.nc"),
        (lambda: part("b.nc", latitude=slice(4)), "grid-mismatch", "b.nc"),
        (lambda: part("b.nc", realization=0), "files-differ", "realization"),
        (lambda: part("b.nc").assign_attrs(calendar="noleap"), "files-differ", "noleap"),
    ],
)
def test_files_that_do_not_fit(second: Callable[[], xr.Dataset], code: str, named: str) -> None:
    first = part("a.nc", init_time=[0, 1, 2])
    with rejects(code, named, "b.nc"):
        join_forecasts([first, second()])


def test_units_that_differ_between_files() -> None:
    other = part("b.nc", init_time=[3])
    other["temperature"] = other["temperature"].assign_attrs(units="degC")
    with rejects("units-mismatch", "b.nc", "'degC'", "temperature"):
        join_forecasts([part("a.nc", init_time=[0]), other])


def test_variables_of_other_lead_times_are_not_mixed() -> None:
    files = [part("a.nc")[["temperature"]], part("b.nc", lead_time=[0])[["2m_temperature"]]]
    with rejects("files-differ", "lead_time", "2m_temperature"):
        join_forecasts(files)
