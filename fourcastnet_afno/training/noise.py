"""Noise on the history of training windows, as a pure function of seed and window."""

import numpy as np
import torch
from torch import Tensor

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows


def derive_seed(*numbers: int) -> int:
    """A seed that depends on all ``numbers``, each of at most 64 bits."""
    words = [word for number in numbers for word in divmod(number % 2**64, 2**32)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def with_noise(sample: Sample, scale: Tensor, seed: int, rows: Rows = ALL_ROWS) -> Sample:
    """A sample with Gaussian noise on its history, which depends on seed and window alone.

    Args:
        sample: Physical states.
        scale: Standard deviation by channel, shape (channel, 1, 1).
        seed: Of this step.
        rows: The rows that the states have.
    """
    device, states = sample.state.device, []
    for state, time in zip(sample.state, sample.time.tolist(), strict=True):
        generator = torch.Generator(device).manual_seed(derive_seed(seed, time))
        noise = torch.randn(rows.full_shape(state.shape), generator=generator, device=device)
        states.append(state + scale * noise[..., rows.field_slice, :])
    return sample._replace(state=torch.stack(states))
