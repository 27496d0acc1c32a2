"""The parser of one verb: its words become the arguments of its function.

Its mistakes are said in one line: the parser's own messages show types and all subtypes.
"""

import argparse
import ast
import difflib
import inspect
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # pyright: ignore

from data_pipeline.bounds import check_value
from data_pipeline.errors import InputError
from data_pipeline.yaml_text import read_settings_file
from fourcastnet_afno.cli import functions
from fourcastnet_afno.cli.functions import HELP
from fourcastnet_afno.cli.verbs import SECTIONS, VERBS
from fourcastnet_afno.forecaster.config_text import make_parser
from fourcastnet_afno.workflows.config import ExperimentConfig

PROGRAM = "fourcastnet-afno"
_UNKNOWN = re.compile(
    r"unrecognized arguments: (?:--)?(?P<word>[^\s=]+)"
    r"|(?:Group '(?P<group>[^']+)' does not accept option|Option) '(?P<option>[^']+)'"
)
_KEY = re.compile(r'Parser key "([^"]+)"')
_EXPECTED = re.compile(r"Expected a (.+?)(?:\. Got value: .*)?$", re.MULTILINE)
_NO_GROUP = re.compile(
    r"Unable to load config '(?P<quoted>[^']*)'"
    r"|Not a valid subclass of \w+\. Got value: (?P<value>.*)"
)
_GROUP = "a group of settings"
_REQUIRED = re.compile(r"the following arguments are required: (.*)$", re.MULTILINE)
_VALUE = re.compile(r"(?:Got|Given) value: (.*)$", re.MULTILINE)


def function_of(name: str) -> Any:  # noqa: ANN401
    """The function of a verb."""
    return getattr(functions, f"{name.replace('-', '_')}_verb")


def build_parser(name: str, *, shows_all: bool = False) -> ArgumentParser:
    """The parser of a verb, with the arguments of its function and all settings of an experiment.

    Help shows the settings of the verb's own sections, or those of all.
    """
    verb, function = VERBS[name], function_of(name)
    parser = make_parser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {name} [--SETTING VALUE ...]",
        description=verb.help,
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


# Making a parser takes longer than parsing: one process may run many verbs.
_kept_parser = cache(build_parser)


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
    printing = any(word.startswith("--print_config") for word in words)  # it changes the parser
    make = build_parser if printing else _kept_parser
    parser = make(name, shows_all=not {"-h", "--help"} & set(words))
    parameters = inspect.signature(function_of(name)).parameters
    _check_files(words, parser.groups or {})
    try:
        parsed = parser.parse_args(list(words))
        for key in parser.groups or {}:
            if key in parsed and not isinstance(parsed[key], Namespace | dict):
                found = "null" if parsed[key] is None else parsed[key]
                message = f"{key} must be {_GROUP}, got {found}"
                raise InputError(message, code="bad-setting")
        options = vars(parser.instantiate(parsed))
        for key, parameter in parameters.items():
            check_value(key, options.get(key), parameter.annotation)
    except InputError:
        raise
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        if cause := _yaml_error(error):
            raise cause from error
        settings = [
            setting.removeprefix("config.")
            for key, parameter in parameters.items()
            for setting in (key, *setting_names(parameter.annotation, f"{key}."))
        ]
        raise InputError(explain(str(error), settings), code="bad-setting") from error
    arguments = {key: options[key] for key in parameters if key != "config"}
    if VERBS[name].sections:
        arguments["config"] = ExperimentConfig(**{key: options[key] for key in SECTIONS})
    return arguments


