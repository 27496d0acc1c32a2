"""Laws of the Fourier mixer."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fourcastnet_afno.models.fourier.modes import kept_modes
from fourcastnet_afno.models.mixers import AFNO2D, WavenumberAFNO

SIZES = st.integers(min_value=2, max_value=13)
FRACTIONS = st.integers(min_value=0, max_value=100).map(lambda percent: percent / 100)


def make_mixer(fraction: float = 1.0, **options: object) -> AFNO2D:
    torch.manual_seed(0)
    options = {"hard_thresholding_fraction": fraction, "initialization": "small", **options}
    mixer = AFNO2D(12, 3, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.mul_(20)  # so that thresholds and rectifiers are all passed by some values
    return mixer


def make_tokens(*shape: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(sum(100**i * n for i, n in enumerate(shape)))
    return torch.randn(batch, *shape, 12, dtype=torch.float64, generator=generator)


def is_kept(mode: tuple[int, ...], shape: tuple[int, ...], fraction: float) -> bool:
    percent = round(100 * fraction)
    wavenumbers = [min(index, size - index) for index, size in zip(mode, shape, strict=True)]
    return all(200 * k <= percent * size for k, size in zip(wavenumbers, shape, strict=True))


def every_mode(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    axes = [range(size) for size in (*shape[:-1], shape[-1] // 2 + 1)]
    return list(itertools.product(*axes))


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
    shape = tuple(tokens.shape[1:-1])
    axes = tuple(range(1, tokens.ndim - 1))
    spectrum = torch.fft.rfftn(tokens, dim=axes, norm="ortho")
    mixed = torch.zeros_like(spectrum)
    at_zero = mix_mode(mixer, torch.zeros_like(spectrum[(0, *(0 for _ in shape))]))
    for sample in range(len(tokens)):
        for mode in every_mode(shape):
            if is_kept(mode, shape, mixer.spectrum.fraction):
                index = (sample, *mode)
                mixed[index] = mix_mode(mixer, spectrum[index]) - at_zero
    return tokens + torch.fft.irfftn(mixed, s=shape, dim=axes, norm="ortho")


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (3, 8), (9,), (10,), (3, 4, 5), (2, 3, 6)])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("hidden_size_factor", [1, 2])
def test_equals_a_loop_over_modes(
    shape: tuple[int, ...], fraction: float, hidden_size_factor: int
) -> None:
    mixer = make_mixer(fraction, sparsity_threshold=0.3, hidden_size_factor=hidden_size_factor)
    tokens = make_tokens(*shape)
    expected = mix_naively(mixer, tokens)
    norm = torch.linalg.norm(expected)
    assert torch.linalg.norm(mixer(tokens) - expected) < 1e-12 * norm
    assert torch.linalg.norm(mixer.float()(tokens.float()) - expected) < 1e-5 * norm


@given(height=SIZES, width=SIZES, fraction=FRACTIONS)
@settings(max_examples=40)
def test_only_kept_modes_change(height: int, width: int, fraction: float) -> None:
    tokens = make_tokens(height, width)
    change = make_mixer(fraction)(tokens) - tokens
    spectrum = torch.fft.rfft2(change, dim=(1, 2), norm="ortho").abs().amax((0, 3))
    rows, columns = kept_modes((height, width), fraction)
    spectrum[rows[:, None], columns] = 0
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


@pytest.mark.parametrize("transform", ["matrix", "fft"])
def test_no_mode_at_all_gives_the_identity(transform: str) -> None:
    mixer = make_mixer(0.0, mode_selection="fourcastnet", transform=transform)
    tokens = make_tokens(6, 8).requires_grad_()
    output = mixer(tokens)
    assert torch.equal(output, tokens)
    gradients = torch.autograd.grad(output.sum(), [tokens, *mixer.parameters()])
    assert torch.equal(gradients[0], torch.ones_like(tokens))
    assert not any(gradient.any() for gradient in gradients[1:])


def test_inference_before_training_leaves_training_possible() -> None:
    mixer, tokens = make_mixer(), make_tokens(6, 7)
    with torch.inference_mode():
        expected = mixer(tokens)
    output = mixer(tokens.requires_grad_())
    output.sum().backward()
    assert torch.equal(output, expected)


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


@torch.no_grad()
@pytest.mark.parametrize("shape", [(8, 8), (20, 45), (7,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bfloat16_autocast_stays_close_to_float32(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    mixer, tokens = make_mixer().float(), make_tokens(*shape).float()
    tokens = tokens.bfloat16().float()
    expected = mixer(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(tokens.to(dtype))
    assert rounded.dtype == dtype
    assert not torch.equal(rounded.float(), expected)
    assert torch.linalg.norm(rounded.float() - expected) < 5e-3 * torch.linalg.norm(expected)


TRAINED_ON = (32, 64)
FINER = [(64, 128), (61, 120), (128, 256)]


def sample_field(shape: tuple[int, int], largest: int = 12) -> Tensor:
    """A field of wavenumbers up to ``largest`` with random coefficients, sampled on a grid."""
    generator = torch.Generator().manual_seed(5)
    half, full = largest + 1, 2 * largest + 1
    coefficients = torch.randn(full, half, 12, dtype=torch.complex128, generator=generator)
    return synthesize(coefficients, shape)[None]


def synthesize(coefficients: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sum the waves exp(i (k y + l x)), k from -largest to largest, l from 0 to largest."""
    largest = coefficients.shape[1] - 1
    y, x = (2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in shape)
    rows = torch.exp(1j * torch.outer(y, torch.arange(-largest, largest + 1)))
    columns = torch.exp(1j * torch.outer(x, torch.arange(largest + 1)))
    return torch.einsum("yk,xl,klc->yxc", rows, columns, coefficients).real


