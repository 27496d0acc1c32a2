"""The parser of one verb: its words become the arguments of its function."""

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, get_origin

from jsonargparse import ActionConfigFile, ArgumentParser  # pyright: ignore

from data_pipeline.errors import InputError
from fourcastnet_afno.cli import functions
from fourcastnet_afno.cli.functions import HELP
from fourcastnet_afno.cli.mistakes import explain, setting_names
from fourcastnet_afno.cli.verbs import SECTIONS, VERBS
from fourcastnet_afno.workflows.config import ExperimentConfig

PROGRAM = "fourcastnet-afno"


def function_of(name: str) -> Any:  # noqa: ANN401
    """The function of a verb."""
    return getattr(functions, f"{name.replace('-', '_')}_verb")


def build_parser(name: str, *, shows_all: bool = False) -> ArgumentParser:
    """The parser of a verb, with the arguments of its function and all settings of an experiment.

    Args:
        name: One of ``VERBS``.
        shows_all: Whether help shows the settings of all sections, and not of the verb's own.
    """
    verb, function = VERBS[name], function_of(name)
    parser = ArgumentParser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {name} [--SETTING VALUE ...]",
        description=verb.help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parameters = dict(inspect.signature(function).parameters)
    if parameters.pop("config", None) or name == "score":
        parser.add_argument(
            "--config",
            action=ActionConfigFile,
            help="YAML file of these settings; may be repeated, the later file wins key by key. "
            "Of a run folder it is OUTPUT/config.yaml by default.",
        )
    for key, parameter in parameters.items():
        options: dict[str, Any] = {"type": parameter.annotation, "default": parameter.default}
        if is_dataclass(parameter.default):
            parser.add_class_arguments(type(parameter.default), key)
            continue
        if parameter.default is parameter.empty:
            options = {"type": parameter.annotation, "required": True}
        elif parameter.default is False:
            options = {"action": "store_true"}
        if get_origin(parameter.annotation) is list:
            options |= {"action": "append", "type": str}
        text = HELP.get(f"{name}.{key}") or HELP[key]
        parser.add_argument(f"--{key}", help=text, **options)
    if verb.sections:
        parser.add_class_arguments(ExperimentConfig, as_group=False)
        if not shows_all:
            _hide(parser, [s for s in SECTIONS if s not in verb.sections])
    if name in ("evaluate", "score"):  # their memory is bounded by the fields they read
        _hide(parser, ["execution.memory_gib"])
    for short, setting in verb.short.items():  # for the help; the words are replaced beforehand
        if (action := parser._option_string_actions.get(short)) is None:
            parser.add_argument(short, help=f"short for {setting}")
        elif action.help == argparse.SUPPRESS:
            action.help, action.metavar = f"short for {setting}", "VALUE"
    return parser


def _hide(parser: ArgumentParser, names: Sequence[str]) -> None:
    """Leave settings out of the help."""
    prefixes = tuple(f"{name}." for name in names)
    for action in parser._actions:
        if f"{action.dest}.".startswith(prefixes):
            action.help = argparse.SUPPRESS
    for key, group in (parser.groups or {}).items():
        if f"{key}.".startswith(prefixes):
            group.title = group.description = None


def _all_settings(name: str, parser: ArgumentParser) -> list[str]:
    parameters = inspect.signature(function_of(name)).parameters.items()
    nested = [n for key, p in parameters for n in setting_names(p.annotation, f"{key}.")]
    top = [
        o.removeprefix("--")
        for o in parser._option_string_actions
        if not o.endswith(("+", ".help"))
    ]
    return [*top, *(n.removeprefix("config.") for n in nested)]


def parse(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The arguments of a verb's function.

    Raises:
        InputError: If a word or a setting is wrong.
    """
    # jsonargparse leaves settings without help out of --print_config.
    parser = build_parser(name, shows_all=not {"-h", "--help"} & set(words))
    try:
        options = vars(parser.instantiate(parser.parse_args(list(words))))
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        message = explain(str(error), _all_settings(name, parser))
        raise InputError(message, code="bad-setting") from error
    parameters = inspect.signature(function_of(name)).parameters
    arguments = {key: options[key] for key in parameters if key != "config"}
    if VERBS[name].sections:
        arguments["config"] = ExperimentConfig(**{key: options[key] for key in SECTIONS})
    return arguments


def completion(shell: str) -> str:
    """A script for the completion of verbs and settings.

    Args:
        shell: bash or zsh.
    """
    parser = ArgumentParser(prog=PROGRAM)
    verbs = parser.add_subcommands(metavar="VERB", dest="verb")
    for name, verb in VERBS.items():
        verbs.add_subcommand(name, build_parser(name), help=verb.help)
    return parser.get_completion_script(f"shtab-{shell}")
