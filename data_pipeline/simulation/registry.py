"""Equations by name: those of this package, and classes in files and modules of the user."""

from dataclasses import fields, is_dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from data_pipeline.errors import InputError
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.darcy import Darcy
from data_pipeline.simulation.equations import (
    Burgers,
    GrayScott,
    KolmogorovFlow,
    KuramotoSivashinsky,
    NavierStokes,
)
from data_pipeline.simulation.fourier import Equation
from data_pipeline.simulation.user_code import require_code_of_user

EQUATIONS: dict[str, type] = {
    "navier_stokes": NavierStokes,
    "kolmogorov_flow": KolmogorovFlow,
    "burgers": Burgers,
    "kuramoto_sivashinsky": KuramotoSivashinsky,
    "gray_scott": GrayScott,
    "darcy": Darcy,
}


def build_equation(config: PDEConfig) -> Darcy | Equation:
    """Make the equation of a configuration, with its parameters.

    Raises:
        InputError: If it cannot be found, lacks a part, does not take the parameters, or is code
            that the user has not named, see ``user_code``.
    """
    require_code_of_user(config.equation)
    path, _, name = config.equation.rpartition(":")
    try:
        if path.endswith(".py"):
            spec = spec_from_file_location(Path(path).stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            kind: type = getattr(module, name)
        else:
            kind = getattr(import_module(path), name) if path else EQUATIONS[name]
    except Exception as error:  # of code of the user, which may raise any
        raise InputError(
            f"there is no equation {config.equation} (from {Path.cwd()}): "
            f"{type(error).__name__}: {error}; correct data.pde.equation or its file",
            code="unknown-equation",
        ) from error
    members = fields(kind) if is_dataclass(kind) else ()
    counts = {item.name for item in members if isinstance(item.default, int)}
    parameters = {n: round(v) if n in counts else float(v) for n, v in config.parameters.items()}
    try:
        equation = kind(**parameters)
    except TypeError as error:
        raise InputError(
            f"data.pde.parameters {config.parameters} do not suit {config.equation}: {error}",
            code="bad-setting",
        ) from error
    if not isinstance(equation, Darcy | Equation):
        raise InputError(
            f"{config.equation} is no equation: it needs variables, degree, extent, linear, "
            "nonlinear and initial, see docs/equations.md",
            code="unknown-equation",
        )
    return equation
