"""States of weather services as local files of GRIB that hold only what is asked for."""

import time as clock
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.files.cache import cache_folder
from data_pipeline.sources.open_data.cache import CachedFile
from data_pipeline.sources.open_data.indices import IndexedMessage, read_index
from data_pipeline.sources.open_data.presets import CYCLE, Service, cycle_of
from data_pipeline.sources.open_data.transfer import read_bytes, read_text
from data_pipeline.sources.retry import DEFAULT_POLICY, RetryPolicy

_CONNECTIONS = 4
_CYCLES_BACK = 8  # for the newest state: two days


@dataclass(frozen=True, kw_only=True)
class WantedField:
    """A field of each state, or what it can be computed from.

    Args:
        label: For messages.
        field: Name and level in hPa (None without levels).
        inputs: Fields that serve in its place, all of them, where a service lacks it.
    """

    label: str
    field: tuple[str, int | None]
    inputs: tuple[tuple[str, int | None], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FetchedStates:
    """Local files, and what was read for them.

    Args:
        paths: A file for each time.
        num_bytes: Bytes of messages that were read; 0 where the cache has all.
        from_where: Web addresses of the files.
    """

    paths: tuple[Path, ...]
    num_bytes: int
    from_where: tuple[str, ...]


def fetch_states(
    path: str,
    wanted: Sequence[WantedField],
    times: np.ndarray,
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    folder: Path | None = None,
) -> FetchedStates:
    """Fetch the states of a service at some times, with the wanted fields alone.

    Args:
        path: Such as ``gfs://aws``, see ``presets``.
        wanted: Fields of each state.
        times: Datetime64.
        policy: How patiently it is read.
        folder: Of the cache, by default ``cache_folder``.

    Raises:
        InputError: If a state is not there (yet) ("missing-file"), or lacks fields
            ("missing-variable").
        TransferError: If every attempt failed, or access is denied.
    """
    service, folder = Service.at(path), folder or cache_folder("open_data")
    paths, addresses, num_bytes = [], [], 0
    for time in times:
        cached, messages = _found(service, time, wanted, policy, folder)
        fetch = partial(_messages, cached.url, {m.start: m for m in messages}, policy)
        num_bytes += cached.complete({message.start for message in messages}, fetch)
        paths.append(cached.path)
        addresses.append(cached.url)
    return FetchedStates(paths=tuple(paths), num_bytes=num_bytes, from_where=tuple(addresses))


def newest_state(
    path: str, *, now: float | None = None, policy: RetryPolicy = DEFAULT_POLICY
) -> np.datetime64:
    """Time of the newest analysis of a service; ``now`` is in seconds since 1970.

    Raises:
        InputError: If there is none of the last two days ("missing-file").
    """
    service = Service.at(path)
    seconds = np.datetime64(int(clock.time() if now is None else now), "s").astype("M8[ns]")
    cycles = cycle_of(seconds) - np.arange(_CYCLES_BACK) * CYCLE
    for cycle in cycles:
        for _, index, _ in service.urls(cycle):
            try:
                read_text(index, policy)
            except FileNotFoundError:
                continue
            return cycle
    message = (
        f"{service.root} has no state of {service.name} since {cycles[-1]}; check the mirror, or "
    )
    raise InputError(message + "give --init-times", code="missing-file")


def _found(
    service: Service,
    time: np.datetime64,
    wanted: Sequence[WantedField],
    policy: RetryPolicy,
    folder: Path,
) -> tuple[CachedFile, list[IndexedMessage]]:
    """The remote file of a time and its wanted messages, by the index in the cache if that does."""
    urls = service.urls(time)
    for file, index, step in urls:
        cached = CachedFile(file, folder)
        if not cached.index:
            continue
        messages, missing = _chosen(service, read_index(cached.index, index), wanted, step)
        if not missing:
            return cached, messages
    for file, index, step in urls:
        try:
            text = read_text(index, policy)
        except FileNotFoundError:
            continue
        cached = CachedFile(file, folder)
        messages, missing = _chosen(service, read_index(text, index), wanted, step)
        if missing:
            message = f"{file} lacks {missing}, which the forecaster reads; "
            if step == 0:
                message += "an analysis has no sums over the hours before; "
            message += "take another source, or give files with these fields"
            raise InputError(message, code="missing-variable")
        cached.keep_index(text)
        return cached, messages
    message = f"{service.root} has no state of {service.name} at {time.astype('M8[s]')} (looked "
    message += f"for {', '.join(index for _, index, _ in urls)}); analyses appear some hours after "
    message += "their time, and mirrors keep old ones for different periods: choose another initial"
    raise InputError(f"{message} time with --init-times, or another mirror", code="missing-file")


def _chosen(
    service: Service, index: Sequence[IndexedMessage], wanted: Sequence[WantedField], step: int
) -> tuple[list[IndexedMessage], list[str]]:
    """Messages of the wanted fields, and labels of those that cannot be had."""
    chosen: dict[int, IndexedMessage] = {}
    missing = []
    for each in wanted:
        direct = _message(service, index, each.field, step)
        others = [_message(service, index, field, step) for field in each.inputs]
        found = [direct] if direct or not others else others
        complete = [message for message in found if message is not None]
        missing += [each.label] if len(complete) < len(found) else []
        chosen |= {message.start: message for message in complete}
    return list(chosen.values()), missing


def _message(
    service: Service, index: Sequence[IndexedMessage], field: tuple[str, int | None], step: int
) -> IndexedMessage | None:
    """The message of a field: an instant, or the sum over the fewest hours."""
    names = service.field(*field)
    alike = [m for m in index if (m.name, m.level) == names and m.steps[1] == step]
    return max(alike, key=lambda message: message.steps[0], default=None)


def _messages(
    url: str,
    by_start: Mapping[int, IndexedMessage],
    policy: RetryPolicy,
    starts: Collection[int],
) -> dict[int, bytes]:
    """Messages of a remote file by their first bytes, neighbors in one request."""
    runs: list[list[IndexedMessage]] = []
    for message in (by_start[start] for start in starts):
        before = runs[-1][-1] if runs else None
        if before and before.length and before.start + before.length == message.start:
            runs[-1].append(message)
        else:
            runs.append([message])
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        pieces = pool.map(partial(_run, url, policy), runs)
        return {start: piece for run in pieces for start, piece in run.items()}


def _run(url: str, policy: RetryPolicy, run: Sequence[IndexedMessage]) -> dict[int, bytes]:
    """Neighboring messages, each a complete one of GRIB."""
    first, last = run[0], run[-1]
    length = None if last.length is None else last.start + last.length - first.start
    try:
        content = read_bytes(url, first.start, length, policy)
    except FileNotFoundError as error:
        message = f"{url} is not there, but its index is; it may still be written: try again later"
        raise InputError(message, code="missing-file") from error
    pieces = {}
    for message in run:
        begin = message.start - first.start
        piece = content[begin : None if message.length is None else begin + message.length]
        if not _is_message(piece):
            text = f"{url} has no GRIB message of {message.name} at {message.level} at the byte "
            text += f"{message.start} that its index names; it may still be written: try again "
            raise InputError(text + "later, or give another mirror", code="unreadable-file")
        pieces[message.start] = piece
    return pieces


def _is_message(content: bytes) -> bool:
    """Whether bytes are one message of GRIB 2 in full."""
    is_whole = int.from_bytes(content[8:16]) == len(content) and content.endswith(b"7777")
    return content.startswith(b"GRIB") and content[7:8] == b"\x02" and is_whole
