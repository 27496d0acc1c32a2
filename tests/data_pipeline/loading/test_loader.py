"""Batches: order, ranks, reading ahead, and processes."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.loading.loader import Loader, rank_slice
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.processes import fast_spawning
from tests.builders.stores import KINDS, kind_of


def test_an_epoch_goes_on_where_it_stopped(store: PreparedStore) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    loader = Loader(windows, 8, seed=3, shuffle=True)
    whole = [sample.time.tolist() for sample in loader.epoch(5)]
    rest = [sample.time.tolist() for sample in loader.epoch(5, first_sample=24)]
    assert rest == whole[3:]
    assert sorted(time for batch in whole for time in batch) == sorted(
        {time for batch in whole for time in batch}
    )
    assert whole != [sample.time.tolist() for sample in loader.epoch(6)]


@given(
    num_windows=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 7),
)
def test_ranks_share_every_batch(num_windows: int, batch_size: int, world_size: int) -> None:
    losses = np.random.default_rng(num_windows).random(num_windows)
    order = np.random.default_rng(1).permutation(num_windows)
    for start in range(0, num_windows, batch_size):
        batch = order[start : start + batch_size]
        shares = [rank_slice(batch, rank, world_size) for rank in range(world_size)]
        assert len({len(share.indices) for share in shares}) == 1
        indices, weights = (np.concatenate(parts) for parts in zip(*shares, strict=True))
        np.testing.assert_array_equal(indices[weights > 0], batch)
        np.testing.assert_allclose((weights * losses[indices]).mean(), losses[batch].mean(), 1e-6)


def test_other_ranks_go_on_with_the_same_batches(store: PreparedStore) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    whole = list(Loader(windows, 12, seed=3, shuffle=True).rank_slices(2))
    for world_size in (2, 3, 5):
        ranks = [
            Loader(windows, 12, seed=3, shuffle=True, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        rests = [loader.rank_slices(2, first_sample=24) for loader in ranks]
        for expected, *parts in zip(whole[2:], *rests, strict=True):
            kept = [part.indices[part.weights > 0] for part in parts]
            np.testing.assert_array_equal(np.concatenate(kept), expected.indices)
    assert next(ranks[3].epoch(2)).weight.tolist() == [1.25, 1.25, 1.25]
    assert next(ranks[4].epoch(2)).weight.tolist() == [0, 0, 0]


@pytest.mark.parametrize("read_ahead", [0, 1, 5])
def test_batches_read_ahead_are_those_read_alone(store: PreparedStore, read_ahead: int) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 2)
    loader = Loader(windows, 7, seed=0, shuffle=True, read_ahead=read_ahead)
    order = np.random.default_rng([0, 1]).permutation(len(windows))
    memory = set()
    for repeat in range(2):
        for index, sample in enumerate(loader.epoch(1)):
            alone = windows.read(order[7 * index : 7 * index + 7])
            for ours, expected in zip(sample, alone, strict=True):
                assert torch.equal(ours, expected)
            memory.add(sample.state.untyped_storage().data_ptr())
        assert index + 1 == loader.num_batches, repeat
    assert len(memory) <= read_ahead + 1


def test_an_epoch_that_is_left_early_frees_its_threads(store: PreparedStore) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    loader = Loader(windows, 4, seed=0, shuffle=False)
    epoch = loader.epoch(0)
    first = next(epoch).state.clone()
    epoch.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("loader")]
    assert torch.equal(next(loader.epoch(0)).state, first)


def test_what_fails_in_a_thread_reaches_the_caller(
    store: PreparedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)

    def fail(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(store.states.reader, "read_into", fail)
    with pytest.raises(OSError, match="disk gone"):
        next(Loader(windows, 4, seed=0, shuffle=False).epoch(0))


@pytest.mark.parametrize("storage", KINDS, ids=kind_of)
def test_batches_are_the_stored_values(
    storage: StorageConfig, store_of_kind: Callable[[StorageConfig], PreparedStore]
) -> None:
    store = store_of_kind(storage)
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 2)
    loader = Loader(windows, 7, seed=0, shuffle=True)
    fields = store.channels.stack(store.dataset()).values
    for share, sample in zip(loader.rank_slices(0), loader.epoch(0), strict=True):
        rows = windows.starts[share.indices]
        np.testing.assert_array_equal(sample.state[:, 0], fields[rows])
        np.testing.assert_array_equal(sample.target[:, 1], fields[rows + 2])
    raw = next(Loader(windows, 7, seed=0, shuffle=True, unpack=False).epoch(0))
    assert raw.state.element_size() == store.packing.stored.itemsize
    first = windows.read(next(loader.rank_slices(0)).indices)
    np.testing.assert_array_equal(store.packing.unpack(raw.state.numpy()), first.state)


def test_processes_read_what_threads_read(
    store_of_kind: Callable[[StorageConfig], PreparedStore],
) -> None:
    store = store_of_kind(KINDS[3])
    windows = WindowDataset(
        store, Period(start="2001-01-01", end="2001-03-01"), 1, 1, ["day_of_year_sin"]
    )
    with fast_spawning():
        ours = Loader(windows, 7, seed=0, shuffle=True, workers="processes")
    expected = Loader(windows, 7, seed=0, shuffle=True)
    next(ours.epoch(0))  # an epoch that is left early leaves the processes at rest
    for _ in range(2):
        for sample, other in zip(ours.epoch(1), expected.epoch(1), strict=True):
            for found, wanted in zip(sample, other, strict=True):
                np.testing.assert_array_equal(found, wanted)
