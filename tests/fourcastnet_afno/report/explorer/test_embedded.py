"""The fields that a page embeds."""

import numpy as np
import pytest

from fourcastnet_afno.report.explorer.embedded import choose, embed, spread_order
from fourcastnet_afno.report.explorer.fields import Explored, explore_forecasts
from tests.builders.forecasts import make_forecast, make_truth


@pytest.fixture(scope="module")
def explored() -> Explored:
    truth = make_truth(100)
    leads = np.arange(1, 25) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    result = explore_forecasts(truth, {"ours": make_forecast(truth, 6, leads)})
    assert result is not None
    return result


def test_everything_is_embedded_where_it_fits(explored: Explored) -> None:
    embedded = embed(explored, 10**7)
    assert embedded is not None
    shape = len(explored.channels), len(explored.init_times), len(explored.views)
    assert len(embedded.blocks) == np.prod(shape)
    assert set(embedded.blocks) == {"-".join(map(str, key)) for key in np.ndindex(shape)}
    assert len(embedded.axes["leads"]) == 24
    assert "holds" not in embedded.axes["notes"][-1]


@pytest.mark.parametrize("max_bytes", [60_000, 6_000])
def test_less_room_holds_less(explored: Explored, max_bytes: int) -> None:
    embedded = embed(explored, max_bytes)
    assert embedded is not None
    assert sum(len(block.text) for block in embedded.blocks.values()) <= max_bytes
    few, note = len(embedded.axes["initTimes"]), embedded.axes["notes"][-1]
    assert few < 6
    assert f"{few} of 6 initial times" in note
    assert embedded.axes["leads"][-1]["label"] == "6 days"


def test_no_room_holds_nothing(explored: Explored) -> None:
    assert embed(explored, 100) is None
    assert embed(explored, -1) is None


def test_large_grids_are_thinned(explored: Explored) -> None:
    choice = choose(explored, 10**9)
    assert choice is not None
    assert (choice.num_channels, choice.lead_step, choice.stride) == (7, 1, 1)
    fewer = choose(explored, 7 * 3 * 12 * 48)
    assert fewer is not None
    assert (fewer.num_channels, fewer.lead_step, fewer.stride) == (7, 2, 1)


def test_first_positions_are_spread_over_all() -> None:
    assert spread_order(9, 5) == [0, 8, 4, 2, 6]
    assert sorted(spread_order(5, 12)) == [0, 1, 2, 3, 4]
    assert spread_order(1, 12) == [0]
