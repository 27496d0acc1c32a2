"""Configuration dataclasses from YAML, and from the values that checkpoints and run folders keep.

Every parser of settings is made here: ``read_yaml`` is the one reader of YAML.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, is_dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_loader
from yaml import YAMLError

from data_pipeline.errors import InputError
from data_pipeline.yaml_text import read_yaml

Config = TypeVar("Config")
_CODE_KEYS = {"class_path", "init_args"}
_MODE = "plain_yaml"


def make_parser(**options: Any) -> ArgumentParser:  # noqa: ANN401
    """A parser whose YAML is read by ``read_yaml`` alone, with further options of jsonargparse."""
    set_loader(_MODE, _load, (YAMLError,))
    return _Parser(exit_on_error=False, parser_mode=_MODE, **options)


class _Parser(ArgumentParser):
    """A parser for which an empty section of a file, ``training:``, sets nothing."""

    def parse_string(self, *words: Any, **options: Any) -> Namespace:  # noqa: ANN401
        settings = super().parse_string(*words, **options)
        for key in self.groups or {}:
            if key in settings and settings[key] is None:
                del settings[key]
        return settings


def _load(text: str, path: str = "") -> Any:  # noqa: ANN401
    """Values of a file, or of a word, which is plain text where it is not YAML."""
    if path:
        return read_yaml(text, path)
    try:
        values, problem = read_yaml(text, repr(text[:40])), None
    except InputError as error:
        values, problem = None, error.__cause__
        if not isinstance(problem, YAMLError):
            raise
    if problem is not None:  # not above: the parser's error would lead to that of ``read_yaml``
        raise problem
    # {a,b} and C: are mappings in YAML, and names where people write them as a word.
    return text if isinstance(values, dict) and values and ":" not in text.strip()[:-1] else values


@cache
def _parser_of(kind: type) -> ArgumentParser:
    """The parser of one dataclass, whose making takes longer than parsing."""
    parser = make_parser()
    parser.add_argument("--config", type=kind)
    return parser


def parse_config(kind: type[Config], record: Mapping[str, Any]) -> Config:
    """A configuration dataclass from the plain values that a checkpoint keeps of it.

    One command reads the same record several times, and to parse it takes a quarter of a second:
    the latest ones are kept, and each caller has a copy of its own.

    Raises:
        InputError: If a value is wrong, or could name code, see ``require_plain_values``.
    """
    return deepcopy(_parsed(kind, _Record(repr(record), record)))


@dataclass(frozen=True)
class _Record:
    """Plain values that equal others by their text, in which 1, 1.0, True and "1" differ."""

    text: str
    values: Mapping[str, Any] = field(compare=False, repr=False)


@lru_cache(maxsize=64)
def _parsed(kind: type[Config], record: _Record) -> Config:
    """The configuration of a record; errors are not kept."""
    require_plain_values(kind, record.values)
    parser = _parser_of(kind)
    try:
        given = {"config": _without_empty_groups(kind, record.values)}
        return parser.instantiate(parser.parse_object(given))["config"]
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError) as error:
        text = " ".join(re.sub(r'Parser key "config\.?([^"]*)":', r"\1:", str(error)).split())
        message = f"the stored settings do not suit this version: {text[:400]}"
        raise InputError(message, code="bad-setting") from error


def _without_empty_groups(kind: Any, record: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """The values without groups that are null, which set nothing, as in files of the user."""
    hints, result = get_type_hints(kind), dict(record)
    for name, value in record.items():
        if is_dataclass(hints.get(name)) and isinstance(value, Mapping):
            result[name] = _without_empty_groups(hints[name], value)
        elif is_dataclass(hints.get(name)) and value is None:
            del result[name]
    return result


def require_plain_values(kind: Any, value: Any, key: str = "") -> None:  # noqa: ANN401
    """Reject values by which the parser of configurations imports a class, before it reads them.

    It takes a text in place of a group of settings, and a mapping with the key ``class_path``
    anywhere, for the name of a class, which it imports: the code of a module would run.

    Args:
        kind: Type of the value: a dataclass, or what a field of one is annotated with.
        value: Plain values, as YAML and JSON have them.
        key: Dotted name of the setting, for messages.

    Raises:
        InputError: If there is one; the other checks of types are the parser's.
    """
    if isinstance(value, Mapping) and (found := sorted(_CODE_KEYS & set(map(str, value)))):
        raise InputError(
            f"{key or 'the configuration'} has the key {found[0]}, which names code "
            f"({str(value[found[0]])[:80]}); settings are plain values, leave it out",
            code="foreign-code",
        )
    groups = [each for each in (kind, *get_args(kind)) if is_dataclass(each)]
    if isinstance(value, str) and groups:
        message = f"{key or 'the configuration'} must be a group of settings, got {value[:80]!r}"
        raise InputError(message, code="bad-setting")
    if isinstance(value, Mapping):
        hints = {name: hint for group in groups for name, hint in get_type_hints(group).items()}
        inner = get_args(kind)[-1] if get_args(kind) and not groups else Any
        for name, item in value.items():
            require_plain_values(hints.get(name, inner), item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            inner = next(iter(get_args(kind)), Any)
            require_plain_values(inner, item, f"{key}[{index}]")
