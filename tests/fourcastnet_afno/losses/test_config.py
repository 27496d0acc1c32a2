import pytest

from fourcastnet_afno.losses.config import LossConfig


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"channel_weights": {"t": -1.0}}, r"loss\.channel_weights"),
        ({"huber_delta": 0.0}, r"loss\.huber_delta"),
        ({"crps_alpha": 1.5}, r"loss\.crps_alpha"),
        ({"kind": "amse", "area_weights": False}, r"loss\.area_weights"),
    ],
)
def test_settings_out_of_bounds_are_named(options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LossConfig(**options)
