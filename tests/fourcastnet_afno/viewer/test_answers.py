"""Answers equal the fields; numbers that are on no axis are rejected."""

import json

import numpy as np
import pytest

from fourcastnet_afno.report.explorer.axes import limits, points_of
from fourcastnet_afno.viewer.answers import Answers, BadRequestError, NoAnswerError
from fourcastnet_afno.viewer.opening import Viewed


@pytest.fixture
def answers(viewed: Viewed) -> Answers:
    return Answers(viewed)


def values(answers: Answers, name: str, query: str) -> np.ndarray:
    return np.frombuffer(answers.answer(name, query).content, "<f4")


def test_every_field_and_series_is_that_of_the_store(answers: Answers) -> None:
    explored = answers.viewed.explored
    columns = explored.grid.shape[1]
    for view in range(len(explored.views)):
        for channel, init, lead in ((0, 0, 0), (6, 3, 2), (2, 11, 3)):
            query = f"channel={channel}&init={init}&view={view}"
            field = values(answers, "field", f"{query}&lead={lead}").reshape(explored.grid.shape)
            np.testing.assert_array_equal(field, explored.field(channel, init, view, lead))
            series = values(answers, "series", f"{query}&cell={2 * columns + 5}")
            np.testing.assert_array_equal(series, explored.series(channel, init, view, 2, 5))
            assert series[lead] == field[2, 5] or np.isnan(field[2, 5])


def test_axes_and_limits(answers: Answers) -> None:
    explored = answers.viewed.explored
    axes = json.loads(answers.answer("axes", "").content)
    assert len(axes["initTimes"]) == len(explored.init_times)
    assert [view["name"] for view in axes["views"]] == [view.name for view in explored.views]
    assert axes["channels"][0]["limits"] is None
    found = json.loads(answers.answer("limits", "channel=6").content)
    assert found == limits(explored, 6, 0, points_of(explored, 1))
    assert json.loads(answers.answer("curves", "").content) is None


def test_the_page_may_run_its_own_scripts_alone(answers: Answers) -> None:
    page = answers.answer("", "")
    assert b"ours.zarr</h1>" in page.content
    assert "script-src 'sha256-" in page.policy
    assert "connect-src 'self'" in page.policy
    assert "unsafe-inline" not in page.policy.split("style-src")[0]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("field", ""),
        ("field", "channel=0&init=0&view=0"),
        ("field", "channel=0&init=0&view=0&lead=0&lead=1"),
        ("field", "channel=0&init=0&view=0&lead=99"),
        ("field", "channel=0&init=0&view=0&lead=-1"),
        ("field", "channel=0&init=0&view=0&lead=1e1"),
        ("field", "channel=0&init=0&view=0&lead=٣"),
        ("field", "channel=0&init=0&view=0&lead=" + "9" * 5000),
        ("field", "channel=0&init=0&view=0&path=/etc/passwd"),
        ("series", "channel=0&init=0&view=0&cell=48"),
        ("series", "channel=0&init=0&view=0&cell=0..9"),
        ("limits", "channel=7"),
        ("axes", "x=1"),
        ("", "=&=&="),
    ],
)
def test_other_numbers_are_rejected(answers: Answers, name: str, query: str) -> None:
    with pytest.raises(BadRequestError):
        answers.answer(name, query)


@pytest.mark.parametrize(
    "name", ["truth.nc", "../axes", "/etc/passwd", "axes/", "%2e%2e", "__class__"]
)
def test_there_is_nothing_else(answers: Answers, name: str) -> None:
    with pytest.raises(NoAnswerError):
        answers.answer(name, "")
