"""The transform from some rows of a grid to some of its modes, see ``parallel.row_sharding``.

my rows -> longitude -> exchange -> latitude of my zonal wavenumbers -> modes, and back
"""

from torch import Tensor

from fourcastnet_afno.models.fourier.transforms import LocalTransform, Transform
from fourcastnet_afno.parallel.row_sharding import RowRange, ShardedRows, balanced_counts


class ShardedTransform(Transform):
    """A transform of which each process has some rows of the grid and some of the modes.

    The adjoints are over all processes together, as those of an exchange are exchanges.
    """

    def __init__(self, full: LocalTransform, rows: ShardedRows) -> None:
        meridional, num_zonal = full.kept
        self._full, self._exchange = full, rows.exchange
        self._rows = RowRange(1, rows.partition.token_rows)
        self._zonal = RowRange(2, balanced_counts(num_zonal, rows.exchange.size))
        self._mine = self._zonal.slice_of(rows.exchange.rank)
        self.kept = (meridional, self._mine.stop - self._mine.start)
        rows_of_modes, columns = full.mode_axes
        mine = columns._replace(wavenumbers=columns.wavenumbers[self._mine])
        self.mode_axes = rows_of_modes, mine

    def to_modes(self, fields: Tensor, channels: slice, adjoint: bool = False) -> Tensor:
        """See ``Transform``."""
        zonal = self._full.to_zonal(fields, channels, adjoint)
        columns = self._exchange.transpose(zonal, split=self._zonal, join=self._rows)
        if not columns.numel():  # There are fewer zonal wavenumbers than processes.
            return columns.new_empty(len(columns), *self.kept, *columns.shape[3:])
        return self._full.to_meridional(columns, channels, self._mine, adjoint)

    def add_to_grid(
        self,
        modes: Tensor,
        fields: Tensor | None,
        out: Tensor,
        channels: slice,
        adjoint: bool = False,
    ) -> None:
        """See ``Transform``."""
        columns = modes.new_empty(len(modes), sum(self._rows.counts), *modes.shape[2:])
        if modes.numel():
            columns = self._full.to_rows(modes, channels, self._mine, adjoint)
        zonal = self._exchange.transpose(columns, split=self._rows, join=self._zonal)
        self._full.add_from_zonal(zonal, fields, out, channels, adjoint)
