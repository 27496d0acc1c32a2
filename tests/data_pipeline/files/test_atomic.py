"""A file appears complete or not at all, replaces only a file, and what prevents it is named."""

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.errors import TransferError
from data_pipeline.files.atomic import (
    check_writable,
    explain_state,
    make_folder,
    replacing,
    write_text,
    writing_to,
)
from tests.builders.errors import rejects
from tests.builders.limits import small_files


def write(path: Path, text: str = "new", *, private: bool = False) -> None:
    with replacing(path, private=private) as temporary:
        temporary.write_text(text)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "scores.json"
    write(path, "old")
    with pytest.raises(RuntimeError):
        _fail_half_way(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def _fail_half_way(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    kept = tmp_path / "scores.nc" / "kept"
    kept.parent.mkdir()
    kept.touch()
    with rejects("not-a-file", str(tmp_path / "scores.nc")):
        write(tmp_path / "scores.nc")
    assert kept.exists()


def test_a_file_that_looks_as_if_it_were_left_stays(tmp_path: Path) -> None:
    theirs = tmp_path / ".scores.nc.partial"
    theirs.write_text("years of work")
    write(tmp_path / "scores.nc")
    check_writable(tmp_path / "scores.nc")
    assert theirs.read_text() == "years of work"


def test_a_folder_that_appears_while_a_file_is_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "scores.nc"
    with rejects("not-a-file", str(path)), replacing(path) as temporary:
        temporary.touch()
        path.mkdir()
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with rejects("not-a-file", str(tmp_path / "pipe")):
        write(tmp_path / "pipe")
    with rejects("not-a-file", "/dev/null"):
        write(Path("/dev/null"))


def test_the_file_that_a_link_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    for name, target in (("link", tmp_path / "theirs"), ("dangling", tmp_path / "nowhere")):
        (tmp_path / name).symlink_to(target)
        write(tmp_path / name)
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "theirs").read_text() == "theirs"
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to(tmp_path / "folder")
    with rejects("not-a-file", str(tmp_path / "folder")):
        write(tmp_path / "to folder")


def test_the_mode_follows_the_umask_or_is_private(tmp_path: Path) -> None:
    for umask, expected in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            with replacing(tmp_path / "file") as temporary:  # as libraries with modes of their own
                os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
            write(tmp_path / "private", private=True)
        finally:
            os.umask(before)
        assert mode_of(tmp_path / "file") == expected
        assert mode_of(tmp_path / "private") == 0o600


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "new", tmp_path / "file" / "folder" / "new"):
        with rejects("not-a-folder", str(path), f"({tmp_path / 'file'}"):
            write(path)
    with rejects("not-a-folder", str(tmp_path / "file")):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("number", "code", "may_pass"),
    [
        (errno.ENOSPC, "disk-full", True),
        (errno.EDQUOT, "disk-full", True),
        (errno.EFBIG, "disk-full", True),
        (errno.EIO, "cannot-write", True),
        (errno.ESTALE, "cannot-write", True),
        (errno.EBUSY, "cannot-write", True),
        (errno.EROFS, "no-permission", False),
        (errno.EACCES, "no-permission", False),
        (errno.EPERM, "no-permission", False),
        (errno.ENOTDIR, "not-a-folder", False),
        (errno.EISDIR, "not-a-file", False),
        (errno.ELOOP, "cannot-write", False),
        (errno.ENAMETOOLONG, "cannot-write", False),
    ],
)
def test_the_reason_is_named(tmp_path: Path, number: int, code: str, may_pass: bool) -> None:
    for names in ([], [str(tmp_path / "file")], [str(tmp_path.parent)]):
        with rejects(code, str(tmp_path / "file"), os.strerror(number)) as info:
            raise_in_block(tmp_path / "file", OSError(number, os.strerror(number), *names))
        assert isinstance(info.value, TransferError) == may_pass
    message = f"I/O error: {os.strerror(number)} (os error {number})"  # of a library in Rust
    with rejects(code, str(tmp_path / "file"), message):
        raise_in_block(tmp_path / "file", KeyError(message))


def raise_in_block(path: Path, error: Exception) -> None:
    with writing_to(path, KeyError):
        raise error


def test_a_text_that_is_there_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "é\n")
    before = path.stat()
    write_text(path, "é\n")
    assert path.stat() == before
    write_text(path, "e\n")
    assert path.read_text() == "e\n"


def test_what_cannot_be_written_is_known_before_and_nothing_is_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "scores.nc", tmp_path / "new" / "folder" / "report.html")
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with rejects("not-a-file", str(tmp_path / "folder")):
        check_writable(tmp_path / "folder")
    for path in (tmp_path / "file" / "new", tmp_path / "file" / "folder" / "new"):
        with rejects("not-a-folder", str(path)):
            check_writable(path)


def test_a_disk_that_is_read_only_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *_: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", read_only)
    with rejects("no-permission", str(tmp_path / "scores.nc"), os.strerror(errno.EROFS)):
        check_writable(tmp_path / "scores.nc")


def test_a_library_that_meets_a_limit(tmp_path: Path) -> None:
    values = xr.Dataset({"x": ("i", np.arange(9999.0))})
    with small_files(), rejects("disk-full", str(tmp_path / "file")):
        write(tmp_path / "file", "x" * 10_000)
    with (
        small_files(),
        rejects("cannot-write", str(tmp_path / "file.nc")),
        replacing(tmp_path / "file.nc", RuntimeError) as temporary,
    ):
        values.to_netcdf(temporary, engine="netcdf4")
    assert not list(tmp_path.iterdir())


def test_states_of_the_system_are_explained_and_defects_are_not() -> None:
    assert "/data/file" in explain_state(OSError(errno.EIO, "Input/output error", "/data/file"))
    assert "full" in explain_state(OSError(errno.ENOSPC, "the disk is full"))
    assert not explain_state(FileNotFoundError(errno.ENOENT, "No such file", "/data/file"))
    assert not explain_state(OSError("of a library"))


def test_errors_of_reading_elsewhere_are_not_those_of_writing(tmp_path: Path) -> None:
    for number in (errno.ENOENT, errno.EACCES, errno.EIO):
        for other in ("/elsewhere/data.nc", str(tmp_path / "data.nc")):
            with pytest.raises(OSError, match=r"data\.nc"):
                raise_in_block(tmp_path / "file", OSError(number, "no", other))


def test_links_to_nothing_and_names_that_are_too_long(tmp_path: Path) -> None:
    for target in ("link", "nowhere"):
        (tmp_path / "link").symlink_to(tmp_path / target)
        with rejects("not-a-folder", f"({tmp_path / 'link'})"):
            write(tmp_path / "link" / "file")
        (tmp_path / "link").unlink()
    with rejects("cannot-write", "x" * 300):
        write(tmp_path / ("x" * 300))
