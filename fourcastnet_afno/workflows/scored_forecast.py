"""Scores that the verb ``forecast`` makes with the forecasts: what it is given for them.

Truth, climatology and training years are opened as ``score`` opens them, so that the scores are
those of the same forecasts in files.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import xarray as xr

from data_pipeline.errors import InputError, naming_option
from data_pipeline.files.outputs import Output, check_outputs
from data_pipeline.redaction import redact, redacted
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import local_inputs
from data_pipeline.store.reader import is_prepared
from data_pipeline.terminal import print_line, print_tables
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.inputs.climatology_sources import (
    open_climatology_data,
    prepared_store,
)
from fourcastnet_afno.evaluation.inputs.companions import open_training
from fourcastnet_afno.evaluation.inputs.open import open_series
from fourcastnet_afno.evaluation.scores.tables import scores_outputs, scores_table
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.open import forecast_output
from fourcastnet_afno.live_scores.scorer import MODEL, LiveScoring
from fourcastnet_afno.report.outputs import report_outputs
from fourcastnet_afno.report.report import write_report
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.score import fingerprint_of_data, open_truth, truth_as_scored

_OPTIONS = {"truth": "--truth", "climatology": "--climatology", "training": "--training-years"}
Keep = Literal["none", "statistics", "members"]


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Options of ``forecast`` for its scores, as its ``--help`` describes them."""

    scores: Path | None = None
    truth: SourceConfig | None = None
    climatology: SourceConfig | None = None
    training_years: SourceConfig | None = None
    keep: Keep | None = None
    report: Path | None = None

    def checked(self, config: ForecastConfig) -> ForecastConfig:
        """The settings of the forecast, with what is to be kept of it.

        Raises:
            InputError: If options contradict each other.
        """
        given = {"--truth": self.truth, "--climatology": self.climatology}
        given |= {"--training-years": self.training_years, "--report": self.report}
        useless = [option for option, value in given.items() if value is not None]
        useless += ["--keep none"] if self.keep == "none" else []
        if self.scores is None and useless:
            raise InputError(
                f"{', '.join(useless)} are for the scores of the forecasts, which have no file: "
                "give --scores scores.nc, or leave them out",
                code="bad-setting",
            )
        if self.scores is not None and self.scores.suffix != ".nc":
            raise InputError(
                f"scores are written to a file that ends in .nc, got --scores {self.scores}",
                code="bad-setting",
            )
        ensemble = config.ensemble
        if self.keep != "statistics" and self.keep is not None and ensemble.quantiles:
            raise InputError(
                f"forecast.ensemble.quantiles={ensemble.quantiles} are fields, which are no sums "
                f"over members or forecasts and cannot be had with --keep {self.keep}; give "
                "--keep statistics, or leave them out",
                code="bad-setting",
            )
        if self.keep in (None, "none"):
            return config
        return replace(config, ensemble=replace(ensemble, output=self.keep))

    @property
    def outputs(self) -> list[Output]:
        """Files of the scores and the report."""
        if self.scores is None:
            return []
        reports = [] if self.report is None else report_outputs(self.report)
        return [*scores_outputs(self.scores.with_suffix(".json"), self.scores), *reports]

    def _sources(self, store: Path | None) -> dict[str, SourceConfig]:
        """Truth, climatology and training years, where they are known."""
        prepared = store is not None and is_prepared(store)
        default = SourceConfig(path=str(store)) if prepared else None
        truth, training = self.truth, self.training_years
        if truth is None:
            truth, training = default, training or default
        if truth is None:
            raise InputError(
                "the forecasts are compared with nothing: give --truth (files or a store), or a "
                "checkpoint in a run folder with data.zarr",
                code="missing-file",
            )
        climatology = self.climatology
        if climatology is None:
            climatology = truth if prepared_store(truth) is not None else default
        if climatology is None:
            raise InputError(
                "there is no climatology for the scores of anomalies: give --climatology, a "
                "prepared store, a table by dayofyear and hour, or years to fit one to",
                code="missing-file",
            )
        sources = {"truth": truth, "climatology": climatology}
        return sources if training is None else {**sources, "training": training}

    def scoring(
        self, config: EvaluationConfig, store: Path | None, kept: Sequence[Path]
    ) -> LiveScoring | None:
        """Open what the forecasts are compared with; None where they are not scored.

        Args:
            config: Scores and conventions.
            store: Prepared data of the forecaster, in place of options that are not given.
            kept: Where forecasts are kept.

        Raises:
            InputError: If something is missing, cannot be read or is also an output.
        """
        if self.scores is None:
            return None
        sources = self._sources(store)
        read = {_OPTIONS[name]: local_inputs(*source.paths) for name, source in sources.items()}
        check_outputs([*map(forecast_output, kept), *self.outputs], read)
        with naming_option("--truth"):
            truth = truth_as_scored(sources["truth"], open_truth(sources["truth"]))
        with naming_option("--climatology"):
            climatology = open_climatology_data(sources["climatology"])
        with naming_option("--training-years"):
            training = open_training(sources["training"]) if "training" in sources else None
        fingerprints = {name: fingerprint_of_data(s.paths) for name, s in sources.items()}
        described = {n: json.dumps(redacted(asdict(s)), default=str) for n, s in sources.items()}
        files = "\n".join(f"{name}: {source.path}" for name, source in sources.items())
        return LiveScoring(
            path=self.scores,
            config=config,
            truth=truth,
            climatology=climatology,
            training=training,
            data={f"scores.{n}": f"{text} {fingerprints[n]}" for n, text in described.items()},
            attrs={
                "files": redact(files),
                **{f"fingerprint_of_{name}": value for name, value in fingerprints.items()},
            },
        )

    def show(self, scoring: LiveScoring, kept: xr.Dataset | None, config_text: str) -> None:
        """Print the scores and write the report, with the forecasts if they were kept."""
        scores = xr.load_dataset(scoring.path, decode_timedelta=True)
        if self.report is not None:
            truth = scoring.truth
            write_report(
                self.report,
                scores=scores,
                truth=open_series(truth)[0] if isinstance(truth, str) else truth,
                forecasts={} if kept is None else {MODEL: kept},
                baselines=None if kept is None else scoring.baselines(kept),
                config_text=config_text,
                point=scoring.config.point,
            )
        print_tables(console, scores_table(scores), soft_wrap=True)
        for path in filter(None, (self.scores, self.report)):
            print_line(console, f"Written: {path.resolve()}")
