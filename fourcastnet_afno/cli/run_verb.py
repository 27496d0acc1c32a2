"""One verb with its words: completed, parsed, run, and its errors as messages and exit codes."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError
from data_pipeline.redaction import remember_secrets, remember_secrets_of_text
from data_pipeline.simulation.user_code import only_code_of_user
from data_pipeline.terminal import new_console, print_line
from data_pipeline.yaml_text import read_settings, read_settings_file, read_yaml
from fourcastnet_afno.cli.freed_memory import keep_freed_memory
from fourcastnet_afno.cli.functions import RUN
from fourcastnet_afno.cli.parser import PROGRAM, function_of, known_options, parse
from fourcastnet_afno.cli.stopping import SystemStopError, stopped_by_system
from fourcastnet_afno.cli.verbs import VERBS
from fourcastnet_afno.shipped import names_shipped
from fourcastnet_afno.workflows.config import ExperimentConfig

_CHECKPOINTS = ("--checkpoint", "--diagnostic", "--forecast.diagnostic")  # which can be URLs
_FLAGS = ("--json", "--no-browser")  # of verbs that take words without an option


def run_verb(name: str, words: Sequence[str]) -> int:
    """Run a verb with the words after it, and return the exit code, see ``main``."""
    try:
        folder = str(Path.cwd())
    except FileNotFoundError as error:
        message = "the working directory was deleted; change to one that exists"
        raise InputError(message, code="missing-folder") from error
    for text in (folder, *words):
        if not text.isascii() and text.encode(errors="replace").decode() != text:
            raise InputError(
                f"{text!r} is not UTF-8, as names in NetCDF files and checkpoints must be; rename "
                "the file or folder",
                code="bad-name",
            )
    words = with_local_checkpoints(words)
    name, completed = complete(name, words)
    if any(word.startswith("--print_config") for word in completed):  # ends within the parser
        remember_secrets_of_words(completed)
    try:
        arguments = parse(name, completed)  # help ends here
    except InputError as error:  # which may show settings that were not read
        remember_secrets_of_words(completed)
        raise InputError(str(error), code=error.code) from error
    config: ExperimentConfig | None = arguments.get("config")
    remember_secrets([*completed, asdict(config) if config else {}])  # a path has no // of a URL
    named = code_of_user(with_long_names(name, words), config)
    from fourcastnet_afno.parallel.environment import LaunchEnvironment
    from fourcastnet_afno.training.signals import TrainingInterruptedError

    environment = LaunchEnvironment.from_environment(os.environ)
    if environment.world_size > 1 and not VERBS[name].is_parallel:
        raise InputError(
            f"`{name}` runs in one process and {environment.world_size} were started; torchrun "
            f"and srun are for {', '.join(n for n, verb in VERBS.items() if verb.is_parallel)}",
            code="one-process",
        )
    keep_freed_memory()
    signals = stopped_by_system() if VERBS[name].resumes else nullcontext()
    try:
        with only_code_of_user(named), signals:
            return function_of(name)(**arguments) or os.EX_OK
    except (TrainingInterruptedError, SystemStopError) as stop:
        if environment.rank == 0:
            command = shlex.join([PROGRAM, name, *completed])
            if environment.world_size > 1:
                command = environment.restart_command
            message = f"{stop}; what is finished is kept. Resume with: {command}"
            print_line(new_console(stderr=True), message)
        return stop.exit_code


def complete(name: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """The verb and its words: without short options, and with ``--config`` where there is none.

    It is that of the run folder or of the checkpoint, or the embedded quickstart.

    Raises:
        InputError: If the verb needs an experiment and none can be found.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    peek.add_argument("-h", "--help", action="store_true")
    for option in ("--config", "--forecast"):
        peek.add_argument(option)
    for option in ("--output", "--checkpoint", "--forecast.diagnostic"):
        peek.add_argument(option, type=Path)
    if name == "evaluate" and known_options(peek, words).forecast:
        name = "score"
    words = with_long_names(name, words)
    known = known_options(peek, words)
    if known.help or known.config or not VERBS[name].sections:
        return name, words
    config: Any = (known.output or RUN) / "config.yaml"
    checkpoint = known.checkpoint or vars(known)["forecast.diagnostic"]
    if config.is_file():
        require_plain_config(read_settings_file(config), str(config))
    elif name in ("forecast", "train-diagnostic") and checkpoint:
        from fourcastnet_afno.forecaster.checkpoint import read_checkpoint

        config = read_checkpoint(checkpoint, "none")[1].get("config")
        if config is None:
            raise InputError(
                f"{checkpoint} does not hold its experiment; give --config FILE", code="no-config"
            )
        settings = read_settings(config, f"the configuration in {checkpoint}")
        _require_valid(settings, checkpoint)
    elif name == "quickstart":
        config = files("fourcastnet_afno").joinpath("quickstart.yaml")
    else:
        raise InputError(
            f"`{name}` needs --config FILE (an experiment, see configs/), or --output with a run "
            f"folder that holds a config.yaml; {config.resolve()} does not exist",
            code="no-config",
        )
    return name, [f"--config={config}", *words]


