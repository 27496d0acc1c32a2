"""No output is an input or another output, and only what is recognized is replaced."""

import errno
import json
import os
from pathlib import Path

import pytest
import zarr

from data_pipeline.errors import DAMAGE
from data_pipeline.files.outputs import (
    Output,
    check_outputs,
    may_replace,
    require_ours,
    work_folder_of,
    zarr_attributes,
)
from tests.builders.errors import rejects


def anything(path: Path) -> bool:
    return path.exists()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A store that is read."""
    store = tmp_path / "data" / "source.zarr"
    store.mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    return store


def check(path: Path, *inputs: Path) -> None:
    check_outputs([Output(path, "forecasts", anything, has_work_folder=True)], {"--source": inputs})


@pytest.mark.parametrize(
    "place",
    [
        "data/source.zarr",
        "data/../data/./source.zarr",
        "data/source.zarr/new.zarr",
        "data/source.zarr/deep/er/new.nc",
        "data",
        "link.zarr",
        "link.zarr/new.zarr",
        "folder/source.zarr",
    ],
)
def test_an_output_that_is_in_or_holds_an_input_is_rejected(
    tmp_path: Path, source: Path, place: str
) -> None:
    (tmp_path / "link.zarr").symlink_to(source)
    (tmp_path / "folder").symlink_to(source.parent)
    with rejects("output-is-input", "--source", "source.zarr"):
        check(tmp_path / place, source)


def test_a_link_is_the_input_it_leads_to(tmp_path: Path, source: Path) -> None:
    link = tmp_path / "link.zarr"
    link.symlink_to(source)
    for place in (source, source.parent):
        with rejects("output-is-input", str(link)):
            check(place, link)


def test_hard_links_are_the_same_file(tmp_path: Path) -> None:
    truth, scores = tmp_path / "truth.nc", tmp_path / "scores.nc"
    truth.write_text("truth")
    os.link(truth, scores)
    with rejects("output-is-input", "--truth", "truth.nc"):
        check_outputs([Output(scores, "scores", anything)], {"--truth": [truth]})


def test_the_hidden_name_of_an_output_is_no_input_either(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    inside = work_folder_of(path) / "store"
    inside.mkdir(parents=True)
    with rejects("output-is-input", "--source"):
        check(path, inside)
    link = tmp_path / "link.zarr"
    link.symlink_to(path)
    with rejects("output-is-input", "--source"):
        check(link, inside)


def test_neighbors_of_inputs_and_missing_inputs_are_no_matter(tmp_path: Path, source: Path) -> None:
    check(source.parent / "source.zarr.nc", source, tmp_path / "missing.nc", Path("a\0b"))
    check(source.parent / "new.zarr", source)


@pytest.mark.parametrize(
    "second", ["run/scores.nc", "run/../run/SCORES.nc", "run/.scores.nc.partial", "run/scores.nc/f"]
)
def test_outputs_of_one_command_differ(tmp_path: Path, second: str) -> None:
    (tmp_path / "run").mkdir()
    first = Output(tmp_path / "run/scores.nc", "scores", has_work_folder=True)
    outputs = [first, Output(tmp_path / second, "report")]
    for each in (outputs, outputs[::-1]):
        with rejects("same-output", "scores", "report"):
            check_outputs(each, {})


def test_the_work_folder_may_have_another_name(tmp_path: Path) -> None:
    name = tmp_path / "a@branch"
    output = Output(tmp_path / "a", "forecasts", has_work_folder=True, made_as=name)
    assert output.working_path == name
    with rejects("same-output", ".a@branch.partial"):
        check_outputs([output, Output(tmp_path / ".a@branch.partial", "report")], {})
    check_outputs([output, Output(tmp_path / ".a.partial", "report")], {})


def test_hard_links_are_no_two_outputs(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("")
    os.link(first, second)
    with rejects("same-output", "scores", "report"):
        check_outputs([Output(first, "scores"), Output(second, "report")], {})


def test_only_what_is_recognized_is_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "scores.json", tmp_path / "other"
    output = Output(path, "scores", lambda path: "scores" in json.loads(path.read_text()))
    for text, may in (("", True), ('{"scores": 1}', True), ("{}", False), ("[", False)):
        path.write_text(text)
        assert may_replace(path, output.is_ours) == may
    with rejects("output-exists", str(path), "scores"):
        check_outputs([output], {})
    other.mkdir()
    with rejects("output-exists", str(other)):
        require_ours(Output(other, "scores", lambda path: path.read_text() == "scores"))
    with rejects("output-exists", str(path)):
        require_ours(Output(path, "the training store"))
    require_ours(Output(tmp_path / "new", "scores"))
    other.rename(tmp_path / "gone")
    (tmp_path / "link").symlink_to(other)
    require_ours(Output(tmp_path / "link", "scores"))


@pytest.mark.parametrize("error", DAMAGE)
def test_what_cannot_be_read_is_not_recognized(tmp_path: Path, error: type[Exception]) -> None:
    def read(path: Path) -> bool:
        raise error

    path = tmp_path / "scores.json"
    path.write_text("mine")
    with rejects("output-exists", str(path)):
        require_ours(Output(path, "scores", read))


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scores.json")
    with rejects("output-exists", "scores.json"):
        require_ours(
            Output(tmp_path / "scores.json", "scores", lambda path: bool(path.read_text()))
        )


def test_places_that_cannot_hold_an_output_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with rejects("not-a-folder", str(tmp_path / "file")):
        check_outputs([Output(Path("file/a/scores.nc"), "scores")], {})
    for url in ("gs://bucket/f.zarr", "file:///tmp/f.zarr", "memory://f.zarr"):
        with rejects("bad-setting", "forecasts"):
            check_outputs([Output(Path(url), "forecasts", has_work_folder=True)], {})


def test_a_store_that_holds_something_else_is_not_recognized(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    group = zarr.create_group(path, attributes={"blow_ups": "[]"})
    group.create_group("diagnostics").create_array("mean", shape=(2,), dtype="f4")[:] = 1
    assert zarr_attributes(path) == {"blow_ups": "[]"}
    for place in ("notes.txt", "diagnostics/notes.txt", "diagnostics/mean/notes.txt"):
        (path / place).write_text("mine")
        assert zarr_attributes(path) == {}
        (path / place).unlink()
    (path / "mine").mkdir()
    assert zarr_attributes(path) == {}


def test_outputs_that_are_certain_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *_: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", read_only)
    check_outputs([Output(tmp_path / "history.json", "the record of a training")], {})
    with rejects("no-permission", str(tmp_path / "scores.nc")):
        check_outputs([Output(tmp_path / "scores.nc", "scores", is_certain=True)], {})
