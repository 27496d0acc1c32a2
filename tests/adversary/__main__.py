"""Repeat attacks and print what they did: ``python -m tests.adversary KIND FIRST [LAST]``."""

import shutil
import sys
import tempfile
from pathlib import Path

from tests.adversary.artifacts import make_workspace
from tests.adversary.campaign import try_attack


def repeat(kind: str, first: str, last: str | None = None) -> int:
    """Run the attacks of seeds FIRST to LAST; return how many had faults."""
    folder = Path(tempfile.mkdtemp(prefix="adversary-"))
    (folder / "pristine").mkdir()
    make_workspace(folder / "pristine")
    bad = 0
    for seed in range(int(first), int(last or first) + 1):
        report = try_attack(kind, seed, folder / "pristine", folder / f"{kind}-{seed}")
        bad += bool(report.faults)
        if report.faults or last is None:
            print(report, "\n", flush=True)
        else:
            shutil.rmtree(folder / f"{kind}-{seed}")
    print(f"{bad} with faults; workspaces in {folder}")
    return bad


if __name__ == "__main__":
    sys.exit(bool(repeat(*sys.argv[1:])))
