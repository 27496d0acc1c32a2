from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen

from data_pipeline.bounds import check_bounds


@dataclass(frozen=True, kw_only=True)
class Settings:
    size: Annotated[int, Ge(1)] = 1
    rate: Annotated[float, Gt(0), Lt(1)] | None = None
    depth: Annotated[int, Le(4)] = 4
    span: Annotated[int, Interval(gt=0, le=4)] = 4
    limit: Annotated[float, Ge(0), Le(9)] | Literal["none"] = "none"
    shares: list[Annotated[float, Interval(ge=0, le=1)]] = field(default_factory=list)
    weights: dict[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    names: Annotated[list[str], MinLen(1)] = field(default_factory=lambda: ["a"])

    def __post_init__(self) -> None:
        check_bounds(self, "settings")


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"size": 3, "rate": 0.5},
        {"shares": [0, 1], "weights": {"z": 0.0}},
        {"depth": -1},
        {"rate": None},
    ],
)
def test_values_within_their_bounds_are_accepted(good: dict) -> None:
    Settings(**good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": 0}, "settings.size must be at least 1, got 0"),
        ({"rate": 0.0}, "settings.rate must be above 0, got 0.0"),
        ({"rate": 1.0}, "settings.rate must be below 1, got 1.0"),
        ({"depth": 5}, "settings.depth must be at most 4, got 5"),
        ({"shares": [0.5, 1.5]}, "settings.shares must lie in 0..1, got 1.5"),
        ({"weights": {"z": -1.0}}, "settings.weights.z must be at least 0, got -1.0"),
        ({"rate": float("nan")}, "settings.rate must be above 0, got nan"),
        ({"limit": float("inf")}, "settings.limit must be at most 9, got inf"),
        ({"weights": {"z": float("inf")}}, "settings.weights.z must be a finite number, got inf"),
        ({"span": 5}, "settings.span must be above 0 and at most 4, got 5"),
        ({"limit": -1.0}, "settings.limit must be at least 0, got -1.0"),
        ({"size": None}, "settings.size must have a value, got null"),
        ({"shares": [None]}, "settings.shares must have a value, got null"),
        ({"names": []}, r"settings.names must have at least 1 entries, got \[\]"),
    ],
)
def test_values_outside_of_their_bounds_are_named(bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**bad)
