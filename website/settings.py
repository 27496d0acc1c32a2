"""The reference of settings, made from the dataclasses of the configuration.

Their annotations give types and bounds, their fields the defaults, their docstrings the texts: the
same that ``--help`` shows.
"""

import types
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse

from data_pipeline.bounds import describe_bounds
from data_pipeline.preparation.execution import ExecutionConfig
from fourcastnet_afno.workflows.config import ExperimentConfig

REQUIRED = "required"
"""Default of a setting that must be given."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A field of a configuration.

    Args:
        name: Dotted name, as in ``--data.source.path``.
        kind: Type in words of YAML, such as ``list of int``.
        bounds: What numbers and lists must do, such as ``lie in 1..10``; empty without bounds.
        default: Value as YAML, ``required``, or empty for a group of settings.
        text: Its entry in the docstring.
        has_part: Whether its settings have a part of the page of their own.
    """

    name: str
    kind: str
    bounds: tuple[str, ...]
    default: str
    text: str
    has_part: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """A dataclass of the configuration at one place of it.

    Args:
        kind: The dataclass.
        name: Dotted name; a list's entries have the name of the list.
        summary: Docstring without the fields.
        settings: Fields, of which some are groups of their own.
    """

    kind: type
    name: str
    summary: str
    settings: tuple[Setting, ...]


@cache
def sections() -> dict[str, tuple[type, Any]]:
    """Dataclass and default of each section: those of an experiment, and how work is executed."""
    hints, experiment = get_type_hints(ExperimentConfig), fields(ExperimentConfig)
    made = {field.name: (hints[field.name], _default_of(field)) for field in experiment}
    return made | {"execution": (ExecutionConfig, ExecutionConfig())}


@cache
def groups_of_section(name: str) -> tuple[Group, ...]:
    """All groups of a section."""
    kind, made = sections()[name]
    return tuple(groups_of(kind, name, None if made is MISSING else made))


@cache
def place_of(kind_name: str) -> str | None:
    """Page and anchor of a dataclass within ``settings/``, by its name; None of other classes."""
    for name in sections():
        for group in groups_of_section(name):
            if group.kind.__name__ == kind_name:
                return f"{name}.md" if group.name == name else f"{name}.md#{group.name}"
    return None


def groups_of(kind: type, name: str, made: Any = None) -> Iterator[Group]:  # noqa: ANN401
    """A dataclass and those within it, in the order of their fields.

    Args:
        kind: The dataclass.
        name: Dotted name of the group, with which those of its settings begin.
        made: The group's default, where it has one.
    """
    docstring = parse(kind.__doc__ or "")
    texts = {entry.arg_name: entry.description for entry in docstring.params}
    hints = get_type_hints(kind, include_extras=True)
    settings, inner = [], []
    for field in fields(kind):
        hint, dotted = hints[field.name], f"{name}.{field.name}"
        default = _default_of(field) if made is None else getattr(made, field.name)
        settings.append(
            Setting(
                name=dotted,
                kind=type_in_words(hint),
                bounds=tuple(dict.fromkeys(bounds_in_words(hint))),
                default=_default_in_words(default),
                text=_markdown(texts[field.name]),
                has_part=any(dataclasses_in(hint)),
            )
        )
        for group in dataclasses_in(hint):
            inner.append((group, dotted, default if isinstance(default, group) else None))
    summary = "\n\n".join(filter(None, (docstring.short_description, docstring.long_description)))
    yield Group(kind=kind, name=name, summary=_markdown(summary), settings=tuple(settings))
    for group in inner:
        yield from groups_of(*group)


def _default_of(field: Any) -> Any:  # noqa: ANN401
    return field.default if field.default_factory is MISSING else field.default_factory()


def _default_in_words(value: Any) -> str:  # noqa: ANN401
    if value is MISSING:
        return REQUIRED
    if is_dataclass(value):
        return ""
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def dataclasses_in(hint: Any) -> Iterator[type]:  # noqa: ANN401
    """The dataclasses that a type names, without those in their fields."""
    if is_dataclass(hint):
        yield hint  # pyright: ignore[reportReturnType]
        return
    inner = get_args(hint)
    for argument in inner[:1] if get_origin(hint) is Annotated else inner:
        yield from dataclasses_in(argument)


_GROUP = "group of settings"
_WORDS = {
    str: "text",
    int: "int",
    float: "float",
    bool: "true or false",
    Path: "file or folder",
    type(None): "null",
}


def type_in_words(hint: Any) -> str:  # noqa: ANN401
    """A type as people write values of it in YAML."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_in_words(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_in_words, arguments)))
    if origin is Literal:
        return " | ".join(_default_in_words(value) for value in arguments)
    if origin is list:
        entry = type_in_words(arguments[0])
        return f"list of {'groups of settings' if entry == _GROUP else _in_brackets(entry)}"
    if origin is dict:
        return f"mapping of names to {_in_brackets(type_in_words(arguments[1]))}"
    if origin is tuple:
        entries = list(map(type_in_words, arguments))
        return f"list of {len(entries)} {_in_brackets(' or '.join(dict.fromkeys(entries)))}"
    if is_dataclass(hint):
        return _GROUP
    return _WORDS.get(hint, "a value" if hint is Any else getattr(hint, "__name__", str(hint)))


def _in_brackets(words: str) -> str:
    return f"({words})" if " or " in words or " | " in words else words


def bounds_in_words(hint: Any, subject: str = "must") -> Iterator[str]:  # noqa: ANN401
    """The bounds in a type, those of lists' and mappings' entries after their own."""
    if is_dataclass(hint):
        return
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield f"{subject} {describe_bounds(arguments[1:])}"
        arguments = arguments[:1]
    elif origin in (list, tuple, dict):
        subject = "each must"
    for argument in arguments:
        yield from bounds_in_words(argument, subject)


def _markdown(text: str) -> str:
    """A docstring's text on long lines; code in it has the same marks in Markdown."""
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def page_of_settings(name: str) -> str:
    """A page with every setting of a section, as Markdown."""
    lines = [f"# Settings: {name}", ""]
    for group in groups_of_section(name):
        if group.name != name:
            lines += [f"## {group.name} {{ #{group.name} }}", ""]
        lines += [group.summary, ""]
        for setting in group.settings:
            lines += _entry(setting)
    return "\n".join(lines)


def _entry(setting: Setting) -> list[str]:
    facts = [f"`{setting.kind}`", *setting.bounds]
    anchor = f" #{setting.name}"
    if setting.has_part:  # which has the anchor
        facts[0] += f" [listed below](#{setting.name})"
        anchor = ""
    heading = [f"### {setting.name} {{{anchor} .setting }}", ""]
    if setting.default == REQUIRED:
        facts.append("**required**")
    elif setting.default:
        facts.append(f"default `{setting.default}`")
    return [*heading, ", ".join(facts), "{ .facts }", "", setting.text, ""]
