"""Significance: is one forecast better than another, or can the sample not tell?

Initial times are resampled with replacement in blocks, because neighbors are alike. All forecasts
are resampled together, so that differences are paired: what makes a week hard for one makes it hard
for the other. The blocks are circular and as long as

    l = ceil( (2 r / (1 - r^2))^(2/3) n^(1/3) ),

with the lag-one autocorrelation r of the differences of the n squared errors (0 where negative).
Intervals are percentiles of the resampled scores.

References:
    Kuensch, 1989, https://doi.org/10.1214/aos/1176347265; Politis and Romano, 1992 (circular block
    bootstrap). Carlstein, 1986, https://doi.org/10.1214/aos/1176350057 (block length).
    Hamill, 1999, https://doi.org/10.1175/1520-0434(1999)014<0155:HTFENP>2.0.CO;2 (paired
    resampling).
"""

import math

import numpy as np

_MIN_INIT_TIMES = 8


def block_length(differences: np.ndarray) -> int:
    """Length of the blocks from the autocorrelation of differences (init_time, series).

    The median over the series counts; NaN where missing.
    """
    count = len(differences)
    if count < _MIN_INIT_TIMES:
        return 1
    centered = np.nan_to_num(differences - np.nanmean(differences, axis=0))
    variance = (centered**2).sum(axis=0)
    lagged = (centered[1:] * centered[:-1]).sum(axis=0)
    varies = variance > 0
    if not varies.any():
        return 1
    r = float(np.clip(np.median(lagged[varies] / variance[varies]), 0, 0.99))
    length = math.ceil((2 * r / (1 - r**2)) ** (2 / 3) * count ** (1 / 3))
    return int(np.clip(length, 1, max(1, count // 4)))


def resample_counts(
    num_init_times: int, num_resamples: int, length: int, generator: np.random.Generator
) -> np.ndarray:
    """How often each initial time is in each resample, float64 (num_resamples, num_init_times)."""
    num_blocks = -(-num_init_times // length)
    starts = generator.integers(0, num_init_times, (num_resamples, num_blocks))
    chosen = (starts[:, :, None] + np.arange(length)) % num_init_times
    chosen = chosen.reshape(num_resamples, -1)[:, :num_init_times]
    counts = np.zeros((num_resamples, num_init_times))
    rows = np.repeat(np.arange(num_resamples), num_init_times)
    np.add.at(counts, (rows, chosen.ravel()), 1.0)
    return counts


def interval(resampled: np.ndarray, confidence: float) -> np.ndarray:
    """Percentile interval (2, ...) of resampled scores (resample, ...)."""
    tail = (1 - confidence) / 2
    return np.quantile(resampled, [tail, 1 - tail], axis=0)


def verdicts(differences: np.ndarray) -> np.ndarray:
    """-1 better, 1 worse, 0 not distinguishable, from intervals (2, ...) of the added loss."""
    lower, upper = differences
    return np.where(upper < 0, -1, np.where(lower > 0, 1, 0)).astype(np.int8)


def enough(num_init_times: int) -> bool:
    """Whether there are enough initial times to speak of intervals."""
    return num_init_times >= _MIN_INIT_TIMES
