"""Spatial model parallelism: processes that share each field, see ``parallel.row_sharding``."""

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import RowPartition, ShardedRows


def shard_rows(forecaster: Forecaster, process: Process) -> None:
    """Restrict a forecaster in place to the rows of this process, where several share each field.

    Raises:
        InputError: If the grid has too few rows, or the network cannot work on some rows.
    """
    if process.spatial is None:
        return
    size, shape = process.spatial.size, forecaster.spec.grid.shape
    patch, padding = forecaster.network.config.patch_size, forecaster.network.config.padding
    widths, _ = padding.widths(shape, patch)
    try:
        partition = RowPartition(shape[0], widths, patch[0], size, padding.latitude == "reflect")
        forecaster.shard(ShardedRows(partition, process.spatial))
    except ValueError as error:
        raise InputError(
            f"training.spatial_ranks={size}: {error}; start with fewer, or change model.network",
            code="bad-setting",
        ) from error
