"""Settings of a forecast that make no sense."""

import pytest

from fourcastnet_afno.inference.config import EnsembleConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_members": 3}, "the 3 members would be the same"),
        ({"num_members": 0}, "num_members must be at least 1"),
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
