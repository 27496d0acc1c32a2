"""Factors of modes are convolutions with a kernel, on periodic axes, at edges and across poles."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.fourier.filter_op import filter_modes
from fourcastnet_afno.models.mixers import WavenumberAFNO

GLOBE = {"pole": "double_fourier_sphere", "vector_channels": 3}


class Filter(nn.Module):
    """The operator alone, with the kernels of a mixer."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        mixer = WavenumberAFNO(6, 2, **options).double()  # type: ignore[arg-type]
        kernels = [torch.randn_like(kernel) for kernel in mixer.kernels]
        self.kernels, self.spectrum = nn.ParameterList(kernels), mixer.spectrum.to_json()

    def forward(self, tokens: Tensor) -> Tensor:
        return filter_modes(tokens, list(self.kernels), self.spectrum)


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
        ((4, 6), GLOBE),
    ],
    ids=str,
)
def test_gradients_are_right(shape: tuple[int, int], options: dict) -> None:
    mixer, tokens = Filter(window=2, **options), make_tokens(*shape).requires_grad_()
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


def test_kernels_are_no_wider_than_the_grid_and_need_pairs_of_channels() -> None:
    mixer = Filter(window=100, reference_grid=(4, 8), **GLOBE)
    assert [tuple(kernel.shape) for kernel in mixer.kernels] == [(4, 7, 6), (3, 7, 6)]
    small = Filter(window=1, reference_grid=(40, 80), boundary="zero_padded")
    assert [tuple(kernel.shape) for kernel in small.kernels] == [(3, 3, 6)]
    for blocks, vectors in ((2, 2), (3, 3)):
        with pytest.raises(ValueError, match=f"even num_blocks, got {vectors}, 6 and {blocks}"):
            WavenumberAFNO(6, blocks, pole="double_fourier_sphere", vector_channels=vectors)
