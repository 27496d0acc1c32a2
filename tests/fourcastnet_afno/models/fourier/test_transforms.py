"""Laws of the transforms between tokens and modes, and of boundaries and poles."""

import math

import pytest
import scipy.fft
import torch
from torch import Tensor

from fourcastnet_afno.models.fourier.transforms import ModeSelection, Transform, transform_for
from fourcastnet_afno.models.mixers import AFNO

BOUNDARIES = [
    ((6,), "periodic", "none"),
    ((7,), "reflected", "none"),
    ((5,), "zero_padded", "none"),
    ((6, 8), "periodic", "none"),
    ((5, 7), "periodic", "none"),
    ((5, 6), ("reflected", "periodic"), "none"),
    ((5, 6), ("periodic", "reflected"), "none"),
    ((4, 5), ("zero_padded", "reflected"), "none"),
    ((4, 3), "zero_padded", "none"),
    ((4, 3), "reflected", "none"),
    ((1,), "mirrored", "none"),
    ((6,), "mirrored", "none"),
    ((5, 6), ("mirrored", "periodic"), "none"),
    ((4, 5), ("zero_padded", "mirrored"), "none"),
    ((4, 5), ("mirrored", "reflected"), "none"),
    ((2, 5), "mirrored", "none"),
    ((4, 6), "periodic", "double_fourier_sphere"),
    ((5, 7), "periodic", "double_fourier_sphere"),
    ((3, 4, 5), ("reflected", "periodic", "zero_padded"), "none"),
    ((3, 4, 6), ("reflected", "periodic", "periodic"), "double_fourier_sphere"),
]
KINDS = [*((*case, "matrix") for case in BOUNDARIES), ((6, 8), "periodic", "none", "fft")]
KINDS += [((3, 5, 7), "periodic", "none", "fft")]


def build(
    shape: tuple[int, ...], boundary: object, pole: str, kind: str, fraction: float = 1.0
) -> Transform:
    spectrum = ModeSelection(
        boundary=boundary,  # type: ignore[arg-type]
        pole=pole,  # type: ignore[arg-type]
        transform=kind,  # type: ignore[arg-type]
        fraction=fraction,
        vector_channels=1 if pole != "none" else 0,
    )
    return transform_for(spectrum.to_json(), shape, 3, torch.float64, torch.device("cpu"))


def to_grid(transform: Transform, modes: Tensor, shape: tuple[int, ...], adjoint: bool) -> Tensor:
    zeros = torch.zeros(len(modes), *shape, 3, dtype=torch.float64)
    out = torch.full_like(zeros, math.nan)
    transform.add_to_grid(modes, zeros, out, slice(0, 3), adjoint)
    return out


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("shape", "boundary", "pole", "kind"), KINDS)
def test_all_modes_give_the_field_back(
    shape: tuple[int, ...], boundary: object, pole: str, kind: str
) -> None:
    transform = build(shape, boundary, pole, kind)
    fields = random(2, *shape, 3)
    modes = transform.to_modes(fields, slice(0, 3))
    torch.testing.assert_close(to_grid(transform, modes, shape, False), fields, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "boundary", "pole", "kind"), KINDS)
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_adjoints_have_the_same_inner_products(
    shape: tuple[int, ...], boundary: object, pole: str, kind: str, fraction: float
) -> None:
    transform = build(shape, boundary, pole, kind, fraction)
    fields, channels = random(2, *shape, 3), slice(0, 3)
    modes = random(*transform.to_modes(fields, channels).shape, seed=1)
    for forward, backward in ((False, True), (True, False)):
        left = (transform.to_modes(fields, channels, forward) * modes).sum()
        right = (fields * to_grid(transform, modes, shape, backward)).sum()
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def make_mixer(**options: object) -> AFNO:
    torch.manual_seed(0)
    mixer = AFNO(6, 3, sparsity_threshold=0.3, initialization="small", **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.mul_(20)
    return mixer


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (5,), (4, 5, 6)])
@pytest.mark.parametrize("fraction", [0.4, 1.0])
def test_matrices_and_fft_give_the_same(shape: tuple[int, ...], fraction: float) -> None:
    tokens = random(2, *shape, 6)
    results = []
    for kind in ("matrix", "fft"):
        mixer = make_mixer(transform=kind, hard_thresholding_fraction=fraction)
        field = tokens.clone().requires_grad_()
        output = mixer(field)
        output.square().sum().backward()
        gradients = [parameter.grad for parameter in mixer.parameters()]
        results.append([output.detach(), field.grad, *gradients])
    for matrix, fft in zip(*results, strict=True):
        torch.testing.assert_close(matrix, fft, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("shape", "boundary", "pole", "kind"), [c for c in KINDS if len(c[0]) < 3])
