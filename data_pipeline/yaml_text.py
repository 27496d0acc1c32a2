"""YAML as plain values: the one reader of experiments, in files, in checkpoints and in words.

Numbers and dates are those of YAML 1.2: 1e-3 is a number, 2001-01-31 is text. What a person cannot
have meant is an error with its line: a key that is given twice, of which others would silently drop
the first; text that is nested deeper, longer, or by its aliases larger than any experiment, as in
"billion laughs".

References:
    YAML 1.2.2, 2021, https://yaml.org/spec/1.2.2/, 3.2.1.3 (keys are unique), 10.2 (JSON schema).
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from data_pipeline.errors import InputError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader

_MOST_BYTES = 4 * 2**20
_MOST_DEPTH, _MOST_VALUES = 32, 200_000
_STANDARD = "tag:yaml.org,2002:"
_FLOAT, _TIMESTAMP = f"{_STANDARD}float", f"{_STANDARD}timestamp"
_TAGS = {f"{_STANDARD}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}
_DECIMAL = re.compile(
    r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class _PlainLoader(SafeLoader):  # pyright: ignore[reportGeneralTypeIssues]
    yaml_implicit_resolvers = {  # noqa: RUF012  # as in the class that declares it
        first: [(tag, pattern) for tag, pattern in pairs if tag not in (_FLOAT, _TIMESTAMP)]
        for first, pairs in SafeLoader.yaml_implicit_resolvers.items()
    }


# Last, so that integers stay integers.
_PlainLoader.add_implicit_resolver(
    _FLOAT, re.compile(f"(?:{_DECIMAL.pattern})$"), [*"-+.0123456789"]
)


def read_yaml(text: str, name: str) -> Any:  # noqa: ANN401
    """The values of a YAML document: mappings, lists, text, numbers, booleans and None.

    Args:
        text: YAML.
        name: Of the text in messages, such as its file.

    Raises:
        InputError: If it is no YAML, or more than an experiment can be; the line is named.
    """
    if len(text) > _MOST_BYTES:
        raise _error(f"{name} has {len(text) / 2**20:.1f} MiB of YAML, expected at most 4 MiB")
    try:
        _check_events(text, name)
        loader = _PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, name, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _error(f"{name}{place} is not YAML: {problem}") from error
    except ValueError as error:  # an integer of thousands of digits, or half of a character
        if isinstance(error, InputError):
            raise
        raise _error(f"{name} has a value that is not YAML: {error}") from error


def read_settings(text: str, name: str) -> dict[str, Any]:
    """The settings of a YAML document, empty if there are none.

    Raises:
        InputError: If it is no mapping, or ``read_yaml`` rejects it.
    """
    values = read_yaml(text, name)
    if not isinstance(values, dict | None):
        raise _error(f"{name} must hold settings such as `model: ...`, got {str(values)[:40]!r}")
    for key in values or {}:
        if not (isinstance(key, str) and key):
            raise _error(f"{name} has the key {key!r}, expected names of settings")
    return values or {}


def read_settings_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, see ``read_settings``.

    Raises:
        InputError: If it cannot be read, or holds no settings.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise _error(f"{path} has {size / 2**20:.1f} MiB, expected YAML of at most 4 MiB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(f"{path} cannot be read as text: {error}") from error
    return read_settings(text, str(path))


def _error(message: str) -> InputError:
    return InputError(message, code="bad-yaml")


def _check_events(text: str, name: str) -> None:
    """Check depth, number and tags while the text is read, before anything is built from it."""
    depth = num_values = 0
    for event in yaml.parse(text, _PlainLoader):
        line = f"{name}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MOST_DEPTH:
                raise _error(f"{line} is nested more than {_MOST_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        num_values += isinstance(event, yaml.NodeEvent)
        if num_values > _MOST_VALUES:
            raise _error(f"{line} is after {_MOST_VALUES} values, more than any experiment has")
        if tag not in (None, "!", *_TAGS):
            raise _error(f"{line} has the tag {tag!r}, expected plain values; leave the tag out")


class _Size(NamedTuple):
    values: int
    depth: int


def _measure(node: Node, name: str, known: dict[int, _Size | None]) -> _Size:
    """Values and depth with every alias written out; anchors come before their aliases.

    Raises:
        InputError: If they are too many, a node contains itself, or a key is there twice.
    """
    line = f"{name}, line {node.start_mark.line + 1}"
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise _error(f"{line} contains itself through an alias")
        return size
    known[id(node)] = None
    children: list[Node] = []
    if isinstance(node, MappingNode):
        _check_keys(node, name)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, SequenceNode):
        children = node.value
    sizes = [_measure(child, name, known) for child in children]
    size = _Size(1 + sum(s.values for s in sizes), 1 + max((s.depth for s in sizes), default=0))
    if size.values > _MOST_VALUES or size.depth > 2 * _MOST_DEPTH:
        raise _error(
            f"{line} stands for {size.values:.3g} values, {size.depth} levels deep, its aliases "
            f"written out; expected at most {_MOST_VALUES} and {2 * _MOST_DEPTH}"
        )
    known[id(node)] = size
    return size


def _check_keys(node: MappingNode, name: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode):
            raise _error(f"{name}, line {line} has a key that is no plain text")
        if not key.value:
            raise _error(f"{name}, line {line} has an empty key; name it, or remove it")
        identity = key.tag, key.value
        if identity in lines:
            raise _error(
                f"{name} has the key {key.value!r} twice, in line {lines[identity]} and in line "
                f"{line}, of which only one could hold; join or remove one of them"
            )
        lines[identity] = line
