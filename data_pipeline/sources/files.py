"""Opening what is on disk or behind a URL, lazily and without interpretation.

zarr (v2 and v3, local or gs://, s3://, http(s)://), NetCDF 3 and 4, HDF5, GRIB, and the yearly HDF5
files of FourCastNet, see ``formats.fourcastnet_hdf5``.
"""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import scipy.io
import xarray as xr
from xarray.backends import NetCDF4DataStore, ZarrStore
from zarr.storage import StoreLike

from data_pipeline.errors import InputError
from data_pipeline.redaction import MARK
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.formats.anemoi import anemoi_fields, is_anemoi
from data_pipeline.sources.formats.chunks import PIECE_BYTES, with_bounded_chunks
from data_pipeline.sources.formats.first_bytes import format_of
from data_pipeline.sources.formats.fourcastnet_hdf5 import open_fourcastnet_fields
from data_pipeline.sources.formats.grib_fields import datasets_of, is_regular, read_fields
from data_pipeline.sources.formats.grib_messages import check_messages
from data_pipeline.sources.formats.metadata import check_axes, check_decoding, unreadable_variable
from data_pipeline.sources.open_data.presets import is_open_data
from data_pipeline.sources.retry import (
    DEFAULT_POLICY,
    RetryPolicy,
    is_of_network,
    storage_options,
    with_retries,
)
from data_pipeline.sources.time_numbers import open_with_dates
from data_pipeline.sources.virtual.reference_store import local_targets, open_references
from data_pipeline.sources.virtual.references import is_reference_folder, is_reference_url
from data_pipeline.sources.virtual.repository import (
    brief,
    current_snapshot,
    open_repository,
    repository_path,
)

STORE_FILES = ("zarr.json", ".zmetadata", ".zgroup")  # one of them makes a folder a zarr store
PREPARED_ATTRS = {"fingerprint", "format"}  # a store for training has both
UNITS_BY_TABLE = "units_by_table"
"""Key of the encoding of datasets whose units are those of code tables, and never mislabelled."""
_LOCAL_URL = re.compile(r"^(file|local)://")
# Of the files of a folder; a file that is named is read whatever its suffix.
_SUFFIXES = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".grib", ".grib2", ".grb", ".grb2")


def open_all(
    path: str,
    config: SourceConfig,
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    piece_bytes: int = PIECE_BYTES,
) -> list[xr.Dataset]:
    """Open every file of ``path``, or the one zarr store, with its own names and axes.

    Returns:
        Lazy datasets, each with the name of its file in ``encoding["source"]``.

    Raises:
        InputError: If nothing is there or it cannot be read.
    """
    if is_open_data(path):
        message = f"{path} is fetched by initial time and read by `forecast --source` alone; give "
        raise InputError(message + "files of it, which may be downloaded", code="other-layout")
    if "://" in path:
        return [_open_remote(path, config, policy, piece_bytes)]
    with _open_errors_as_input_errors(path):
        files = [path] if is_store(path) else expand_glob(path)
    datasets = []
    for file in files:
        with _open_errors_as_input_errors(file):
            opened = (
                [_open_zarr(file, config, policy, piece_bytes)]
                if is_store(file) or format_of(file) == "references"
                else _open_file(file, config, piece_bytes)
            )
            for dataset in opened:
                check_decoding(dataset, file)
            datasets += opened
    return datasets


def _open_remote(
    path: str, config: SourceConfig, policy: RetryPolicy, piece_bytes: int
) -> xr.Dataset:
    further = config.storage_options
    _require_all_secrets(path, config)
    if "reference" in (part.partition("://")[0] for part in path.split("::")):
        message = f"{path} has references read by fsspec, which runs programs in them; give the "
        message += "path or URL of the file or folder of references itself"
        raise InputError(message, code="bad-setting")
    with _open_errors_as_input_errors(path):
        try:
            opened = with_retries(
                lambda: _open_zarr(path, config, policy, piece_bytes), path, policy
            )
        except InputError as error:
            if not further or not isinstance(error.__cause__, TypeError):
                raise
            # Options may be secret: only their names are shown.
            message = f"data.source.storage_options has {sorted(further)}, which do not all suit "
            message += f"{path.split('://')[0]}:// ({error.__cause__}); see the docs of fsspec"
            raise InputError(message, code="bad-setting") from error
        check_decoding(opened, path)
    return opened


