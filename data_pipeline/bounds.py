"""Bounds of settings, declared in their types and checked when a configuration is made.

    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 8
    quantiles: list[Annotated[float, Interval(ge=0, le=1)]]

The markers are those of the package ``annotated_types``. Every number has a lower and an upper
bound, far beyond what anyone needs: a slip of the keyboard, or a checkpoint of somebody else, must
not keep a machine busy for a week. Sizes that a machine may lack the memory for are estimated in
addition, see ``memory``.
"""

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, MinLen

Count = Annotated[int, Ge(1), Le(1_000_000)]
CountOrZero = Annotated[int, Ge(0), Le(1_000_000)]  # 0 is none, or off
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
Hours = Annotated[int, Ge(1), Le(1_000_000)]  # up to a century
Level = Annotated[int, Ge(0), Le(1_000_000)]  # hPa
Number = Annotated[float, Ge(-sys.float_info.max), Le(sys.float_info.max)]  # any finite one


def check_bounds(config: Any, where: str = "") -> None:  # noqa: ANN401
    """Check every setting of a configuration against the bounds in its type.

    Args:
        config: A dataclass, in its ``__post_init__``.
        where: Name of the configuration in messages, such as ``training.optimizer``.

    Raises:
        ValueError: If a value lies outside; setting, bound and value are named.
    """
    hints = _hints(type(config))
    for field in fields(config):
        name = f"{where}.{field.name}" if where else field.name
        check_value(name, getattr(config, field.name), hints[field.name])


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def check_value(name: str, value: Any, hint: Any) -> None:  # noqa: ANN401
    """Check a value against the bounds in its type.

    Args:
        name: Name of the value in messages.
        value: Of a setting.
        hint: Its type, with bounds.

    Raises:
        ValueError: If it lies outside, is not finite, or is None where the type has no None.
    """
    if value is None:
        if not _allows_none(hint):
            raise ValueError(f"{name} must have a value, got null; leave it out for the default")
        return
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is Annotated:  # which tells what to write in place of infinity
        for mark in arguments[1:]:
            _check_mark(name, value, mark)
        check_value(name, value, arguments[0])
    elif kind in (Union, UnionType):
        for argument in arguments:
            base = get_args(argument)[0] if get_origin(argument) is Annotated else argument
            if not (base is int and isinstance(value, float)):  # the bound of another type
                check_value(name, value, argument)
    elif isinstance(value, Mapping) and len(arguments) == 2:
        for key, item in value.items():
            check_value(f"{name}.{key}", item, arguments[1])
    elif isinstance(value, Collection) and not isinstance(value, str) and arguments:
        for item in value:
            check_value(name, item, arguments[0])
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}")


def _allows_none(hint: Any) -> bool:  # noqa: ANN401
    return hint in (Any, object, None, type(None)) or (
        get_origin(hint) in (Annotated, Union, UnionType) and any(map(_allows_none, get_args(hint)))
    )


def _check_mark(name: str, value: Any, mark: Any) -> None:  # noqa: ANN401
    if isinstance(mark, MinLen):
        holds = len(value) >= mark.min_length
    elif isinstance(value, int | float):  # not the text of a union such as float | Literal["auto"]
        ge, gt, le, lt = _limits(mark)
        holds = (
            (ge is None or value >= ge)
            and (gt is None or value > gt)
            and (le is None or value <= le)
            and (lt is None or value < lt)
        )
    else:
        return
    if not holds:
        raise ValueError(f"{name} must {describe_bounds((mark,))}, got {value}")


def _limits(mark: Any) -> list[Any]:  # noqa: ANN401
    return [getattr(mark, kind, None) for kind in ("ge", "gt", "le", "lt")]


def describe_bounds(marks: Iterable[Any]) -> str:
    """The marks of one type as the end of a sentence, such as ``lie in 1..10`` or ``be above 0``.

    Args:
        marks: Marks of ``annotated_types``; at most one bound of a kind.
    """
    marks = tuple(marks)
    if lengths := [mark.min_length for mark in marks if isinstance(mark, MinLen)]:
        return f"have at least {lengths[0]} entries"
    columns = zip(*map(_limits, marks), strict=True)
    ge, gt, le, lt = (next((b for b in column if b is not None), None) for column in columns)
    if (ge, le) == (-sys.float_info.max, sys.float_info.max):
        return "be finite"
    if ge is not None and le is not None:
        return f"lie in {ge}..{le}"
    words = {"at least": ge, "above": gt, "at most": le, "below": lt}
    stated = [f"{word} {bound}" for word, bound in words.items() if bound is not None]
    return "be " + " and ".join(stated)
