import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.errors import InputError
from fourcastnet_afno.cli.last_net import guard

PROGRAM = [sys.executable, "-m", "fourcastnet_afno"]


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def test_a_command_keeps_its_exit_code() -> None:
    assert [guard(lambda code=code: code, []) for code in (0, 1, 75)] == [0, 1, 75]


class Panic(BaseException):
    """As an extension in Rust raises it."""


@pytest.mark.parametrize("error", [KeyError("x"), Panic("[/x]\x1b[31m\nsecond")])
def test_a_defect_is_three_lines_and_a_record(
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guard(raising(error), ["train", "--output=a b"]) == os.EX_SOFTWARE == 70
    lines = capsys.readouterr().err.splitlines()
    (record,) = tmp_path.iterdir()
    assert len(lines) == 3
    assert type(error).__name__ in lines[0]
    assert str(record) in lines[2]
    assert "\x1b" not in "".join(lines)
    text = record.read_text()
    assert "fourcastnet-afno train '--output=a b'" in text
    assert "Traceback" in text
    assert "torch" in text
    assert record.stat().st_mode & 0o077 == 0


def test_a_record_is_written_where_that_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    other.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(other))
    opening = os.open

    def read_only(path: str | Path, *arguments: int) -> int:
        if Path(path).parent == here:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opening(path, *arguments)

    monkeypatch.setattr(os, "open", read_only)
    assert guard(raising(KeyError("x")), []) == 70
    assert [p.parent for p in tmp_path.rglob("*.log")] == [other]
    assert str(other) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "named"),
    [
        (InputError("no file"), 2, "no file"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2, "x" * 300),
        (OSError(errno.EIO, "Input/output error"), 2, "Input/output error"),
        (KeyboardInterrupt(), 130, "run the same command again"),
        (MemoryError("Unable to allocate 8. GiB"), 2, "8. GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 2, "9 bytes"),
    ],
)
def test_other_ends_are_one_line(
    error: BaseException, code: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(raising(error), []) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_closed_descriptors_are_opened() -> None:
    program = (
        "import os; os.close(1); os.close(2); from fourcastnet_afno.cli import last_net;"
        "last_net.open_standard_streams(); assert os.open(os.devnull, os.O_RDONLY) == 3"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_open_descriptors_stay() -> None:
    program = (
        "import os; from fourcastnet_afno.cli import last_net; before = os.listdir('/dev/fd');"
        "last_net.open_standard_streams(); assert os.listdir('/dev/fd') == before"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("> /dev/full", 2, "standard output"),
        (">&- 2>&-", 0, ""),
        ("| (exec <&-; touch closed)", 141, ""),
        ("2> /dev/full", 0, ""),
    ],
)
def test_outputs_that_cannot_be_written(
    redirection: str, code: int, said: str, tmp_path: Path
) -> None:
    wait = "while [ ! -e closed ]; do sleep 0.01; done; " if "closed" in redirection else ""
    command = f"set -o pipefail; ({wait}exec {' '.join(PROGRAM)} --version) {redirection}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, said in done.stderr) == (code, True)
    assert len(done.stderr.splitlines()) == bool(said)


def test_a_deleted_working_directory_is_an_error(tmp_path: Path) -> None:
    command = f"mkdir gone && cd gone && rmdir ../gone && {' '.join(PROGRAM)} runs ."
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "working directory" in done.stderr.splitlines()[-1]
