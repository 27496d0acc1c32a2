import importlib

import pytest

from website.api import PACKAGES, exports_of, page_of_package


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_has_its_place(package: str) -> None:
    exports = exports_of(package)
    assert set(exports) == set(importlib.import_module(package).__all__)
    page = page_of_package(package)
    for full in exports.values():
        assert f"\n::: {full}\n" in page


def test_configurations_lead_to_their_settings() -> None:
    _, _, entry = page_of_package("fourcastnet_afno").partition("config.TrainingConfig\n")
    assert entry.partition(":::")[0].endswith("[settings](../settings/training.md).\n\n")
