"""Where a process stands among those that train together, from its launcher's environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from data_pipeline.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a process stands, as its launcher says in the environment.

    Args:
        rank: Of this process, from 0.
        world_size: Number of processes.
        local_rank: Of this process on its node.
        address: Host of rank 0.
        port: Where rank 0, or the agent of ``torchrun``, listens.
        attempt: How often ``torchrun`` has restarted the processes.
        agent_store: Whether the agent of ``torchrun`` listens, and not rank 0.
        one_device_each: Whether each process may see its own GPU only.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    address: str = "localhost"
    port: int = 0
    attempt: str = "0"
    agent_store: bool = False
    one_device_each: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Placement":
        """Read the variables of ``torchrun``, else those of a step of ``srun``.

        Raises:
            InputError: If some of the variables are missing.
        """
        if "RANK" in environment and "WORLD_SIZE" in environment:
            return cls._from_torchrun(environment)
        # A batch script has SLURM_PROCID too; only what srun starts has the number of its tasks.
        if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            return cls._from_slurm(environment)
        return cls()

    @classmethod
    def _from_torchrun(cls, environment: Mapping[str, str]) -> "Placement":
        world_size = int(environment["WORLD_SIZE"])
        missing = [n for n in ("MASTER_ADDR", "MASTER_PORT") if n not in environment]
        if world_size > 1 and missing:
            raise InputError(
                f"WORLD_SIZE is {world_size} but {' and '.join(missing)} are not set; start with "
                "`torchrun --nproc-per-node=N -m fourcastnet_afno train ...`"
            )
        return cls(
            rank=int(environment["RANK"]),
            world_size=world_size,
            local_rank=int(environment.get("LOCAL_RANK", environment["RANK"])),
            address=environment.get("MASTER_ADDR", "localhost"),
            port=int(environment.get("MASTER_PORT", "0")),
            attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
            agent_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )

    @classmethod
    def _from_slurm(cls, environment: Mapping[str, str]) -> "Placement":
        job, step = (int(environment.get(f"SLURM_{n}_ID", "0")) for n in ("JOB", "STEP"))
        nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", ""))
        return cls(
            rank=int(environment["SLURM_PROCID"]),
            world_size=int(environment["SLURM_STEP_NUM_TASKS"]),
            local_rank=int(environment.get("SLURM_LOCALID", "0")),
            address=environment.get("MASTER_ADDR") or first_host(nodes),
            port=int(environment.get("MASTER_PORT") or 20000 + (job * 16 + step) % 20000),
            attempt=environment.get("SLURM_RESTART_COUNT", "0"),
            one_device_each=True,
        )


def first_host(nodes: str) -> str:
    """The first host of a list of SLURM: ``gpu[007-009,12],login`` gives ``gpu007``."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", nodes)
    if match is None:
        raise InputError(
            f"the environment names no node of this job step, got {nodes!r}; set MASTER_ADDR to "
            "the host of rank 0"
        )
    return "".join(part or "" for part in match.groups())


def select_device(name: DeviceName, placement: Placement | None = None) -> torch.device:
    """The torch device of this process.

    Raises:
        InputError: If a GPU is asked for and there is none, or fewer than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("training.device=cuda needs a GPU and torch finds none; use device=cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    place = placement or Placement.from_environment(os.environ)
    if place.world_size == 1:
        return torch.device("cuda")
    count = torch.cuda.device_count()
    if place.one_device_each and count == 1:
        return torch.device("cuda", 0)
    if place.local_rank >= count:
        raise InputError(
            f"local rank {place.local_rank} has no GPU: this node has {count}; start at most "
            f"{count} processes a node, or set training.device=cpu"
        )
    return torch.device("cuda", place.local_rank)
