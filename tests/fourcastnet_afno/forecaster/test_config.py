import pytest

from fourcastnet_afno.forecaster.config import DiagnosticConfig, ModelConfig


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (ModelConfig, {"num_history": 0}, r"model\.num_history"),
        (DiagnosticConfig, {"epsilon": 0.0}, r"diagnostic\.epsilon"),
    ],
)
def test_settings_out_of_bounds_are_named(kind: type, options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        kind(**options)
