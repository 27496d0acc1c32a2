"""From the words of a user to those that the parser of a verb takes."""

import argparse
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError
from fourcastnet_afno.cli.functions import RUN
from fourcastnet_afno.cli.verbs import VERBS

_FLAGS = ("--json",)  # of verbs that take words without an option


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
    if name == "evaluate" and peek.parse_known_args(list(words))[0].forecast:
        name = "score"
    words = with_long_names(name, words)
    known = peek.parse_known_args(words)[0]
    if known.help or known.config or not VERBS[name].sections:
        return name, words
    config: Any = (known.output or RUN) / "config.yaml"
    checkpoint = known.checkpoint or vars(known)["forecast.diagnostic"]
    if config.exists():
        pass
    elif name in ("forecast", "train-diagnostic") and checkpoint and checkpoint.is_file():
        from fourcastnet_afno.forecaster.checkpoint import read_checkpoint

        config = read_checkpoint(checkpoint, "none")[1].get("config")
        if config is None:
            raise InputError(
                f"{checkpoint} does not hold its experiment; give --config FILE", code="no-config"
            )
    elif name == "quickstart":
        config = files("fourcastnet_afno").joinpath("quickstart.yaml")
    else:
        raise InputError(
            f"`{name}` needs --config FILE (an experiment, see configs/), or --output with a run "
            f"folder that holds a config.yaml; {config.resolve()} does not exist",
            code="no-config",
        )
    return name, [f"--config={config}", *words]


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
