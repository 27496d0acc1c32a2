"""``forecast.precision: bfloat16``: weights of products are rounded once, not in each step."""

import copy
import itertools
from collections.abc import Sequence

from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.rollout import Stepper
from fourcastnet_afno.models.rounding import round_weights


def in_precision(config: ForecastConfig, steppers: Sequence[Stepper]) -> list[Stepper]:
    """The steppers as they run under autocast to the precision of forecasts.

    For bfloat16 forecasters are copies whose networks hold the weights of matrix products in
    bfloat16, see ``round_weights``, and share all other tensors; those given stay as they are.
    """
    if config.precision != "bfloat16":
        return list(steppers)
    return [_rounded(each) if isinstance(each, Forecaster) else each for each in steppers]


def _rounded(forecaster: Forecaster) -> Forecaster:
    tensors = itertools.chain(forecaster.parameters(), forecaster.buffers())
    result = copy.deepcopy(forecaster, {id(tensor): tensor for tensor in tensors})
    round_weights(result.network)
    return result
