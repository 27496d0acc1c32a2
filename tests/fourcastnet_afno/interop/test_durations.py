"""Forecasters for tools that count durations."""

from dataclasses import replace

from data_pipeline.timestep import Timestep
from fourcastnet_afno.interop.durations import require_plain_steps
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster


def test_steps_are_durations_of_the_standard_calendar_without_driving_fields() -> None:
    spec = make_forecaster().spec
    require_plain_steps(spec, "TOOL")
    for step in (Timestep.parse("1MS"), Timestep.parse("6h", calendar="noleap")):
        with rejects("timestep-mismatch", "TOOL", step.label):
            require_plain_steps(replace(spec, step=step), "TOOL")
    with rejects("bad-setting", "TOOL", "data.boundary"):
        require_plain_steps(replace(spec, boundary_width=2), "TOOL")
