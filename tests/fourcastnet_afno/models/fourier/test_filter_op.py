"""Factors of modes are convolutions with a kernel, on circles, at edges and across poles."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.fourier.filter_op import Filter as Weights
from fourcastnet_afno.models.fourier.filter_op import filter_modes
from fourcastnet_afno.models.mixers import WavenumberAFNO

GLOBE = {"pole": "double_fourier_sphere", "vector_channels": 3}


class Filter(nn.Module):
    """The operator alone, with the kernels of a mixer."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        mixer = WavenumberAFNO(6, 2, **options).double()  # type: ignore[arg-type]
        kernels = [torch.randn_like(kernel) for kernel in mixer.points_of_kernels()]
        self.kernels, self.spectrum = nn.ParameterList(kernels), mixer.spectrum.to_json()
        identity = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
        self.weight1, self.weight2 = nn.Parameter(identity), nn.Parameter(identity.clone())

    def forward(self, tokens: Tensor) -> Tensor:
        weights = Weights(self.weight1, self.weight2, list(self.kernels))
        return filter_modes(tokens, weights, self.spectrum)


def make_tokens(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, 6, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", [(7,), (6,), (5, 8), (6, 7), (3, 4, 5)])
@pytest.mark.parametrize("transform", ["matrix", "fft"])
def test_on_circles_it_is_a_convolution_with_the_kernel(
    shape: tuple[int, ...], transform: str
) -> None:
    mixer = Filter(window=1, num_axes=len(shape), transform=transform)
    tokens, axes = make_tokens(*shape), tuple(range(1, len(shape) + 1))
    expected = torch.zeros_like(tokens)
    for offsets in itertools.product((-1, 0, 1), repeat=len(shape)):
        weight = mixer.kernels[0][tuple(offset + 1 for offset in offsets)]
        expected += weight * tokens.roll(offsets, axes)
    torch.testing.assert_close(mixer(tokens), expected)


def test_at_edges_it_is_a_convolution_with_the_mirrored_field() -> None:
    tokens = make_tokens(6, 1)
    for boundary, mirrored in (("reflected", [1, 0, 5, 4]), ("mirrored", [2, 1, 4, 3])):
        mixer = Filter(window=2, boundary=(boundary, "periodic"))
        rows = torch.cat([tokens[:, mirrored[:2]], tokens, tokens[:, mirrored[2:]]], dim=1)
        weight = mixer.kernels[0].sum(1)
        expected = weight[0] * tokens
        for offset in (1, 2):
            both = rows[:, 2 - offset : 8 - offset] + rows[:, 2 + offset : 8 + offset]
            expected = expected + weight[offset] * both / 2
        if boundary == "reflected":
            torch.testing.assert_close(mixer(tokens), expected)
        else:  # the alternating mode of the trapezoidal rule is the one of finer grids
            change = mixer(tokens) - expected
            alternating = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)[None, :, None, None]
            ratio = change / alternating
            torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_across_poles_scalars_and_vectors_continue_and_are_exchanged_by_the_odd_part() -> None:
    """A shift by a row north minus one south takes scalars to vectors, which change sign."""
    tokens, columns = make_tokens(6, 8), 8
    mixer = Filter(window=1, **GLOBE)
    sign = torch.tensor([1.0] * 3 + [-1.0] * 3, dtype=torch.float64)
    # The field, continued by a row over each pole on the opposite meridian.
    over = [sign * tokens[:, row].roll(columns // 2, 1)[:, None] for row in (0, -1)]
    field = torch.cat([over[0], tokens, over[1]], dim=1)
    north, south = field[:, :-2], field[:, 2:]
    even, odd = mixer.kernels
    expected = torch.zeros_like(tokens)
    for offset in (-1, 0, 1):
        mean, half = (north + south) / 2, (north - south) / 2
        turned = torch.cat([-half[..., 3:], half[..., :3]], dim=-1)
        expected += even[0, offset + 1] * tokens.roll(offset, 2)
        expected += even[1, offset + 1] * mean.roll(offset, 2)
        expected += odd[0, offset + 1] * turned.roll(offset, 2)
    torch.testing.assert_close(mixer(tokens), expected)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4, 5), {}),
        ((4, 6), {"transform": "fft", "hard_thresholding_fraction": 0.6}),
        ((4, 5), {"boundary": ("reflected", "zero_padded")}),
        ((5, 4), {"boundary": ("mirrored", "periodic")}),
        ((5, 4), {"boundary": ("mirrored", "reflected")}),
        ((4, 6), GLOBE),
    ],
    ids=str,
)
def test_gradients_are_right(shape: tuple[int, int], options: dict) -> None:
    mixer, tokens = Filter(window=2, **options), make_tokens(*shape).requires_grad_()
    for layer in (mixer.weight1, mixer.weight2):
        nn.init.normal_(layer)
    names = [name for name, _ in mixer.named_parameters()]

    def mix(tokens: Tensor, *parameters: Tensor) -> Tensor:
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(mixer, values, (tokens,))

    assert torch.autograd.gradcheck(mix, (tokens, *mixer.parameters()), fast_mode=True)


@pytest.mark.parametrize("options", [{}, {"boundary": ("reflected", "periodic")}, GLOBE], ids=str)
def test_the_same_field_sampled_finer_has_the_same_output(options: dict) -> None:
    """Three times as many cells, whose middle ones are the points of the coarse grid."""
    options = options | {"reference_grid": (6, 10), "hard_thresholding_fraction": 0.6}
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(1, 18, 30, 6, dtype=torch.float64, generator=generator)
    one, mixer = Filter(window=0, **options), Filter(window=8, **options)
    with torch.no_grad():
        one.kernels[0].fill_(1.0)
        field = one(field)  # the kept modes alone
        first = 1 if len(options) > 2 else 0
        coarse = field[:, first::3, ::3]
        torch.testing.assert_close(mixer(coarse), mixer(field)[:, first::3, ::3])


def test_blocks_one_after_the_other_are_all_blocks() -> None:
    """Of a large batch each block of scalars goes with its vectors alone, of a small one all go."""
    torch.manual_seed(0)
    grid = {"reference_grid": (4, 4), "hard_thresholding_fraction": 0.5}
    mixer = WavenumberAFNO(8, 4, window=1, pole="double_fourier_sphere", vector_channels=4, **grid)
    tokens = torch.randn(4, 256, 512, 8)

    def gradients(batch: Tensor) -> list[Tensor]:
        mixed = mixer(batch)
        return [mixed.detach(), *torch.autograd.grad(mixed.square().sum(), mixer.parameters())]

    large, *small = (gradients(batch) for batch in (tokens, tokens[:2], tokens[2:]))
    torch.testing.assert_close(large[0], torch.cat([output for output, *_ in small]))
    for found, first, second in zip(large[1:], small[0][1:], small[1][1:], strict=True):
        torch.testing.assert_close(found, first + second, rtol=1e-3, atol=1e-3 * found.abs().max())
