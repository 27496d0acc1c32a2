"""Rules of single variables, as the configuration of data takes them."""

from pathlib import Path
from typing import get_args

import pytest

from data_pipeline.preprocessing.config import AccumulateRule, FillRule
from tests.builders.experiments import make_data_config


@pytest.mark.parametrize("rule", get_args(AccumulateRule))
def test_rules_of_accumulation_are_part_of_a_store(rule: AccumulateRule) -> None:
    config = make_data_config(Path("data.nc"), accumulate={"total_precipitation": rule})
    assert config.store_settings()["accumulate"] == {"total_precipitation": rule}


@pytest.mark.parametrize("rule", [0.5, "climatology"])
def test_rules_of_filling_are_part_of_a_store(rule: FillRule) -> None:
    config = make_data_config(Path("data.nc"), fill={"2m_temperature": rule})
    assert config.store_settings()["fill"] == {"2m_temperature": rule}
