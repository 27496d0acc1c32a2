"""Laws of regridding, and of forecasters on other grids than their own."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.forecaster.interpolation import Regridder
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from tests.builders.errors import rejects

TRAINED_ON = LatLonGrid.equiangular(32, 64)
OTHERS = [
    LatLonGrid.equiangular(64, 128),
    LatLonGrid.equiangular(61, 120),
    LatLonGrid.equiangular(128, 256),
    LatLonGrid.equiangular(33, 65, poles=True),
    LatLonGrid.equiangular(20, 40),
]
CHANNELS = Channels(
    (
        Channel(name="temperature"),
        Channel(name="u_component_of_wind"),
        Channel(name="v_component_of_wind"),
    )
)


def sample(grid: LatLonGrid, seed: int, east: float = 0.0) -> Tensor:
    """Smooth temperature and wind, rotated eastward by ``east`` radians: (channel, lat, lon)."""
    rng = np.random.default_rng(seed)
    latitude, longitude = (np.deg2rad(grid.coords[axis]) for axis in grid.dims)
    latitude, longitude = latitude[:, None], longitude[None, :] - east
    x, y, z = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), 0
    z = z + np.sin(latitude) + 0 * longitude
    temperature = np.zeros_like(x)
    for axis in rng.standard_normal((5, 3)):
        cosine = (axis[0] * x + axis[1] * y + axis[2] * z) / np.linalg.norm(axis)
        temperature += rng.standard_normal() * (5 * cosine**3 - 3 * cosine) / 2
    a, b, c = rng.standard_normal(3)  # the axis of a solid rotation
    u = c * np.cos(latitude) - np.sin(latitude) * (a * np.cos(longitude) + b * np.sin(longitude))
    v = a * np.sin(longitude) - b * np.cos(longitude) + 0 * latitude
    return torch.from_numpy(np.stack([temperature, u, v])).float()


@pytest.mark.parametrize("target", OTHERS, ids=str)
@pytest.mark.parametrize("source", [TRAINED_ON, OTHERS[1], OTHERS[3]], ids=str)
def test_smooth_fields_are_interpolated_exactly(source: LatLonGrid, target: LatLonGrid) -> None:
    regridded = Regridder(source, target, CHANNELS)(sample(source, 0))
    torch.testing.assert_close(regridded, sample(target, 0), rtol=0, atol=1e-5)


def test_wind_across_the_pole_needs_its_sign() -> None:
    scalars = Channels(tuple(Channel(name=name) for name in ("a", "b", "c")))
    wrong = Regridder(TRAINED_ON, OTHERS[1], scalars)(sample(TRAINED_ON, 0))
    assert (wrong - sample(OTHERS[1], 0))[1:].abs().max() > 1e-2


REGION = LatLonGrid(latitude=(60.0, 50.0, 45.0, 30.0), longitude=(0.0, 10.0, 20.0, 40.0))


def test_regions_are_interpolated_linearly() -> None:
    target = LatLonGrid(latitude=(55.0, 31.0), longitude=(5.0, 10.0, 33.0))
    plane = [
        np.add.outer(2 * grid.coords["latitude"], 3 * grid.coords["longitude"])
        for grid in (REGION, target)
    ]
    given, wanted = (torch.from_numpy(p).float().expand(3, *p.shape) for p in plane)
    torch.testing.assert_close(Regridder(REGION, target, CHANNELS)(given), wanted)
    from_globe = Regridder(TRAINED_ON, target, CHANNELS)(sample(TRAINED_ON, 0))
    torch.testing.assert_close(from_globe, sample(target, 0), rtol=0, atol=1e-5)


def test_what_a_region_does_not_cover_is_refused() -> None:
    with rejects("grid-mismatch", "latitude", "30..60"):
        Regridder(REGION, TRAINED_ON, CHANNELS)


@pytest.fixture(scope="module")
def trained() -> Forecaster:
    """Learns that everything turns eastward by a tenth of a radian."""
    torch.manual_seed(0)
    network = AFNONetConfig(
        patch_size=(4, 4), embed_dim=32, depth=2, num_blocks=4, pole="double_fourier_sphere"
    )
    spec = FieldSpec(
        channels=CHANNELS,
        static_channels=Channels(()),
        forcings=(),
        grid=TRAINED_ON,
        step=Timestep.parse("6h"),
    )
    ones = torch.ones(3)
    static = torch.zeros(0, *TRAINED_ON.shape)
    forecaster = Forecaster(
        ModelConfig(network=network),
        spec,
        mean=0 * ones,
        std=ones,
        diff_std=0.1 * ones,
        static=static,
    )
    optimizer = torch.optim.Adam(forecaster.parameters(), lr=3e-3)
    for step in range(60):
        seeds = range(8 * step, 8 * step + 8)
        now, later = (torch.stack([sample(TRAINED_ON, s, e) for s in seeds]) for e in (0.0, 0.1))
        error = (forecaster(now[:, None], no_forcing(8)) - later).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.2 * (now - later).square().mean()
    return forecaster.eval()


def no_forcing(batch: int) -> Tensor:
    return torch.zeros(batch, 0, *TRAINED_ON.shape)


@torch.no_grad()
@pytest.mark.parametrize("grid", OTHERS[:4], ids=str)
def test_a_trained_forecaster_predicts_the_same_on_other_grids(
    trained: Forecaster, grid: LatLonGrid
) -> None:
    """Measured: at most 1e-6 of the change; with patches of as many cells as in training, 0.4."""
    state, fine = sample(TRAINED_ON, 10_000), sample(grid, 10_000)
    change = trained(state[None, None], no_forcing(1))[0] - state
    expected = Regridder(TRAINED_ON, grid, CHANNELS)(change)
    actual = trained.on_grid(grid)(fine[None, None], no_forcing(1))[0] - fine
    assert torch.linalg.norm(actual - expected) < 2e-5 * torch.linalg.norm(expected)
    if grid.shape[0] % 4 == 0:
        coordinates = torch.from_numpy(grid.coordinate_channels()).float()
        naive = 0.1 * trained.network(torch.cat([fine, coordinates])[None])[0]
        assert torch.linalg.norm(naive - expected) > 0.1 * torch.linalg.norm(expected)


@torch.no_grad()
def test_the_own_grid_changes_nothing(trained: Forecaster) -> None:
    state = sample(TRAINED_ON, 1)[None, None]
    same = trained.on_grid(TRAINED_ON)
    assert torch.equal(same(state, no_forcing(1)), trained(state, no_forcing(1)))
    assert set(trained.on_grid(OTHERS[0]).state_dict()) == set(trained.state_dict())


def test_networks_that_know_poles_need_whole_patches_between_them(trained: Forecaster) -> None:
    fields = {"mean": torch.zeros(3), "std": torch.ones(3), "diff_std": torch.ones(3)}
    for grid in (LatLonGrid.equiangular(30, 64), LatLonGrid.equiangular(32, 64, poles=True)):
        spec = FieldSpec(**{**trained.spec.__dict__, "grid": grid})
        with rejects("boundary-mismatch", "model.network.pole"):
            Forecaster(trained.config, spec, static=torch.zeros(0, *grid.shape), **fields)


def plane_wave(shape: tuple[int, int], seed: int) -> Tensor:
    """A smooth periodic field of wavenumbers up to 2: (1, 1, rows, columns)."""
    generator = torch.Generator().manual_seed(seed)
    y, x = (2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in shape)
    field = torch.zeros(shape, dtype=torch.float64)
    for k in range(-2, 3):
        for m in range(3):
            size, phase = torch.randn(2, generator=generator, dtype=torch.float64)
            field += size * torch.cos(k * y[:, None] + m * x[None, :] + 3 * phase)
    return 0.2 * field.float()[None, None]


def train_on_points(**options: object) -> AFNONet:
    """Learns to shift smooth fields on a plane, with patches of one cell: tokens are points."""
    torch.manual_seed(0)
    config = AFNONetConfig(
        patch_size=(1, 1),
        embed_dim=16,
        depth=2,
        num_blocks=4,
        **options,  # type: ignore[arg-type]
    )
    network = AFNONet(1, 1, config=config)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(40):
        field = torch.cat([plane_wave((32, 64), 2 * step + i) for i in range(2)])
        target = field.roll((2, 4), dims=(2, 3))
        error = (network(field) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.5 * target.square().mean()
    return network


@torch.no_grad()
def disagreement(network: AFNONet, shape: tuple[int, int]) -> float:
    """Relative difference of the outputs' wavenumbers up to 8 on two grids."""
    low = slice(0, 9), slice(0, 9)
    coarse, fine = (
        torch.fft.rfft2(network(plane_wave(grid, 1000)).double(), norm="forward")[0, 0][low]
        for grid in ((32, 64), shape)
    )
    return float(torch.linalg.norm(fine - coarse) / torch.linalg.norm(coarse))


def test_a_trained_network_of_points_is_the_same_operator_on_finer_grids() -> None:
    """Measured: at most 7e-7."""
    network = train_on_points(reference_grid=(32, 64))
    for shape in ((64, 128), (61, 120), (128, 256)):
        assert disagreement(network, shape) < 1e-5


def test_a_network_with_orthonormal_coefficients_and_bias_is_not() -> None:
    network = train_on_points(mode_selection="fourcastnet", initialization="small")
    for shape in ((64, 128), (61, 120), (128, 256)):
        assert disagreement(network, shape) > 1e-2
