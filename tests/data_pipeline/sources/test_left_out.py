"""Variables that are left out are named with the reason once they are requested."""

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.sources.left_out import leave_out, reasons_left_out, with_all_reasons
from tests.builders.errors import rejects


def make(*names: str) -> xr.Dataset:
    return xr.Dataset({name: ("time", np.zeros(2)) for name in names})


def test_a_request_for_what_was_left_out_gives_the_reason() -> None:
    dataset = leave_out(make("temperature", "geopotential"), {"temperature": "it is a maximum"})
    assert list(dataset.data_vars) == ["geopotential"]
    with rejects("missing-variable", "temperature: it is a maximum"):
        Channels.from_dataset(dataset.isel(time=slice(1)), ["temperature"])


def test_reasons_add_up() -> None:
    dataset = leave_out(leave_out(make("a", "b", "c"), {"a": "first"}), {"b": "second"})
    assert reasons_left_out(dataset) == {"a": "first", "b": "second"}


def test_a_variable_of_another_file_needs_no_reason() -> None:
    parts = [leave_out(make("a", "b"), {"a": "one", "b": "two"}), make("b")]
    assert reasons_left_out(with_all_reasons(make("b"), parts)) == {"a": "one"}
