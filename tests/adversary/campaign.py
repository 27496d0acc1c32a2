"""One attack: a copy of the workspace, a change, a command, and a judgement."""

import random
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fourcastnet_afno.cli.main import main
from tests.adversary.attacks import ATTACKS, Attack
from tests.adversary.snapshots import digests
from tests.adversary.trials import Outcome, faults_of, run_command


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of an attack.

    Args:
        name: Kind and seed.
        attack: What was changed, and the command.
        outcome: What the command did.
        faults: What is wrong with that.
    """

    name: str
    attack: Attack
    outcome: Outcome
    faults: list[str]

    def __str__(self) -> str:
        repeat = "python -m tests.adversary " + self.name.replace("-", " ")
        head = [f"{self.name}: {self.attack.what}", f"  {shlex.join(self.attack.words)}"]
        faults = [f"  FAULT: {fault}" for fault in self.faults]
        end = f"  code {self.outcome.code}, {self.outcome.seconds:.1f} s; repeat: {repeat}"
        return "\n".join([*head, *faults, end, self.outcome.text[-3000:]])


def try_attack(kind: str, seed: int, pristine: Path, folder: Path) -> Report:
    """Attack a copy of ``pristine`` in ``folder``.

    Args:
        kind: Of ``ATTACKS``.
        seed: Of the attack.
        pristine: A workspace.
        folder: To make.
    """
    work = folder / "work"
    shutil.copytree(pristine, work, symlinks=True)
    attack = ATTACKS[kind](work, random.Random(f"{kind}-{seed}"))
    return judge(f"{kind}-{seed}", attack, work)


def judge(
    name: str, attack: Attack, work: Path, command: Callable[[list[str]], int] = main
) -> Report:
    """Run the command of an attack in ``work``, and look at what it says and leaves there.

    Args:
        name: Of the attack.
        attack: That was done.
        work: Where; the command may change its folder ``out``, and nothing else there.
        command: Function to call with the words of the attack.
    """
    before = digests(work, work / "out")
    outcome = run_command(attack.words, work, work.parent.with_suffix(".log"), command)
    for record in work.glob("fourcastnet-afno-*.log"):  # of a defect
        outcome = replace(outcome, text=f"{outcome.text}\n{record.read_text()}")
        record.unlink()
    after = digests(work, work / "out")
    allowed = (0, 1, 2) if attack.words[0] == "doctor" else (0, 2)
    faults = faults_of(outcome, attack.names, allowed)
    if attack.must_fail and outcome.code == 0:
        faults.append("it accepted the damage")
    touched = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    touched |= before.keys() - after.keys()
    if not attack.may_create:
        touched |= after.keys() - before.keys()
    if touched:
        faults.append(f"it touched {sorted(touched)}")
    return Report(name=name, attack=attack, outcome=outcome, faults=faults)
