from pathlib import Path

import pytest

from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.viewer.opening import Viewed, open_viewed


@pytest.fixture(scope="package")
def viewed(scored_folder: Path) -> Viewed:
    """An ensemble's store next to truth."""
    truth = SourceConfig(path=str(scored_folder / "truth.nc"))
    return open_viewed(scored_folder / "ours.zarr", truth)
