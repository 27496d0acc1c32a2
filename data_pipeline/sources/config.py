"""Sources of data: the part ``data.source`` of an experiment."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from data_pipeline.bounds import Hours, Number, check_bounds
from data_pipeline.redaction import remember_secrets
from data_pipeline.simulation.trajectories import Splits

BenchmarkFormat = Literal["pdebench", "the_well", "neuraloperator"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """How files hold trajectories, and what these serve.

    Args:
        layout: pdebench, the_well or neuraloperator.
        trajectories: How many serve for training, validation and test, in the order of
            data.source.path.
        splits: Instead of that, what each entry of data.source.path serves: train, validation or
            test.
    """

    layout: BenchmarkFormat
    trajectories: Splits | None = None
    splits: list[Split] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.trajectories is None) == (not self.splits):
            message = "data.source.benchmark needs either trajectories, such as {train: 900, "
            message += (
                "validation: 50, test: 50}, or splits, [train, validation, test] of three files"
            )
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """A source to read.

    Args:
        path: A file (NetCDF, HDF5, GRIB), a glob ("data/*.nc"), a folder of files, a zarr store (a
            folder or a URL: gs://, s3:// or https://), an Icechunk repository (a folder, or
            icechunk://s3://BUCKET/PREFIX; FOLDER@branch.NAME, FOLDER@tag.NAME or FOLDER@SNAPSHOT
            for a version), references of kerchunk or VirtualiZarr (a JSON file, a folder of
            Parquet, or their URL), or a list of these, which are merged. For
            forecasts also a weather service: gfs://aws, gfs://gcs, ifs://aws, ifs://gcs or
            ifs://ecmwf.
        rename: Names of variables and axes by those in the files: canonical or short names, or
            labels such as t850. A pattern of files may hold names of its own:
            {"air.2m.*.nc": {air: 2m_temperature}}.
        select: An entry of an axis or scalar coordinate, by its value: {number: 0} for a member,
            {level: 500}, {expver: 1}, {step: 6} in hours; or a list of entries.
        units: Units of variables whose attribute is missing or mislabelled.
        convert: Whether to convert known units, such as hPa to Pa, degC to K, knots to m s-1 or mm
            of water to m; by default other units than those of the names are an error.
        time_units: Units and origin of times that are plain numbers, or whose own cannot be read,
            such as "hours since 1900-01-01"; of a benchmark the units of its model time, such as s.
        time_calendar: Calendar of such times, such as noleap; by default the standard calendar.
        missing: Numbers that stand for missing values and that the files do not declare, in their
            units, by variable, such as {sst: -9999}.
        channels: Labels of the channels of FourCastNet's yearly HDF5 files, in order.
        channels_timestep_hours: Time between the fields of such files.
        storage_options: Further options of fsspec for URLs, such as {endpoint_url: ...} for a store
            that speaks S3, or {token: null} for your own login at Google. Secrets among them (by
            their names: key, secret, token, password, ...) are kept in the config.yaml of the run
            alone, which nobody but you may read; better leave them in the environment.
        referenced: Folders and URLs that references and virtual chunks may lead to, besides the
            folder that the references are in.
        periodic: Axes of fields on a plane that close on themselves, such as [y, x] or [], where
            the data does not say.
        benchmark: How the files hold trajectories, in the layout of a public benchmark of partial
            differential equations.
    """

    path: str | list[str]
    rename: dict[str, str | dict[str, str]] = field(default_factory=dict)
    select: dict[str, Any] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    convert: bool = False
    time_units: str | None = None
    time_calendar: str | None = None
    missing: dict[str, Number | Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]] = field(
        default_factory=dict
    )
    channels: list[str] = field(default_factory=list)
    channels_timestep_hours: Hours = 6
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    referenced: list[str] = field(default_factory=list)
    periodic: list[str] | None = None
    benchmark: BenchmarkConfig | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "data.source")
        remember_secrets({"path": self.path, "storage_options": self.storage_options})

    @property
    def paths(self) -> list[str]:
        """All paths."""
        return [self.path] if isinstance(self.path, str) else list(self.path)
