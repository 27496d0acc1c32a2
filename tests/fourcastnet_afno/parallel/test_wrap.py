"""Gradients of wrapped modules are means over all processes."""

import pytest
import torch
from torch import nn

from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, shard_like, sync_gradients, wrap
from tests.builders.processes import on_ranks


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
