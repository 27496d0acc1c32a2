"""Laws of padding, patches and stochastic depth."""

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.config import Padding
from fourcastnet_afno.models.layers import (
    DropPath,
    GatedMlp,
    Mlp,
    PatchEmbed,
    PatchRecovery,
    pad_to_patches,
)


def test_recovery_inverts_embedding_with_identity_weights() -> None:
    embed, recovery = PatchEmbed(3, 3 * 2 * 4, (2, 4)), PatchRecovery(3 * 2 * 4, 3, (2, 4))
    with torch.no_grad():
        for layer in (embed.projection, recovery.projection):
            layer.weight.copy_(torch.eye(24))
            layer.bias.zero_()
    field = torch.randn(2, 3, 6, 8)
    tokens = embed(field)
    assert tokens.shape == (2, 3, 2, 24)
    assert torch.equal(recovery(tokens), field)


def test_a_patch_is_a_neighborhood() -> None:
    embed = PatchEmbed(1, 5, (2, 2))
    field = torch.zeros(1, 1, 4, 4)
    field[0, 0, 2:, :2] = 1.0
    background = embed(torch.zeros(1, 1, 4, 4))
    changed = (embed(field) != background).any(-1)[0]
    assert changed.tolist() == [[False, False], [True, False]]


def test_indivisible_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"17 x 33 .* 4 x 4"):
        PatchEmbed(1, 8, (4, 4))(torch.zeros(1, 1, 17, 33))


def test_padding_by_hand() -> None:
    field = torch.arange(6.0).reshape(1, 1, 2, 3)
    reflected = pad_to_patches(field, Padding(latitude="reflect", longitude="reflect"), (4, 5))
    assert reflected[0, 0].tolist() == [
        [4, 3, 4, 5, 4],
        [1, 0, 1, 2, 1],
        [4, 3, 4, 5, 4],
        [1, 0, 1, 2, 1],
    ]
    wrapped = pad_to_patches(field, Padding(latitude="zero", longitude="wrap"), (4, 5))
    assert wrapped[0, 0].tolist() == [
        [0, 0, 0, 0, 0],
        [2, 0, 1, 2, 0],
        [5, 3, 4, 5, 3],
        [0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("mode", ["reflect", "zero", "wrap"])
@pytest.mark.parametrize("shape", [(17, 33), (16, 32), (5, 7)])
def test_padding_reaches_whole_patches_and_keeps_the_field(
    mode: str, shape: tuple[int, int]
) -> None:
    padding = Padding(latitude="reflect", longitude=mode, margin=(2, 3))  # type: ignore[arg-type]
    field = torch.randn(1, 2, *shape)
    padded = pad_to_patches(field, padding, (4, 4))
    (top, _), (left, _) = padding.widths(shape, (4, 4))
    assert padded.shape[-2] % 4 == 0
    assert padded.shape[-1] % 4 == 0
    assert padded.shape[-2] >= shape[0] + 4
    assert torch.equal(padded[..., top : top + shape[0], left : left + shape[1]], field)


def test_padding_too_far_is_refused() -> None:
    with pytest.raises(ValueError, match=r"padding.latitude=reflect adds at most 1 cells to 2"):
        pad_to_patches(torch.zeros(1, 1, 2, 8), Padding(), (8, 8))


def test_drop_path_keeps_the_expectation_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25)
    branch = torch.ones(20_000, 2)
    output = layer(branch)
    assert output.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(output[:, 0], output[:, 1])
    assert output.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(layer.eval()(branch), branch)


@pytest.mark.parametrize("count", [0, 1, 7, 3001])
def test_mlp_is_the_sequence_of_its_layers(count: int) -> None:
    torch.manual_seed(0)
    mlp = Mlp(6, 12, drop_rate=0.0).double()
    results = []
    for forward in (mlp, lambda tokens: nn.Sequential.forward(mlp, tokens)):
        tokens = torch.linspace(-3, 3, 2 * count * 6, dtype=torch.float64).view(2, count, 6)
        tokens.requires_grad_()
        mlp.zero_grad()
        output = forward(tokens)
        (
            output * torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
        ).sum().backward()
        results.append([output, tokens.grad, *(p.grad for p in mlp.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-9)


def test_gradients_of_the_mlp_are_right() -> None:
    mlp = Mlp(3, 5, drop_rate=0.0).double()
    names, values = zip(*mlp.named_parameters(), strict=True)

    def call(tokens: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(mlp, dict(zip(names, values, strict=True)), tokens)

    tokens = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (tokens, *values))


def test_mlp_drops_and_follows_autocast() -> None:
    tokens = torch.randn(2, 50, 8)
    mlp = Mlp(8, 16, drop_rate=0.5)
    assert not torch.equal(mlp(tokens), mlp(tokens))
    mlp.eval()
    expected = mlp(tokens)
    assert torch.equal(mlp(tokens), expected)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mlp(tokens)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, rtol=0, atol=0.02)


def test_the_gated_mlp_is_a_product_of_two_layers_and_has_the_weights_of_an_mlp() -> None:
    torch.manual_seed(0)
    mlp, tokens = GatedMlp(6, 12, drop_rate=0.0).double(), torch.randn(2, 1, 5, 6).double()
    with torch.no_grad():
        mlp.gate.weight.zero_()
        mlp.gate.bias.fill_(20.0)  # gelu(20) = 20
        expected = mlp.output(20 * mlp.value(tokens))
        torch.testing.assert_close(mlp(tokens), expected)
        mlp.value.load_state_dict(mlp.gate.state_dict())
        torch.testing.assert_close(
            mlp(tokens), mlp.output(torch.full((2, 1, 5, 8), 400.0).double())
        )
    gated, plain = (
        sum(p.numel() for p in kind(48, 96, 0.0).parameters()) for kind in (GatedMlp, Mlp)
    )
    assert abs(gated - plain) < 0.01 * plain


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_patches_without_gradients_are_those_with_them(columns: int, dtype: torch.dtype) -> None:
    embed = PatchEmbed(3, 8, (2, columns)).to(dtype)
    recovery = PatchRecovery(8, 3, (2, columns)).to(dtype)
    field = torch.randn(2, 4, 4, 3 * columns, dtype=dtype)[:, 1:]  # does not begin its memory
    tokens = embed(field.clone().requires_grad_())
    with torch.no_grad():
        assert torch.equal(embed(field), tokens)
        found = recovery(tokens)
    assert torch.equal(found, recovery(tokens))
