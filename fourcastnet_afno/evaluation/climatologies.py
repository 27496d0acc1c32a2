"""Former place of ``evaluation.inputs.climatologies``, for files that import it."""

from fourcastnet_afno.evaluation.inputs.climatologies import Climatology as Climatology
from fourcastnet_afno.evaluation.inputs.climatology_sources import (
    open_climatology as open_climatology,
)
