"""Prepared stores of the commit before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline import PreparedStore
from fourcastnet_afno.cli import main
from tests.compatibility.conftest import ARTIFACTS, MANIFEST
from tests.compatibility.public_calls import described_store, digest

ARCHIVES = {"planet": ["planet_store"], "fisher": ["fisher"]}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_store_reads_to_the_same_bits(name: str, unpack: Callable[..., Path]) -> None:
    path = unpack(*ARCHIVES[name]) / name / "data.zarr"
    assert described_store(path) == MANIFEST["stores"][name]


def test_a_store_opens_in_plain_xarray(unpack: Callable[..., Path]) -> None:
    path = unpack("planet_store") / "planet" / "data.zarr"
    with xr.open_zarr(path, consolidated=False) as plain:
        assert plain["fields"].dims == ("time", "channel", "latitude", "longitude")
        assert digest(plain["fields"].values) == MANIFEST["stores"]["planet"]["states"]


def test_a_store_of_an_own_equation_is_verified_and_taken_for_what_its_yaml_says(
    unpack: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    store = unpack("fisher") / "fisher" / "data.zarr"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    words = ["prepare", f"--config={ARTIFACTS / 'fisher.yaml'}", "--output=fisher", "--verify"]
    assert main(words) == 0
    assert "data.zarr is unchanged" in " ".join(capsys.readouterr().out.split())
    assert before == {path: path.stat().st_mtime_ns for path in store.rglob("*")}


@pytest.mark.parametrize(("name", "rounding"), [("planet", 1e-4), ("fisher", 2.0**-10)])
def test_the_same_yaml_prepares_the_same_values(
    name: str,
    rounding: float,
    unpack: Callable[..., Path],
    assert_computed: Callable[..., None],
) -> None:
    """The planet's eddies let roundings grow for nine days; the other is stored in 16 bits."""
    folder = unpack(*ARCHIVES[name])
    assert main(["prepare", f"--config={ARTIFACTS / name}.yaml", "--output=anew"]) == 0
    before, anew = (PreparedStore(folder / run / "data.zarr") for run in (name, "anew"))
    np.testing.assert_array_equal(anew.times, before.times)
    everything = slice(len(before.times))
    for index in range(len(before.channels)):
        fields = (store.states[everything, :][:, index] for store in (anew, before))
        assert_computed(*fields, rounding=rounding)
    climatologies = anew.climatology(), before.climatology()
    for variable in climatologies[1]:
        assert_computed(*(c[variable].values for c in climatologies), rounding=rounding)
