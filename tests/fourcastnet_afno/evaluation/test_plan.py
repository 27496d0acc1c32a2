"""Tasks cover every pair of times and every channel once, within their memory."""

import numpy as np
import pytest

from data_pipeline.channels import Channels
from fourcastnet_afno.evaluation.inputs.fields import ValidTimeFields
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes
from fourcastnet_afno.evaluation.plan import ScoringPlan, split
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.evaluation.statistics.pairs import PairSettings
from tests.builders.forecasts import GRID, LEADS, NAMES, make_truth

TRUTH = make_truth()


def plan(num_inits: int = 10, group_length: int = 4) -> ScoringPlan:
    averager = Averager(GRID.area_weights()[None] / GRID.area_weights().sum())
    truth, inits = TruthFields(TRUTH), TRUTH["time"].values[:num_inits]
    times = ValidTimes(inits, LEADS, inits[:, None] + LEADS)
    return ScoringPlan(
        channels=Channels.from_dataset(TRUTH, NAMES),
        grid=GRID,
        init_times=inits,
        lead_times=LEADS,
        valid_times=times.table,
        sources={"m": ValidTimeFields(truth.at, times)},
        truth=truth,
        climatology=truth.at,
        settings=PairSettings(averager=averager, unweighted=averager),
        statistics=(),
        group_length=group_length,
    )


@pytest.mark.parametrize("levels_together", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 1000, 4 * 48 * 7, None])
@pytest.mark.parametrize("chunks", [(1, 1), (3, 2)])
def test_tasks_cover_everything_once(
    block_bytes: int | None, chunks: tuple[int, int], levels_together: bool
) -> None:
    scored = plan()
    counts = np.zeros((10, 4, 7), int)
    for task in split(scored, chunks, block_bytes, levels_together):
        counts[task.inits, task.leads, list(task.channels)] += 1
        names = {scored.channels.labels[index] for index in task.channels}
        assert levels_together or len(names) == 1
        if block_bytes:
            size = (task.inits.stop - task.inits.start) * (task.leads.stop - task.leads.start)
            assert 4 * 48 * size <= max(block_bytes, 4 * 48)
    assert (counts == 1).all()


def test_a_range_touches_the_groups_of_its_initial_times() -> None:
    scored = plan()
    assert scored.num_groups == 3
    assert scored.groups_of(slice(3, 9)) == slice(0, 3)
    np.testing.assert_array_equal(scored.group_starts(slice(3, 9)), [0, 1, 5])
    assert scored.groups_of(slice(4, 8)) == slice(1, 2)
    np.testing.assert_array_equal(scored.group_starts(slice(4, 8)), [0])
