import subprocess
import sys

import pytest

from fourcastnet_afno.cli.freed_memory import keep_freed_memory

_FAULTS = """
import resource, sys
import numpy as np
from fourcastnet_afno.cli.freed_memory import keep_freed_memory

keeps = keep_freed_memory({} if sys.argv[1] == "keep" else {"MALLOC_ARENA_MAX": "2"})
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fields = [np.ones(2**18) for _ in range(8)]
    del fields
print(keeps, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setting: str) -> tuple[str, int]:
    command = [sys.executable, "-c", _FAULTS, setting]
    keeps, count = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    return keeps, int(count)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="other C libraries stay as they are"
)
def test_fields_that_follow_others_get_their_pages() -> None:
    keeps, count = faults("keep")
    if keeps == "False":
        pytest.skip("this C library has no mallopt")
    as_it_is, more = faults("leave")
    assert as_it_is == "False"
    assert count < 100 < 1000 < more  # of 4096 pages


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_TRIM_THRESHOLD_": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}],
)
def test_settings_of_the_user_stay(environment: dict[str, str]) -> None:
    assert not keep_freed_memory(environment)
