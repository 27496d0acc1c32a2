from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long campaigns of this folder where ``-m slow`` does not ask for them."""
    if "slow" in config.option.markexpr and "not slow" not in config.option.markexpr:
        return
    long = [i for i in items if HERE in i.path.parents and i.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]
