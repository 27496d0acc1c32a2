from dataclasses import dataclass, field

import pytest

from fourcastnet_afno.cli.mistakes import explain, setting_names


@dataclass
class Inner:
    rate: float = 1.0


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    maybe: Inner | None = None


NAMES = ["training.seed", "training.batch_size", "data.source.path", "data.simulation.seed"]


def test_names_of_nested_settings() -> None:
    names = ["inner", "many", "maybe", "inner.rate", "many.rate", "maybe.rate"]
    assert setting_names(Outer) == names
    assert setting_names(Outer | None, "a.") == [f"a.{name}" for name in names]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "unrecognized arguments: --training.sed=1 --more",
            "there is no setting training.sed; did you mean training.seed",
        ),
        (
            "Group 'training' does not accept option 'batch_sise'",
            "there is no setting training.batch_sise; did you mean training.batch_size",
        ),
        (
            "Parser key \"data.source\":\n  Subtypes\n   Option 'pat' is not accepted\n",
            "there is no setting data.source.pat; did you mean data.source.path?",
        ),
        ("unrecognized arguments: zzz", "there is no setting zzz; see --help"),
        (
            "Parser key \"seed\":\n  Expected a <class 'int'>. Got value: many",
            "seed must be int, got many",
        ),
        (
            "Parser key \"a\":\n  Errors:\n    - Expected a typing.Literal['x', 'y']\n"
            "    - Expected a <class 'NoneType'>\n  Given value type: str\n  Given value: z",
            "a must be one of x, y or null, got z",
        ),
        ('Parser key "config": File\n does not exist', "config: File does not exist"),
    ],
)
def test_messages_of_the_parser_in_one_line(message: str, line: str) -> None:
    assert explain(message, NAMES).startswith(line)
    assert "\n" not in explain(message, NAMES)
