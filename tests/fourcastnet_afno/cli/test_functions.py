import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Ge, Le

from fourcastnet_afno.cli import functions, main
from fourcastnet_afno.cli.parser import function_of, parse
from fourcastnet_afno.cli.verbs import VERBS
from tests.builders.experiments import make_dataset, make_experiment


def test_a_function_is_called_with_what_is_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    experiment = make_experiment(tmp_path / "data.nc")
    (tmp_path / "e.yaml").write_text(experiment.to_yaml())
    words = [f"--config={tmp_path / 'e.yaml'}", f"--output={tmp_path / 'run'}"]
    arguments = parse("prepare", [*words, "--plan"])
    assert arguments["config"] == experiment
    functions.prepare_verb(**arguments)
    assert not (tmp_path / "run").exists()
    assert main(["prepare", *words]) == 0
    assert (tmp_path / "run" / "data.zarr").exists()
    capsys.readouterr()
    code = main(["doctor", *words, "--json", "--measure=false"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["ok"]) in ((0, True), (1, False))


@dataclass
class Unchecked:
    size: Annotated[int, Ge(0), Le(1)] = 0


def unbounded(name: str, hint: Any, marks: tuple[Any, ...] = ()) -> Iterator[str]:  # noqa: ANN401
    """Names of the numbers in a type that lack a bound, and of groups that do not check them."""
    if get_origin(hint) is Annotated:
        yield from unbounded(name, get_args(hint)[0], get_args(hint)[1:])
    elif isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        inner = [found for key in hints for found in unbounded(f"{name}.{key}", hints[key])]
        yield from inner
        if any("int" in repr(h) or "float" in repr(h) for h in hints.values()) and (
            "check_bounds(self" not in inspect.getsource(hint)
        ):
            yield f"{name} does not check its bounds"
    elif hint in (int, float):
        for sides in (("ge", "gt"), ("le", "lt")):
            if all(getattr(m, side, None) is None for m in marks for side in sides):
                yield f"{name} has no {sides[0]} or {sides[1]}"
    else:
        for argument in get_args(hint):
            yield from unbounded(name, argument)


def test_every_number_of_every_setting_has_a_lower_and_an_upper_bound() -> None:
    """NaN and infinity are within no bounds, see ``check_bounds``."""
    hints = {
        f"{name}.{key}": hint
        for name in VERBS
        for key, hint in get_type_hints(function_of(name), include_extras=True).items()
        if key != "return"
    }
    assert [found for name, hint in hints.items() for found in unbounded(name, hint)] == []


def test_a_number_without_bounds_is_found() -> None:
    assert list(unbounded("a", float | None)) == ["a has no ge or gt", "a has no le or lt"]
    assert list(unbounded("a", dict[str, Annotated[int, Ge(0)]])) == ["a has no le or lt"]
    assert len(list(unbounded("a", Unchecked))) == 1
