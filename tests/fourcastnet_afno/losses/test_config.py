import pytest

from fourcastnet_afno.losses.config import LossChanges, LossConfig


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"channel_weights": {"t": -1.0}}, r"loss\.channel_weights"),
        ({"huber_delta": 0.0}, r"loss\.huber_delta"),
        ({"crps_alpha": 1.5}, r"loss\.crps_alpha"),
        ({"kind": "amse", "area_weights": False}, r"loss\.area_weights"),
        ({"kind": "l1", "energy_weight": 0.1}, r"loss\.energy_weight"),
        ({"kind": "crps", "spectral_weight": -0.1}, r"loss\.spectral_weight"),
    ],
)
def test_settings_out_of_bounds_are_named(options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LossConfig(**options)


def test_changes_leave_the_rest_as_it_is() -> None:
    config = LossConfig(kind="crps", scale="state", energy_weight=0.2)
    assert LossChanges().of(config) == config
    changed = LossChanges(kind="l1", energy_weight=0.0).of(config)
    assert changed == LossConfig(kind="l1", scale="state")
    with pytest.raises(ValueError, match=r"loss\.energy_weight"):
        LossChanges(kind="l1").of(config)
    with pytest.raises(ValueError, match=r"stages\.loss\.spectral_weight"):
        LossChanges(spectral_weight=-1.0)
