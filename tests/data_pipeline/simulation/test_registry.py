import pytest

from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.registry import EQUATIONS, build_equation
from data_pipeline.simulation.trajectories import Splits
from tests.builders.errors import rejects


def make_config(equation: str, **parameters: float) -> PDEConfig:
    points = [16] * (1 if equation in ("burgers", "kuramoto_sivashinsky") else 2)
    return PDEConfig(
        equation=equation, resolution=points, trajectories=Splits(train=1), parameters=parameters
    )


@pytest.mark.parametrize("name", EQUATIONS)
def test_an_equation_is_built_by_its_name(name: str) -> None:
    equation = build_equation(make_config(name))
    assert type(equation) is EQUATIONS[name]
    assert len(equation.variables) > 0


def test_parameters_of_an_equation_are_set() -> None:
    assert build_equation(make_config("burgers", viscosity=0.25)).viscosity == 0.25  # pyright: ignore


@pytest.mark.parametrize(
    ("equation", "code", "named"),
    [
        ("none.py:Fisher", "unknown-equation", "none.py:Fisher"),
        ("no_such_module:Fisher", "unknown-equation", "no_such_module:Fisher"),
        ("data_pipeline.simulation.darcy:Other", "unknown-equation", "Other"),
        ("pathlib:Path", "unknown-equation", "pathlib:Path"),
        ("data_pipeline.simulation.equations:Burgers", "bad-setting", "speed"),
    ],
)
def test_an_equation_that_cannot_be_built_is_named(equation: str, code: str, named: str) -> None:
    parameters = {"speed": 1.0} if code == "bad-setting" else {}
    with rejects(code, named):
        build_equation(make_config(equation, **parameters))
