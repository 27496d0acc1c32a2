"""One process at a time."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from data_pipeline.files.locks import locked, only_process
from tests.builders.errors import rejects


def test_one_process_at_a_time_which_the_error_names(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with (
        only_process(lock, "trains in run"),
        rejects("busy", "trains in run", str(os.getpid()), "--output"),
        only_process(lock, "trains in run"),
    ):
        pass
    assert not lock.exists()
    with only_process(lock, "trains in run"):
        pass


def test_the_file_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.write_text("process 1 on a node that has gone")
    with only_process(lock, "trains in run"):
        assert "gone" not in lock.read_text()
    assert not lock.exists()


def test_files_and_links_of_other_people_stay(tmp_path: Path) -> None:
    lock, thesis = tmp_path / ".lock", tmp_path / "thesis"
    thesis.write_text("years of work")
    for plant in (
        lambda: lock.symlink_to(thesis),
        lambda: lock.symlink_to(tmp_path / "nothing"),
        lambda: lock.hardlink_to(thesis),
        lambda: os.mkfifo(lock),
        lock.mkdir,
    ):
        plant()
        with rejects("output-exists", str(lock)), only_process(lock, "trains in run"):
            pass
        assert thesis.read_text() == "years of work"
        (lock.rmdir if lock.is_dir() else lock.unlink)()


def test_the_other_name_of_a_lock_that_was_left_stays_as_it_is(tmp_path: Path) -> None:
    """Backups may consist of hard links."""
    lock, backup = tmp_path / ".lock", tmp_path / "backup"
    backup.write_text("process 1 on a node that has gone")
    lock.hardlink_to(backup)
    with only_process(lock, "trains in run"):
        pass
    assert backup.read_text() == "process 1 on a node that has gone"
    assert not lock.exists()


def test_a_lock_whose_file_was_removed_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process before ends between the opening of its file and the lock."""
    lock, flock, files = tmp_path / ".lock", fcntl.flock, []

    def late(file: int, operation: int) -> None:
        files.append(file)
        if len(files) == 1:
            lock.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with only_process(lock, "trains in run"):
        assert lock.exists()
    assert len(files) == 2


def test_a_file_system_without_locks_or_without_writing_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with only_process(tmp_path / "nowhere" / ".lock", "trains in run"):
        pass

    def unsupported(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with only_process(tmp_path / ".lock", "trains in run"):
        pass


def test_a_lock_that_stays_is_taken_again(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for activity in ("", "writes out"):
        with locked(lock, activity), rejects("busy", "writes out"), locked(lock, "writes out"):
            pass
        assert lock.exists()


def test_who_waits_for_a_lock_gets_it_when_the_folder_has_gone_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process before has published its work, and removed the work folder with its lock."""
    lock, flock = tmp_path / "work" / "lock", fcntl.flock
    lock.parent.mkdir()

    def late(file: int, operation: int) -> None:
        flock(file, operation)
        lock.unlink()
        lock.parent.rmdir()

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(lock) as file:
        assert file is None


def test_the_lock_of_the_next_process_stays(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_process(lock, "writes out"):
        lock.unlink()
        lock.write_text("process 2")
    assert lock.read_text() == "process 2"
