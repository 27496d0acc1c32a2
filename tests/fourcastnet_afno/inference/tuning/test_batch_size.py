"""Batch sizes that are measured, and what is recorded of them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.resume import recorded_provenance
from fourcastnet_afno.inference.tuning import batch_size
from fourcastnet_afno.inference.tuning.batch_size import even_sizes, settle_batch_size
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, contents, make_config, make_forecast

TIMES = np.arange(
    np.datetime64("2020-01-01", "ns"), np.datetime64("2020-01-21", "ns"), 86400 * 10**9
)


class Timed(Growing):
    """A step of each batch takes the seconds that ``cost`` gives."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        super().__init__()
        self.cost, self.now = cost, 0.0

    def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
        self.now += self.cost(len(state))
        return super().__call__(state, forcing)

    def settled(self, recorded: dict | None = None, **changes: object) -> tuple[object, str | None]:
        config = make_config(batch_size="auto", **changes)
        config, text = settle_batch_size(
            config, self, TIMES, recorded or {}, clock=lambda: self.now
        )
        return config.batch_size, text


@pytest.mark.parametrize("num_inits", [1, 3, 20])
@pytest.mark.parametrize("num_members", [1, 2, 20, 50])
def test_batches_hold_equal_shares_of_the_forecasts(num_inits: int, num_members: int) -> None:
    sizes = even_sizes(num_inits, num_members)
    assert sizes[0] == 1
    assert sizes[-1] == num_inits * num_members
    assert all(small < large <= 3 * small for small, large in pairwise(sizes))
    for size in sizes:
        if size < num_members:  # no share is smaller by more than what does not divide
            shares = -(-num_members // size)
            assert shares * size - num_members < shares
        else:
            assert size % num_members == 0


def test_the_smallest_batch_that_is_about_as_fast_as_any_is_taken() -> None:
    overhead = Timed(lambda count: 1e-3 * (8 + count))  # of a forecast: 9 ms alone, 1.4 ms by 20
    size, text = overhead.settled()
    assert size == 20
    assert text == "forecast.batch_size: 20, as a step of each takes 1.4 ms, 9 ms in batches of 1"
    assert Timed(lambda count: 1e-3 * count).settled()[0] == 1  # nothing is gained
    cached = Timed(lambda count: 1e-3 * (2 + count) * (1 if count < 8 else 3))
    assert cached.settled()[0] == 7
    assert cached.settled(num_members=20, perturbation="gaussian")[0] == 7


def test_no_larger_batch_is_tried_where_a_step_takes_long_or_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Timed(lambda count: 2 + 0.1 * count)
    assert slow.settled()[0] == 1
    assert slow.now == pytest.approx(3 * 2.1)  # twice, and once more within five seconds
    monkeypatch.setattr(batch_size, "peak_memory", lambda device: int(1000 * fast.largest))
    monkeypatch.setattr(batch_size, "memory_of", lambda device: 14_000)

    class Recorded(Timed):
        largest = 0

        def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
            self.largest = max(self.largest, len(state))
            return super().__call__(state, forcing)

    fast = Recorded(lambda count: 1.0 + 1e-6 * count)
    fast.cost = lambda count: 0.1
    assert fast.settled()[0] == 4  # 4000 B, then about 3000 more for each doubling
    assert fast.largest == 4


def test_a_device_without_memory_for_a_batch_takes_the_one_before() -> None:
    @dataclass
    class Limit:
        most: int

        def __call__(self, count: int) -> float:
            if count > self.most:
                raise torch.OutOfMemoryError
            return 0.1

    assert Timed(Limit(5)).settled()[0] == 4
    with pytest.raises(torch.OutOfMemoryError):
        Timed(Limit(0)).settled()


def test_a_number_is_as_it_is_and_several_processes_need_one() -> None:
    config = make_config(batch_size=3)
    assert settle_batch_size(config, Growing(), TIMES, {}, world_size=2) == (config, None)
    with rejects("bad-setting", "forecast.batch_size=auto", "2"):
        settle_batch_size(make_config(batch_size="auto"), Growing(), TIMES, {}, world_size=2)
    with pytest.raises(ValueError, match="settle_batch_size"):
        _ = make_config(batch_size="auto").num_together


def test_a_resumed_forecast_keeps_its_size_and_its_bytes(tmp_path: Path) -> None:
    class Broken(Growing):
        steps = 0

        def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
            self.steps += bool(state.any())  # but for those that are measured
            if self.steps > 3:
                raise KeyboardInterrupt
            return super().__call__(state, forcing)

    settings: dict = {"batch_size": "auto", "num_members": 3, "perturbation": "gaussian"}
    path, texts = tmp_path / "resumed.zarr", []
    with pytest.raises(KeyboardInterrupt):
        make_forecast(path, Broken(), report=texts.append, **settings)
    size = recorded_provenance(path, "resume")["forecast.batch_size"]
    assert texts[0].startswith(f"forecast.batch_size: {size}, as a step")
    make_forecast(path, report=texts.append, **settings)
    assert texts[1] == f"forecast.batch_size: {size}, as the forecast began"
    expected = make_forecast(tmp_path / "expected.zarr", **settings | {"batch_size": size})
    expected.attrs["batch_size"] = str(size)
    written = contents(path)
    xr.testing.assert_identical(open_forecast(path), expected)
    make_forecast(path, existing="resume", **settings)
    assert contents(path) == written