def test_gradients_are_right(
    shape: tuple[int, ...], boundary: object, pole: str, kind: str
) -> None:
    mixer = make_mixer(
        boundary=boundary, pole=pole, transform=kind, vector_channels=2 * (pole != "none")
    )
    tokens = random(1, *shape, 6).requires_grad_()
    names, values = zip(*mixer.named_parameters(), strict=True)

    def mix(tokens: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, dict(zip(names, values, strict=True)), tokens)

    assert torch.autograd.gradcheck(mix, (tokens, *values), eps=1e-7, atol=1e-5, fast_mode=True)


def test_zero_padding_is_that_of_a_field_followed_by_zeros() -> None:
    tokens = random(2, 5, 6, 6)
    padded = torch.cat([tokens, torch.zeros_like(tokens)], dim=1)
    expected = make_mixer()(padded)[:, :5]
    actual = make_mixer(boundary=("zero_padded", "periodic"))(tokens)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_reflection_is_the_orthonormal_cosine_transform() -> None:
    tokens = random(1, 5, 6, 6)
    mixer = make_mixer(boundary=("reflected", "periodic"))
    cosine = scipy.fft.dct(tokens.numpy(), axis=1, norm="ortho")
    modes = torch.fft.rfft(torch.from_numpy(cosine), dim=2, norm="ortho")
    mixed = perceptron(mixer, modes) - perceptron(mixer, torch.zeros_like(modes))
    change = torch.fft.irfft(mixed, n=6, dim=2, norm="ortho")
    expected = tokens + torch.from_numpy(scipy.fft.idct(change.numpy(), axis=1, norm="ortho"))
    torch.testing.assert_close(mixer(tokens), expected, rtol=0, atol=1e-12)


def whole_step_extension(tokens: Tensor) -> Tensor:
    """Rows that go on mirrored at the first and the last one: a periodic field."""
    return torch.cat([tokens, tokens.flip(1)[:, 1:-1]], dim=1)


def mix_mirrored(mixer: AFNO, tokens: Tensor) -> Tensor:
    """A mixer of all modes of mirrored rows and periodic columns, by FFT of the extended rows."""
    steps = tokens.shape[1] - 1
    zonal = torch.fft.rfft(tokens, dim=2, norm="ortho")
    sums = torch.fft.fft(whole_step_extension(zonal), dim=1)[:, : steps + 1] / 2
    weight = torch.full((steps + 1, 1, 1), math.sqrt(2.0), dtype=torch.float64)
    weight[0] = 1.0
    share = torch.ones_like(weight)
    share[-1] = 0.5  # The last cosine has twice the mean square of the others.
    modes = sums * weight * share / math.sqrt(steps)
    mixed = perceptron(mixer, modes) - perceptron(mixer, torch.zeros_like(modes))
    numbers = torch.arange(steps + 1, dtype=torch.float64)
    cosines = torch.cos(math.pi * torch.outer(numbers, numbers) / steps).to(mixed.dtype)
    change = torch.einsum("jk,bkxc->bjxc", cosines, mixed * weight / math.sqrt(steps))
    return tokens + torch.fft.irfft(change, n=tokens.shape[2], dim=2, norm="ortho")