def with_local_checkpoints(words: Sequence[str]) -> list[str]:
    """The words with the files of checkpoints that are given as URLs or by name."""
    local = list(words)
    for index, (before, word) in enumerate(pairwise(["", *words])):
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if option in _CHECKPOINTS and ("://" in value or names_shipped(value)):
            from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
            from fourcastnet_afno.published import local_checkpoint

            local[index] = word.removesuffix(value) + str(local_checkpoint(value, read_checkpoint))
    return local


def require_plain_config(settings: Mapping[str, Any], where: str) -> None:
    """Reject an experiment that others may have written, if parsing it could run code.

    Raises:
        InputError: If it has other than plain settings.
    """
    from fourcastnet_afno.forecaster.config_text import require_plain_values

    try:
        require_plain_values(ExperimentConfig, settings)
    except InputError as error:
        raise InputError(f"{where}: {error}", code=error.code) from error


def _require_valid(settings: Mapping[str, Any], checkpoint: Path) -> None:
    """Reject an experiment with a mistake or code; the parser of words names no checkpoint."""
    from fourcastnet_afno.forecaster.config_text import parse_config

    try:
        parse_config(ExperimentConfig, settings)
    except InputError as error:
        message = f"the configuration in {checkpoint} has a mistake: {error}; give --config FILE"
        raise InputError(message, code=error.code) from error


def remember_secrets_of_words(words: Sequence[str]) -> None:
    """Leave the secrets in options and in files of ``--config`` out of messages."""
    for before, word in pairwise(["", *words]):
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        remember_secrets_of_text(f"{option}={value}")
        with suppress(OSError, ValueError):
            if option == "--config":
                text = Path(value).read_text(errors="replace")
                remember_secrets_of_text(text)
                remember_secrets(read_settings(text, value))
            remember_secrets(_nested(option, read_yaml(value, option)))


def _nested(option: str, value: object) -> object:
    """The value of an option such as ``--a.b`` as it is in YAML, {"a": {"b": value}}."""
    for name in reversed(option.removeprefix("--").split(".")):
        value = {name: value}
    return value


def code_of_user(words: Sequence[str], config: ExperimentConfig | None) -> list[str]:
    """Code of the experiment that the user has named, in a file or as an option.

    An experiment that comes from a run folder or a checkpoint, for lack of ``--config``, may be
    from others.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--config", "--data.pde.equation"):
        peek.add_argument(option)
    given = vars(peek.parse_known_args(list(words))[0])
    if config is None or config.data.pde is None:
        return []
    equation = config.data.pde.equation
    is_named = given["config"] is not None or given["data.pde.equation"] == equation
    return [equation] if is_named else []


def with_long_names(name: str, words: Sequence[str]) -> list[str]:
    """The words with the settings that short options, and words without an option, stand for."""
    verb, long = VERBS[name], list(words)
    for index, (before, word) in enumerate(pairwise(["", *words])):
        takes_value = before.startswith("--") and "=" not in before and before not in _FLAGS
        option, equals, value = word.partition("=")
        long[index] = verb.short.get(option, option) + equals + value
        if verb.positional and not (word.startswith("-") or takes_value):
            long[index] = f"{verb.positional}={word}"
    return long
