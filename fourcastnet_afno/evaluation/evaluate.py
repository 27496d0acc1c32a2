"""Evaluation: forecasts against truth, by lead time and channel, chunk by chunk."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_pipeline.atomic import replacing
from data_pipeline.channels import Channels
from data_pipeline.climatology import climatology_at
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from data_pipeline.progress import track
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.baselines import at_valid_times
from fourcastnet_afno.evaluation.metrics import field_statistics, metrics, zonal_energy_spectrum

_CHUNK_BYTES = 32 * 2**20
CONVENTIONS = {
    "rmse": "square root of the area-weighted mean square error, averaged over initial times "
    "before the root (WeatherBench 2)",
    "acc": "area-weighted correlation of anomalies from the climatology at the valid time, "
    "averaged over initial times (WeatherBench 2); 0 for the climatology itself",
    "bias": "area-weighted mean of forecast minus truth, averaged over initial times",
    "area_weights": "exact cell areas (difference of the sine of the latitude bounds), mean 1",
}


def evaluate(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, coefficients: xr.Dataset
) -> xr.Dataset:
    """Score forecasts of the same initial and lead times.

    Args:
        forecasts: By name; each has the dimensions init_time, lead_time, [level], latitude,
            longitude, and a subset of truth's variables.
        truth: Canonical dataset with every valid time.
        coefficients: Climatology of the training period, see ``data_pipeline.climatology``.

    Returns:
        ``rmse``, ``acc`` and ``bias`` (forecast, lead_time, channel) in the channel's units, and on
        grids that close a circle ``spectrum`` (source, lead_time, channel, zonal_wavenumber), where
        the source is a forecast or ``truth``. Attributes state the conventions.

    Raises:
        InputError: If truth lacks valid times or a forecast has values that are not finite.
    """
    first = next(iter(forecasts.values()))
    inits, leads = first["init_time"].values, first["lead_time"].values
    _check_valid_times(inits, leads, truth)
    grid = LatLonGrid.from_dataset(truth)
    # A zarr store lists its variables alphabetically: the order is truth's.
    names = [str(name) for name in truth.data_vars if name in first]
    channels = Channels.from_dataset(first, names)
    states: dict[str, AggregationState] = {}
    size = 4 * len(leads) * len(channels) * int(np.prod(grid.shape))
    length = max(1, _CHUNK_BYTES // size)
    for start in track(range(0, len(inits), length), "Evaluating"):
        chunk = inits[start : start + length]
        picked = {
            name: f.isel(init_time=slice(start, start + length)) for name, f in forecasts.items()
        }
        for name, state in _chunk_states(
            picked, chunk, truth, coefficients, channels, grid
        ).items():
            states[name] = states[name] + state if name in states else state
    return _scores(states, channels, grid, inits, leads)


def _check_valid_times(inits: np.ndarray, leads: np.ndarray, truth: xr.Dataset) -> None:
    valid = np.unique(inits[:, None] + leads[None, :])
    missing = valid[~np.isin(valid, truth["time"].values)]
    if len(missing):
        raise InputError(
            f"the truth lacks {len(missing)} of {len(valid)} valid times, the first {missing[0]}; "
            "give truth up to the end of the last forecast, or fewer initial times"
        )


def _chunk_states(
    forecasts: Mapping[str, xr.Dataset],
    inits: np.ndarray,
    truth: xr.Dataset,
    coefficients: xr.Dataset,
    channels: Channels,
    grid: LatLonGrid,
) -> dict[str, AggregationState]:
    leads = next(iter(forecasts.values()))["lead_time"].values
    weights = grid.area_weights()

    def values(dataset: xr.Dataset) -> np.ndarray:
        return channels.stack(dataset).values.astype(np.float64)

    targets = values(at_valid_times(lambda times: truth.sel(time=times), inits, leads))
    climatology = values(
        at_valid_times(lambda times: climatology_at(coefficients, times), inits, leads)
    )
    states = {}
    if grid.is_periodic:
        states["truth"] = AggregationState.of({"spectrum": zonal_energy_spectrum(targets, weights)})
    for name, forecast in forecasts.items():
        predictions = values(forecast)
        _check_finite(predictions, name, channels, inits, leads)
        statistics = field_statistics(predictions, targets, climatology, weights)
        if grid.is_periodic:
            statistics["spectrum"] = zonal_energy_spectrum(predictions, weights)
        states[name] = AggregationState.of(statistics)
    return states


def _check_finite(
    values: np.ndarray, name: str, channels: Channels, inits: np.ndarray, leads: np.ndarray
) -> None:
    finite = np.isfinite(values).all(axis=(-2, -1))
    if finite.all():
        return
    init, lead, channel = np.argwhere(~finite)[0]
    hours = leads[lead] / np.timedelta64(1, "h")
    raise InputError(
        f"the forecast {name} is not finite in {channels.labels[channel]}, first at init_time "
        f"{inits[init]} and lead_time {hours:g} h; the rollout blew up: train with more rollout "
        "steps, or score fewer lead times"
    )


def _scores(
    states: Mapping[str, AggregationState],
    channels: Channels,
    grid: LatLonGrid,
    inits: np.ndarray,
    leads: np.ndarray,
) -> xr.Dataset:
    names = [name for name in states if name != "truth"]
    means = {name: state.means() for name, state in states.items()}
    results = {name: metrics(means[name]) for name in names}
    dims = ("forecast", "lead_time", "channel")
    data: dict[str, Any] = {
        metric: (dims, np.stack([results[name][metric] for name in names]))
        for metric in ("rmse", "acc", "bias")
    }
    coords: dict[str, Any] = {
        "forecast": names,
        "lead_time": leads,
        "channel": channels.labels,
        "units": ("channel", [channel.units for channel in channels]),
    }
    if grid.is_periodic:
        coords["source"] = list(states)
        spectra = np.stack([means[name]["spectrum"] for name in states])
        data["spectrum"] = (("source", "lead_time", "channel", "zonal_wavenumber"), spectra)
    attrs = {
        **CONVENTIONS,
        "num_init_times": len(inits),
        "first_init_time": str(inits[0]),
        "last_init_time": str(inits[-1]),
    }
    return xr.Dataset(data, coords=coords, attrs=attrs)


def lead_hours(scores: xr.Dataset) -> np.ndarray:
    """Lead times in whole hours."""
    return (scores["lead_time"].values / np.timedelta64(1, "h")).round().astype(int)


def scores_to_json(scores: xr.Dataset) -> dict[str, Any]:
    """Plain values: forecasts -> forecast -> metric -> channel -> lead hours -> value."""
    hours = [str(hour) for hour in lead_hours(scores)]
    channels = scores["channel"].values.tolist()

    def by_channel(metric: str, name: str) -> dict[str, dict[str, float]]:
        values = scores[metric].sel(forecast=name).transpose("channel", "lead_time").values
        rows = [dict(zip(hours, row, strict=True)) for row in values.tolist()]
        return dict(zip(channels, rows, strict=True))

    forecasts = {
        name: {metric: by_channel(metric, name) for metric in ("rmse", "acc", "bias")}
        for name in scores["forecast"].values.tolist()
    }
    units = dict(zip(channels, scores["units"].values.tolist(), strict=True))
    return {"forecasts": forecasts, "conventions": dict(scores.attrs), "units": units}


def write_scores(scores: xr.Dataset, json_path: Path, netcdf_path: Path) -> None:
    """Write the scores as JSON and as NetCDF."""
    with replacing(json_path) as temporary:
        temporary.write_text(json.dumps(scores_to_json(scores), indent=1))
    with replacing(netcdf_path) as temporary:
        scores.to_netcdf(temporary, engine="netcdf4")


def selected_leads(scores: xr.Dataset) -> list[int]:
    """Indices of the first lead time and of 1, 2, 3, 5, 7 and 10 days where they exist."""
    hours = lead_hours(scores).tolist()
    wanted = {hours[0], *(24 * day for day in (1, 2, 3, 5, 7, 10))}
    return [index for index, hour in enumerate(hours) if hour in wanted]


def format_score(metric: str, value: float) -> str:
    """A score with three significant digits, as people read it."""
    if metric == "acc":
        return f"{value:.3f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def scores_table(scores: xr.Dataset) -> Group:
    """RMSE and ACC at selected lead times, a table for each channel, the best in bold."""
    tables = [_channel_table(scores.sel(channel=name)) for name in scores["channel"].values]
    return Group(*tables)


def _power_of_ten(values: np.ndarray) -> int:
    """A common factor of small values, as those of vorticity in 1/s; 0 for others."""
    largest = np.nanmax(np.abs(values), initial=0.0)
    return math.floor(math.log10(largest)) if 0 < largest < 1e-2 else 0


def _channel_table(scores: xr.Dataset) -> Table:
    indices, hours = selected_leads(scores), lead_hours(scores)
    title = f"{scores['channel'].item()} over {scores.attrs['num_init_times']} initial times"
    table = Table("score", title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("forecast", no_wrap=True)
    for index in indices:
        table.add_column(f"{hours[index]} h", justify="right", no_wrap=True)
    power = _power_of_ten(scores["rmse"].values[..., indices])
    unit = f"{f'1e{power} ' if power else ''}{scores['units'].item()}"
    for metric, label in (("rmse", f"RMSE [{unit}]"), ("acc", "ACC")):
        values = scores[metric].transpose("forecast", "lead_time").values[:, indices]
        values = values / 10.0**power if metric == "rmse" else values
        best = values.min(axis=0) if metric == "rmse" else values.max(axis=0)
        for row, name in enumerate(scores["forecast"].values):
            cells = [
                Text(format_score(metric, v), "bold" if v == b else "")
                for v, b in zip(values[row], best, strict=True)
            ]
            table.add_row(label if row == 0 else "", name, *cells)
        table.add_section()
    return table
