import torch

from fourcastnet_afno.forecaster.normalization import Normalizer


def test_normalizer_round_trip_and_moments() -> None:
    mean, std = torch.tensor([5e4, 280.0]), torch.tensor([1e3, 10.0])
    normalizer = Normalizer(mean, std)
    noise = torch.randn(3, 2, 6, 12, generator=torch.Generator().manual_seed(0))
    fields = mean[:, None, None] + std[:, None, None] * noise
    torch.testing.assert_close(normalizer.normalize(fields), noise, atol=1e-4, rtol=0)
    torch.testing.assert_close(normalizer.denormalize(noise), fields)
    assert set(normalizer.state_dict()) == {"mean", "std"}
