"""Initial states from weather services, which forecasts fetch before they open their source."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.preprocessing.derived import needed_for
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.names import ON_LEVELS
from data_pipeline.sources.open_data.fetch import WantedField, fetch_states, newest_state
from data_pipeline.sources.open_data.presets import is_open_data
from data_pipeline.terminal import print_line
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.workflows import console


def with_fetched_states(
    source: SourceConfig, spec: FieldSpec, num_history: int, init_times: np.ndarray | None
) -> SourceConfig:
    """The source with local files in place of weather services, such as ``gfs://aws``.

    The states of each initial time and of its history are fetched, each with the channels of the
    forecaster alone; without initial times, those of the newest analysis.

    Raises:
        InputError: If a state or a field is not there.
    """
    paths: list[str] = []
    for path in source.paths:
        if not is_open_data(path):
            paths.append(path)
            continue
        starts = np.array([newest_state(path)]) if init_times is None else init_times
        needed = spec.step.advance(starts[:, None], np.arange(1 - num_history, 1))
        fetched = fetch_states(path, wanted_fields(spec.channels), np.unique(needed))
        paths += map(str, fetched.paths)
        size = fetched.num_bytes / 1e6
        how = f"{size:.1f} MB fetched" if size else "in the cache"
        print_line(
            console, f"{fetched.from_where[-1]} and its history, {len(needed.flat)} states: {how}"
        )
    return source if paths == source.paths else replace(source, path=paths)


def wanted_fields(channels: Channels) -> Sequence[WantedField]:
    """Channels as fields of a service, with what each can be computed from."""
    return [
        WantedField(
            label=channel.label,
            field=(channel.name, channel.level),
            inputs=tuple(
                (name, channel.level if name in ON_LEVELS else None)
                for name in sorted(needed_for([channel.name]) - {channel.name})
            ),
        )
        for channel in channels
    ]
