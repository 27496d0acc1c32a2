"""The model card of a checkpoint: what it was trained on, what it predicts, how well, and limits.

The text of others, such as names of channels and paths, is shown as code, so that it is no Markdown
and no HTML.

References:
    Mitchell et al., 2019, Model cards for model reporting, https://arxiv.org/abs/1810.03993
"""

from collections.abc import Iterable, Mapping
from typing import Any

from data_pipeline.channels import Channel
from data_pipeline.printable import printable
from data_pipeline.records import from_plain
from data_pipeline.timestep import Timestep
from data_pipeline.trajectory_times import TrajectoryTimes
from data_pipeline.yaml_text import read_settings
from fourcastnet_afno.forecaster.forecaster import Forecaster

_MOST_LEADS, _MOST_CHANNELS = 6, 40
_PERIODS = ("train", "validation", "test")


def model_card(
    name: str,
    forecaster: Forecaster,
    metadata: Mapping[str, Any],
    diagnosed: Iterable[Channel] = (),
    scores: Mapping[str, Any] | None = None,
) -> str:
    """Markdown with the header that model hubs read.

    Args:
        name: Title.
        forecaster: The model.
        metadata: Of its checkpoint.
        diagnosed: Channels of the diagnostic head, if there is one.
        scores: Of ``scores.json``, which `evaluate` and `score` write.
    """
    field = "weather" if forecaster.spec.grid.on_sphere else "pde"
    settings = read_settings(str(metadata.get("config", "")), "the configuration")
    parts = [
        f"---\nlibrary_name: fourcastnet-afno\ntags: [{field}, afno, neural-operator]\n---",
        f"# {_code(name)}",
        _summary(forecaster),
        "## Use\n\n```python\nfrom fourcastnet_afno import load_forecaster\n\n"
        'forecaster = load_forecaster("hf://ORG/NAME")  # or this folder\n```',
        "## Channels\n\n" + _channels(forecaster, diagnosed),
        "## Grid and time\n\n" + _grid(forecaster),
        "## Training\n\n" + _training(settings, metadata),
        "## Scores\n\n" + (_scores(scores) if scores else "None were given; see `--scores`."),
        "## Limits\n\n" + _limits(forecaster),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(forecaster: Forecaster) -> str:
    count = sum(p.numel() for p in forecaster.parameters())
    spec = forecaster.spec
    return (
        f"A surrogate that steps {len(spec.channels)} channels forward by {spec.step.label}: a "
        f"network with {count:,} weights and the mixer {_code(forecaster.config.network.mixer)}, "
        f"from the last {forecaster.num_history} state(s) in physical units."
    )


def _channels(forecaster: Forecaster, diagnosed: Iterable[Channel]) -> str:
    spec = forecaster.spec
    mean, std = (t.flatten().tolist() for t in forecaster.scales[:2])
    rows = [
        [*_names(channel), "fed back", f"{m:.4g}", f"{s:.4g}"]
        for channel, m, s in zip(spec.channels, mean, std, strict=True)
    ]
    rows += [[*_names(channel), "predicted, not fed back", "", ""] for channel in diagnosed]
    rows += [[*_names(channel), "constant in time", "", ""] for channel in spec.static_channels]
    rows += [
        [_code(forcing), "", "computed from time and place", "", ""] for forcing in spec.forcings
    ]
    head = ["channel", "units", "role", "mean of training", "standard deviation"]
    return _table(head, rows)


def _names(channel: Channel) -> list[str]:
    return [_code(channel.label), _code(channel.units) if channel.units else ""]


def _grid(forecaster: Forecaster) -> str:
    spec = forecaster.spec
    return (
        f"Fields are on the grid {_code(spec.grid)}; on a globe rows run north to south. "
        + _step(spec.step)
    )


def _step(step: Timestep) -> str:
    if step.trajectories is None:
        return f"A step is {step.label}, in the {step.calendar} calendar."
    counted = _code(step.trajectories.step_label)
    return f"Time is counted in {counted} of the equation; a forecast advances by {step.label}."


def _training(settings: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    data, training = _part(settings, "data"), _part(settings, "training")
    source = _part(data, "source").get("path")
    simulated = next((kind for kind in ("simulation", "pde") if _part(data, kind)), None)
    rows = [["data", _code(source)]] if source else []
    rows += [["data", f"simulated, {_code(data[simulated])}"]] if simulated else []
    for period in _PERIODS:
        if ends := _part(data, period):
            rows.append([f"{period} period", _code(f"{ends.get('start')} to {ends.get('end')}")])
    if stages := training.get("stages"):
        rows.append(["stages", _code(stages)])
    if loss := training.get("loss"):
        rows.append(["loss", _code(loss)])
    step = _part(metadata, "position").get("step")
    rows += [["optimizer updates", str(step)]] if isinstance(step, int) else []
    versions = _part(metadata, "versions")
    rows += [["written by", _code(", ".join(f"{n} {v}" for n, v in versions.items()))]]
    return _table(["", ""], rows)


def _scores(scores: Mapping[str, Any]) -> str:
    """RMSE of the first forecast by channel and lead time."""
    kind = dict[str, dict[str, dict[str, dict[str, float | None]]]]
    forecasts = from_plain(kind, scores.get("forecasts"), "the scores: forecasts")
    name = next((n for n, metrics in forecasts.items() if metrics.get("rmse")), None)
    if name is None:
        return "The scores hold no RMSE."
    trajectories = TrajectoryTimes.of(_part(scores, "conventions"))
    table = forecasts[name]["rmse"]
    leads = list(next(iter(table.values())))
    leads = leads[:: max(1, -(-len(leads) // _MOST_LEADS))]
    rows = [
        [_code(channel), *(_number(values.get(lead)) for lead in leads)]
        for channel, values in list(table.items())[:_MOST_CHANNELS]
    ]
    return f"RMSE of {_code(name)} by lead time, in the channels' units:\n\n" + _table(
        ["channel", *(_lead(lead, trajectories) for lead in leads)], rows
    )


def _lead(key: str, trajectories: TrajectoryTimes | None) -> str:
    """A lead time of scores, whose key is in hours or in months such as 3MS."""
    return printable(key) if "MS" in key else f"{printable(key)} {'steps' if trajectories else 'h'}"


def _limits(forecaster: Forecaster) -> str:
    spec, config = forecaster.spec, forecaster.config
    limits = [
        "Trained on the data above alone: other sources, units or grids give other errors.",
        "Scores hold for the period that they were computed on.",
    ]
    if spec.grid.on_sphere:
        limits.append("Not a warning system: have no decision on safety depend on it.")
    if not config.noise.length_scales:
        limits.append("Deterministic: fields become smoother than nature with lead time.")
    if config.damping_days is None:
        limits.append("Without damping: long rollouts may drift or blow up.")
    if spec.step.hours and spec.step.trajectories is None:
        limits.append(f"No times between steps of {spec.step.label}.")
    return "\n".join(f"- {limit}" for limit in limits)


def _part(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(value: object) -> str:
    """Text of others as code in a cell: no line ends, and nothing that ends code or cell."""
    text = " ".join(printable(value).split()).replace("`", "'").replace("|", "/")
    return f"`{text[:300]}`"
