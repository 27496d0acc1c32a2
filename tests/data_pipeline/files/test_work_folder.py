"""Work folders: resuming, other work, several processes, and what is dropped after an error."""

import errno
from pathlib import Path

import pytest

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.work_folder import WorkFolder, resumable
from tests.builders.errors import rejects


def make_store(work: WorkFolder, name: str = "data") -> None:
    work.store.mkdir(exist_ok=True)
    (work.store / name).touch()


def interrupt(path: Path, identity: str, error: BaseException) -> None:
    with pytest.raises(type(error)), resumable(path, identity) as work:  # noqa: PT012
        make_store(work)
        work.record(3, {"checksum": "aa"})
        raise error


def test_the_output_appears_when_all_is_done(tmp_path: Path) -> None:
    with resumable(tmp_path / "new" / "out", "a") as work:
        make_store(work)
        (work.store / "c.0123.partial").touch()  # of a writer that was killed
        assert not work.path.exists()
    assert [entry.name for entry in work.path.iterdir()] == ["data"]
    assert not work.folder.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TransferError("no network")])
def test_interrupted_work_is_resumed_if_it_is_the_same(
    tmp_path: Path, error: BaseException
) -> None:
    interrupt(tmp_path / "out", "a", error)
    with resumable(tmp_path / "out", "a") as work:
        assert work.records == {3: {"checksum": "aa"}}
        assert (work.store / "data").exists()
    interrupt(tmp_path / "other", "a", error)
    with resumable(tmp_path / "other", "b") as work:
        assert not work.records
        assert not work.store.exists()
        make_store(work)


def test_an_error_of_the_input_drops_the_work_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    interrupt(tmp_path / "out", "a", InputError("NaN"))
    assert not list(tmp_path.iterdir())
    work = WorkFolder(tmp_path / "out", "a")
    with pytest.raises(InputError), work.opened(keep=lambda: True):
        raise InputError("NaN")
    assert work.folder.exists()


def test_other_work_may_be_defended(tmp_path: Path) -> None:
    interrupt(tmp_path / "out", "a", KeyboardInterrupt())

    def defend(identity: str) -> None:
        raise InputError(f"of {identity}", code="other-configuration")

    work = WorkFolder(tmp_path / "out", "b")
    with rejects("other-configuration", "of a"), work.opened(replace=defend):
        pass
    with resumable(tmp_path / "out", "a") as work:
        assert work.records


def test_the_last_of_several_processes_publishes(tmp_path: Path) -> None:
    first, second = (WorkFolder(tmp_path / "out", "a", rank) for rank in range(2))
    with first.opened(create=lambda: make_store(first)), second.opened():
        first.record(0, {})
        assert not first.publish(2)
        second.record(1, {})
        assert second.publish(2, lambda store: store / "data")
    assert (tmp_path / "out").is_file()
    assert first.publish(2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_one_process_works_at_a_time(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "out", "a")
    with (
        work.opened(),
        rejects("busy", str(tmp_path / "out")),
        WorkFolder(tmp_path / "out", "a").opened(),
    ):
        pass
    assert work.folder.exists()


def test_a_full_disk_keeps_the_work(tmp_path: Path) -> None:
    with rejects("disk-full", str(tmp_path / "out")), resumable(tmp_path / "out", "a") as work:
        work.record(0, {})
        raise OSError(errno.ENOSPC, "No space left on device")
    assert work.folder.exists()


@pytest.mark.parametrize("name", ["ledger-0.jsonl", "ledger.jsonl"])  # now, and before
def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path, name: str) -> None:
    work = WorkFolder(tmp_path / "out", "a")
    work.folder.mkdir()
    (work.folder / name).write_text('{"start": 0, "checksum": "aa"}\n{"start": 5, "che')
    work.read_records()
    assert work.records == {0: {"checksum": "aa"}}
    work.record(5, {"checksum": "bb"})
    work.read_records()
    assert work.records == {0: {"checksum": "aa"}, 5: {"checksum": "bb"}}


def test_an_output_that_appears_meanwhile_is_kept_and_so_is_the_work(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with rejects("output-exists", str(path)), resumable(path, "a") as work:
        make_store(work)
        work.record(0, {"checksum": "aa"})
        path.write_text("of somebody else")
    assert path.read_text() == "of somebody else"
    assert (work.store / "data").exists()
    path.rename(tmp_path / "theirs")
    with resumable(path, "a") as work:
        assert work.records == {0: {"checksum": "aa"}}
    assert (path / "data").exists()
    work = WorkFolder(path, "b")
    with work.opened(create=lambda: make_store(work, "new")):
        assert work.publish(overwrite=True)
    assert [entry.name for entry in path.iterdir()] == ["new"]
