"""``forecast.compile``: networks compiled by ``torch.compile``, see ``ForecastConfig``."""

import torch

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.rollout import Stepper


def compile_networks(config: ForecastConfig, *steppers: Stepper) -> None:
    """Have the networks of forecasters compiled in their first step, in place, where it is set.

    Raises:
        InputError: If a stepper has no network, or the machine no compiler.
    """
    if config.compile == "off":
        return
    for stepper in steppers:
        if not isinstance(stepper, Forecaster):
            raise InputError(
                f"forecast.compile={config.compile} compiles the network of a forecaster, "
                f"{type(stepper).__name__} has none; set forecast.compile=off",
                code="bad-setting",
            )
        _require_compiler(stepper.diff_std.device, config.compile)
        stepper.network.compile(mode=config.compile)


def _require_compiler(device: torch.device, mode: str) -> None:
    """Check that what torch.compile writes for a device can be compiled."""
    # Imported here as it takes seconds.
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device.type == "cuda":
        needed, is_there = "the package triton", has_triton()
    else:
        needed, is_there = "a C++ compiler", True
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            is_there = False
    if not is_there:
        raise InputError(
            f"forecast.compile={mode} needs {needed} for {device.type}, which this machine lacks; "
            "install it, such as g++ by the system's packages, or set forecast.compile=off",
            code="no-compiler",
        )
