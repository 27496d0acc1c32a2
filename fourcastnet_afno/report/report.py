"""The report: one HTML file that holds its pictures and opens without network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from data_pipeline.channels import Channels
from data_pipeline.files.atomic import make_folder, replacing
from data_pipeline.files.outputs import check_outputs
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import grid_of
from data_pipeline.precision import at_least_single
from data_pipeline.timestep import recorded_time, time_label
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields, by_valid_time
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast
from fourcastnet_afno.evaluation.inputs.valid_times import valid_times_of
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.evaluation.scores.tables import curve_metrics
from fourcastnet_afno.report import ensembles, lines, maps, plots, rows
from fourcastnet_afno.report.explorer.fields import explore_forecasts
from fourcastnet_afno.report.explorer.page import explorer_data, policy, scripts, style
from fourcastnet_afno.report.outputs import MAKER, report_outputs

_HIDDEN_ATTRIBUTES = ("notes", "settings", "missing_values_in_all", "table_metrics")
_MAP_LEADS, _SPECTRUM_LEADS = 3, 4  # at most so many are drawn
_MOST_BYTES = 7_900_000  # of a page, which people send by mail
_MINUTES = 16  # letters of a time without its seconds
_EXCEEDED = 0.9  # quantile of truth in maps of probabilities
_Kind = Literal["chart", "map"]


class Section(NamedTuple):
    """A section of the page, written by a file of the folder ``templates``; left out if empty."""

    title: str
    template: str
    content: Mapping[str, Any]


class Picture(NamedTuple):
    """A figure of the page and its data URI; on dark screens a chart is inverted, a map is not."""

    title: str
    source: str
    kind: _Kind


def write_report(
    path: Path,
    *,
    scores: xr.Dataset,
    truth: xr.Dataset,
    forecasts: Mapping[str, xr.Dataset],
    history: Sequence[Mapping[str, Any]] = (),
    config_text: str = "",
    facts: Mapping[str, str] | None = None,
    max_curves: int = 6,
    point: Sequence[float] = (),
    baselines: BaselineFields | None = None,
) -> Path:
    """Draw all figures and write the report next to them; return its path.

    The figures go to the folder ``figures`` next to ``path``, as PNG and PDF. Of several regions
    the first is drawn, of the forecasts the first is shown in maps, and ``max_curves`` channels get
    curves; tables have all. Where only scores were kept, there are no ``forecasts``. ``truth`` is a
    canonical dataset with the valid times, ``facts`` are further lines, such as the run time,
    ``point`` is ``EvaluationConfig.point``, and ``baselines`` have the fields that were scored,
    which the explorer shows next to the forecasts where they are on truth's grid.

    Raises:
        InputError: If something else has the name of the report or of a figure, or the point lies
            outside of the forecasts' grid.
    """
    check_outputs(report_outputs(path), {})
    explored_scores, explored = scores, explore_forecasts(truth, forecasts, baselines)
    scores = scores.isel(region=0) if "region" in scores.dims else scores
    folder = path.parent / "figures"
    make_folder(folder)
    bounded, losses = rows.stability(forecasts), []
    attributes = {k: v for k, v in scores.attrs.items() if k not in _HIDDEN_ATTRIBUTES}
    for name in ("first_init_time", "last_init_time"):
        if name in attributes:
            attributes[name] = recorded_time(
                str(attributes[name])[:_MINUTES], TrajectoryTimes.of(scores.attrs)
            )
    conventions = {
        "counts": rows.counts_table(scores),
        "pairs": attributes | dict(facts or {}),
        "configuration": config_text or str(scores.attrs.get("settings", "")),
    }
    if history:
        losses.append(_save(folder / "loss", "Loss by epoch", plots.plot_loss_curve(history)))
    shown = _shown_forecast(scores, truth, forecasts)
    sections = [
        Section("Scorecard", "scorecard.html.j2", _scorecards(scores, folder)),
        Section("Scores", "scores.html.j2", _scores(scores, folder, max_curves)),
        Section("Maps", "figures.html.j2", _maps(scores, shown, folder)),
        Section("Spectra", "figures.html.j2", _spectra(scores, folder)),
        Section("Ensemble forecast", "figures.html.j2", _ensemble(shown, folder, point)),
        Section("Ensembles and events", "figures.html.j2", _probabilities(scores, folder)),
        Section("Stability", "definitions.html.j2", {"pairs": bounded} if bounded else {}),
        Section("Training", "figures.html.j2", {"wide": losses} if history else {}),
        Section("Conventions and data", "definitions.html.j2", conventions),
    ]
    page_scripts = scripts()
    environment = Environment(
        loader=PackageLoader("fourcastnet_afno.report"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip

    def render(explorer: Mapping[str, str]) -> str:
        content = {"data": explorer} if explorer else {}
        shown = [Section("Explorer", "explorer.html.j2", content), *sections]
        return environment.get_template("report.html.j2").render(
            title=f"{path.parent.resolve().name}: forecasts against truth",
            maker=MAKER,
            policy=policy(page_scripts),
            style=style(),
            scripts=page_scripts,
            verdicts=rows.beaten_baselines(scores),
            notes=[line for line in str(scores.attrs.get("notes", "")).splitlines() if line],
            sections=[section for section in shown if section.content],
        )

    room = _MOST_BYTES - len(render({}).encode(errors="backslashreplace"))
    page = render(explorer_data(explored, explored_scores, room))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _save(path: Path, title: str, figure: Figure, kind: _Kind = "chart") -> Picture:
    """Write a figure as PNG and PDF next to each other."""
    png, pdf = (path.with_name(f"{path.name}.{form}") for form in ("png", "pdf"))
    for file in (png, pdf):
        with replacing(file) as temporary:
            temporary.write_bytes(plots.render(figure, file.suffix.removeprefix(".")))
        figure.set_layout_engine("none")  # the parts stay where they are
    return _picture(png, title, kind)


def _picture(path: Path, title: str, kind: _Kind) -> Picture:
    data = base64.b64encode(path.read_bytes()).decode()
    return Picture(title, f"data:image/{path.suffix.removeprefix('.')};base64,{data}", kind)


def _scorecards(scores: xr.Dataset, folder: Path) -> dict[str, Any]:
    """Compare each forecast with the reference, in a table and, next to the report, in a figure."""
    if "rmse" not in scores:
        return {}
    names = [
        name
        for name in scores["forecast"].values.tolist()
        if name != scores.attrs["reference"] and scores["rmse"].sel(forecast=name).notnull().any()
    ]
    for name in [name for name in names if name not in plots.BASELINES]:
        figure = plots.plot_scorecard(scores, name)
        _save(folder / f"scorecard_{name}", f"Scorecard of {name}", figure)
    settings = {key: scores.attrs[key] for key in ("confidence", "block_length")}
    return {"cards": [rows.scorecard(scores, name) for name in names], **settings}


def _scores(scores: xr.Dataset, folder: Path, max_curves: int) -> dict[str, Any]:
    metrics = curve_metrics(scores)
    if not metrics:
        return {}
    channels = scores["channel"].values.tolist()
    curves = []
    for channel in channels[:max_curves]:
        title = f"{channel}: bands are {scores.attrs['confidence']:.0%} intervals"
        figure = plots.plot_score_curves(scores.sel(channel=[channel]), metrics)
        curves.append(_save(folder / f"scores_{channel}", title, figure))
    figure = plots.plot_score_curves(scores.isel(channel=slice(max_curves)))
    _save(folder / "scores", "Scores", figure)
    return {
        "curves": curves,
        "num_further": max(0, len(channels) - max_curves),
        "scores": rows.score_table(scores),
        "summary": rows.summary_table(scores),
    }


class Shown(NamedTuple):
    """One forecast of a channel that is drawn: truth (lead_time, y, x) and members, read lazily.

    ``pair`` is None where it was not kept, or truth has none of its valid times or is on another
    grid; a forecast of an ensemble has the dimension ``realization``.
    """

    channel: str
    forecast: str
    pair: tuple[xr.DataArray, xr.DataArray] | None
    land: xr.DataArray | None
    grid: Grid

    @property
    def start(self) -> str:
        """The initial time."""
        assert self.pair is not None
        truth, _ = self.pair
        init = np.datetime64(truth.attrs["init_time"], "ns")
        return time_label(init, TrajectoryTimes.of(truth.attrs))


def _shown_forecast(
    scores: xr.Dataset, truth: xr.Dataset, forecasts: Mapping[str, xr.Dataset]
) -> Shown:
    channel, land, pair = picture_channel(scores), None, None
    name = next(iter(forecasts or scores["forecast"].values.tolist()))
    if "land_sea_mask" in truth:
        land = truth["land_sea_mask"]
        land = land.isel(time=0) if "time" in land.dims else land
        land = land.transpose("latitude", "longitude").compute()
    if forecasts:
        pair = _longest_forecast(truth, forecasts[name], channel)
    return Shown(channel, name, pair, land, grid_of(truth))


def _maps(scores: xr.Dataset, shown: Shown, folder: Path) -> dict[str, Any]:
    """One forecast next to truth, still and moving, and its mean errors."""
    channel, name, pair, land, _ = shown
    pictures = []
    if pair is not None:
        actual, forecast = pair
        if "realization" in forecast.dims:
            forecast = forecast.mean("realization", dtype=np.float64)
        forecast = at_least_single(forecast.compute())
        if lines.is_line(actual):
            figure, animate = lines.space_time(actual, forecast), lines.line_animation
        else:
            leads = LeadTimes.of(actual).selected(_MAP_LEADS)
            figure = maps.error_maps(actual[leads], forecast[leads], land)
            animate = maps.rollout_animation
        title = f"{channel} of {name}, from {shown.start}"
        pictures.append(_save(folder / "maps", title, figure, "map"))
        animate(actual, forecast, folder / "rollout.gif")
        title = f"{channel}: truth and {name}, from {shown.start}"
        pictures.append(_picture(folder / "rollout.gif", title, "map"))
    if "bias_map" in scores and channel in scores["map_channel"].values:
        draws_lines = lines.is_line(scores["bias_map"])
        figure = (
            lines.mean_lines(scores, channel, name)
            if draws_lines
            else maps.mean_maps(scores, channel, name, land)
        )
        title = f"{channel} of {name}: bias and RMSE over all initial times"
        pictures.insert(1, _save(folder / "mean_maps", title, figure, "map"))
    return {"wide": pictures} if pictures else {}


def _ensemble(shown: Shown, folder: Path, point: Sequence[float]) -> dict[str, Any]:
    """The members of one forecast: at a point, as stamps and as probabilities of exceedance."""
    channel, name, pair, land, grid = shown
    if pair is None or pair[1].sizes.get("realization", 1) < 2:
        return {}
    truth, members = pair
    units = "" if truth.attrs["units"] == "1" else truth.attrs["units"]
    cell = ensembles.cell_of(grid, point) if point else ensembles.widest_cell(members)
    at_cell = dict(zip(grid.dims, cell, strict=True))
    figure = ensembles.plume(truth.isel(at_cell), members.isel(at_cell).compute())
    title = f"{channel} of {name} at {grid.describe_cell(*cell)}, from {shown.start}"
    title += "" if point else ", where members end farthest apart"
    pictures = [_save(folder / "plume", title, figure)]
    leads = LeadTimes.of(truth)
    middle = (len(leads.values) - 1) // 2
    stamped = members.isel(lead_time=middle).compute()
    figure = ensembles.stamps(truth[middle], stamped, land)
    title = f"{channel}: truth and members of {name} after {leads.labels[middle]}"
    pictures.append(_save(folder / "stamps", title, figure, "map"))
    chosen = leads.selected(_MAP_LEADS)
    threshold = float(np.nanquantile(truth[chosen], _EXCEEDED))
    figure = ensembles.exceedance_maps(
        truth[chosen], members.isel(lead_time=chosen).compute(), threshold, land
    )
    title = (
        f"{channel} of {name}: probability of more than {f'{threshold:.4g} {units}'.strip()}, "
        f"which {1 - _EXCEEDED:.0%} of truth's cells exceed; a line around those"
    )
    pictures.append(_save(folder / "exceedance", title, figure, "map"))
    return {"wide": pictures}


def picture_channel(scores: xr.Dataset) -> str:
    """Geopotential where there is any, or else the first channel that changes."""
    labels = scores["channel"].values.tolist()
    for start in ("geopotential_500", "geopotential"):
        if heights := [label for label in labels if label.startswith(start)]:
            return heights[0]
    if "rmse" in scores and "persistence" in scores["forecast"]:
        changes = scores["rmse"].sel(forecast="persistence").max("lead_time") > 0
        labels = scores["channel"].values[changes.values].tolist() or labels
    return labels[0]


def _longest_forecast(
    truth: xr.Dataset, predictions: xr.Dataset, channel: str
) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Truth and the forecast with the most lead times that truth covers.

    Truth is (lead_time, latitude, longitude), the forecast likewise, lazy, behind ``realization``
    if it has members; ``None`` where truth is on another grid or has none.
    """
    predictions = canonical_forecast(predictions)
    if not grid_of(truth).is_same(grid_of(predictions)):
        return None
    names = [str(name) for name in predictions.data_vars if name in truth]
    (drawn,) = (c for c in Channels.from_dataset(predictions, names) if c.label == channel)
    times = valid_times_of(predictions, truth["time"].values)
    known = np.isin(times.table, truth["time"].values)
    if not known.any():
        return None
    index = int(np.argmax(known.sum(axis=1)))
    forecast = predictions[[drawn.name]].isel(init_time=[index], lead_time=known[index])
    times = valid_times_of(forecast, truth["time"].values)
    actual = by_valid_time(lambda valid: truth[[drawn.name]].sel(time=valid), times)
    first, second = (
        at_least_single(Channels((drawn,)).stack(fields).isel(init_time=0, channel=0))
        for fields in (actual, forecast)
    )
    first = first.compute()
    trajectories = TrajectoryTimes.of(truth.attrs) or TrajectoryTimes.of(predictions.attrs)
    attrs = {"units": drawn.units, "init_time": str(times.init_times[0])}
    first.attrs = second.attrs = attrs | (trajectories.attrs if trajectories else {})
    leading = ("realization",) if "realization" in second.dims else ()
    return first, second.transpose(*leading, "lead_time", ...)


