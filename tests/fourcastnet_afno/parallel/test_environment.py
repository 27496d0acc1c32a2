"""Ranks from the variables of torchrun and srun."""

import pytest

from fourcastnet_afno.parallel.environment import LaunchEnvironment, first_host
from tests.builders.errors import rejects


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu[007-009,12],login", "gpu007"),
        ("a-b[3,5]c,d", "a-b3c"),
        ("n1,n2", "n1"),
    ],
)
def test_the_first_host_of_slurm(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_placement_by_slurm_torchrun_and_alone() -> None:
    assert LaunchEnvironment.from_environment({}) == LaunchEnvironment()
    # A batch script, or a shell of one task, is one process however large its job.
    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"}
    assert LaunchEnvironment.from_environment(batch).world_size == 1
    step = {
        **batch,
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NODELIST": "gpu[3-4]",
    }
    place = LaunchEnvironment.from_environment(step)
    assert (place.rank, place.local_rank, place.world_size) == (5, 1, 8)
    assert (place.address, place.port) == ("gpu3", 20000 + 7 * 16)
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    assert LaunchEnvironment.from_environment({**step, **torchrun}).world_size == 2
    with rejects("bad-environment", "MASTER_ADDR", "MASTER_PORT"):
        LaunchEnvironment.from_environment({"RANK": "1", "WORLD_SIZE": "2"}).require_address()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}, (1, 3)),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "9"},
            (0, 2),
        ),
        ({"RANK": "2"}, (0, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # a batch script
    ],
)
def test_rank_and_number_of_processes(
    environment: dict[str, str], expected: tuple[int, int]
) -> None:
    place = LaunchEnvironment.from_environment(environment)
    assert (place.rank, place.world_size) == expected


def test_impossible_places_are_refused() -> None:
    with rejects("bad-environment", "RANK", "4 and 4"):
        LaunchEnvironment.from_environment({"RANK": "4", "WORLD_SIZE": "4"})
    with rejects("bad-environment", "RANK", "'first'"):
        LaunchEnvironment.from_environment({"RANK": "first", "WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("launcher", "words", "command"),
    [
        (
            {"agent_store": True, "processes_per_node": 4},
            ["python", "-u", "-m", "fourcastnet_afno", "train"],
            "torchrun --nnodes=2 --nproc-per-node=4 -m fourcastnet_afno train",
        ),
        (
            {"agent_store": True},
            ["python", "-u", "train.py", "a b"],
            "torchrun --nproc-per-node=8 train.py 'a b'",
        ),
        ({"one_device_each": True}, ["python", "train.py"], "srun python train.py"),
    ],
)
def test_the_command_that_starts_all_processes_again(
    launcher: dict, words: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.orig_argv", words)
    assert LaunchEnvironment(world_size=8, **launcher).restart_command == command