def local_inputs(*paths: str) -> list[Path]:
    """Files and stores on this machine that are read for paths, globs, folders and URLs.

    A path that does not exist is listed as it is.
    """
    inputs = []
    for path in paths:
        if (repository := repository_path(path)) is not None:
            inputs += [Path(repository.place)] if "://" not in repository.place else []
            continue
        local = _LOCAL_URL.sub("", path.rpartition("::")[2])
        if "://" in local:
            continue
        is_plain = os.path.isdir(local) and not is_store(local)
        found = _files_in(Path(local)) if is_plain else matching_paths(local)
        inputs += [_hierarchy_of(Path(each)) for each in found or [local]]
        inputs += [referred for file in found for referred in _files_behind(file)]
    return inputs


def _files_behind(file: str) -> list[Path]:
    """Local files that a file of references leads to; none where it is none or is damaged."""
    with suppress(InputError, OSError):
        if os.path.isfile(file) and format_of(file) == "references":
            return local_targets(file)
    return []


def _hierarchy_of(path: Path) -> Path:
    """The store that a group is in, or the path itself."""
    stores = (p for p in reversed((path, *path.parents)) if _store_metadata(str(p)))
    return next(stores, path)


def _require_all_secrets(path: str, config: SourceConfig) -> None:
    """Reject settings of a checkpoint, which keeps ``***`` in place of secrets."""
    options = {name: value for name, value in config.storage_options.items() if MARK in str(value)}
    if options or MARK in path:
        setting = f"data.source.storage_options.{next(iter(options))}" if options else "the URL"
        message = (
            f"{setting} of {path} is {MARK}: checkpoints and stores do not keep secrets; give "
        )
        message += f"--data.source.{'storage_options' if options else 'path'} again, or --config "
        raise InputError(message + "FILE with it", code="secret-left-out")