def _check_files(words: Sequence[str], groups: Iterable[str]) -> None:
    """Check the YAML of files, which the parser would name by the end of their path alone."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for key in {"config", *groups}:
        peek.add_argument(f"--{key}", action="append", default=[])
    for values in vars(known_options(peek, words)).values():
        for path in map(Path, values):
            is_file = False
            with suppress(OSError, ValueError):  # text in place of a path may be too long for one
                is_file = path.is_file()
            if is_file and not read_settings_file(path):
                raise InputError(f"{path} holds no settings; leave it out", code="bad-yaml")


def known_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Values of the options that a parser knows; other words are left to others.

    Raises:
        InputError: If an option has no value.
    """
    try:
        return parser.parse_known_args(list(words))[0]
    except argparse.ArgumentError as error:
        message = f"{error.argument_name} needs a value, got none; see --help"
        raise InputError(message, code="bad-setting") from error


def _yaml_error(error: BaseException | None) -> InputError | None:
    """The error of ``read_yaml`` behind one of the parser, which leads to others."""
    while error is not None:
        if isinstance(error, InputError) and error.code == "bad-yaml":
            return error
        error = error.__cause__ or error.__context__
    return None


def setting_names(kind: Any, prefix: str = "") -> list[str]:  # noqa: ANN401
    """Dotted names of all settings of a type: of a dataclass, and of those in its fields."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [f"{prefix}{field.name}" for field in fields(kind)]
        return names + [n for name in hints for n in setting_names(hints[name], f"{prefix}{name}.")]
    return [name for argument in get_args(kind) for name in setting_names(argument, prefix)]


def explain(message: str, names: Iterable[str]) -> str:
    """A message of the parser in one line, with the nearest of the settings that exist."""
    key = ".".join(dict.fromkeys(_KEY.findall(message)))
    if unknown := _UNKNOWN.search(message):
        name = ".".join(filter(None, (unknown["word"] or key, *unknown.group("group", "option"))))
        near = ", ".join(difflib.get_close_matches(name, set(names), n=3))
        return f"there is no setting {name}; " + (f"did you mean {near}?" if near else "see --help")
    if key and (lacking := _REQUIRED.search(message)):
        return f"{key} needs {lacking[1]}, got none; see --help"
    expected, value = _EXPECTED.findall(message), _VALUE.findall(message)
    if key and expected and value:
        kinds, found = dict.fromkeys(map(_describe_type, expected)), _value_of(key, value[-1])
        # In a group of settings that may be left out, null is a value of the group.
        if found != value[-1] or list(kinds) == ["null"]:
            kinds.pop("null", None)
        return f"{key} must be {' or '.join(kinds) or _GROUP}, got {found}"
    if key and (wrong := _NO_GROUP.search(message)):
        return f"{key} must be {_GROUP}, got {wrong['quoted'] or wrong['value']}"
    return " ".join(_KEY.sub(r"\1", message).split())


def _value_of(key: str, text: str) -> str:
    """Value of a setting in the text of its group, ``{'path': 'a.nc', 'convert': 'maybe'}``."""
    last = re.escape(key.rpartition(".")[2])
    of_word = re.fullmatch(rf"NestedArg\(key='{last}', val='(.*)'\)", text)
    if of_word:
        return of_word[1]
    with suppress(ValueError, SyntaxError):
        group = ast.literal_eval(text)
        if isinstance(group, dict) and key.rpartition(".")[2] in group:
            return str(group[key.rpartition(".")[2]])
    return text


def _describe_type(text: str) -> str:
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text).removeprefix("typing.")
    if text.startswith("dot import path"):  # a word in place of a group that may be null
        return _GROUP
    if text.startswith("Literal["):
        return "one of " + re.sub(r"[\[\]']", "", text.removeprefix("Literal"))
    return "null" if text == "NoneType" else text


def completion(shell: str) -> str:
    """A script for the completion of verbs and settings in bash or zsh."""
    parser = ArgumentParser(prog=PROGRAM)
    verbs = parser.add_subcommands(metavar="VERB", dest="verb")
    for name, verb in VERBS.items():
        verbs.add_subcommand(name, build_parser(name), help=verb.help)
    return parser.get_completion_script(f"shtab-{shell}")
