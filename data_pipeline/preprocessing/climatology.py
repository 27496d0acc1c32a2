"""Climatology: the mean state as a smooth function of the day of the year, for each hour of day.

For every hour of day h, channel and grid point, the training years are fitted by least squares with

    c_h(t) = a_0 + sum_{n=1}^{N} a_n cos(2 pi n p(t)) + b_n sin(2 pi n p(t)),

where p(t) in 0..1 is the phase of the year. Two harmonics (N = 2) are a compact climatology that
needs no leap-day rule; they leave out what changes within a season. WeatherBench 2's window of 61
days, see ``window_climatology``, keeps more: .82 of the third harmonic and .42 of the sixth.

Hours of day are fractions where times are not at full hours. Monthly data has one fit for all its
times, with the hour ``ALL_HOURS``: the middles of months are at noon or midnight, which says
nothing about the day.
"""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.preprocessing.forcings import year_phase

ALL_HOURS = -1  # in place of an hour of day, where all hours are fitted together


def harmonics(times: np.ndarray, num_harmonics: int) -> np.ndarray:
    """The functions 1, cos, sin, cos 2, sin 2, ... of the phase of the year, (time, 1 + 2 N)."""
    angle = 2 * np.pi * year_phase(times)[:, None] * np.arange(1, num_harmonics + 1)
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(len(times), -1)
    return np.concatenate([np.ones((len(times), 1)), waves], axis=1)


def hours_of_day(times: np.ndarray, *, together: bool = False) -> np.ndarray:
    """Hour of day (UTC) of datetime64 values: integers, or floats where some are at no full hour.

    ``together`` gives ``ALL_HOURS`` for each.
    """
    if together:
        return np.full(len(times), ALL_HOURS)
    seconds = (times.astype("datetime64[s]") - times.astype("datetime64[D]")).astype(np.int64)
    return seconds / 3600 if (seconds % 3600).any() else seconds // 3600


def fit_climatology(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], num_harmonics: int, *, together: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares fit in one pass, by the sums of the normal equations.

    ``blocks`` are pairs of times (datetime64) and values (time, channel, ...). The results are the
    hours of day that occur, and float64 coefficients (hour, 1 + 2 N, channel, ...); all hours are
    fitted ``together`` for monthly data.

    Raises:
        InputError: If the times do not determine the coefficients.
    """
    matrices, sums = {}, {}
    for times, values in blocks:
        of_day = hours_of_day(times, together=together)
        for hour in np.unique(of_day).tolist():
            basis = harmonics(times[of_day == hour], num_harmonics)
            chosen = values[of_day == hour].astype(np.float64)
            matrices[hour] = matrices.get(hour, 0) + basis.T @ basis
            # Channel by channel, so that the other channels of a group change no bit.
            projected = [np.tensordot(basis, v, axes=(0, 0)) for v in chosen.swapaxes(0, 1)]
            sums[hour] = sums.get(hour, 0) + np.stack(projected, axis=1)
    hours = sorted(matrices)
    if any(np.linalg.cond(matrices[hour]) > 1e6 for hour in hours):
        raise InputError(
            f"the training period covers too little of the year to fit {num_harmonics} harmonics; "
            "lower data.climatology_harmonics (0 fits a constant) or lengthen data.train",
            code="short-period",
        )
    solved = [np.tensordot(np.linalg.inv(matrices[h]), sums[h], axes=(1, 0)) for h in hours]
    return np.array(hours), np.stack(solved)


def fields_at(coefficients: np.ndarray, hours: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Climatology (time, ...) of one variable by coefficients (hour, harmonic, ...), float32.

    Raises:
        InputError: If an hour of day did not occur in the training period.
    """
    of_day = hours_of_day(times, together=hours.tolist() == [ALL_HOURS])
    missing = sorted(set(of_day.tolist()) - set(hours.tolist()))
    if missing:
        raise InputError(
            f"the climatology has the hours of day {hours.tolist()}, requested are {missing}; "
            "choose times at the hours of the training period",
            code="hours-mismatch",
        )
    basis = harmonics(times, coefficients.shape[1] // 2)
    fields = np.empty((len(times), *coefficients.shape[2:]), np.float32)
    for hour, of_hour in zip(hours.tolist(), coefficients, strict=True):
        chosen = of_day == hour
        fields[chosen] = np.tensordot(basis[chosen], of_hour, axes=(1, 0))
    return fields


def climatology_at(coefficients: xr.Dataset, times: np.ndarray) -> xr.Dataset:
    """The climatological state at given times in any order, see ``fields_at``.

    ``coefficients`` has variables (hour, harmonic, [level], latitude, longitude), the result has
    variables (time, [level], latitude, longitude) with their units.
    """
    hours, data = coefficients["hour"].values, {}
    for name, variable in coefficients.data_vars.items():
        values = fields_at(variable.values, hours, times)
        data[name] = (("time", *variable.dims[2:]), values, variable.attrs)
    coords = {k: v for k, v in coefficients.coords.items() if k not in ("hour", "harmonic")}
    return xr.Dataset(data, coords={"time": times, **coords})
