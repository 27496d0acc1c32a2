"""Laws of the mixers that AFNO is compared with."""

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.models.mixers import FNO2D, GlobalFilter2D, SelfAttention

GRID, EMBED = (6, 9), 4


def make_mixer(kind: type[FNO2D | GlobalFilter2D], fraction: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return kind(EMBED, GRID, fraction).double()


def make_tokens(shape: tuple[int, int] = GRID) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, *shape, EMBED, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("kind", [FNO2D, GlobalFilter2D])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_a_shift_of_the_grid_commutes(kind: type[FNO2D | GlobalFilter2D], fraction: float) -> None:
    mixer, tokens = make_mixer(kind, fraction), make_tokens()
    shifted = mixer(tokens.roll((2, 5), (1, 2)))
    if fraction < 1:
        torch.testing.assert_close(shifted, mixer(tokens).roll((2, 5), (1, 2)))
    # At the shortest wave of an even axis a real field has no phase: odd shifts do not commute.
    torch.testing.assert_close(mixer(tokens.roll(5, 2)), mixer(tokens).roll(5, 2))


def test_global_filter_is_a_circular_convolution() -> None:
    mixer, tokens = make_mixer(GlobalFilter2D, 0.7), make_tokens()
    delta = torch.zeros(1, *GRID, EMBED, dtype=torch.float64)
    delta[0, 0, 0] = 1
    kernel = mixer(delta)[0]
    expected = torch.zeros_like(tokens)
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            expected += kernel[y, x] * tokens.roll((y, x), (1, 2))
    torch.testing.assert_close(mixer(tokens), expected)


def test_fno_multiplies_each_wave_by_its_matrix() -> None:
    mixer = FNO2D(EMBED, GRID).double()
    channel = torch.randn(EMBED, dtype=torch.complex128)
    y, x = (torch.arange(n, dtype=torch.float64) / n * 2 * torch.pi for n in GRID)
    for row, column in ((1, 2), (-2, 3), (0, 1)):
        wave = torch.exp(1j * (row * y[:, None] + column * x[None, :]))[..., None]
        limit = GRID[0] // 2
        weight = torch.complex(*mixer.weight)[limit + row, column]
        expected = (wave * (channel @ weight)).real
        tokens = (wave * channel).real[None]
        torch.testing.assert_close(mixer(tokens)[0] - mixer.bypass(tokens)[0], expected)


@pytest.mark.parametrize("kind", [FNO2D, GlobalFilter2D])
def test_weights_belong_to_wavenumbers_and_not_to_a_grid(
    kind: type[FNO2D | GlobalFilter2D],
) -> None:
    mixer = make_mixer(kind)
    y, x = (torch.arange(n, dtype=torch.float64) / n * 2 * torch.pi for n in (12, 27))
    waves = torch.cos(2 * y[:, None] + 3 * x[None, :] + 1) + torch.sin(y[:, None] - 4 * x[None, :])
    fine = waves[None, :, :, None] * torch.arange(1.0, EMBED + 1, dtype=torch.float64)
    torch.testing.assert_close(mixer(fine)[:, ::2, ::3], mixer(fine[:, ::2, ::3]))


def test_attention_is_the_softmax_formula() -> None:
    torch.manual_seed(0)
    mixer, tokens = SelfAttention(EMBED, 2).double(), make_tokens((2, 3))
    query, key, value = mixer.query_key_value(tokens.reshape(2, 6, EMBED)).chunk(3, dim=-1)
    heads = []
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        weights = (query[..., part] @ key[..., part].mT / 2**0.5).softmax(-1)
        heads.append(weights @ value[..., part])
    expected = mixer.projection(torch.cat(heads, -1)).reshape(2, 2, 3, EMBED)
    torch.testing.assert_close(mixer(tokens), expected)


def test_attention_commutes_with_any_order_of_tokens() -> None:
    mixer, tokens = SelfAttention(EMBED, 2).double(), make_tokens((1, 8))
    order = torch.randperm(8)
    torch.testing.assert_close(mixer(tokens[:, :, order]), mixer(tokens)[:, :, order])


@pytest.mark.parametrize("mixer", ["afno", "fno", "global_filter", "attention"])
def test_every_mixer_learns_in_the_same_network(mixer: str) -> None:
    torch.manual_seed(0)
    config = AFNONetConfig(
        patch_size=(2, 2),
        embed_dim=16,
        depth=2,
        num_blocks=2,
        mixer=mixer,  # type: ignore[arg-type]
        reference_grid=(4, 8),
    )
    net = AFNONet(1, 1, config=config)
    field = torch.randn(4, 1, 8, 16)
    target = field.roll(4, -1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = (net(field) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_what_a_mixer_needs_is_named() -> None:
    with pytest.raises(ValueError, match=r"mixer=fno.*needs reference_grid"):
        AFNONet(1, 1, config=AFNONetConfig(mixer="fno"))
    with pytest.raises(ValueError, match="num_heads must divide"):
        SelfAttention(6, 4)