def file_fingerprints(
    path: str, options: Mapping[str, Any] | None = None
) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a local path's files, or of a store's metadata.

    Of a repository it is the name of its snapshot, for one behind a URL with the ``options`` of
    its storage alone.
    """
    repository = repository_path(path)
    if repository is not None and ("://" not in repository.place or options is not None):
        with library_errors_as_input_errors(path), _open_errors_as_input_errors(path):
            return [(str(current_snapshot(repository, options or {})), 0, 0)]
    if "://" in path:
        return []
    found = [path] if is_store(path) else expand_glob(path)
    files = [file for each in found for file in _store_metadata(each) or [each]]
    fingerprints = []
    for file in files:
        with _open_errors_as_input_errors(file):
            status = os.stat(file)
        fingerprints.append((file, status.st_size, status.st_mtime_ns))
    return fingerprints


def is_store(path: str) -> bool:
    """Whether a local path is one store, and not a file, a folder of files or a glob."""
    return bool(_store_metadata(path)) or repository_path(path) is not None


def _store_metadata(path: str) -> list[str]:
    """Files of a local zarr store, or folder of references, that change with it."""
    files = [file for name in STORE_FILES if (file := Path(path) / name).exists()]
    if files and is_reference_folder(path):
        files += sorted(Path(path).glob("**/refs.*.parq"))
    return list(map(str, files))


@contextmanager
def _open_errors_as_input_errors(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        what = "link leads to nothing" if os.path.islink(name) else "no file or zarr store"
        message = f"there is {what} at {name} ({error}); correct data.source.path, or "
        raise InputError(message + "download the file", code="missing-file") from error
    except PermissionError as error:
        message = f"no permission to read {name}; change it, or copy the data"
        raise InputError(message, code="no-permission") from error
    except ImportError as error:
        raise missing_packages(name, error) from error
    except OSError as error:
        if is_of_network(error):
            raise
        raise _unreadable(name, error) from error


def missing_packages(name: str, error: ImportError) -> InputError:
    """The error of a file or URL that needs packages which are not installed."""
    message = f"{name} needs packages that are not installed ({error}); for URLs pip install "
    message += "'fourcastnet-afno[cloud]', for GRIB 'fourcastnet-afno[grib]', for Icechunk and "
    message += "references in Parquet 'fourcastnet-afno[virtual]'"
    return InputError(message, code="missing-package")


@contextmanager
def library_errors_as_input_errors(name: str) -> Iterator[None]:
    """Report whatever a library raises at damaged metadata; it has errors of every kind."""
    try:
        yield
    except (InputError, FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:
        if is_of_network(error):
            raise
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> InputError:
    variable = unreadable_variable(name) if os.path.exists(name) else ""
    where = f"the variable {variable} of {name}" if variable else name
    return InputError(
        f"cannot read {where}: {brief(error)}; it may be damaged, truncated or still being "
        "written; expected NetCDF, HDF5 or GRIB files or a zarr store",
        code="unreadable-file",
    )


class _Stored(NamedTuple):
    """A store as zarr opens it, with options of fsspec, and the name of what is there now."""

    store: StoreLike
    options: Mapping[str, Any] | None
    name: str

    @classmethod
    def at(cls, path: str, config: SourceConfig, policy: RetryPolicy) -> "_Stored":
        """The store of a folder, file or URL."""
        further, is_url = config.storage_options, "://" in path
        if (repository := repository_path(path)) is not None:
            opened = open_repository(repository, further, tuple(config.referenced))
            return cls(opened.store, None, str(opened.snapshot))
        if is_reference_url(path) if is_url else os.path.isfile(path) or is_reference_folder(path):
            return cls(open_references(path, config.referenced, further, policy), None, path)
        options = storage_options(path, policy.stall) | further if is_url else {}
        return cls(path, options or None, path)


def _open_zarr(
    path: str, config: SourceConfig, policy: RetryPolicy, piece_bytes: int
) -> xr.Dataset:
    with library_errors_as_input_errors(path):
        found = _Stored.at(path, config, policy)
        stored, is_consolidated = _open_group(found)
    path = found.name
    with library_errors_as_input_errors(path):
        shapes = [(name, array.shape) for name, array in stored.arrays()]
    check_axes(shapes, path)

    def opened(decode: bool, masked: Any = True) -> xr.Dataset:  # noqa: ANN401
        with library_errors_as_input_errors(path):
            return xr.open_dataset(stored, decode_times=decode, mask_and_scale=masked)

    dataset = listed = open_with_dates(opened)
    if whole := _wrongly_masked(listed):
        masked = {str(name): name not in whole for name in listed.variables}
        dataset = listed = open_with_dates(lambda decode: opened(decode, masked))
    if not is_consolidated:
        names = sorted(map(str, listed.data_vars))  # a folder lists them in any order
        dataset = listed.drop_vars(names).assign({name: listed[name] for name in names})
    if dataset.attrs.keys() >= PREPARED_ATTRS:
        dataset.close()
        message = f"{path} is a store that `prepare` has written, expected the data it was made "
        message += "from; correct data.source.path, or give that store as data.store (`forecast` "
        message += "and `score` take one such store in place of other data)"
        raise InputError(message, code="other-layout")
    if not dataset.variables:
        with library_errors_as_input_errors(path):
            groups = [] if found.options else sorted(stored.zarr_group.group_keys())
        if groups:
            message = f"{path} holds no arrays but the groups {groups[:8]}; give the path of one, "
            raise InputError(message + f"such as {path}/{groups[0]}", code="other-layout")
        message = f"{path} holds no arrays, or its server does not list them; call "
        message += "zarr.consolidate_metadata on it, or copy it to a local disk"
        raise InputError(message, code="unreadable-file")
    if is_anemoi(listed):
        listed = opened(False, False)  # 0, which chunks that are not there would have, is a value
        dataset = anemoi_fields(with_bounded_chunks(listed, listed, path, piece_bytes), path)
    return with_bounded_chunks(dataset, listed, path, piece_bytes)


def _open_group(found: _Stored) -> tuple[ZarrStore, bool]:
    """A store, and whether its metadata is consolidated; else it is slower to open."""
    store: Any = found.store
    open_group = partial(ZarrStore.open_group, store, storage_options=found.options)
    try:
        return open_group(consolidated=True), True
    except ValueError:
        return open_group(consolidated=False), False


def _wrongly_masked(dataset: xr.Dataset) -> list[str]:
    """Axes of which a value is that of chunks that are not there, often 0, and is read as missing.

    Axes have no missing values by CF, and zarr 2 does not tell the two apart.
    """
    return [
        str(name)
        for name in dataset.dims
        if name in dataset.coords
        and "_FillValue" in dataset[name].encoding
        and "scale_factor" not in dataset[name].encoding
        and bool(dataset[name].isnull().any())
    ]


def expand_glob(path: str) -> list[str]:
    """List the files of a path, sorted: itself, those of a glob, or the data files in a folder.

    In a folder these are the files with the suffixes of NetCDF, HDF5 and GRIB; where no file has
    one, those that are data by their first bytes.

    Raises:
        InputError: If there is none.
    """
    if Path(path).is_dir():
        files = _files_in(Path(path))
        expected = f"{path}/*" + "|".join(_SUFFIXES) + ", and no other name is data"
    else:
        files, expected = matching_paths(path), path
    if not files:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.listdir(Path(path).parent)  # glob ignores folders that it may not read
        message = f"no file matches {expected} (from {Path.cwd()}); correct data.source.path"
        raise InputError(message, code="missing-file")
    return sorted(files)


def matching_paths(path: str) -> list[str]:
    """Paths that a glob matches, sorted; what exists under that very name comes first."""
    return sorted(glob.glob(_pattern(path)))


def _pattern(path: str) -> str:
    """A glob in which the folders and files that exist under their literal names are escaped."""
    literal = next((p for p in (Path(path), *Path(path).parents) if os.path.lexists(p)), Path())
    rest = Path(path).relative_to(literal)
    return path if literal == Path() else str(Path(glob.escape(str(literal))) / rest)


def _files_in(folder: Path) -> list[str]:
    """Files with a known suffix, or, where none has one, those whose first bytes are known."""
    files = [file for file in folder.iterdir() if file.is_file() and file.name[0] != "."]
    named = [file for file in files if file.suffix.lower() in _SUFFIXES]
    return [str(f) for f in named or (f for f in files if format_of(str(f)) != "unknown")]


def _open_file(file: str, config: SourceConfig, piece_bytes: int) -> list[xr.Dataset]:
    if format_of(file) != "grib":
        _check_length(file)
        dataset = named = _open_netcdf(file)
        if not dataset.variables:
            _reject_groups(file)
        if "fields" in dataset and not dataset.coords and dataset["fields"].ndim == 4:
            named = open_fourcastnet_fields(dataset["fields"], file, config, piece_bytes)
        result = with_bounded_chunks(named, dataset, file, piece_bytes)
        result.encoding["channels"] = [] if named is dataset else config.channels
        return [result]
    with library_errors_as_input_errors(file):
        opened = _open_grib(file)
    found = [with_bounded_chunks(dataset, dataset, file, piece_bytes) for dataset in opened]
    for dataset in found:
        dataset.encoding[UNITS_BY_TABLE] = True
    return found


def _open_grib(file: str) -> list[xr.Dataset]:
    """Datasets of the messages; those of other grids and several fields are read by cfgrib."""
    messages = check_messages(file)
    if all(message.num_fields == 1 for message in messages):
        fields = read_fields(file, messages)
        if is_regular(fields):
            return datasets_of(file, fields)
    import cfgrib

    # Accumulations of ERA5 are forecasts: a start and steps from it. By default a damaged message
    # is skipped with a line on the console.
    options = {"indexpath": "", "errors": "raise", "time_dims": ("valid_time",)}
    return cfgrib.open_datasets(file, backend_kwargs=options)


def _open_netcdf(file: str) -> xr.Dataset:
    with library_errors_as_input_errors(file):
        stored = NetCDF4DataStore.open(file)
        shapes = [(name, array.shape) for name, array in stored.ds.variables.items()]
    check_axes(shapes, file)

    def opened(decode: bool) -> xr.Dataset:
        with library_errors_as_input_errors(file):
            return xr.open_dataset(stored, decode_times=decode)

    return open_with_dates(opened)


def _reject_groups(file: str) -> None:
    """Reject a file whose variables are all in groups, of which only the root is read."""
    with library_errors_as_input_errors(file), netCDF4.Dataset(file) as opened:
        groups = sorted(opened.groups)
    if groups:
        message = f"{file} has its variables in the groups {groups[:8]}, expected them at the top; "
        message += f"extract one, such as with `ncks -G : -g {groups[0]} {file} other.nc`"
        raise InputError(message, code="other-layout")


def _check_length(file: str) -> None:
    """Reject a NetCDF 3 file that has been cut off: the library would read zeros past its end."""
    with open(file, "rb") as stream:
        if stream.read(4) not in (b"CDF\x01", b"CDF\x02"):
            return
        stream.seek(0)
        try:
            with scipy.io.netcdf_file(stream, mmap=True, maskandscale=False) as header:
                header.variables.clear()
        except Exception as error:  # of every kind where the header is damaged
            if not _has_one_record_variable_and_all_bytes(file):
                raise OSError("it ends before its data do") from error


def _has_one_record_variable_and_all_bytes(file: str) -> bool:
    """Whether scipy is wrong: it expects padding of a lone packed variable of records."""
    with library_errors_as_input_errors(file), netCDF4.Dataset(file) as dataset:
        variables = list(dataset.variables.values())
        unlimited = [name for name, dim in dataset.dimensions.items() if dim.isunlimited()]
        records = [v for v in variables if set(unlimited) & set(v.dimensions)]
        needed = sum(v.size * v.dtype.itemsize for v in variables)
        packed = len(records) == 1 and records[0].dtype.itemsize < 4
        return packed and os.path.getsize(file) >= needed
