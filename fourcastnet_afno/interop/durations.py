"""Forecasters that tools which count durations in the standard calendar can run."""

from data_pipeline.calendars import STANDARD
from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.forecaster import FieldSpec


def require_plain_steps(spec: FieldSpec, tool: str) -> None:
    """Require steps of fixed duration that need no driving fields.

    Args:
        spec: Of the forecaster.
        tool: Its name, for messages.

    Raises:
        InputError: If the step is in months or in another calendar ("timestep-mismatch"), or the
            area is limited ("bad-setting").
    """
    if spec.step.months or spec.step.calendar != STANDARD:
        raise InputError(
            f"{tool} counts durations in the standard calendar, the forecaster steps "
            f"{spec.step.label} in the calendar {spec.step.calendar}; use `fourcastnet-afno "
            "forecast`",
            code="timestep-mismatch",
        )
    if spec.boundary_width:
        raise InputError(
            f"{tool} has no driving fields, which a forecaster of a limited area (data.boundary) "
            "needs; use `fourcastnet-afno forecast`",
            code="bad-setting",
        )
