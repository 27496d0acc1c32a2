"""The fast operator is the equation of the layer, in values and in gradients."""

import pytest
import torch
from torch import Tensor

from fourcastnet_afno.models.fourier.transforms import transform_for
from fourcastnet_afno.models.mixers import AFNO

PERIODIC = [((6, 8), "periodic"), ((5, 7), "periodic"), ((9,), "periodic"), ((3, 4, 5), "periodic")]
PADDED = [((6, 5), "zero_padded"), ((4, 6), ("zero_padded", "periodic"))]
OTHERS = [
    ((6, 5), "reflected", "none"),
    ((6, 5), "mirrored", "none"),
    ((6, 8), ("mirrored", "zero_padded"), "none"),
    ((6, 8), "periodic", "double_fourier_sphere"),
]


def make_mixer(**options: object) -> AFNO:
    """Weights so large that thresholds and rectifiers are all passed by some values."""
    torch.manual_seed(0)
    mixer = AFNO(12, 3, initialization="small", **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.mul_(20)
    return mixer


def make_tokens(*shape: int) -> Tensor:
    return torch.randn(2, *shape, 12, dtype=torch.float64, generator=torch.Generator())


def differentiate(output: Tensor, mixer: AFNO, tokens: Tensor) -> list[Tensor]:
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    gradients = torch.autograd.grad((weight * output).sum(), [tokens, *mixer.parameters()])
    return [output.detach(), *gradients]


def assert_equal(values: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for value, other in zip(values, expected, strict=True):
        assert torch.linalg.norm(value - other) <= tolerance * torch.linalg.norm(other)


@pytest.mark.parametrize(("shape", "boundary"), PERIODIC + PADDED)
@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_values_and_gradients_are_those_of_the_equation(
    shape: tuple[int, ...], boundary: object, threshold: float, fraction: float,
    dtype: torch.dtype, tolerance: float,
) -> None:  # fmt: skip
    mixer = make_mixer(
        boundary=boundary, sparsity_threshold=threshold, hard_thresholding_fraction=fraction
    ).to(dtype)
    tokens = make_tokens(*shape).to(dtype).requires_grad_()
    expected = differentiate(mixer.reference_forward(tokens), mixer, tokens)
    assert_equal(differentiate(mixer(tokens), mixer, tokens), expected, tolerance)


@pytest.mark.parametrize("transform", ["matrix", "fft"])
@pytest.mark.parametrize("options", [{"reference_grid": (4, 6)}, {"mode_selection": "fourcastnet"}])
def test_any_transform_and_selection_is_the_equation(transform: str, options: dict) -> None:
    mixer = make_mixer(transform=transform, hard_thresholding_fraction=0.7, **options)
    tokens = make_tokens(8, 10).requires_grad_()
    expected = differentiate(mixer.reference_forward(tokens), mixer, tokens)
    assert_equal(differentiate(mixer(tokens), mixer, tokens), expected, 1e-11)


@pytest.mark.parametrize(("shape", "boundary", "pole"), OTHERS)
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_other_boundaries_are_the_same_perceptron_between_two_matrices(
    shape: tuple[int, int], boundary: object, pole: str, threshold: float
) -> None:
    """The matrices are those of the transform on single points and modes, see its own tests."""
    mixer = make_mixer(
        boundary=boundary, pole=pole, vector_channels=4, sparsity_threshold=threshold,
        hard_thresholding_fraction=0.8,
    )  # fmt: skip
    tokens = make_tokens(*shape).requires_grad_()
    transform = transform_for(
        mixer.spectrum.to_json(), shape, 12, torch.float64, torch.device("cpu")
    )
    everything, points = slice(0, 12), shape[0] * shape[1]

    def on_units(count: int, size: tuple[int, ...]) -> Tensor:
        return torch.eye(count, dtype=torch.float64).view(count, *size, 1).repeat_interleave(12, -1)

    analysis = transform.to_modes(on_units(points, shape), everything).flatten(1, -2)
    units = on_units(2 * transform.num_modes, (*transform.kept, 2))
    zeros = torch.zeros(len(units), *shape, 12, dtype=torch.float64)
    synthesis = torch.empty_like(zeros)
    transform.add_to_grid(units, zeros, synthesis, everything)

    modes = torch.einsum("pmc,bpc->bmc", analysis, tokens.flatten(1, 2))
    z = torch.complex(*modes.unflatten(1, (-1, 2)).unbind(2))
    perceptron = mixer._reference_perceptron
    y = torch.view_as_real(perceptron(z) - perceptron(torch.zeros_like(z))).movedim(-1, 2)
    change = torch.einsum("mpc,bmc->bpc", synthesis.flatten(1, 2), y.flatten(1, 2))
    expected = differentiate(tokens + change.view(tokens.shape), mixer, tokens)
    assert_equal(differentiate(mixer(tokens), mixer, tokens), expected, 1e-11)
    with pytest.raises(ValueError, match="no reference for boundary"):
        mixer.reference_forward(tokens)
