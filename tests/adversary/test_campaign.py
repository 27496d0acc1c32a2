"""The judgement of attacks: a command with any of the faults that it looks for has that fault."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adversary.attacks import Attack
from tests.adversary.campaign import judge


def judgement(tmp_path: Path, command: Callable[[list[str]], int]) -> list[str]:
    work = tmp_path / "attack" / "work"
    (work / "out").mkdir(parents=True)
    (work / "bystander.txt").write_text("a file of someone else")
    attack = Attack(words=["thing"], what="a flipped bit", names=["thing"], must_fail=True)
    return judge("attack", attack, work, command).faults


def rejects_it(words: list[str]) -> int:
    Path("out/new").write_text("its own")
    print("error: the thing is damaged")
    return 2


def accepts_it(words: list[str]) -> int:
    return 0


def writes_a_bystander(words: list[str]) -> int:
    Path("bystander.txt").write_text("lost")
    return rejects_it(words)


def deletes_a_bystander(words: list[str]) -> int:
    Path("bystander.txt").unlink()
    return rejects_it(words)


def leaves_a_file(words: list[str]) -> int:
    Path("new").write_text("not its own")
    return rejects_it(words)


def has_a_defect(words: list[str]) -> int:
    raise KeyError(words[0])


def takes_all_memory(words: list[str]) -> int:
    return len(bytearray(2**40))


def kills_itself(words: list[str]) -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def names_nothing(words: list[str]) -> int:
    print("error: something is damaged")
    return 2


def colors_the_terminal(words: list[str]) -> int:
    print("error: \x1b[31mthing")
    return 2


def says_nothing(words: list[str]) -> int:
    return 2


def test_a_rejection_that_names_the_thing_has_no_fault(tmp_path: Path) -> None:
    assert judgement(tmp_path, rejects_it) == []


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (accepts_it, "accepted the damage"),
        (writes_a_bystander, "touched ['bystander.txt']"),
        (deletes_a_bystander, "touched ['bystander.txt']"),
        (leaves_a_file, "touched ['new']"),
        (has_a_defect, "traceback"),
        (takes_all_memory, "traceback"),
        (kills_itself, f"ended with -{signal.SIGSEGV.value}"),
        (names_nothing, "named none of ['thing']"),
        (colors_the_terminal, "escape sequence"),
        (says_nothing, "printed no error"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, command: Callable[[list[str]], int], fault: str) -> None:
    assert any(fault in found for found in judgement(tmp_path, command))
