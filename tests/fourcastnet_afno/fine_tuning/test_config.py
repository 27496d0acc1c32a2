import pytest

from fourcastnet_afno.training.config import TrainingConfig


def test_statistics_need_a_checkpoint() -> None:
    with pytest.raises(ValueError, match=r"needs training.start_from"):
        TrainingConfig(statistics="kept")
