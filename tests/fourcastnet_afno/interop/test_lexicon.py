"""Names of earth2studio's lexicon, and of ECMWF."""

import re

import pytest

from data_pipeline.channels import Channel
from data_pipeline.sources.names import RENAME, UNITS, normalize_units
from fourcastnet_afno.interop.lexicon import ecmwf_units, lexicon_name, mars_keys

LEVELS = ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind")
LEVELS += ("vertical_velocity", "wind_speed", "specific_humidity", "relative_humidity")


def channels() -> list[Channel]:
    levels = [Channel(name=n, level=500, units=UNITS[n]) for n in LEVELS]
    return levels + [Channel(name=n, units=units) for n, units in UNITS.items()]


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (Channel(name="geopotential", level=500, units="m2 s-2"), "z500"),
        (Channel(name="10m_u_component_of_wind", units="m s-1"), "u10m"),
        (Channel(name="u_component_of_wind", level=10, units="m s-1"), "u10"),
        (Channel(name="total_precipitation_6hr", units="m"), "tp06"),
        (Channel(name="relative_vorticity", level=850, units="s-1"), "relative_vorticity_850"),
        (Channel(name="geopotential", units="m2 s-2"), "geopotential"),
    ],
)
def test_channels_have_the_names_of_the_lexicon_or_their_own(channel: Channel, name: str) -> None:
    assert lexicon_name(channel) == name


def test_a_channel_in_other_units_keeps_its_name() -> None:
    assert lexicon_name(Channel(name="2m_temperature", units="degC")) == "2m_temperature"


@pytest.mark.parametrize(
    ("channel", "keys"),
    [
        (
            Channel(name="geopotential", level=500, units="m2 s-2"),
            {"param": "z", "levtype": "pl", "levelist": 500},
        ),
        (Channel(name="2m_temperature", units="K"), {"param": "2t", "levtype": "sfc"}),
        (Channel(name="mean_sea_level_pressure"), {"param": "msl", "levtype": "sfc"}),
        (Channel(name="2m_temperature", units="degC"), {}),
        (Channel(name="total_precipitation_6hr", units="m"), {}),
        (Channel(name="geopotential", units="m2 s-2"), {}),
    ],
)
def test_channels_have_keys_of_ecmwf_in_its_units_alone(channel: Channel, keys: dict) -> None:
    assert mars_keys(channel) == keys


def test_parameters_of_ecmwf_are_those_that_its_files_are_read_with() -> None:
    """Reading turns each back into the channel."""
    for channel in channels():
        param = mars_keys(channel).get("param")
        if param in RENAME and channel.name != "geopotential_at_surface":
            assert RENAME[str(param)] == channel.name


@pytest.mark.parametrize(
    ("units", "spelled"),
    [("m2 s-2", "m**2 s**-2"), ("kg kg-1", "kg kg**-1"), ("K", "K"), ("1", None), ("", None)],
)
def test_units_are_spelled_as_in_grib(units: str, spelled: str | None) -> None:
    assert ecmwf_units(units) == spelled


def test_names_are_those_of_earth2studio_and_their_units_are_ours() -> None:
    pytest.importorskip("earth2studio", reason="needs the extra interop")
    from earth2studio.lexicon.base import E2STUDIO_VOCAB

    named = [(c, lexicon_name(c)) for c in channels() if lexicon_name(c) != c.label]
    assert len(named) > 25
    for channel, name in named:
        description = E2STUDIO_VOCAB[name]
        units = re.findall(r"\(([^()]*)\)", description)
        assert channel.units in map(normalize_units, units), (channel.label, description)
