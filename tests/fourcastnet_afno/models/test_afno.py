"""The life of an AFNONet."""

import subprocess
import sys

import pytest
import torch

from benchmarks.memory import kept_bytes
from fourcastnet_afno.models.afno import AFNOBlock, AFNONet
from fourcastnet_afno.models.config import AFNONetConfig, Padding

TINY = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2)


def make_net(**changes: object) -> AFNONet:
    torch.manual_seed(0)
    fields = {**TINY.__dict__, **changes}
    return AFNONet(3, 2, config=AFNONetConfig(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(8, 16), (17, 33), (6, 10)])
def test_output_lies_on_the_grid_of_the_input(shape: tuple[int, int]) -> None:
    output = make_net()(torch.randn(2, 3, *shape))
    assert output.shape == (2, 2, *shape)
    assert output.isfinite().all()
    assert output.std() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"sparsity_threshold": 0.01},
        {
            "wavenumber_weights": "kernel",
            "pole": "double_fourier_sphere",
            "vector_channels": TINY.embed_dim // 2,
        },
    ],
    ids=["perceptron", "kernel"],
)
def test_every_parameter_is_used_and_trained(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = make_net(**changes)
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    unused = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_weights_travel_by_state_dict() -> None:
    net, other = make_net(), AFNONet(3, 2, config=TINY)
    other.load_state_dict(net.state_dict())
    field = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(field), other(field))


def test_every_input_cell_reaches_every_output_cell() -> None:
    net = make_net(sparsity_threshold=0.0).double()
    field = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    disturbed = field.clone()
    disturbed[0, 0, 1, 1] += 1.0
    assert ((net(disturbed) - net(field)).abs() > 0).all()


def test_no_row_is_dropped() -> None:
    net = make_net(patch_size=(8, 8), padding=Padding(longitude="reflect"))
    field = torch.randn(1, 3, 17, 33)
    disturbed = field.clone()
    disturbed[..., -1, :] += 1.0
    assert not torch.equal(net(disturbed), net(field))


def test_block_with_zero_branches() -> None:
    """With silent mixer and MLP, two skips leave x + norm(x), one skip leaves x."""
    tokens = torch.randn(1, 4, 4, 8)
    for double_skip in (True, False):
        block = AFNOBlock(AFNONetConfig(**{**TINY.__dict__, "double_skip": double_skip}), 0.0)
        with torch.no_grad():
            for parameter in [*block.mixer.parameters(), *block.mlp.parameters()]:
                parameter.zero_()
        expected = tokens + block.norm1(tokens) if double_skip else tokens
        assert torch.allclose(block(tokens), expected)


def gradients(net: AFNONet, field: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(1)
    loss = net(field).square().mean()
    return [loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))]


@pytest.mark.parametrize("weights", ["none", "kernel"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_checkpointed_activations_give_the_same_gradients(rate: float, weights: str) -> None:
    options = {"drop_rate": rate, "drop_path_rate": rate, "wavenumber_weights": weights}
    kept, again = (make_net(checkpoint_activations=flag, **options) for flag in (False, True))
    field = torch.randn(4, 3, 8, 8)
    for ours, expected in zip(gradients(again, field), gradients(kept, field), strict=True):
        assert torch.equal(ours, expected)


def kept_by(net: AFNONet, field: torch.Tensor) -> float:
    return kept_bytes(net, lambda: net(field))


def test_memory_is_linear_in_tokens_and_less_with_checkpoints() -> None:
    net = make_net(depth=4)
    small, large = (kept_by(net, torch.randn(1, 3, n, 2 * n)) for n in (32, 64))
    assert large < 4.05 * small
    field = torch.randn(1, 3, 32, 64)
    assert kept_by(make_net(depth=4, checkpoint_activations=True), field) < 0.3 * small


@pytest.mark.parametrize(
    "changes",
    [
        {"boundary": ("reflected", "periodic")},
        {"boundary": ("zero_padded", "zero_padded")},
        {"pole": "double_fourier_sphere", "vector_channels": 2},
        {"transform": "fft"},
        {"wavenumber_weights": "kernel", "kernel_window": 1},
    ],
)
def test_options_of_the_transform_reach_the_mixer(changes: dict[str, object]) -> None:
    field = torch.randn(1, 3, 8, 16)
    base, other = make_net(sparsity_threshold=0.0), make_net(sparsity_threshold=0.0, **changes)
    differs = (other(field) - base(field)).abs().max()
    assert differs > 1e-5 if "transform" not in changes else differs < 1e-5


def test_poles_need_whole_patches() -> None:
    with pytest.raises(ValueError, match="whole patches from pole to pole, got 7 rows"):
        make_net(pole="double_fourier_sphere")(torch.randn(1, 3, 7, 16))


COMPILED = """
import torch, torch._dynamo
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
pole = {"pole": "double_fourier_sphere"}
kernel = {**pole, "wavenumber_weights": "kernel", "vector_channels": 8}
few = {**kernel, "hard_thresholding_fraction": 0.5, "gated_mlp": True}
for options in ({}, pole, {"checkpoint_activations": True}, kernel, few):
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = AFNONetConfig(embed_dim=16, depth=1, num_blocks=4, **options)
    net = AFNONet(3, 2, config=net)
    field = torch.randn(2, 3, 16, 32)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)  # else an error
    results = []
    for call in (net, compiled):
        loss = call(field).square().mean()
        results.append([loss, *torch.autograd.grad(loss, list(net.parameters()))])
    for ours, expected in zip(*results):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    # Other batches, another grid.
    for shape in () if options else ((3, 3, 16, 32), (1, 3, 16, 32), (2, 3, 8, 24)):
        field = torch.randn(shape)
        torch.testing.assert_close(compiled(field), net(field), rtol=1e-4, atol=1e-6)
"""


@pytest.mark.slow
def test_compilation_sees_one_graph() -> None:
    """In a process of its own, as the tests' type checks are no part of the network."""
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
