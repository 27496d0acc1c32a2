"""Spatial model parallelism: processes that share each field, see ``parallel.row_sharding``."""

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import RowPartition, ShardedRows


def shard_rows(forecaster: Forecaster, process: Process) -> None:
    """Restrict a forecaster to the rows of this process, where several share each field.

    Args:
        forecaster: Changed in place.
        process: One of those that share the fields.

    Raises:
        InputError: If the grid has too few rows, or the network cannot work on some rows.
    """
    if process.spatial is None:
        return
    config, shape = forecaster.network.config, forecaster.spec.grid.shape
    widths, _ = config.padding.widths(shape, config.patch_size)
    mirrored = config.padding.latitude == "reflect"
    try:
        partition = RowPartition(
            shape[0], widths, config.patch_size[0], process.spatial.size, mirrored
        )
        forecaster.shard(ShardedRows(partition, process.spatial))
    except ValueError as error:
        raise InputError(
            f"training.spatial_ranks={process.spatial.size}: {error}; start with fewer, or change "
            "model.network",
            code="bad-setting",
        ) from error
