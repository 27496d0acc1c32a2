"""Settings of a forecast that make no sense."""

import pytest

from fourcastnet_afno.inference.config import EnsembleConfig, ForecastConfig
from tests.builders.errors import rejects


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_members": 0}, "forecast.ensemble.num_members must be at least 1"),
        ({"num_members": 100_001}, "num_members must be at most 100000, got 100001"),
        (
            {"num_members": 2, "perturbation": "gaussian", "members": [2]},
            r"members must lie in 0..1 .* got \[2\]",
        ),
        (
            {"num_members": 2, "perturbation": "gaussian", "members": [1, 1]},
            "members must differ",
        ),
        ({"quantiles": [0.5]}, "quantiles needs ensemble.output=statistics"),
        ({"quantiles": [1.5], "output": "statistics"}, r"quantiles must lie in 0..1"),
    ],
)
def test_ensembles_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnsembleConfig(**settings)


def test_intervals_are_durations_or_months() -> None:
    assert (
        ForecastConfig(init_interval="12h").interval
        == ForecastConfig(init_interval_hours=12).interval
    )
    assert str(ForecastConfig(init_interval="3MS").interval) == "3MS"
    assert str(ForecastConfig().interval) == "1D"
    assert EnsembleConfig(lag="30min").lag_step.label == "30 min"
    with rejects("bad-setting", "forecast.init_interval=12h", "init_interval_hours=6"):
        ForecastConfig(init_interval="12h", init_interval_hours=6)
    with rejects("bad-setting", "ensemble.lag", "'1 day'"):
        EnsembleConfig(lag="1 day")


def test_hours_identify_forecasts_as_in_earlier_versions() -> None:
    settings = ForecastConfig(init_interval="1D").settings()
    assert settings["init_interval_hours"] == 24
    assert settings["ensemble"]["lag_hours"] == 6
    assert "init_interval" not in settings
    assert ForecastConfig(init_interval="1MS").settings()["init_interval"] == "1MS"
