"""Names of devices and of ways to train on several processes."""

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda"]
Parallel = Literal["ddp", "fsdp"]
