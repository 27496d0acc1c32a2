"""Settings of limited areas."""

from pathlib import Path

import pytest

from data_pipeline.preparation.boundary import BoundaryConfig
from tests.builders.experiments import make_data_config


def test_a_boundary_changes_no_prepared_data() -> None:
    plain, driven = (
        make_data_config(Path("a.nc"), boundary=boundary)
        for boundary in (None, BoundaryConfig(width=2, interval="12h"))
    )
    assert plain.store_settings() == driven.store_settings()
    assert "boundary" not in plain.store_settings()


def test_a_zone_has_a_width_and_an_interval_is_a_time() -> None:
    with pytest.raises(ValueError, match=r"data\.boundary\.width"):
        BoundaryConfig(width=0)
    with pytest.raises(ValueError, match=r"data\.boundary\.interval"):
        BoundaryConfig(interval="now and then")
