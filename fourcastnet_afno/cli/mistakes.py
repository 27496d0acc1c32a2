"""Mistakes in settings, said in one line: the parser's own messages show types and all subtypes."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

_UNKNOWN = re.compile(
    r"unrecognized arguments: (?:--)?(?P<word>[^\s=]+)"
    r"|(?:Group '(?P<group>[^']+)' does not accept option|Option) '(?P<option>[^']+)'"
)
_KEY = re.compile(r'Parser key "([^"]+)"')
_EXPECTED = re.compile(r"Expected a (.+?)(?:\. Got value: .*)?$", re.MULTILINE)
_VALUE = re.compile(r"(?:Got|Given) value: (.*)$", re.MULTILINE)


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
    expected, value = _EXPECTED.findall(message), _VALUE.findall(message)
    if key and expected and value:
        kinds = " or ".join(dict.fromkeys(map(_describe_type, expected)))
        return f"{key} must be {kinds}, got {value[-1]}"
    return " ".join(_KEY.sub(r"\1", message).split())


def _describe_type(text: str) -> str:
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text).removeprefix("typing.")
    if text.startswith("Literal["):
        return "one of " + re.sub(r"[\[\]']", "", text.removeprefix("Literal"))
    return "null" if text == "NoneType" else text