def test_mirrored_rows_and_their_gradients_are_those_of_the_extended_field() -> None:
    results = []
    for mix in (lambda mixer, x: mixer(x), mix_mirrored):
        tokens = random(2, 5, 6, 6).requires_grad_()
        mixer = make_mixer(boundary=("mirrored", "periodic"))
        output = mix(mixer, tokens)
        (output * random(*output.shape, seed=1)).sum().backward()
        gradients = [parameter.grad for parameter in mixer.parameters()]
        results.append([output.detach(), tokens.grad, *gradients])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_mirrored_rows_have_the_modes_of_the_periodic_extension(fraction: float) -> None:
    tokens = random(1, 5, 6, 6)
    options = {"hard_thresholding_fraction": fraction}
    # Coefficients of the mean, and of the cosine that alternates, have another scale.
    for make, rows in ((make_linear, tokens), (make_mixer, inner_cosines(tokens))):
        expected = make(**options)(whole_step_extension(rows))[:, :5]
        found = make(boundary=("mirrored", "periodic"), **options)(rows)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert (found - rows).abs().max() > 0.1


def inner_cosines(tokens: Tensor) -> Tensor:
    """Sums of cos(pi k j / (n - 1)) with 0 < k < n - 1 along the rows."""
    rows, number = torch.arange(tokens.shape[1]), torch.arange(1, tokens.shape[1] - 1)
    cosines = torch.cos(math.pi * torch.outer(rows, number).double() / (tokens.shape[1] - 1))
    return torch.einsum("jk,bkxc->bjxc", cosines, tokens[:, 1:-1])


def cosine_field(points: tuple[int, ...], largest: int = 8) -> Tensor:
    """Cosines up to ``largest`` half periods along each axis, with random coefficients."""
    field = random(1, *(largest + 1 for _ in points), 6)
    for axis, count in enumerate(points, start=1):
        place = torch.linspace(0, math.pi, count, dtype=torch.float64)
        cosines = torch.cos(torch.outer(place, torch.arange(largest + 1, dtype=torch.float64)))
        field = torch.tensordot(field.movedim(axis, -1), cosines.mT, dims=1).movedim(-1, axis)
    return field


@torch.no_grad()
@pytest.mark.parametrize("reference", [9, 17, 33])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
@pytest.mark.parametrize("num_axes", [1, 2])
def test_mirrored_axes_have_the_same_output_at_any_resolution(
    reference: int, fraction: float, num_axes: int
) -> None:
    """Nine points resolve all the cosines of the field, the last of them at its crests alone."""
    mixer = make_mixer(
        boundary="mirrored",
        reference_grid=(reference,) * num_axes,
        hard_thresholding_fraction=fraction,
    )
    coarse = cosine_field((9,) * num_axes)
    expected = mixer(coarse)
    assert (expected - coarse).abs().max() > 0.1
    for points, stride in ((17, 2), (25, 3)):
        fine = mixer(cosine_field((points,) * num_axes))
        common = fine[(slice(None), *(slice(None, None, stride) for _ in range(num_axes)))]
        torch.testing.assert_close(common, expected, rtol=0, atol=1e-11)


