"""The yearly HDF5 files of FourCastNet.

They hold one array ``fields`` (time, channel, latitude, longitude) and no coordinates.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.formats.chunks import PIECE_BYTES, rechunk_to_bytes
from data_pipeline.sources.names import UNITS, parse_label


def open_fourcastnet_fields(
    fields: xr.DataArray, file: str, config: SourceConfig, piece_bytes: int = PIECE_BYTES
) -> xr.Dataset:
    """Name the axes of a yearly file, such as ``2018.h5``; rows start at the north pole.

    A file of 720 of 721 rows, without the south pole, has the spacing of its longitudes. Units are
    those of ERA5.

    Raises:
        InputError: If ``config.channels`` does not suit the channels, or the name is no year
            that the fields fit in.
    """
    channels = config.channels
    count, num_channels, rows, columns = fields.shape
    if len(channels) != num_channels:
        message = f"{file} holds {num_channels} channels without names, data.source.channels gives "
        message += f"{len(channels)}; list all of them in order, such as [u10, v10, t2m, ...]"
        raise InputError(message, code="channels-mismatch")
    names = [parse_label(label) for label in channels]
    repeated = [label for label in channels if names.count(parse_label(label)) > 1]
    if repeated:
        message = f"data.source.channels names {repeated} more than once; each channel of {file} "
        raise InputError(message + "needs its own label", code="repeated-channel")
    if not Path(file).stem.isdigit():
        message = (
            f"{file} has no times; name it by its year, such as 2018.h5, whose first field is "
        )
        raise InputError(message + "at January 1st, 00 UTC", code="no-times")
    step = np.timedelta64(config.channels_timestep_hours, "h")
    start = np.datetime64(f"{int(Path(file).stem):04d}-01-01", "ns")
    times = start + np.arange(count) * step
    if count and times[-1] > start.astype("datetime64[Y]") + 1:
        hours = config.channels_timestep_hours
        message = f"{file} holds {count} fields, which every {hours} h take longer than its year; "
        message += "correct data.source.channels_timestep_hours, or the file"
        raise InputError(message, code="timestep-mismatch")
    coords = {
        "time": times,
        "latitude": 90 - 360 / columns * np.arange(rows),
        "longitude": 360 / columns * np.arange(columns),
    }
    arrays: dict[str, list[xr.DataArray]] = {}
    for index, label in enumerate(channels):
        name, level = parse_label(label)
        array = rechunk_to_bytes(
            fields[:, index], f"{label} of {file}", piece_bytes
        )  # one channel alone is read
        array = array.rename(dict(zip(array.dims, coords, strict=True))).assign_coords(coords)
        array.attrs["units"] = UNITS.get(name, "")
        array = array if level is None else array.expand_dims(level=[level])
        arrays.setdefault(name, []).append(array)
    merged = [
        (group[0] if "level" not in group[0].dims else xr.concat(group, "level")).rename(name)
        for name, group in arrays.items()
    ]
    return xr.merge(merged, join="outer")


def check_channels_used(opened: Sequence[xr.Dataset], config: SourceConfig) -> None:
    """Reject ``config.channels`` where no file needs them, all having variables with names."""
    if config.channels and not any(dataset.encoding.get("channels") for dataset in opened):
        variables = sorted({str(name) for dataset in opened for name in dataset.data_vars})[:8]
        message = "data.source.channels names the channels of FourCastNet's HDF5 files, which hold "
        message += f"one array `fields`; {config.path} has the variables {variables}; leave the "
        raise InputError(
            message + "setting out, or map names with data.source.rename", code="bad-setting"
        )
