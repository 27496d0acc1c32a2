"""Work folders: resuming, other work, several processes, and what is dropped after an error."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.work_folder import WorkFolder, resumable
from tests.builders.errors import rejects


def make_store(work: WorkFolder, name: str = "data") -> None:
    work.store.mkdir(exist_ok=True)
    (work.store / name).touch()


def interrupt(path: Path, identity: str, error: BaseException, *, pieces: int = 1) -> None:
    """Work that stops after some pieces, in a store with a file of the name of the identity."""
    with pytest.raises(type(error)), resumable(path, identity) as work:  # noqa: PT012
        make_store(work, identity)
        for _ in range(pieces):
            work.record(3, {"checksum": "aa"})
        raise error


def look(path: Path, identity: str) -> tuple[list[int], list[str]]:
    """The pieces and the files that work resumes with."""
    work = WorkFolder(path, identity)
    with work.opened(create=work.store.mkdir):
        return list(work.records), [entry.name for entry in work.store.iterdir()]


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
    assert look(tmp_path / "out", "a") == ([3], ["a"])
    assert look(tmp_path / "out", "b") == ([], [])


def test_an_error_before_the_first_piece_leaves_nothing_behind(tmp_path: Path) -> None:
    interrupt(tmp_path / "out", "a", InputError("NaN"), pieces=0)
    assert not list(tmp_path.iterdir())
    work = WorkFolder(tmp_path / "out", "a")
    with pytest.raises(InputError), work.opened(keep=True):
        raise InputError("NaN")
    assert work.folder.exists()


def test_the_token_is_that_of_one_work_until_it_is_finished(tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        interrupt(tmp_path / "out", "a", KeyboardInterrupt())
        tokens.append(WorkFolder(tmp_path / "out", "a").token)
        interrupt(tmp_path / "out", "a", KeyboardInterrupt())
        assert WorkFolder(tmp_path / "out", "a").token == tokens[-1] != ""
        work = WorkFolder(tmp_path / "out", "a")
        with work.opened():
            assert work.publish(complete=lambda store: None)  # has put it elsewhere
        assert not list(tmp_path.iterdir())
        assert work.token == ""
    assert tokens[0] != tokens[1]


def test_no_error_deletes_finished_pieces(tmp_path: Path) -> None:
    path, error = tmp_path / "out", InputError("the disk is too small", code="disk-full")
    interrupt(path, "a", error)
    interrupt(path, "a", error, pieces=0)
    assert look(path, "a") == ([3], ["a"])
    work = WorkFolder(tmp_path / "forecast", "a")
    for _ in range(2):
        with pytest.raises(InputError), work.opened():  # noqa: PT012
            (work.folder / "restart-0.safetensors").touch()
            raise error
    assert (work.folder / "restart-0.safetensors").exists()


def test_other_work_stays_until_the_first_piece(tmp_path: Path) -> None:
    path = tmp_path / "out"
    interrupt(path, "a", KeyboardInterrupt())
    for identity in "bcb":
        interrupt(path, identity, InputError("NaN"), pieces=0)
    interrupt(path, "d", KeyboardInterrupt(), pieces=0)
    assert look(path, "a") == ([3], ["a"])
    interrupt(path, "b", KeyboardInterrupt())
    assert look(path, "a") == ([], [])


@pytest.mark.parametrize("num_moves", range(6))
def test_killed_while_other_work_is_set_aside_or_put_back_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_moves: int
) -> None:
    path, left, rename = tmp_path / "out", [num_moves], Path.rename
    interrupt(path, "a", KeyboardInterrupt())

    def rename_or_die(entry: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return rename(entry, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        with pytest.raises(KeyboardInterrupt):
            interrupt(path, "b", InputError("NaN"), pieces=0)
    assert look(path, "a") == ([3], ["a"])


def test_a_folder_of_that_name_that_is_no_work_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / ".out.partial"
    (folder / "store").mkdir(parents=True)
    with rejects("output-exists", str(folder), "store"), resumable(tmp_path / "out", "a"):
        pass
    assert [entry.name for entry in folder.iterdir()] == ["store"]
    (folder / "lock").touch()
    (folder / "thesis").touch()
    with rejects("output-exists", str(folder), "thesis"), resumable(tmp_path / "out", "a"):
        pass
    assert (folder / "thesis").exists()


def test_an_output_that_is_a_link_to_another_disk_is_written_there(
    tmp_path: Path, other_disk: Path
) -> None:
    (tmp_path / "out").symlink_to(other_disk / "out")  # nothing is there yet
    with resumable(tmp_path / "out", "a") as work:
        make_store(work)
    assert (tmp_path / "out").is_symlink()
    assert (other_disk / "out" / "data").exists()
    with WorkFolder(tmp_path / "out", "b").opened():  # nor are there two places of work
        assert (other_disk / ".out.partial").exists()


@pytest.mark.parametrize("name", ["", "data"])
def test_a_work_folder_may_be_a_link_to_another_disk(
    tmp_path: Path, other_disk: Path, name: str
) -> None:
    (tmp_path / ".out.partial").symlink_to(other_disk)
    work = WorkFolder(tmp_path / "out", "a")
    with work.opened(create=lambda: make_store(work)):
        work.publish(complete=lambda store: store / name)
    assert (tmp_path / "out").is_file() == bool(name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.partial", "out"]
    assert not list(other_disk.iterdir())


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder on another disk than that of temporary files, where there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


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
@pytest.mark.parametrize("damage", ["", "{]\n", "3\n", "{}\n", "\0\0\n"])
def test_a_line_that_is_damaged_or_cut_off_does_not_count(
    tmp_path: Path, name: str, damage: str
) -> None:
    work = WorkFolder(tmp_path / "out", "a")
    work.folder.mkdir()
    (work.folder / name).write_text(damage + '{"start": 0, "checksum": "aa"}\n{"start": 5, "che')
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
        assert work.publish(is_ours=Path.is_dir)
    assert [entry.name for entry in path.iterdir()] == ["new"]


def test_a_kill_between_the_old_output_and_the_new_one_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    work, rename = WorkFolder(path, "a"), os.replace

    def killed(source: Path, target: Path) -> None:
        if target == path:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt), work.opened(create=lambda: make_store(work, "new")):
        work.publish(is_ours=Path.is_dir)
    assert (work.folder / "replaced" / "old").read_text() == "old"
    monkeypatch.undo()
    with work.opened():
        assert work.publish(is_ours=Path.is_dir)
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_is_not_recognized_at_the_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    work = WorkFolder(path, "a")
    with (
        rejects("output-exists", str(path)),
        work.opened(create=lambda: make_store(work), keep=True),
    ):
        path.mkdir()
        (path / "theirs").write_text("of somebody else")
        work.publish(is_ours=lambda path: (path / "data").exists())
    assert [entry.name for entry in path.iterdir()] == ["theirs"]
    assert (work.store / "data").exists()
