"""Memory that a process frees and soon needs again."""

import ctypes
import os
import sys
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of ``mallopt`` in malloc.h of glibc
_LARGEST_BLOCK = 32 * 2**20  # the largest threshold that glibc takes
_KEPT_BYTES = 2**30


def keep_freed_memory(environment: Mapping[str, str] | None = None) -> bool:
    """Have the C library keep memory that was freed, up to 1 GiB, for the next allocations.

    glibc gives blocks above some size back to the system at once. Each step of a network would get
    them again page by page, which takes a tenth of a forecast's time or more (docs/benchmarks.md).
    Settings of the user stay, in ``MALLOC_..._`` and ``GLIBC_TUNABLES`` of the environment.

    Returns:
        Whether it does; other C libraries are left as they are.

    References:
        mallopt(3) of the Linux man-pages, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    environment = os.environ if environment is None else environment
    is_set = "malloc" in environment.get("GLIBC_TUNABLES", "")
    if is_set or any(name.startswith("MALLOC_") for name in environment):
        return False
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    values = {_MMAP_THRESHOLD: _LARGEST_BLOCK, _TRIM_THRESHOLD: _KEPT_BYTES}
    return mallopt is not None and all(mallopt(*item) == 1 for item in values.items())
