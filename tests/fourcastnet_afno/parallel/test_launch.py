"""Joining processes and leaving them together."""

from pathlib import Path

import pytest

from fourcastnet_afno.parallel.environment import CollectiveStop
from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.parallel.process import Process
from tests.builders.errors import rejects
from tests.builders.processes import start_ranks


def stop_together(process: Process) -> None:
    process.barrier()
    raise CollectiveStop("enough")


def test_an_agreed_stop_is_no_failure(tmp_path: Path) -> None:
    processes, _ = start_ranks(2, stop_together, errors=tmp_path)
    for process in processes:
        process.join(300)
    for rank in range(2):
        text = (tmp_path / f"rank{rank}.txt").read_text()
        assert "CollectiveStop: enough" in text
        assert "stops, because" not in text


@pytest.mark.parametrize("name", ["spatial_ranks", "member_ranks"])
def test_groups_that_share_divide_the_processes(name: str) -> None:
    with rejects("bad-setting", f"training.{name}=2"), process_group("cpu", **{name: 2}):
        pass