def _spectra(scores: xr.Dataset, folder: Path) -> dict[str, Any]:
    if "spectrum" not in scores:
        return {}
    channel = picture_channel(scores)
    scale = scores[scores["spectrum"].dims[-1]].attrs["long_name"]
    title = f"{channel}: energy spectra ({scale}) by lead time, and their ratio to truth's"
    if "spectrum_interval" in scores:
        title += f"; bands are {scores.attrs['confidence']:.0%} intervals"
    shown = LeadTimes.of(scores).selected(_SPECTRUM_LEADS)
    figure = plots.plot_spectra(scores, channel, shown)
    return {"wide": [_save(folder / "spectra", title, figure)]}


def _probabilities(scores: xr.Dataset, folder: Path) -> dict[str, Any]:
    """Figures of ensembles, and of events that exceed a quantile."""
    channel, wide, small = picture_channel(scores), [], []
    for name in scores["forecast"].values.tolist():
        if f"rank_histogram_{name}" in scores and {"rmse", "spread"} <= set(scores.data_vars):
            title = f"{channel} of {name}: spread and skill, and rank histograms"
            figure = plots.plot_spread_skill(scores, channel, name)
            wide.append(_save(folder / f"spread_skill_{name}", title, figure))
    if "crps" in scores:
        figure = plots.plot_score_curves(scores.sel(channel=[channel]), ("crps",))
        small.append(_save(folder / "crps", f"{channel}: CRPS", figure))
    if "reliability_frequency" in scores:
        leads = LeadTimes.of(scores).labels
        index = (len(leads) - 1) // 2
        title = f"{channel}: reliability of events at {leads[index]}"
        figure = plots.plot_reliability(scores, channel, index)
        small.append(_save(folder / "reliability", title, figure))
    return {"wide": wide, "small": small} if wide or small else {}
