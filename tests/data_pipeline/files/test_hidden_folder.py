"""Processes that write in one place neither meet nor delete what is not left by a killed one."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.files.atomic import replacing, sweep
from data_pipeline.files.hidden_folder import hidden_folder, is_hidden_folder, remove
from data_pipeline.files.outputs import Output, check_outputs


def leave(parent: Path, die: Callable[[], object] = lambda: None) -> Path:
    """The folder of a process that was killed while it wrote."""
    if (child := os.fork()) == 0:
        die()
        with hidden_folder(parent) as folder:
            (folder / "store").mkdir()
            (folder / "store" / "chunk").write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    (left,) = (path for path in parent.iterdir() if is_hidden_folder(path.name))
    return left


def test_the_folder_is_there_for_the_block(tmp_path: Path) -> None:
    with hidden_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        (folder / "chunk").touch()
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_file_both_write_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with replacing(path) as first:
        first.write_text("fir")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        with first.open("a") as file:
            file.write("st")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_deleted_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    left = leave(tmp_path)
    with hidden_folder(tmp_path) as other, hidden_folder(tmp_path):
        assert other.exists()
        assert not left.exists()


def test_a_sweep_deletes_files_and_folders_that_killed_writers_left(tmp_path: Path) -> None:
    store = tmp_path / "store" / "group"
    store.mkdir(parents=True)
    leave(store)
    (store / "c.0123.partial").touch()
    with hidden_folder(store) as other:
        sweep(tmp_path)
        assert list(store.iterdir()) == [other]


def test_a_kill_before_there_is_a_note_or_a_lock_leaves_nothing_for_long(tmp_path: Path) -> None:
    def die(*_: object) -> None:
        os._exit(9)

    for moment in ("open", "write"):
        left = leave(tmp_path, lambda moment=moment: setattr(os, moment, die))
        with hidden_folder(tmp_path):
            assert not left.exists()


def test_the_next_command_that_may_write_in_the_same_place_deletes_what_is_left(
    tmp_path: Path,
) -> None:
    left = leave(tmp_path)
    check_outputs([Output(tmp_path / "new" / "folder" / "scores.nc", "scores")], {})
    assert left.exists()
    check_outputs([Output(tmp_path / "scores.nc", "scores")], {})
    assert not left.exists()


def test_folders_of_other_people_stay(tmp_path: Path) -> None:
    thesis = tmp_path / ".abcd1234.partial" / "thesis"
    thesis.parent.mkdir()
    (tmp_path / ".link0000.partial").symlink_to(thesis.parent)
    (tmp_path / ".file0000.partial").write_text("years of work")
    for note in (None, "", "mine"):
        thesis.write_text("years of work")
        if note is not None:
            (thesis.parent / ".process").write_text(note)
        with hidden_folder(tmp_path):
            pass
        assert thesis.read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_process_that_deletes_what_is_left_is_faster_than_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before there is a lock, or just before the lock is held."""
    opened, flock, locks = os.open, fcntl.flock, list[Path]()

    def late_open(path: Path, *options: int) -> int:
        locks.append(path)
        if len(locks) == 1:
            path.parent.rmdir()
        return opened(path, *options)

    def late_lock(file: int, operation: int) -> None:
        if len(locks) == 2:
            raise BlockingIOError
        if len(locks) == 3:
            locks[-1].unlink()
        flock(file, operation)

    monkeypatch.setattr(os, "open", late_open)
    monkeypatch.setattr(fcntl, "flock", late_lock)
    with hidden_folder(tmp_path):
        assert len(locks) == 4
        assert locks[-1].exists()


def test_without_locks_nothing_is_taken_for_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(tmp_path)

    def unsupported(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with hidden_folder(tmp_path):
        pass
    assert left.exists()


def test_a_folder_that_cannot_get_its_lock_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="space"), hidden_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_removing_a_link_keeps_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]
    remove(tmp_path / "folder")
    remove(tmp_path / "folder")
    assert not list(tmp_path.iterdir())