def interpolate(field: Tensor, shape: tuple[int, int], largest: int = 12) -> Tensor:
    """Trigonometric interpolation, exact for wavenumbers up to ``largest``."""
    spectrum = torch.fft.rfft2(field[0].double(), dim=(0, 1), norm="forward")
    rows = torch.arange(-largest, largest + 1) % field.shape[1]
    coefficients = spectrum[rows, : largest + 1] * 2
    coefficients[:, 0] /= 2
    return synthesize(coefficients, shape)[None]


@torch.no_grad()
def disagreement(mixer: AFNO2D, shape: tuple[int, int]) -> float:
    """Relative difference of the mixer's change on a finer grid to that on the training grid."""
    coarse, fine = sample_field(TRAINED_ON).float(), sample_field(shape).float()
    expected = interpolate(mixer(coarse) - coarse, shape)
    return float(torch.linalg.norm(mixer(fine) - fine - expected) / torch.linalg.norm(expected))


@pytest.mark.parametrize("shape", FINER)
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_the_same_field_sampled_finer_has_the_same_output(
    shape: tuple[int, int], fraction: float
) -> None:
    mixer = make_mixer(fraction, reference_grid=TRAINED_ON).float()
    assert disagreement(mixer, shape) < 1e-4


@pytest.mark.parametrize("shape", FINER)
def test_orthonormal_coefficients_with_bias_depend_on_the_grid(shape: tuple[int, int]) -> None:
    assert disagreement(make_mixer(mode_selection="fourcastnet").float(), shape) > 1e-2


def test_biases_are_no_spike() -> None:
    zero = torch.zeros(1, 16, 32, 12, dtype=torch.float64)
    assert make_mixer()(zero).abs().max() < 1e-12
    spike = make_mixer(mode_selection="fourcastnet")(zero).abs().amax((0, 3))
    assert spike[0, 0] > 5 * spike.median()


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


def test_weights_of_wavenumbers_are_between_two_layers_that_all_share() -> None:
    """The equation of the layer, one mode after the other, with the factors of its kernel."""
    torch.manual_seed(0)
    mixer = WavenumberAFNO(12, 3, window=2).double()
    tokens = make_tokens(6, 8)
    modes, mixed = torch.fft.rfft2(tokens, dim=(1, 2)), torch.zeros(2, 6, 5, 12).cdouble()
    offsets = torch.arange(-2.0, 3, dtype=torch.float64)
    for row, column in itertools.product(range(6), range(5)):
        waves = [torch.polar(torch.ones(5).double(), -2 * math.pi * k / n * offsets)
                 for k, n in ((row, 6), (column, 8))]  # fmt: skip
        factor = torch.einsum("a,b,abc->c", *waves, mixer.kernels[0].cdouble())
        layers = [torch.block_diag(*weight).cdouble() for weight in (mixer.weight1, mixer.weight2)]
        mixed[:, row, column] = ((modes[:, row, column] @ layers[0]) * factor) @ layers[1]
    expected = torch.fft.irfft2(mixed, s=(6, 8), dim=(1, 2))
    torch.testing.assert_close(mixer(tokens), expected)


def test_layers_around_factors_of_wavenumbers_are_in_bfloat16_under_autocast() -> None:
    torch.manual_seed(0)
    mixer, tokens = WavenumberAFNO(16, 2, window=4), torch.randn(2, 12, 18, 16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mixer(tokens)
    assert mixed.dtype == torch.float32
    expected = mixer(tokens)
    assert 1e-4 * expected.norm() < (mixed - expected).norm() < 0.02 * expected.norm()
    mixed.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in mixer.parameters())
