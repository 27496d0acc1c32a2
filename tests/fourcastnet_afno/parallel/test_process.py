import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from data_pipeline.errors import InputError
from fourcastnet_afno.parallel.environment import LaunchEnvironment, first_host
from fourcastnet_afno.parallel.launch import CollectiveStop, process_group
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, shard_like, sync_gradients, wrap
from tests.builders.processes import on_ranks, start_ranks

ROOT = Path(__file__).parents[3]


def test_only_the_room_parallel_knows_torch_distributed() -> None:
    def names(path: Path) -> set[str]:
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Attribute):
                found.add(ast.unparse(node))
        return found

    guilty = {
        path.parent.name
        for package in ("fourcastnet_afno", "data_pipeline")
        for path in (ROOT / package).rglob("*.py")
        if any(name.startswith(("torch.distributed", "torch.nn.parallel")) for name in names(path))
    }
    assert guilty == {"parallel"}


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
    with pytest.raises(InputError, match="MASTER_ADDR and MASTER_PORT are not set"):
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
    with pytest.raises(InputError, match=r"got rank 4 of 4 processes"):
        LaunchEnvironment.from_environment({"RANK": "4", "WORLD_SIZE": "4"})
    with pytest.raises(InputError, match="RANK must be a whole number, got 'first'"):
        LaunchEnvironment.from_environment({"RANK": "first", "WORLD_SIZE": "4"})


def test_one_process_is_local() -> None:
    with process_group("cpu") as process:
        assert process == Process()
        assert process.reduce_mean(torch.tensor([3.0])).tolist() == [3.0]
        assert process.gather({"a": 1}) == [{"a": 1}]
        assert process.main_first("x", lambda: 5) == 5


def exchange(process: Process) -> list:
    order = process.main_first("place", lambda: time.monotonic())
    return [
        process.reduce_sum(torch.tensor([process.rank + 1.0])).item(),
        process.reduce_mean(torch.tensor([process.rank, 1.0])).tolist(),
        process.gather({"rank": process.rank, "text": "é" * process.rank}),
        process.broadcast(process.rank + 7),
        process.gather(order),
        process.share({"a": torch.arange(3), "b": torch.ones(())} if process.is_main else {}),
    ]


def test_processes_exchange_values() -> None:
    for found in on_ranks(3, exchange):
        total, mean, everything, first, order, shared = found
        assert total == 6
        assert mean == [1, 1]
        assert everything == [{"rank": r, "text": "é" * r} for r in range(3)]
        assert first == 7
        assert {name: value.tolist() for name, value in shared.items()} == {"a": [0, 1, 2], "b": 1}
        assert order[0] <= min(order[1:])


def network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 3), nn.GELU())
    for parameter in layers.parameters():
        nn.init.normal_(parameter, generator=generator)
    return layers


class TwoSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.layers(x)).square().mean()


def inputs() -> torch.Tensor:
    return torch.randn(24, 3, generator=torch.Generator().manual_seed(1))


def gradients(process: Process, parallel: str, options: dict, parts: int) -> list[torch.Tensor]:
    """Of two passes with all inputs; the second shows that nothing is left from the first."""
    module = TwoSteps()
    shards = [module.layers[0], module.layers]
    wrapped = wrap(module, process, parallel, shards=shards, **options)  # type: ignore[arg-type]
    mine = inputs().chunk(process.world_size)[process.rank].chunk(parts)
    for _ in range(2):
        module.zero_grad()
        for index, part in enumerate(mine):
            with sync_gradients(wrapped, last=index == parts - 1):
                (wrapped(part) / parts).backward()
    assert all(p.grad is not None for p in module.parameters())
    # Processes hand over lists: a tensor's shared memory would die with its process.
    return [gather_dtensor(p.grad).tolist() for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("world_size", "parallel", "options", "parts"),
    [
        (2, "ddp", {"static_graph": True}, 1),
        (3, "ddp", {}, 2),
        (2, "ddp", {"compress_gradients": True}, 1),
        (3, "fsdp", {}, 1),
        (2, "fsdp", {}, 2),
    ],
)
def test_gradients_are_those_of_one_process(
    world_size: int, parallel: str, options: dict, parts: int
) -> None:
    module = TwoSteps()
    module(inputs()).backward()
    tolerance = 0.02 if "compress_gradients" in options else 1e-5
    for found in on_ranks(world_size, gradients, parallel, options, parts):
        for values, parameter in zip(found, module.parameters(), strict=True):
            assert parameter.grad is not None
            largest = parameter.grad.abs().max().item()
            torch.testing.assert_close(
                torch.tensor(values), parameter.grad, rtol=0, atol=tolerance * largest
            )


def shard_and_fill(process: Process) -> bool:
    module = TwoSteps()
    wrap(module, process, "fsdp", shards=[module.layers])
    (weight, *_) = module.parameters()
    value = torch.arange(15.0).reshape(5, 3)
    with torch.no_grad():
        weight.copy_(shard_like(weight, value))
    return torch.equal(gather_dtensor(weight.detach()), value)


def test_sharded_weights_are_filled_and_read_as_a_whole() -> None:
    assert on_ranks(2, shard_and_fill) == [True, True]


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
        process.join(30)
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
        process.join(30)
    assert processes[1].exitcode == 2
    assert "because rank 0 failed: no such file" in (tmp_path / "rank1.txt").read_text()


def stop_together(process: Process) -> None:
    process.barrier()
    raise CollectiveStop("enough")


def test_an_agreed_stop_is_no_failure(tmp_path: Path) -> None:
    processes, _ = start_ranks(2, stop_together, errors=tmp_path)
    for process in processes:
        process.join(30)
    for rank in range(2):
        text = (tmp_path / f"rank{rank}.txt").read_text()
        assert "CollectiveStop: enough" in text
        assert "stops, because" not in text


def die(process: Process) -> None:
    if process.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    process.barrier()


def test_a_rank_that_is_killed_leaves_no_other_waiting(tmp_path: Path) -> None:
    processes, _ = start_ranks(3, die, errors=tmp_path)
    for process in processes:
        process.join(30)
        assert process.exitcode not in (None, 0)


@pytest.mark.slow
def test_torchrun_stops_with_the_message() -> None:
    program = (
        "import torch\n"
        "from fourcastnet_afno.parallel.launch import process_group\n"
        "with process_group('cpu') as process:\n"
        "    if process.rank == 1: raise RuntimeError('a defect')\n"
        "    process.barrier()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*command, "--no-python", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode != 0
    assert "rank 0 stops, because rank 1 failed: RuntimeError: a defect" in result.stderr
