import ast
import time
from pathlib import Path

import torch

from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.parallel.process import Process
from tests.builders.processes import on_ranks

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
        process.broadcast_tensors(
            {"a": torch.arange(3), "b": torch.ones(())} if process.is_main else {}
        ),
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
