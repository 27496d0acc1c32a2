"""Random fields that networks see: moments, independence of grids, memory, and zero weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.fine_tuning.warm_start import start_from
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.noise import NoiseFields, append_noise
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states

GLOBE = LatLonGrid.equiangular(16, 32)
SQUARE = PlaneGrid.regular(24, 24)
CHANNEL = PlaneGrid.regular(24, 24, periodic=("x",))
STEP = Timestep.parse("6h")
NOISE = NoiseConfig(length_scales=[4000.0, 9000.0], channels=2, width=8)


def draw(fields: NoiseFields, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return fields(torch.randn(count, *fields.numbers_shape, generator=generator))


def make_fields(
    grid: LatLonGrid | PlaneGrid, scale: float, memory_hours: float = 0.0
) -> NoiseFields:
    return NoiseFields(
        NoiseConfig(length_scales=[scale], channels=1, memory_hours=memory_hours), grid, STEP
    )


@pytest.mark.parametrize(
    ("grid", "scale"), [(GLOBE, 2500.0), (SQUARE, 0.1), (CHANNEL, 0.1)], ids=["globe", "2", "1"]
)
def test_variance_is_one_and_correlation_depends_on_the_distance(
    grid: LatLonGrid | PlaneGrid, scale: float
) -> None:
    count = 4000
    fields = draw(make_fields(grid, scale), count)[:, 0].double()
    assert fields.mean(0).abs().max() < 5 / math.sqrt(count)
    covariance = torch.einsum("byx,b->yx", fields, fields[:, 3, 5]) / count
    variance = fields.square().mean(0)
    assert (variance - 1).abs().max() < 5 * math.sqrt(2 / count)
    y, x = (grid.coords[axis] for axis in grid.dims)
    if isinstance(grid, LatLonGrid):
        y, x = np.deg2rad(y), np.deg2rad(x)
        cosine = np.sin(y[3]) * np.sin(y)[:, None]
        cosine = cosine + np.cos(y[3]) * np.cos(y)[:, None] * np.cos(x - x[5])
        squares = (6371.22 * np.arccos(np.clip(cosine, -1, 1))) ** 2
    else:
        gaps = [np.abs(values - values[i]) for values, i in ((y, 3), (x, 5))]
        around = [axis in grid.periodic_axes for axis in grid.dims]
        gaps = [np.minimum(g, 1 - g) if a else g for g, a in zip(gaps, around, strict=True)]
        squares = gaps[0][:, None] ** 2 + gaps[1] ** 2
    expected = np.exp(-squares / (2 * scale**2))
    # On the sphere the kernel of diffusion is a Gaussian up to (L / a)^2.
    np.testing.assert_allclose(covariance, expected, atol=0.1)


@pytest.mark.parametrize(
    ("coarse", "fine", "scale"),
    [
        (GLOBE, GLOBE.select_rows(slice(1, 4)), 3000.0),
        (PlaneGrid.regular(12, 12), PlaneGrid.regular(36, 36), 0.2),
        (
            PlaneGrid.regular(12, 12, periodic=()),
            PlaneGrid.regular(36, 36, periodic=()),
            0.2,
        ),
    ],
    ids=["globe", "torus", "square"],
)
def test_the_same_numbers_are_the_same_field_on_any_grid(
    coarse: LatLonGrid | PlaneGrid, fine: LatLonGrid | PlaneGrid, scale: float
) -> None:
    first, second = make_fields(coarse, scale), make_fields(fine, scale)
    assert first.numbers_shape == second.numbers_shape
    other = draw(second, 2)
    same = other if isinstance(coarse, LatLonGrid) else other[..., 1::3, 1::3]
    expected = draw(first, 2)
    expected = expected[..., 1:4, :] if isinstance(coarse, LatLonGrid) else expected
    torch.testing.assert_close(same, expected, atol=2e-3, rtol=0)


def test_a_coarser_globe_takes_the_first_numbers() -> None:
    coarse, fine = (make_fields(LatLonGrid.equiangular(rows, 2 * rows), 4000.0) for rows in (8, 24))
    count = coarse.numbers_shape[0]
    assert count < fine.numbers_shape[0]
    numbers = torch.randn(2, *fine.numbers_shape, generator=torch.Generator().manual_seed(0))
    expected = coarse(numbers[:, :count])
    numbers[:, count:] = 0
    torch.testing.assert_close(fine(numbers)[..., 1::3, ::3], expected, atol=1e-5, rtol=0)


def test_fields_of_one_dimension_vary_along_it_alone() -> None:
    line = PlaneGrid.regular(1, 32, extent=(1 / 32, 1.0))
    fields = draw(make_fields(line, 0.1), 3000)
    assert fields.shape == (3000, 1, 1, 32)
    assert (fields.square().mean(0) - 1).abs().max() < 0.15


def test_correlation_in_time_falls_with_the_memory() -> None:
    fields = make_fields(SQUARE, 0.2, memory_hours=12.0)
    torch.manual_seed(0)
    steps = append_noise(fields, torch.zeros(1500, 4, 0, *SQUARE.shape))[:, :, 0, ::8, ::8]
    for lag in range(4):
        found = (steps[:, 0] * steps[:, lag]).mean()
        assert found == pytest.approx(math.exp(-6 * lag / 12), abs=0.05)
    assert (steps[:, 3].square().mean() - 1).abs() < 0.05


def test_length_scales_that_the_grid_lacks_are_rejected() -> None:
    with rejects("bad-setting", "length_scales", "300 km"):
        make_fields(GLOBE, 300.0)
    with rejects("bad-setting", "wavenumbers"):
        make_fields(GLOBE, 50.0)
    with rejects("bad-setting", "length_scales", "0.01"):
        make_fields(SQUARE, 0.01)


def with_noise(forcing: Tensor, forecaster: torch.nn.Module, seed: int) -> Tensor:
    generators = len(forcing) * [torch.Generator().manual_seed(seed)]
    assert isinstance(forecaster.noise, NoiseFields)
    return append_noise(forecaster.noise, forcing[:, None], generators)[:, 0]


@pytest.mark.parametrize("double_skip", [True, False])
def test_fresh_weights_give_the_forecast_of_a_model_without_noise(double_skip: bool) -> None:
    network = AFNONetConfig(
        patch_size=(2, 2),
        embed_dim=8,
        depth=2,
        num_blocks=2,
        pole="double_fourier_sphere",
        vector_channels=4,
        double_skip=double_skip,
    )
    plain, noisy = (
        make_forecaster(GLOBE, network=network, noise=n) for n in (NoiseConfig(), NOISE)
    )
    state, forcing = make_states(plain, 3, 1), torch.zeros(3, 1, *GLOBE.shape)
    expected = plain(state, forcing)
    assert torch.equal(noisy(state, with_noise(forcing, noisy, 0)), expected)
    noisy(state, with_noise(forcing, noisy, 0)).square().mean().backward()
    gradients = {n: p.grad for n, p in noisy.named_parameters() if "modulation" in n}
    assert len(gradients) == 2
    assert all(g is not None and g.abs().max() > 0 for g in gradients.values())
    with torch.no_grad():
        for name, parameter in noisy.named_parameters():
            if "modulation" in name:
                parameter.normal_()
    first, second = (noisy(state, with_noise(forcing, noisy, seed)) for seed in (0, 1))
    assert (first - second).abs().mean() > 0.1
    noisy.zero_grad()
    first.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in noisy.parameters())


def test_a_deterministic_checkpoint_is_the_start_of_a_model_with_noise(tmp_path: Path) -> None:
    plain, noisy = make_forecaster(GLOBE), make_forecaster(GLOBE, noise=NOISE)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.01)
    save_checkpoint(tmp_path / "a.safetensors", plain, {}, {})
    match = start_from(noisy, tmp_path / "a.safetensors")
    assert match.unexpected == match.different == ()
    assert {name.split(".")[-2] for name in match.missing} == {"modulation", "projection"}
    state, forcing = make_states(plain, 2, 1), torch.zeros(2, 1, *GLOBE.shape)
    assert torch.equal(noisy(state, with_noise(forcing, noisy, 0)), plain(state, forcing))


def test_a_checkpoint_keeps_its_noise(tmp_path: Path) -> None:
    noisy = make_forecaster(GLOBE, noise=NOISE)
    save_checkpoint(tmp_path / "a.safetensors", noisy, {}, {})
    loaded = load_forecaster(tmp_path / "a.safetensors")
    assert loaded.config.noise == NOISE
    state, forcing = make_states(noisy, 1, 1), torch.zeros(1, 1, *GLOBE.shape)
    forcing = with_noise(forcing, noisy, 3)
    assert torch.equal(loaded(state, forcing), noisy.eval()(state, forcing))
    with pytest.raises(ValueError, match="4 fields of noise"):
        loaded(state, forcing[:, :1])


def test_unused_noise_is_no_setting() -> None:
    assert "noise" not in ModelConfig().to_json()
    assert ModelConfig(noise=NOISE).to_json()["noise"]["length_scales"] == [4000.0, 9000.0]
    with pytest.raises(ValueError, match="at most 32"):
        NoiseConfig(length_scales=[1.0] * 33)
