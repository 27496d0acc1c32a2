"""Spatial model parallelism: processes that share each field, see ``bands``."""

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import Band, RowPartition


def share_fields(forecaster: Forecaster, process: Process) -> None:
    """Let a forecaster have the rows of this process, where several share each field.

    Args:
        forecaster: Changed in place.
        process: One of those that share the fields.

    Raises:
        InputError: If the grid has too few rows, or the network cannot be shared.
    """
    if process.spatial is None:
        return
    config, shape = forecaster.network.config, forecaster.spec.grid.shape
    widths, _ = config.padding.widths(shape, config.patch_size)
    mirrored = config.padding.latitude == "reflect"
    try:
        layout = RowPartition(
            shape[0], widths, config.patch_size[0], process.spatial.size, mirrored
        )
        forecaster.split(Band(layout, process.spatial))
    except ValueError as error:
        raise InputError(
            f"training.spatial_ranks={process.spatial.size}: {error}; start with fewer, or change "
            "model.network"
        ) from error
