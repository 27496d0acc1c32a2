"""Settings of a forecast, the part ``forecast`` of an experiment; nothing heavy is imported."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le

from data_pipeline.bounds import Count, Hours, Level, Seed, check_bounds
from data_pipeline.timestep import Timestep, one_spelling, stated
from fourcastnet_afno.forecaster.config import DampingPower

MANTISSA_BITS = 23
IfExists = Literal["refuse", "resume", "overwrite"]


def _either(setting: str, text: str | None, hours: int, default: int) -> Timestep:
    """The time that a setting or its former hours give; hours of the default give way."""
    given = None if text is not None and hours == default else hours
    return stated(*one_spelling(setting, text, given, default))


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """How the members of an ensemble differ, besides the noise of a model that has ``model.noise``.

    Args:
        num_members: Members, the control included; without noise of the model, something below
            must make them differ.
        members: Numbers of the members to run; all where empty.
        perturbation: Of the initial states: ``gaussian`` noise at each grid point, ``spherical``
            Gaussian random fields with a length scale, ``bred`` vectors (the difference that grew
            between two forecasts, rescaled; it starts from such a field, on a plane from noise at
            each point), or ``lagged``: member i starts i lags earlier.
        amplitude: Size of a perturbation, in standard deviations of the change over a timestep, by
            channel; for bred vectors the mean over channels.
        length_scale_km: L of the correlation exp(-d^2 / (2 L^2)) of spherical random fields.
        lag: Time between the starts of lagged members, such as 12h or 1MS, instead of the hours.
        lag_hours: The same in hours, the former name of ``lag``.
        breeding_cycles: Times that the difference of bred vectors is rescaled.
        breeding_steps: Timesteps of each cycle.
        checkpoints: Further forecasters; member i runs the i-th in turn, --checkpoint first.
        stochastic: Whether dropout and stochastic depth stay on, as in training.
        noise_amplitude: Size of the noise of a model over that in training: above 1 the spread
            grows, which may suit a model whose spread is below its error in the validation period.
        seed: Of all random numbers.
        output: Whether the members are written, or only their mean, spread and quantiles.
        quantiles: Which quantiles, in 0..1, if the members are not written.
    """

    num_members: Annotated[int, Ge(1), Le(100_000)] = 1
    members: list[Annotated[int, Ge(0), Le(100_000)]] = field(default_factory=list)
    perturbation: Literal["none", "gaussian", "spherical", "bred", "lagged"] = "none"
    amplitude: Annotated[float, Interval(ge=-1e6, le=1e6)] = 0.1
    length_scale_km: Annotated[float, Gt(0), Le(1e6)] = 500.0
    lag: str | None = None
    lag_hours: Hours = 6
    breeding_cycles: Annotated[int, Ge(1), Le(100_000)] = 4
    breeding_steps: Annotated[int, Ge(1), Le(100_000)] = 4
    checkpoints: list[str] = field(default_factory=list)
    stochastic: bool = False
    noise_amplitude: Annotated[float, Ge(0), Le(100)] = 1.0
    seed: Seed = 0
    output: Literal["members", "statistics"] = "members"
    quantiles: list[Annotated[float, Interval(ge=0, le=1)]] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_bounds(self, "forecast.ensemble")
        _ = self.lag_step  # which checks both spellings
        if any(not 0 <= member < self.num_members for member in self.members):
            expected = f"0..{self.num_members - 1} (num_members {self.num_members})"
            raise ValueError(f"ensemble.members must lie in {expected}, got {self.members}")
        if len(set(self.members)) < len(self.members):
            raise ValueError(f"ensemble.members must differ, got {self.members}")
        if self.quantiles and self.output == "members":
            raise ValueError("ensemble.quantiles needs ensemble.output=statistics")

    @property
    def numbers(self) -> list[int]:
        """Numbers of the members that run, increasing."""
        return sorted(self.members) or list(range(self.num_members))

    @property
    def lag_step(self) -> Timestep:
        """Time between the starts of lagged members."""
        return _either("ensemble.lag", self.lag, self.lag_hours, 6)

    @property
    def is_ensemble(self) -> bool:
        """Whether forecasts have a member number."""
        return self.num_members > 1


@dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """Monitoring of a forecast while it runs, and quantities that are kept fixed.

    Args:
        limit: A forecast with values that are not finite, or more than this many standard
            deviations from the training mean, has blown up: it ends there.
        diagnostics: Whether means, extremes, kinetic energy and spectra of every step are written.
        nonnegative: Variables or channels whose negative values are set to zero after each step.
        conserve_mean: Variables or channels whose global mean stays that of the initial state.
        damping_power: Power in place of ``model.damping_power``, for forecasts of months and years
            that keep the size of anomalies of training; null for that of the model.
        conserve_dry_mass: Whether surface pressure is shifted so that the mean pressure of dry air
            stays; needs surface_pressure and total_column_water_vapour.
    """

    limit: Annotated[float, Gt(0), Le(1e30)] = 100.0
    diagnostics: bool = True
    nonnegative: list[str] = field(default_factory=list)
    conserve_mean: list[str] = field(default_factory=list)
    conserve_dry_mass: bool = False
    damping_power: DampingPower | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "forecast.stability")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Contents and encoding of a forecast store.

    Args:
        chunks: ``init_time``: a chunk holds many lead times of one forecast; ``lead_time``: one
            lead time of all forecasts that run together.
        variables: Variables, or channels such as geopotential_500, that are written; all where
            empty.
        levels: Levels in hPa that are written; all where empty.
        compression: ``zstd``, lossless, or ``none``.
        keep_bits: Bits of the mantissa that are kept, of 23. Fewer compress better; the relative
            error is at most 2^-(keep_bits + 1) and stated in the attributes.
        shard_mib: Size of a file, at most, before compression: it holds many chunks, of levels,
            lead times, members and initial times that are computed together. By default every chunk
            is a file of its own. Memory holds about three times this for each variable.
    """

    chunks: Literal["init_time", "lead_time"] = "init_time"
    variables: list[str] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    compression: Literal["zstd", "none"] = "zstd"
    keep_bits: Annotated[int, Interval(ge=1, le=MANTISSA_BITS)] = MANTISSA_BITS
    shard_mib: Annotated[float, Gt(0), Le(1e6)] | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "forecast.store")


@dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """Which forecasts are made, and what is written of them.

    Args:
        num_steps: Timesteps of each forecast.
        init_times: Initial times, such as 2020-01-01..2020-12-31/12h, 2020-01-01T12, or several,
            separated by commas; without them, all of the period at the interval.
        init_interval: Time between initial times, such as 12h, 5D, or 3MS for calendar months,
            instead of the hours. With steps of months, an interval below a month is every state.
        init_interval_hours: The same in hours, the former name of ``init_interval``.
        batch_size: Forecasts that run together; ``auto`` for as many as this machine steps fastest,
            measured in the first seconds, reported, and kept by forecasts that resume.
        regrid: Whether states on another grid than the network's are accepted, see
            ``Forecaster.on_grid``; otherwise they are an error.
        resolution: Such states are ``interpolate``d to the network's grid and its changes back, or
            the network works at their resolution, ``native``: right for patches of one cell alone.
        precision: ``bfloat16`` runs the network under autocast: products in bfloat16, with weights
            that are rounded once and take half of the memory; transforms in float32.
        compile: Mode of ``torch.compile`` for the network; ``reduce-overhead`` uses CUDA graphs. On
            CPUs it needs a C++ compiler, and small networks lose by it.
        diagnostic: Checkpoint of a head that was trained behind this forecaster, see
            ``train-diagnostic``; its channels are written in addition to the others.
        ensemble: Members and how they differ.
        stability: What is monitored and kept fixed.
        store: What is written, and how.
    """

    num_steps: Annotated[int, Ge(1), Le(10_000_000)] = 40
    init_times: str | None = None
    init_interval: str | None = None
    init_interval_hours: Hours = 24
    batch_size: Count | Literal["auto"] = 16
    regrid: bool = True
    resolution: Literal["interpolate", "native"] = "interpolate"
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    diagnostic: str | None = None
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    stability: StabilityConfig = field(default_factory=StabilityConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        check_bounds(self, "forecast")
        _ = self.interval  # which checks both spellings

    @property
    def interval(self) -> Timestep:
        """Time between initial times."""
        return _either("forecast.init_interval", self.init_interval, self.init_interval_hours, 24)

    @property
    def num_together(self) -> int:
        """Forecasts that run together.

        Raises:
            ValueError: If it is ``auto``, which ``settle_batch_size`` replaces.
        """
        if self.batch_size == "auto":
            raise ValueError("batch_size=auto must be settled first, see settle_batch_size")
        return self.batch_size

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, hours as integers where earlier versions have them so."""
        settings = asdict(self)
        times = (
            (settings, "init_interval", self.interval),
            (settings["ensemble"], "lag", self.ensemble.lag_step),
        )
        for part, name, step in times:
            part[name], part[f"{name}_hours"] = str(step), step.hours
            del part[name if step.hours else f"{name}_hours"]
        # Earlier versions did not know these.
        if self.stability.damping_power is None:
            del settings["stability"]["damping_power"]
        if self.ensemble.noise_amplitude == 1:
            del settings["ensemble"]["noise_amplitude"]
        if self.store.shard_mib is None:
            del settings["store"]["shard_mib"]
        if self.compile == "off":
            del settings["compile"]
        return settings
