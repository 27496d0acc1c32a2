"""The one table of names: labels, units, and what the documentation says of them."""

import re
from pathlib import Path

import pytest

from data_pipeline.preparation.config import DataConfig
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.names import (
    RENAME,
    STANDARD_NAMES,
    UNITS,
    normalize_units,
    parse_label,
    wgrib2_name,
)

DOCS = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (`.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)


def quoted(text: str) -> list[str]:
    return re.findall(r"`(.+?)`", text)


def test_the_documentation_holds_the_table() -> None:
    table = {(short, name) for name, shorts, _, _ in ROW.findall(DOCS) for short in quoted(shorts)}
    axes = {"time", "latitude", "longitude", "level"}
    assert table == {(short, name) for short, name in RENAME.items() if name not in axes}
    for name, _, standards, units in ROW.findall(DOCS):
        assert units == UNITS.get(name, "")
        expected = [standard for standard, names in STANDARD_NAMES.items() if name in names]
        assert set(quoted(standards)) <= set(expected)


def test_the_documentation_names_keys_that_exist() -> None:
    keys = set(re.findall(r"data\.(?!source|md|zarr)([a-z_]+)", DOCS))
    assert keys <= set(DataConfig.__dataclass_fields__)
    keys = set(re.findall(r"data\.source\.([a-z_]+)", DOCS))
    assert keys <= set(SourceConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("m**2 s**-2", "m2 s-2"),
        ("m^2 s^-2", "m2 s-2"),
        ("m2/s2", "m2 s-2"),
        ("kg kg**-1", "kg kg-1"),
        ("(0 - 1)", "1"),
        ("Pascals", "Pa"),
        ("M/S", "m s-1"),
        ("m s**-1", "m s-1"),
        ("deg_C", "degC"),
        ("millibars", "hPa"),
        ("MM", "MM"),
        ("degC", "degC"),
    ],
)
def test_spellings_of_units(units: str, expected: str) -> None:
    assert normalize_units(units) == expected


def test_winds_at_100_m_are_no_winds_at_100_hpa() -> None:
    assert RENAME["u100"] == RENAME["u100m"] == "100m_u_component_of_wind"
    assert parse_label("u100") == ("u_component_of_wind", 100)
    assert parse_label("u100m") == ("100m_u_component_of_wind", None)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("z500", ("geopotential", 500)),
        ("geopotential_500", ("geopotential", 500)),
        ("u10", ("10m_u_component_of_wind", None)),
        ("u100", ("u_component_of_wind", 100)),
        ("u100m", ("100m_u_component_of_wind", None)),
        ("r850", ("relative_humidity", 850)),
        ("tcwv", ("total_column_water_vapour", None)),
        ("2m_temperature", ("2m_temperature", None)),
        ("PSL", ("mean_sea_level_pressure", None)),
        ("CI", ("CI", None)),
        ("anything", ("anything", None)),
    ],
)
def test_labels(label: str, expected: tuple[str, int | None]) -> None:
    assert parse_label(label) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TMP_2maboveground", ("2m_temperature", None)),
        ("UGRD_10maboveground", ("10m_u_component_of_wind", None)),
        ("HGT_500mb", ("geopotential_height", 500)),
        ("PRMSL_meansealevel", ("mean_sea_level_pressure", None)),
        ("UGRD_80maboveground", None),
        ("TMP_tropopause", None),
        ("HGT_surface", None),
    ],
)
def test_names_of_wgrib2(name: str, expected: tuple[str, int | None] | None) -> None:
    assert wgrib2_name(name) == expected
