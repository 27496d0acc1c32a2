"""Rank and number of the processes that train together, from the launcher's environment."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_pipeline.errors import InputError
from data_pipeline.memory import memory_limit
from fourcastnet_afno.parallel.config import DeviceName

if TYPE_CHECKING:
    import torch


class CollectiveStop(Exception):
    """A stop that all ranks raise together: the others need not be informed."""


@dataclass(frozen=True, kw_only=True)
class LaunchEnvironment:
    """Rank of a process among others, as its launcher sets it in the environment.

    Args:
        rank: Rank of this process, from 0.
        world_size: Number of processes.
        local_rank: Rank of this process on its node.
        address: Host of rank 0.
        port: Where rank 0, or the agent of ``torchrun``, listens.
        attempt: How often ``torchrun`` has restarted the processes.
        agent_store: Whether the agent of ``torchrun`` listens, and not rank 0.
        one_device_each: Whether each process may see its own GPU only, as ``srun`` arranges it.
        processes_per_node: Processes that ``torchrun`` has started on this node.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0
    attempt: str = "0"
    agent_store: bool = False
    one_device_each: bool = False
    processes_per_node: int = 0

    def __post_init__(self) -> None:
        if not self.rank < self.world_size:
            raise _bad_environment(
                f"RANK must be in 0..WORLD_SIZE - 1, got {self.rank} and {self.world_size}; start "
                "the processes with torchrun or srun, or unset both"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "LaunchEnvironment":
        """Read the variables of ``torchrun``, else those of a step of ``srun``.

        Raises:
            InputError: If the variables are not numbers or contradict each other.
        """
        if "RANK" in environment and "WORLD_SIZE" in environment:
            rank = _count(environment, "RANK")
            return cls(
                rank=rank,
                world_size=_count(environment, "WORLD_SIZE"),
                local_rank=_count(environment, "LOCAL_RANK", rank),
                address=environment.get("MASTER_ADDR", ""),
                port=_count(environment, "MASTER_PORT", 0),
                attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
                agent_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
                processes_per_node=_count(environment, "LOCAL_WORLD_SIZE", 0),
            )
        # A batch script has SLURM_PROCID too; only what srun starts has the number of its tasks.
        num_tasks = _count(environment, "SLURM_STEP_NUM_TASKS", 1)
        if num_tasks == 1:
            return cls()
        job, step = (_count(environment, f"SLURM_{n}_ID", 0) for n in ("JOB", "STEP"))
        nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", ""))
        return cls(
            rank=_count(environment, "SLURM_PROCID"),
            world_size=num_tasks,
            local_rank=_count(environment, "SLURM_LOCALID", 0),
            address=environment.get("MASTER_ADDR") or (first_host(nodes) if nodes else ""),
            port=_count(environment, "MASTER_PORT", 0) or 20000 + (job * 16 + step) % 20000,
            attempt=environment.get("SLURM_RESTART_COUNT", "0"),
            one_device_each=True,
        )

    @property
    def restart_command(self) -> str:
        """The command that has started all processes, as far as one of them can know it."""
        python, *words = sys.orig_argv
        if not self.agent_store:
            launcher = ["srun"] if self.one_device_each else []
            return shlex.join([*launcher, python, *words])
        each = self.processes_per_node or self.world_size
        counts = [f"--nproc-per-node={each}"]
        if self.world_size > each:
            counts = [f"--nnodes={self.world_size // each}", *counts]
        return shlex.join(["torchrun", *counts, *(word for word in words if word != "-u")])

    def require_address(self) -> None:
        """Reject processes that could not find each other: host or port of rank 0 are unknown."""
        known = {"MASTER_ADDR": self.address, "MASTER_PORT": self.port}
        missing = [name for name, value in known.items() if not value]
        if self.world_size > 1 and missing:
            raise _bad_environment(
                f"WORLD_SIZE is {self.world_size} but {' and '.join(missing)} are not set; start "
                "with `torchrun --nproc-per-node=N -m fourcastnet_afno train ...`"
            )


def _bad_environment(message: str) -> InputError:
    return InputError(f"environment of the processes: {message}", code="bad-environment")


def _count(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isdigit():
        raise _bad_environment(
            f"{name} must be an integer, got {text!r}; start with torchrun or srun, or unset it"
        )
    return int(text)


def first_host(nodes: str) -> str:
    """The first host of a list of SLURM: ``gpu[007-009,12],login`` gives ``gpu007``."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", nodes)
    if match is None:
        raise _bad_environment(
            f"SLURM_STEP_NODELIST names no node, got {nodes!r}; set MASTER_ADDR to rank 0's host"
        )
    return "".join(part or "" for part in match.groups())


def select_device(name: DeviceName, environment: LaunchEnvironment | None = None) -> "torch.device":
    """The torch device of this process.

    Raises:
        InputError: If a GPU is requested and there is none, or fewer than processes.
    """
    import torch  # not above: scores and tables of runs do without

    if name == "cuda" and not torch.cuda.is_available():
        message = "training.device=cuda needs a GPU and torch finds none; use device=cpu"
        raise InputError(message, code="no-device")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    environment = environment or LaunchEnvironment.from_environment(os.environ)
    if environment.world_size == 1:
        return torch.device("cuda")
    count = torch.cuda.device_count()
    if environment.one_device_each and count == 1:
        return torch.device("cuda", 0)
    if environment.local_rank >= count:
        raise InputError(
            f"local rank {environment.local_rank} has no GPU: this node has {count}; start at most "
            f"{count} processes a node, or set training.device=cpu",
            code="no-device",
        )
    return torch.device("cuda", environment.local_rank)


def memory_of(device: "torch.device") -> int:
    """Bytes of memory that a device has."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory_limit()