@torch.no_grad()
@pytest.mark.parametrize("boundary", ["mirrored", ("mirrored", "periodic")])
def test_mirrored_axes_under_bfloat16_stay_close_to_float32(boundary: object) -> None:
    mixer, tokens = make_mixer(boundary=boundary).float(), random(1, 9, 8, 6).float()
    expected = mixer(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(tokens)
    assert not torch.equal(rounded, expected)
    assert torch.linalg.norm(rounded - expected) < 2e-2 * torch.linalg.norm(expected)


@torch.no_grad()
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("boundary", ["mirrored", "reflected"])
def test_flips_of_an_axis_with_edges_commute_with_the_linear_mixer(
    boundary: str, axis: int
) -> None:
    mixer, tokens = make_linear(boundary=boundary), random(1, 5, 6, 6)
    flipped = mixer(tokens.flip(axis))
    torch.testing.assert_close(flipped, mixer(tokens).flip(axis), rtol=0, atol=1e-12)


def perceptron(mixer: AFNO, modes: Tensor) -> Tensor:
    """The perceptron in complex numbers."""
    weight1, bias1, weight2, bias2 = (
        torch.complex(p[0], p[1]) for p in (mixer.weight1, mixer.bias1, mixer.weight2, mixer.bias2)
    )
    blocks = modes.unflatten(-1, (mixer.num_blocks, -1))
    hidden = torch.einsum("...ki,kio->...ko", blocks, weight1) + bias1
    hidden = torch.complex(hidden.real.relu(), hidden.imag.relu())
    output = torch.einsum("...ki,kio->...ko", hidden, weight2) + bias2
    shrink = torch.nn.functional.softshrink
    parts = (shrink(part, mixer.sparsity_threshold) for part in (output.real, output.imag))
    return torch.complex(*parts).flatten(-2)


def make_linear(**options: object) -> AFNO:
    """A mixer that is linear over the complex numbers: relu(z) - relu(-z) = z."""
    torch.manual_seed(0)
    mixer = AFNO(6, 3, sparsity_threshold=0.0, hidden_size_factor=2, **options)  # type: ignore[arg-type]
    mixer = mixer.double()
    matrix = random(2, 3, 2, 2)
    identity = torch.stack([torch.eye(2), torch.zeros(2, 2)])[:, None].expand(2, 3, 2, 2)
    with torch.no_grad():
        mixer.weight1.copy_(torch.cat([identity, -identity], dim=3))
        mixer.weight2.copy_(torch.cat([matrix, -matrix], dim=2))
        mixer.bias1.zero_()
        mixer.bias2.zero_()
    return mixer


def test_the_linear_mixer_is_linear() -> None:
    mixer, (first, second) = make_linear(), random(2, 1, 4, 6, 6)
    both = mixer(2 * first - 3 * second)
    torch.testing.assert_close(both, 2 * mixer(first) - 3 * mixer(second), rtol=0, atol=1e-12)


@pytest.mark.parametrize("pole", ["none", "double_fourier_sphere"])
@pytest.mark.parametrize("shift", [1, 3, 5])
@pytest.mark.parametrize("width", [8, 9])
def test_rotation_by_whole_longitudes_commutes_with_the_linear_mixer(
    pole: str, shift: int, width: int
) -> None:
    mixer = make_linear(pole=pole, vector_channels=2 if pole != "none" else 0)
    tokens = random(1, 6, width, 6)
    rotated = mixer(tokens.roll(shift, dims=2))
    torch.testing.assert_close(rotated, mixer(tokens).roll(shift, dims=2), rtol=0, atol=1e-12)
    assert torch.linalg.norm(mixer(tokens) - tokens) > 0.1 * torch.linalg.norm(tokens)


def unit_vectors(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Cell centers of a grid from pole to pole: colatitude and longitude, (rows, columns)."""
    colatitude = math.pi * (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    longitude = 2 * math.pi * torch.arange(columns, dtype=torch.float64) / columns
    first, second = torch.meshgrid(colatitude, longitude, indexing="ij")
    return first, second


def rotated_harmonic(rows: int, columns: int) -> Tensor:
    """Legendre polynomial of degree 4 about a tilted axis, in 6 tilts: (1, rows, columns, 6)."""
    colatitude, longitude = unit_vectors(rows, columns)
    fields = []
    for tilt in torch.linspace(0.2, 1.4, 6):
        cosine = torch.cos(colatitude) * math.cos(tilt)
        cosine = cosine + torch.sin(colatitude) * torch.cos(longitude - tilt) * math.sin(tilt)
        fields.append((35 * cosine**4 - 30 * cosine**2 + 3) / 8)
    return torch.stack(fields, dim=-1)[None]


def beyond_the_poles(fields: Tensor, sign: int = 1) -> Tensor:
    """The field continued over the pole on the opposite meridian: a periodic field."""
    opposite = fields.flip(1).roll(fields.shape[2] // 2, dims=2)
    return torch.cat([fields, sign * opposite], dim=1)


def roughness(fields: Tensor, sign: int = 1) -> float:
    """Share of the variance in meridional wavenumbers above 8, across the poles."""
    spectrum = torch.fft.fft(beyond_the_poles(fields, sign), dim=1).abs().square()
    return float(spectrum[:, 9:-8].sum() / spectrum[:, 1:].sum())


@torch.no_grad()
def test_a_harmonic_on_the_sphere_stays_smooth_across_the_pole() -> None:
    tokens = rotated_harmonic(24, 48)
    assert roughness(tokens) < 1e-25
    smooth = make_mixer(pole="double_fourier_sphere")(tokens) - tokens
    assert roughness(smooth) < 1e-25
    assert smooth.std() > 1e-2
    glued = make_mixer()(tokens) - tokens
    assert roughness(glued) > 1e-4


@torch.no_grad()
def test_vectors_change_sign_across_the_pole() -> None:
    colatitude, longitude = unit_vectors(24, 48)
    wind = torch.stack([-longitude.sin(), colatitude.cos() * longitude.cos()], dim=-1)
    tokens = wind.repeat(1, 1, 3)[None]  # the projection of one direction on the sphere, u and v
    mixer = make_mixer(pole="double_fourier_sphere", vector_channels=6)
    assert roughness(mixer(tokens) - tokens, sign=-1) < 1e-25
    as_scalars = make_mixer(pole="double_fourier_sphere")
    assert roughness(as_scalars(tokens) - tokens, sign=-1) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("shape", [(16, 32), (31, 62), (40, 80)])
def test_a_finer_grid_of_the_sphere_has_the_same_output(shape: tuple[int, int]) -> None:
    mixer = make_mixer(pole="double_fourier_sphere", reference_grid=(12, 24))
    coarse, fine = (
        mixer(rotated_harmonic(*grid)) - rotated_harmonic(*grid) for grid in ((12, 24), shape)
    )
    # The rows of the coarse grid lie at half steps: resample by the half-step waves themselves.
    transform = build((12, 24), "periodic", "double_fourier_sphere", "matrix")
    finer = build(shape, "periodic", "double_fourier_sphere", "matrix")
    scale = math.sqrt(math.prod(shape) / (12 * 24))
    low, high = (
        t.to_modes(f[..., :2], slice(0, 2)) for t, f in ((transform, coarse), (finer, fine))
    )
    even = transform.kept[1] // 2
    torch.testing.assert_close(high[:, :12, :6] / scale, low[:, :12, :6], rtol=0, atol=1e-10)
    assert even > 5
    assert torch.linalg.norm(low) > 1e-2


@pytest.mark.parametrize(
    ("options", "grid", "named"),
    [
        ({"boundary": ("periodic",)}, (4, 6), "boundary has 1 axes"),
        ({"reference_grid": (4, 6, 8)}, (4, 6), "reference_grid has 3 axes"),
        ({"pole": "double_fourier_sphere"}, (6,), "needs latitude and longitude"),
    ],
)
def test_grids_that_do_not_suit_are_an_error(
    options: dict[str, object], grid: tuple[int, ...], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make_mixer(**options)(random(1, *grid, 6))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"transform": "fft", "boundary": "reflected"}, "transform=fft"),
        ({"transform": "fft", "boundary": "mirrored"}, "transform=fft"),
        ({"mode_selection": "fourcastnet", "boundary": "reflected"}, "mode_selection=four"),
        ({"pole": "double_fourier_sphere", "boundary": "reflected"}, "periodic longitudes"),
    ],
)
def test_options_that_exclude_each_other_are_an_error(
    options: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make_mixer(**options)
