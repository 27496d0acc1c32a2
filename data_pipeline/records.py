"""Plain values of JSON as the types of this package, checked entry by entry.

Records come from checkpoints and stores that others made, so that nothing in them is trusted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from data_pipeline.bounds import check_value
from data_pipeline.errors import InputError

_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    NoneType: ((NoneType,), "null"),
}


def parse_json(text: str | bytes, where: str) -> Any:  # noqa: ANN401
    """The value of a JSON text, in which no mapping states a key twice.

    Raises:
        InputError: If it is none; the message starts with ``where``.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{where} states {repeated!r} twice", code="bad-record")
        return record

    try:
        return json.loads(text, object_pairs_hook=unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        message = f"{where} is not JSON ({str(error).split(':')[0]})"
        raise InputError(message, code="bad-record") from error


def from_plain(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """A value of type ``kind`` from what JSON holds of it.

    Args:
        kind: A plain type, a dataclass, a ``TypedDict`` (which may have further keys), or a tuple,
            list, mapping, literal or union of these; annotated bounds are checked.
        value: Of JSON.
        where: Name of the value in messages, such as ``fields.grid``.

    Returns:
        The value, with tuples and dataclasses where ``kind`` has them.

    Raises:
        InputError: If an entry has another type, is missing, unknown or out of its bounds.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Required:
        return from_plain(arguments[0], value, where)
    if kind in _PLAIN:
        return _plain(kind, value, where)
    if origin is Annotated:
        result = from_plain(arguments[0], value, where)
        try:
            check_value(where, result, kind)
        except ValueError as error:
            raise InputError(str(error), code="bad-record") from error
        return result
    if origin is Literal:
        if value not in arguments or type(value) not in map(type, arguments):
            raise _mismatch(where, f"one of {', '.join(map(repr, arguments))}", value)
        return value
    if origin in (Union, UnionType):
        return _of_union(arguments, value, where)
    if origin is tuple and arguments[-1] is not ...:
        items = _list(value, where)
        if len(items) != len(arguments):
            raise _mismatch(where, f"{len(arguments)} values", value)
        pairs = zip(arguments, items, strict=True)
        return tuple(from_plain(k, v, f"{where}.{i}") for i, (k, v) in enumerate(pairs))
    if origin in (tuple, list):
        items = _list(value, where)
        if any(type(item) is not arguments[0] for item in items):  # axes of grids are long
            items = [from_plain(arguments[0], v, f"{where}.{i}") for i, v in enumerate(items)]
        return origin(items)
    record = _mapping(value, where)
    if is_dataclass(kind):
        return _dataclass(kind, record, where)
    if is_typeddict(kind):
        hints = _hints(kind)
        _require(kind.__required_keys__, record, where)
        known = {
            k: from_plain(hints[k], v, f"{where}.{k}") for k, v in record.items() if k in hints
        }
        return {**record, **known}
    return {key: from_plain(arguments[1], item, f"{where}.{key}") for key, item in record.items()}


@contextmanager
def naming_file(path: object, remedy: str, code: str) -> Iterator[None]:
    """Name the file and the remedy in errors of what is stored in it.

    What another version wrote is not damaged; its error stays as it is.
    """
    try:
        yield
    except ValueError as error:  # of settings too, whose bounds are those of configurations
        if isinstance(error, InputError) and error.code == "other-version":
            raise
        raise InputError(f"{path} is damaged: {error}; {remedy}", code=code) from error


@cache
def _hints(kind: Any) -> dict[str, Any]:  # noqa: ANN401
    return get_type_hints(kind, include_extras=True)


def _plain(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    types, described = _PLAIN[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise _mismatch(where, described, value)
    if kind is not float:
        return value
    try:
        return float(value)
    except OverflowError:
        raise _mismatch(where, "a number of at most 1.8e308", value) from None


def _of_union(kinds: Sequence[Any], value: Any, where: str) -> Any:  # noqa: ANN401
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    for kind in others[:-1]:
        try:
            return from_plain(kind, value, where)
        except InputError:
            continue
    return from_plain(others[-1], value, where)


def _dataclass(kind: Any, record: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401
    known, hints = {field.name: field for field in fields(kind)}, _hints(kind)
    if unknown := [name for name in record if name not in known]:
        message = f"{where} has the unknown entry {unknown[0]!r}; expected {', '.join(known)}"
        raise InputError(message, code="bad-record")
    needed = [
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    ]
    _require(needed, record, where)
    values = {k: from_plain(hints[k], value, f"{where}.{k}") for k, value in record.items()}
    return kind(**values)


def _require(names: Any, record: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    if missing := sorted(set(names) - record.keys()):
        raise InputError(f"{where} lacks {', '.join(missing)}", code="bad-record")


def _list(value: Any, where: str) -> Sequence[Any]:  # noqa: ANN401
    if not isinstance(value, list | tuple):
        raise _mismatch(where, "a list", value)
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        raise _mismatch(where, "a mapping", value)
    return value


def _mismatch(where: str, expected: str, value: Any) -> InputError:  # noqa: ANN401
    found = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    if len(found) > 60:
        found = f"{found[:60]}..."
    return InputError(f"{where} must be {expected}, got {found}", code="bad-record")
