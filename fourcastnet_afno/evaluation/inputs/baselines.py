"""The linear baseline; the others are ``PersistenceFields`` and ``ValidTimeFields``.

``BaselineFields`` are the fields of all of them, for those who show what was scored.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.files.progress import track
from data_pipeline.grids.grid import Grid
from data_pipeline.timestep import lead_coordinate, lead_label
from data_pipeline.timestep import valid_times as valid_times_in
from fourcastnet_afno.evaluation.inputs.climatologies import FieldsByTime
from fourcastnet_afno.evaluation.inputs.companions import AlignedYears
from fourcastnet_afno.evaluation.inputs.fields import FieldSource
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes, where_dated

_MAX_SAMPLES = 2000
_SAMPLE_BYTES = 512 * 2**20
_BLOCK_BYTES = 64 * 2**20  # of the fields of a few lead times


def by_valid_time(select: Callable[[np.ndarray], xr.Dataset], times: ValidTimes) -> xr.Dataset:
    """Fields by initial time and lead time of a function of unique, increasing times."""
    valid = xr.DataArray(
        times.table,
        dims=("init_time", "lead_time"),
        coords={"init_time": times.init_times, "lead_time": lead_coordinate(times.lead_times)},
    )
    laid_out = select(times.unique).sel(time=valid).drop_vars("time")
    return laid_out.transpose("init_time", "lead_time", ...)


@dataclass(frozen=True, kw_only=True)
class BaselineFields:
    """Fields of baselines, on one grid.

    Args:
        sources: By name.
        channels: What they have.
        grid: Of all fields.
        valid_times: Of ``sources``; NaT for pairs of initial and lead time that have no field.
    """

    sources: Mapping[str, FieldSource]
    channels: Channels
    grid: Grid
    valid_times: ValidTimes

    def blocks(
        self,
        name: str,
        channel: Channel,
        init_time: np.datetime64,
        lead_times: np.ndarray,
        *,
        max_bytes: int = _BLOCK_BYTES,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of some lead times, which increase, and fields (lead_time, row, column) there.

        Lead times without a field are left out. A block is one field or below ``max_bytes``.
        """
        own, source = self.valid_times.lead_times, self.sources[name]
        inits = np.flatnonzero(self.valid_times.init_times == init_time)
        if channel.label not in self.channels.labels or not len(inits):
            return
        valid = self.valid_times.table[inits[0]]
        positions = np.flatnonzero(np.isin(lead_times, own[~np.isnat(valid)]))
        leads = np.searchsorted(own, lead_times[positions])
        length = max(1, max_bytes // (8 * self.grid.shape[0] * self.grid.shape[1]))
        for block in np.unique(leads // length):
            chosen = leads // length == block
            few = leads[chosen]
            if source.at is not None:
                fields = source.at(channel, valid[few])
            else:
                between = slice(int(few[0]), int(few[-1]) + 1)
                (read,) = source.read(channel, self.valid_times.init_times[inits], between)
                fields = read[0, few - few[0], 0]
            yield positions[chosen], fields


@dataclass(kw_only=True)
class LinearFields:
    """Ridge regression of later on present principal components of the anomalies.

    With standardized anomalies z of all channels (each channel by its own standard deviation, cells
    by the roots of their areas), E holds the k leading principal components of the training years,
    p = E z. For every lead time t the map A_t minimizes

        sum |p(s + t) - A_t p(s)|^2 + alpha |A_t|^2,

    with alpha chosen from powers of ten by the error on the last fifth of the training samples. The
    forecast is the climatology plus the anomaly of A_t p.

    References:
        Penland and Sardeshmukh, 1995, https://doi.org/10.1175/1520-0442(1995)008<1999:TOGOTS>2.0.CO;2
        (linear inverse models, here fitted for each lead time).
    """

    components: np.ndarray  # E, (component, channel, latitude, longitude)
    scales: np.ndarray  # standard deviation over the root of the area weight, by channel and cell
    maps: np.ndarray  # A_t, (lead_time, component, component)
    channels: Channels
    climatology: FieldsByTime  # of the training years
    valid_times: ValidTimes
    truth: TruthFields  # initial states
    num_members: int = 1
    at: FieldsByTime | None = None
    _known: dict[bytes, np.ndarray] = field(default_factory=dict, init=False)

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``; NaN where truth has no state at the initial time."""
        index = self.channels.labels.index(channel.label)
        table = self.valid_times.at(inits, leads)
        for valid, start in zip(table, self._coefficients(inits), strict=True):
            later = self.maps[leads] @ start
            anomaly = np.tensordot(later, self.components[:, index], axes=1) * self.scales[index]

            def mean(times: np.ndarray) -> np.ndarray:
                return self.climatology(channel, times)

            yield (where_dated(mean, valid, anomaly.shape[1:]) + anomaly)[None, :, None]

    @property
    def lead_times(self) -> np.ndarray:
        """Lead times of the maps."""
        return self.valid_times.lead_times

    def _coefficients(self, inits: np.ndarray) -> np.ndarray:
        """Principal components (init_time, component) of the initial states."""
        key = inits.tobytes()
        if key not in self._known:
            known = np.isin(inits, self.truth.times)
            p = np.full((len(inits), len(self.components)), np.nan)
            if known.any():
                total = 0.0
                for index, channel in enumerate(self.channels):
                    fields = self.truth.at(channel, inits[known])
                    anomalies = fields - self.climatology(channel, inits[known])
                    z = np.nan_to_num(anomalies / self.scales[index])
                    components = self.components[:, index]
                    total = total + np.tensordot(z, components, axes=([1, 2], [1, 2]))
                p[known] = total
            self._known[key] = p
        return self._known[key]


def fit_linear(
    series: AlignedYears,
    truth: TruthFields,
    channels: Channels,
    grid: Grid,
    climatology: FieldsByTime,
    valid_times: ValidTimes,
    num_components: int,
) -> LinearFields:
    """Fit the linear model to a series of training years, to forecast from states of truth.

    Fewer components are used where the sample does not have as many. A missing value has the
    anomaly 0.

    Raises:
        InputError: If the series has no two states that are a lead time apart.
    """
    state_bytes = 4 * len(channels) * grid.shape[0] * grid.shape[1]
    times = series.times[-max(2, min(_MAX_SAMPLES, _SAMPLE_BYTES // state_bytes)) :]
    roots = np.sqrt(grid.area_weights())
    data = np.empty((len(times), len(channels), *grid.shape), np.float32)
    scales = np.empty((len(channels), *grid.shape))
    for index, channel in enumerate(track(list(channels), "Fitting the linear baseline")):
        anomalies = series.at(channel, times) - climatology(channel, times)
        known = grid.area_weights() * np.isfinite(anomalies)
        squares = known * np.nan_to_num(anomalies) ** 2
        deviation = np.sqrt(squares.sum() / max(known.sum(), 1e-6)) or 1.0
        scales[index] = deviation / np.maximum(roots, 1e-6)
        data[:, index] = np.nan_to_num(anomalies / scales[index])
    flat = data.reshape(len(times), -1)
    basis = _principal_components(flat, min(num_components, len(times) // 2))
    p = (flat @ basis.T).astype(np.float64)
    components = basis.reshape(len(basis), len(channels), *grid.shape).astype(np.float64)
    maps = np.stack([_ridge(p, times, lead, series.calendar) for lead in valid_times.lead_times])
    return LinearFields(
        components=components,
        scales=scales,
        maps=maps,
        channels=channels,
        climatology=climatology,
        valid_times=valid_times,
        truth=truth,
    )


def _principal_components(flat: np.ndarray, count: int) -> np.ndarray:
    """Leading right singular vectors (component, value), by the smaller Gram matrix."""
    rows, columns = flat.shape
    if columns <= rows:
        _, vectors = np.linalg.eigh((flat.T @ flat).astype(np.float64))
        return np.ascontiguousarray(vectors[:, ::-1][:, :count].T)
    values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    nonzero = values > 1e-10 * values[0]
    return (vectors[:, nonzero].T @ flat.astype(np.float64)) / np.sqrt(values[nonzero])[:, None]


def _ridge(p: np.ndarray, times: np.ndarray, lead: np.timedelta64, calendar: str) -> np.ndarray:
    """The map of one lead time."""
    later_times = valid_times_in(times, np.array([lead]), calendar, times)[:, 0]
    later = np.searchsorted(times, later_times)
    valid = later < len(times)
    valid[valid] = times[later[valid]] == later_times[valid]
    if valid.sum() < 10:
        raise InputError(
            f"the training years have {int(valid.sum())} pairs of states {lead_label(lead)} apart, "
            "the baseline linear needs 10; leave it out of evaluation.baselines, or give more data",
            code="short-period",
        )
    x, y = p[valid], p[later[valid]]
    cut = max(1, int(0.8 * len(x)))
    scale = np.trace(x.T @ x) / x.shape[1]
    alphas = scale * 10.0 ** np.arange(-6, 3)

    def solve(x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
        return np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)

    errors = [((y[cut:] - x[cut:] @ solve(x[:cut], y[:cut], a)) ** 2).sum() for a in alphas]
    return solve(x, y, float(alphas[int(np.argmin(errors))])).T
