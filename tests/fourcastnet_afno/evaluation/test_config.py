"""Settings that are rejected."""

import pytest

from fourcastnet_afno.evaluation.config import EvaluationConfig


def test_settings_that_are_wrong() -> None:
    for settings, named in (
        ({"regions": ["atlantis"]}, "atlantis"),
        ({"regions": []}, "regions"),
        ({"quantiles": [1.5]}, "quantiles"),
        ({"neighborhoods": [2]}, "odd"),
        ({"confidence": 95.0}, "confidence"),
        ({"num_threads": 0}, "num_threads"),
    ):
        with pytest.raises(ValueError, match=named):
            EvaluationConfig(**settings)  # type: ignore[arg-type]
