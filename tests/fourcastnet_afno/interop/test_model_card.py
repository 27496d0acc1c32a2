"""What a model card says."""

from typing import Any

import pytest

from data_pipeline.channels import Channel
from fourcastnet_afno.interop.model_card import model_card
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster

CONFIG = """
data:
  source: {path: "https://host/era5.zarr?token=0123456789abcdef"}
  train: {start: 1979-01-01, end: 2015-12-31}
training:
  stages: [{epochs: 80}]
"""


def card(scores: dict[str, Any] | None = None, **metadata: object) -> str:
    rain = Channel(name="total_precipitation", units="m")
    return model_card("era5", make_forecaster(), metadata, (rain,), scores)


def test_it_tells_channels_grid_and_training() -> None:
    text = card(config=CONFIG, position={"step": 123}, versions={"torch": "2.13.0"})
    for word in (
        "`geopotential_500`",
        "`2m_temperature`",
        "| `total_precipitation` | `m` | predicted, not fed back |",
        "`day_of_year_sin`",
        "https://host/era5.zarr",
        "5e+04",
        "6 h",
        "`1979-01-01 to 2015-12-31`",
        "'epochs': 80",
        "| optimizer updates | 123 |",
        "torch 2.13.0",
        "Deterministic",
    ):
        assert word in text
    assert text.startswith("---\nlibrary_name: fourcastnet-afno\n")


def test_it_tells_how_data_were_simulated() -> None:
    text = card(config="data: {source: null, simulation: {num_latitudes: 32}}")
    assert "| data | simulated, `{'num_latitudes': 32}` |" in text


def test_it_tells_no_secrets_and_obeys_no_text_of_others() -> None:
    assert "0123456789abcdef" not in card(config=CONFIG)
    text = card(versions={"a`b|<script>\n# Title": "\x1b[31m"})
    assert "\n# Title" not in text
    assert "`a'b/<script> # Title" in text
    assert "\x1b" not in text


def test_scores_are_of_the_first_forecast_that_has_them() -> None:
    leads = {str(6 * i): float(i) for i in range(1, 41)} | {"246": None}
    scores = {"forecasts": {"AFNO": {"rmse": {"geopotential_500": leads}}, "persistence": {}}}
    text = card(scores)
    assert "RMSE of `AFNO`" in text
    assert text.count(" h |") <= 7
    assert "| `geopotential_500` | 1 |" in text
    with rejects("bad-record", "forecasts"):
        card({"forecasts": {"AFNO": 1}})


@pytest.mark.parametrize(
    ("attrs", "lead", "shown"),
    [({}, "6", "6 h"), ({}, "3MS", "3MS"), ({"trajectory_states": 9}, "6", "6 steps")],
)
def test_lead_times_of_scores_have_their_unit(attrs: dict[str, Any], lead: str, shown: str) -> None:
    forecasts = {"AFNO": {"rmse": {"geopotential_500": {lead: 1.0}}}}
    assert f"| channel | {shown} |" in card({"forecasts": forecasts, "conventions": attrs})


@pytest.mark.parametrize("metadata", [{}, {"config": "data: 3"}])
def test_checkpoints_that_tell_little_have_a_card(metadata: dict[str, Any]) -> None:
    assert "# `era5`" in card(**metadata)
