"""States of parts add up to the state of all, in any order and grouping; files keep them."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.files.outputs import may_replace
from fourcastnet_afno.evaluation.aggregation import AggregationState, StateFile, state_output
from fourcastnet_afno.evaluation.plan import ScoringTask
from tests.builders.errors import rejects

NAMES = ["error"]
WHOLE = AggregationState(
    covered=ScoringTask((0, 1, 2), slice(0, 6), slice(0, 4)), groups=slice(0, 3)
)


def part(channels: tuple[int, ...], inits: slice, leads: slice, seed: int) -> AggregationState:
    """State of a range, of whole numbers; two initial times are a group."""
    rng, count = np.random.default_rng(seed), len(channels)
    num_inits, num_leads = inits.stop - inits.start, leads.stop - leads.start
    groups = slice(inits.start // 2, (inits.stop - 1) // 2 + 1)

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(1, 9, shape).astype(float)

    return AggregationState(
        covered=ScoringTask(channels, inits, leads),
        groups=groups,
        series={("m", "error"): numbers(num_inits, num_leads, count, 2)},
        sums={("m", "ranks"): numbers(num_leads, count, 5)},
        grouped={("m", "spectrum"): numbers(num_leads, count, groups.stop - groups.start, 3)},
    )


def test_files_hold_few_lead_times_of_maps(tmp_path: Path) -> None:
    """And all comes back, with the number of tasks alone where that is enough."""
    state = part((0, 1), slice(0, 2), slice(0, 4), 7)
    state.sums["m", "map_error"] = np.zeros((4, 2, 300, 300))
    state.sums["m", "map_error"][2] = np.nan
    file = StateFile(path=tmp_path / "s.npz", fingerprint="f")
    assert file.num_done() == 0
    file.save(state, 3, NAMES)
    assert file.path.stat().st_size < 2 * state.sums["m", "map_error"][0].nbytes
    assert file.num_done() == 3
    again = AggregationState(covered=state.covered, groups=state.groups)
    assert file.load(again, NAMES) == 3
    assert_equal(again, state)


PARTS = [
    part((0,), slice(0, 3), slice(0, 4), 0),
    part((0,), slice(3, 6), slice(0, 4), 1),
    part((1, 2), slice(0, 3), slice(0, 2), 2),
    part((1, 2), slice(0, 3), slice(2, 4), 3),
    part((1, 2), slice(3, 6), slice(0, 4), 4),
]


def assert_equal(one: AggregationState, other: AggregationState) -> None:
    assert (one.covered, one.groups) == (other.covered, other.groups)
    for kind in ("series", "sums", "grouped"):
        assert getattr(one, kind).keys() == getattr(other, kind).keys()
        for name, values in getattr(one, kind).items():
            np.testing.assert_array_equal(values, getattr(other, kind)[name])


def total_of(*states: AggregationState) -> AggregationState:
    total = AggregationState(covered=WHOLE.covered, groups=WHOLE.groups)
    for state in states:
        total += state
    return total


def test_addition_is_associative_and_commutative() -> None:
    a, b, c, d, e = PARTS
    total = total_of(a, b, c, d, e)
    assert not any(np.isnan(values).any() for values in total.series.values())
    assert_equal(total_of(total_of(a, b), total_of(c, total_of(d, e))), total)
    assert_equal(total_of(total_of(e, c), a, total_of(d, b)), total)


def test_parts_are_where_they_belong() -> None:
    total = total_of(PARTS[1], PARTS[3])
    series, sums = total.series["m", "error"], total.sums["m", "ranks"]
    np.testing.assert_array_equal(series[3:, :, 0], PARTS[1].series["m", "error"][:, :, 0])
    np.testing.assert_array_equal(series[:3, 2:, 1:], PARTS[3].series["m", "error"])
    assert np.isnan(series[:3, :2]).all()
    assert np.isnan(series[3:, :, 1:]).all()
    np.testing.assert_array_equal(sums[:, 0], PARTS[1].sums["m", "ranks"][:, 0])
    assert (sums[:2, 1:] == 0).all()
    # The initial times 2 and 3 are a group of which both parts have one.
    both = total_of(PARTS[0], PARTS[1])
    expected = (
        PARTS[0].grouped["m", "spectrum"][:, 0, 1] + PARTS[1].grouped["m", "spectrum"][:, 0, 0]
    )
    np.testing.assert_array_equal(both.grouped["m", "spectrum"][:, 0, 1], expected)


def test_a_file_resumes_by_the_same_addition(tmp_path: Path) -> None:
    done = total_of(PARTS[0], PARTS[2], PARTS[4])
    file = StateFile(path=tmp_path / "state.npz", fingerprint="a")
    file.save(done, 3, NAMES)
    resumed = AggregationState(covered=WHOLE.covered, groups=WHOLE.groups)
    assert file.load(resumed, NAMES) == 3
    rest = (PARTS[1], PARTS[3])
    assert_equal(total_of(resumed, *rest), total_of(done, *rest))


@pytest.mark.parametrize(
    ("fingerprint", "companions", "names"),
    [("b", "c", NAMES), ("a", "c", ["error", "l4"]), ("a", "another climatology", NAMES)],
)
def test_the_file_of_another_evaluation_is_ignored(
    tmp_path: Path, fingerprint: str, companions: str, names: list[str]
) -> None:
    path = tmp_path / "state.npz"
    StateFile(path=path, fingerprint="a", companions="c").save(PARTS[0], 1, NAMES)
    state = AggregationState(covered=WHOLE.covered, groups=WHOLE.groups)
    file = StateFile(path=path, fingerprint=fingerprint, companions=companions)
    assert file.load(state, names) == 0
    assert not state.series


@pytest.mark.parametrize(
    "damage", ["cut", "emptied", "flipped", "text", "arrays", "link", "folder"]
)
def test_what_is_no_state_is_named_and_stays(tmp_path: Path, damage: str) -> None:
    file = StateFile(path=tmp_path / "state.npz", fingerprint="a")
    file.save(PARTS[0], 1, NAMES)
    content = file.path.read_bytes()
    half = len(content) // 2
    file.path.unlink()
    if damage == "arrays":
        np.savez(file.path, x=np.zeros(3))
    elif damage == "link":
        file.path.symlink_to(file.path.name)
    elif damage == "folder":
        file.path.mkdir()
    else:
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        contents = {"cut": content[:half], "emptied": b"", "flipped": flipped, "text": b"mine"}
        file.path.write_bytes(contents[damage])
    before = file.path.lstat()
    with rejects("unreadable-file", str(file.path)):
        file.load(AggregationState(covered=WHOLE.covered, groups=WHOLE.groups), NAMES)
    assert file.path.lstat() == before


def test_a_state_that_is_cut_is_not_recognized(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    StateFile(path=path, fingerprint="a").save(PARTS[0], 1, NAMES)
    content = path.read_bytes()
    assert may_replace(path, state_output(path).is_ours)
    for length in range(1, len(content), len(content) // 9):
        path.write_bytes(content[:length])
        assert not may_replace(path, state_output(path).is_ours)
