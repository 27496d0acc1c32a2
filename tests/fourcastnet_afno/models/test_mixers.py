"""Laws of the Fourier mixer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fourcastnet_afno.models.mixers import AFNO2D, kept_modes

SIZES = st.integers(min_value=2, max_value=13)
FRACTIONS = st.integers(min_value=0, max_value=100).map(lambda percent: percent / 100)


def make_mixer(fraction: float = 1.0, **options: float | int) -> AFNO2D:
    torch.manual_seed(0)
    mixer = AFNO2D(12, 3, hard_thresholding_fraction=fraction, **options).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.mul_(20)  # so that thresholds and rectifiers are all passed by some values
    return mixer


def make_tokens(height: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(batch, height, width, 12, dtype=torch.float64, generator=generator)


def is_kept(row: int, column: int, height: int, width: int, fraction: float) -> bool:
    meridional = row if row <= height // 2 else row - height
    percent = round(100 * fraction)
    return 200 * abs(meridional) <= percent * height and 200 * column <= percent * width


def mix_mode(mixer: AFNO2D, mode: Tensor) -> Tensor:
    """One wavenumber of one sample through the perceptron, written out in complex numbers."""

    def as_complex(parameter: Tensor) -> Tensor:
        return torch.complex(parameter[0], parameter[1])

    def shrink(values: Tensor) -> Tensor:
        return values.sign() * (values.abs() - mixer.sparsity_threshold).clamp(min=0)

    outputs = []
    for k, block in enumerate(mode.reshape(mixer.num_blocks, -1)):
        hidden = block @ as_complex(mixer.weight1)[k] + as_complex(mixer.bias1)[k]
        hidden = torch.complex(hidden.real.clamp(min=0), hidden.imag.clamp(min=0))
        output = hidden @ as_complex(mixer.weight2)[k] + as_complex(mixer.bias2)[k]
        outputs.append(torch.complex(shrink(output.real), shrink(output.imag)))
    return torch.cat(outputs)


def mix_naively(mixer: AFNO2D, tokens: Tensor) -> Tensor:
    height, width = tokens.shape[1:3]
    spectrum = torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho")
    mixed = torch.zeros_like(spectrum)
    for sample in range(len(tokens)):
        for row in range(height):
            for column in range(width // 2 + 1):
                if is_kept(row, column, height, width, mixer.hard_thresholding_fraction):
                    mixed[sample, row, column] = mix_mode(mixer, spectrum[sample, row, column])
    return tokens + torch.fft.irfft2(mixed, s=(height, width), dim=(1, 2), norm="ortho")


@given(height=SIZES, width=SIZES, fraction=FRACTIONS)
@settings(max_examples=60)
def test_kept_modes_are_the_lowest_wavenumbers(height: int, width: int, fraction: float) -> None:
    rows, columns = kept_modes((height, width), fraction)
    kept = {(row, column) for row in rows.tolist() for column in range(columns)}
    every = [(row, column) for row in range(height) for column in range(width // 2 + 1)]
    assert kept == {mode for mode in every if is_kept(*mode, height, width, fraction)}


def test_fraction_one_keeps_all_and_zero_keeps_the_mean() -> None:
    rows, columns = kept_modes((45, 90), 1.0)
    assert (len(rows), columns) == (45, 46)
    rows, columns = kept_modes((45, 90), 0.0)
    assert (rows.tolist(), columns) == ([0], 1)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (3, 8)])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("hidden_size_factor", [1, 2])
def test_equals_a_loop_over_modes(
    height: int, width: int, fraction: float, hidden_size_factor: int
) -> None:
    mixer = make_mixer(fraction, sparsity_threshold=0.3, hidden_size_factor=hidden_size_factor)
    tokens = make_tokens(height, width)
    expected = mix_naively(mixer, tokens)
    assert torch.linalg.norm(mixer(tokens) - expected) < 1e-12 * torch.linalg.norm(expected)


@given(height=SIZES, width=SIZES, fraction=FRACTIONS)
@settings(max_examples=40)
def test_only_kept_modes_change(height: int, width: int, fraction: float) -> None:
    tokens = make_tokens(height, width)
    change = make_mixer(fraction)(tokens) - tokens
    spectrum = torch.fft.rfft2(change, dim=(1, 2), norm="ortho").abs().amax((0, 3))
    rows, columns = kept_modes((height, width), fraction)
    spectrum[rows, :columns] = 0
    assert spectrum.max() < 1e-10


def test_zero_weights_give_the_identity() -> None:
    mixer = make_mixer()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
    tokens = make_tokens(5, 6)
    assert torch.equal(mixer(tokens), tokens)


def test_a_threshold_above_every_coefficient_gives_the_identity() -> None:
    tokens = make_tokens(5, 6)
    assert torch.equal(make_mixer(sparsity_threshold=1e9)(tokens), tokens)


def test_blocks_of_channels_do_not_mix() -> None:
    mixer, tokens = make_mixer(), make_tokens(4, 5)
    disturbed = tokens.clone()
    disturbed[..., :4] += 1.0
    change = (mixer(disturbed) - mixer(tokens)).abs().amax((0, 1, 2))
    assert change[:4].min() > 0
    assert change[4:].max() == 0


def test_gradients_are_right() -> None:
    mixer = make_mixer(0.5)
    tokens = make_tokens(3, 4, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(mixer, (tokens,), eps=1e-7, atol=1e-5)
    parameters = dict(mixer.named_parameters())

    def by_weight(weight: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, {**parameters, "weight1": weight}, tokens.detach())

    assert torch.autograd.gradcheck(by_weight, (mixer.weight1,), eps=1e-7, atol=1e-5)


def test_bfloat16_autocast_stays_close_to_float32() -> None:
    mixer, tokens = make_mixer().float(), make_tokens(8, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(tokens.bfloat16())
    assert rounded.dtype == torch.bfloat16
    error = torch.linalg.norm(rounded.float() - mixer(tokens)) / torch.linalg.norm(mixer(tokens))
    assert error < 1e-2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_blocks": 5}, "num_blocks"),
        ({"num_blocks": 3, "sparsity_threshold": -1.0}, "sparsity_threshold"),
        ({"num_blocks": 3, "hard_thresholding_fraction": 1.5}, "hard_thresholding_fraction"),
    ],
)
def test_wrong_options_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AFNO2D(12, **options)
