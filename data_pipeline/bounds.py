"""Bounds of settings, declared in their types and checked when a configuration is made.

    batch_size: Annotated[int, Ge(1)] = 8
    quantiles: list[Annotated[float, Interval(ge=0, le=1)]]

The markers are those of the package ``annotated_types``.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen


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
        _check(name, getattr(config, field.name), hints[field.name])


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _check(name: str, value: Any, hint: Any) -> None:  # noqa: ANN401
    if value is None:
        return
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is Annotated:
        _check(name, value, arguments[0])
        for mark in arguments[1:]:
            _check_mark(name, value, mark)
    elif kind in (Union, UnionType):
        for argument in arguments:
            _check(name, value, argument)
    elif isinstance(value, Mapping) and len(arguments) == 2:
        for key, item in value.items():
            _check(f"{name}.{key}", item, arguments[1])
    elif isinstance(value, Collection) and not isinstance(value, str) and arguments:
        for item in value:
            _check(name, item, arguments[0])


def _check_mark(name: str, value: Any, mark: Any) -> None:  # noqa: ANN401
    match mark:
        case Ge(ge=least):
            holds, bound = value >= least, f"be at least {least}"
        case Gt(gt=below):
            holds, bound = value > below, f"be above {below}"
        case Le(le=most):
            holds, bound = value <= most, f"be at most {most}"
        case Lt(lt=above):
            holds, bound = value < above, f"be below {above}"
        case MinLen(min_length=least):
            holds, bound = len(value) >= least, f"have at least {least} entries"
        case Interval(gt=None, ge=least, lt=None, le=most):
            holds, bound = least <= value <= most, f"lie in {least}..{most}"
        case _:
            return
    if not holds:
        raise ValueError(f"{name} must {bound}, got {value}")
