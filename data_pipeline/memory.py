"""Memory of this machine, and sizes that are compared with it before anything is allocated."""

import resource
from pathlib import Path

import psutil

from data_pipeline.errors import InputError

_GIB = 2**30


def memory_limit() -> int:
    """Bytes of memory of the machine, or of the container or job that this process is in.

    psutil sees the machine alone; the limit of a container is that of its control group, the one of
    a job often that of the address space (``ulimit -v``).
    """
    limits = [psutil.virtual_memory().total]
    group = Path("/sys/fs/cgroup/memory.max")
    text = group.read_text().strip() if group.exists() else "max"
    if text.isdigit():
        limits.append(int(text))
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    return min(limits)


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    return min(memory_limit(), psutil.virtual_memory().available)


def require_memory(needed: int, contents: str, remedy: str, limit: int | None = None) -> None:
    """Raise an ``InputError`` where something takes more memory than there is.

    Args:
        needed: Bytes, at least.
        contents: Subject of the message, such as "the weights of the network".
        remedy: End of the message.
        limit: Bytes of memory; by default those of this machine, see ``memory_limit``.
    """
    limit = memory_limit() if limit is None else limit
    if needed > limit:
        raise InputError(
            f"{contents} would take about {needed / _GIB:.3g} GiB of memory, here are "
            f"{limit / _GIB:.3g} GiB; {remedy}",
            code="too-little-memory",
        )
