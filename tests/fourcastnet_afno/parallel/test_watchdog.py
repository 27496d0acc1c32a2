"""A failure of one rank ends all others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.errors import InputError
from fourcastnet_afno.parallel.process import Process
from tests.builders.processes import start_ranks

ROOT = Path(__file__).parents[3]
_SECONDS = 300  # that an end may take on a busy machine


def fail(process: Process, failing: int, kind: str) -> None:
    if process.rank == failing:
        if kind == "input":
            raise InputError("the disk is full")
        raise RuntimeError("a defect")
    process.barrier()


@pytest.mark.parametrize(("failing", "kind"), [(0, "input"), (2, "input"), (1, "defect")])
def test_a_rank_that_raises_stops_all_with_its_message(
    failing: int, kind: str, tmp_path: Path
) -> None:
    processes, _ = start_ranks(3, fail, failing, kind, errors=tmp_path)
    for process in processes:
        process.join(_SECONDS)
        assert process.exitcode is not None
        assert process.exitcode != 0
    words = "the disk is full" if kind == "input" else "RuntimeError: a defect"
    for rank in range(3):
        text = (tmp_path / f"rank{rank}.txt").read_text()
        assert words in text
        assert rank == failing or f"rank {rank} stops, because rank {failing} failed" in text


def wait_for_main(process: Process) -> None:
    def work() -> None:
        if process.is_main:
            time.sleep(1.0)
            raise InputError("no such file")

    process.main_first("work", work)


def test_a_failure_of_the_main_process_ends_those_that_wait_for_it(tmp_path: Path) -> None:
    processes, _ = start_ranks(2, wait_for_main, errors=tmp_path)
    for process in processes:
        process.join(_SECONDS)
    assert processes[1].exitcode == 2
    assert "because rank 0 failed: no such file" in (tmp_path / "rank1.txt").read_text()


def die(process: Process, lost: int) -> None:
    if process.rank == lost:
        os.kill(os.getpid(), signal.SIGKILL)
    process.barrier()


@pytest.mark.parametrize("lost", [0, 2])
def test_a_rank_that_is_killed_is_named_with_the_command_that_resumes(
    lost: int, tmp_path: Path
) -> None:
    processes, _ = start_ranks(3, die, lost, errors=tmp_path)
    processes[lost].join(_SECONDS)
    for process in processes:
        process.join(_SECONDS)
    rest = {0, 1, 2} - {lost}
    assert {processes[rank].exitcode for rank in rest} == {75}
    texts = [(tmp_path / f"rank{rank}.txt").read_text() for rank in rest]
    lines = [text.splitlines()[-1] for text in texts if text]
    assert lines
    for line in lines:
        assert line.startswith(f"rank {lost} was lost")
        assert "resume with: " in line
        assert "forkserver" in line  # which has started these processes


def die_while_others_are_busy(process: Process, lost: int) -> None:
    process.barrier()
    if process.rank == lost:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10 * _SECONDS)  # an end before is that of the watchdog


def test_a_killed_rank_is_missed_by_ranks_that_are_busy(tmp_path: Path) -> None:
    processes, _ = start_ranks(3, die_while_others_are_busy, 1, errors=tmp_path)
    processes[1].join(_SECONDS)
    for process in processes:
        process.join(_SECONDS)
    assert [process.exitcode for process in processes] == [75, -signal.SIGKILL, 75]
    texts = [(tmp_path / f"rank{rank}.txt").read_text() for rank in (0, 2)]
    assert "".join(texts).startswith("rank 1 was lost")


@pytest.mark.slow
def test_torchrun_names_the_rank_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, signal\n"
        "from fourcastnet_afno.parallel.launch import process_group\n"
        "with process_group('cpu') as process:\n"
        "    process.barrier()\n"
        "    if process.rank == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    process.barrier()\n"
    )
    words = ["--nproc-per-node=2", str(tmp_path / "program.py"), "--epochs=3"]
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *words],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode != 0
    assert "rank 1 was lost" in result.stderr
    assert f"resume with: torchrun {' '.join(words)}" in result.stderr
