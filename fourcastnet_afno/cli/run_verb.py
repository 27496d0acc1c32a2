"""One verb with its words: parsed, run, and its errors as messages and exit codes."""

import os
from collections.abc import Sequence

from rich.console import Console

from data_pipeline.errors import InputError
from fourcastnet_afno.cli.parser import PROGRAM, function_of, parse
from fourcastnet_afno.cli.verbs import VERBS
from fourcastnet_afno.cli.words import complete


def run_verb(name: str, words: Sequence[str]) -> int:
    """Run a verb with the words after it, and return the exit code, see ``main``."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        name, completed = complete(name, words)
        arguments = parse(name, completed)  # help ends here
        from fourcastnet_afno.parallel.environment import LaunchEnvironment
        from fourcastnet_afno.training.signals import TrainingInterruptedError

        environment = LaunchEnvironment.from_environment(os.environ)
        if environment.world_size > 1 and not VERBS[name].is_parallel:
            raise InputError(
                f"`{name}` runs in one process and {environment.world_size} were started; torchrun "
                f"and srun are for {', '.join(n for n, verb in VERBS.items() if verb.is_parallel)}",
                code="one-process",
            )
        try:
            return function_of(name)(**arguments) or os.EX_OK
        except TrainingInterruptedError as stop:
            if environment.rank == 0:
                command = " ".join([PROGRAM, name, *completed])
                errors.print(f"{stop}; the last checkpoint is complete. Resume with: {command}")
            return stop.exit_code
    except InputError as error:
        errors.print(f"error: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted; run the same command again")
        return 130
