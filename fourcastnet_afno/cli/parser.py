"""The parser of one verb: its words become the arguments of its function."""

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

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

    Help shows the settings of the verb's own sections, or those of all.
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
        kind, default = parameter.annotation, parameter.default
        if is_dataclass(default):
            parser.add_class_arguments(type(default), key)
            continue
        if default is False:
            options: dict[str, Any] = {"action": "store_true"}
        elif kind == list[str]:
            options = {"action": "append", "type": str, "required": True}
        elif default is parameter.empty:
            options = {"type": kind, "required": True}
        else:
            options = {"type": kind, "default": default}
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


def parse(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The arguments of a verb's function.

    Raises:
        InputError: If a word or a setting is wrong.
    """
    # jsonargparse leaves settings without help out of --print_config.
    parser = build_parser(name, shows_all=not {"-h", "--help"} & set(words))
    parameters = inspect.signature(function_of(name)).parameters
    try:
        options = vars(parser.instantiate(parser.parse_args(list(words))))
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        settings = [
            option.removeprefix("--")
            for option in parser._option_string_actions
            if not option.endswith(("+", ".help"))
        ] + [
            setting.removeprefix("config.")
            for key, parameter in parameters.items()
            for setting in setting_names(parameter.annotation, f"{key}.")
        ]
        raise InputError(explain(str(error), settings), code="bad-setting") from error
    arguments = {key: options[key] for key in parameters if key != "config"}
    if VERBS[name].sections:
        arguments["config"] = ExperimentConfig(**{key: options[key] for key in SECTIONS})
    return arguments


def completion(shell: str) -> str:
    """A script for the completion of verbs and settings in bash or zsh."""
    parser = ArgumentParser(prog=PROGRAM)
    verbs = parser.add_subcommands(metavar="VERB", dest="verb")
    for name, verb in VERBS.items():
        verbs.add_subcommand(name, build_parser(name), help=verb.help)
    return parser.get_completion_script(f"shtab-{shell}")
