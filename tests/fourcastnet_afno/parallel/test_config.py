from typing import get_args

import pytest
import torch

from fourcastnet_afno.parallel.config import DeviceName
from fourcastnet_afno.parallel.environment import select_device
from tests.builders.errors import rejects


@pytest.mark.parametrize("name", get_args(DeviceName))
def test_every_name_selects_a_device(name: DeviceName) -> None:
    if name == "cuda" and not torch.cuda.is_available():
        with rejects("no-device", "training.device=cuda"):
            select_device(name)
        return
    device = select_device(name)
    assert name in ("auto", device.type)
