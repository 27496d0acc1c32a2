import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from tests.builders.errors import rejects

GRID = LatLonGrid.equiangular(3, 4)
LEVELS = st.lists(st.sampled_from([100, 250, 500, 850, 1000]), min_size=1, max_size=4, unique=True)


def make_channels(levels: list[int], with_surface: bool) -> Channels:
    upper = [
        Channel(name=name, level=level, units=units)
        for name, units in (("geopotential", "m2 s-2"), ("temperature", "K"))
        for level in levels
    ]
    surface = [Channel(name="2m_temperature", units="K")] if with_surface else []
    return Channels(tuple(upper + surface))


@given(LEVELS, st.booleans(), st.integers(1, 3))
def test_unstack_and_stack_are_inverse(levels: list[int], with_surface: bool, count: int) -> None:
    channels = make_channels(levels, with_surface)
    values = np.random.default_rng(0).standard_normal((count, len(channels), *GRID.shape))
    times = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(1, "D")
    dataset = channels.unstack(values, {"time": times, **GRID.coords})
    np.testing.assert_array_equal(channels.stack(dataset).values, values)
    names = list(dict.fromkeys(channel.name for channel in channels))
    assert Channels.from_dataset(dataset, names, levels) == channels
    assert Channels.from_json(channels.to_json()) == channels


def test_labels() -> None:
    assert make_channels([500], True).labels == [
        "geopotential_500",
        "temperature_500",
        "2m_temperature",
    ]


def test_missing_levels_and_repeated_channels_are_named() -> None:
    dataset = make_channels([500, 850], False).unstack(np.zeros((4, 3, 4)), dict(GRID.coords))
    with rejects("missing-level", "geopotential", "[300]", "data.levels"):
        Channels.from_dataset(dataset, ["geopotential"], [300, 500])
    with rejects("repeated-channel", "temperature"):
        Channels((Channel(name="temperature"), Channel(name="temperature")))
    with rejects("missing-variable", "['snow']"):
        Channels.from_dataset(xr.Dataset(), ["snow"])


def test_labels_as_files_spell_them_are_found() -> None:
    """MERRA-2's T and CMIP's zg; a variable of that very name, as on planes, comes first."""
    canonical = make_channels([500, 850], True).unstack(np.zeros((5, 3, 4)), dict(GRID.coords))
    found = Channels.from_dataset(canonical, ["T", "z", "T2M"], [850])
    assert found.labels == ["temperature_850", "geopotential_850", "2m_temperature"]
    plane = canonical.rename({"2m_temperature": "T"})
    assert Channels.from_dataset(plane, ["T"]).labels == ["T"]


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a\nb", "\x1b[2J", "\u202eabc", "\ud800", "x" * 201]
)
def test_a_name_that_no_file_can_have_is_named(name: str) -> None:
    with rejects("bad-name", repr(name[:80]), "data.source.rename"):
        Channels((Channel(name=name),))
