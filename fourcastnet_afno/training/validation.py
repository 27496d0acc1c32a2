"""Scores of rollouts during training: RMSE and ACC by channel and lead time.

The same definitions as in ``evaluation``, on the device of the weights, with the initial times
distributed over the processes, for the model, persistence and climatology.
"""

from collections.abc import Callable, Mapping
from copy import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample, WindowDataset
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.noise import append_noise
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows
from fourcastnet_afno.training.config import Precision, ValidationConfig
from fourcastnet_afno.training.objectives import member_generators
from fourcastnet_afno.training.precision import autocast

FORECASTS = ("model", "persistence", "climatology")
ClimatologyFields = Callable[[np.ndarray], np.ndarray]
Scores = Mapping[str, np.ndarray]


class RolloutValidation:
    """Scores a forecaster on rollouts from the validation period.

    Args:
        windows: Windows of the validation period with as many steps as are scored.
        climatology: Gives the climatological states (time, channel, lat, lon) at datetime64 times.
        config: Number of rollouts.
        area_weights: Cell areas with mean 1, (lat, lon).
        process: This process, which rolls out its rows of each batch.
        precision: Precision of the network, under autocast.
        field_weights: Further weights of the points by channel, such as 0 where values are filled.
        rows: The rows that windows and climatology have.
    """

    def __init__(
        self,
        windows: WindowDataset,
        climatology: ClimatologyFields,
        config: ValidationConfig,
        *,
        area_weights: Float[Tensor, "lat lon"],
        process: Process,
        precision: Precision = "float32",
        field_weights: Float[Tensor, "channel lat lon"] | None = None,
        rows: Rows = ALL_ROWS,
    ) -> None:
        self._climatology, self._process, self._rows = climatology, process, rows
        self._precision: Precision = precision
        self._count = min(config.num_init_times, len(windows))
        indices = np.linspace(0, len(windows) - 1, self._count).round().astype(int)
        selected = copy(windows)
        selected.starts = windows.starts[indices]
        self._loader = Loader(
            selected,
            config.batch_size,
            seed=0,
            shuffle=False,
            device=process.device,
            rank=process.data_rank,
            world_size=process.data_size,
        )
        weights = area_weights.to(process.device, torch.float64)
        if field_weights is not None:
            weights = weights * field_weights.to(weights)
        means = weights.mean(dim=(-2, -1), keepdim=True)
        self._weights = (weights / torch.where(means > 0, means, 1))[..., rows.field_slice, :]
        self._baselines: Tensor | None = None

    @torch.no_grad()
    def __call__(self, forecaster: Forecaster, poll: Callable[[], None]) -> Scores:
        """Scores of the model and the baselines; ``poll`` is called after each batch.

        Returns:
            ``rmse`` and ``acc`` (forecast, lead_time, channel), see ``FORECASTS``; equal in all
            processes.
        """
        sums, baselines, done = torch.zeros(()), torch.zeros(()), 0
        for sample in self._loader.epoch(0):
            rows = min(self._loader.batch_size, self._count - done)
            done += rows
            num_steps = sample.target.shape[1]
            newest = sample.time.cpu().numpy().astype("datetime64[ns]")[:, None]
            times = forecaster.spec.step.advance(newest, np.arange(1, num_steps + 1))
            fields = self._climatology(times.ravel()).reshape(sample.target.shape)
            climatology = torch.from_numpy(fields).to(sample.target.device)
            device = sample.state.device
            generators = member_generators(sample.time.tolist(), range(1), device)
            with autocast(device, self._precision):
                forcings = append_noise(forecaster.noise, sample.forcing, generators).unbind(1)
                states = list(rollout(forecaster, sample.state, forcings, num_steps))
            statistics = self._statistics(torch.stack(states, dim=1), sample, climatology)
            sums = sums.to(statistics) + statistics * rows
            if self._baselines is None:
                baselines = baselines.to(statistics) + rows * torch.cat(
                    [self._statistics(f, sample, climatology) for f in (sample.state[:, -1:], None)]
                )
            poll()
        if self._baselines is None:
            self._baselines = self._process.reduce_mean(baselines) / self._count
        means = torch.cat([self._process.reduce_mean(sums) / self._count, self._baselines])
        squared_error, correlation = means.cpu().numpy().transpose(1, 0, 2, 3)
        return {"rmse": np.sqrt(squared_error), "acc": correlation}

    def _statistics(
        self, predictions: Tensor | None, sample: Sample, climatology: Tensor
    ) -> Float[Tensor, "1 statistic step channel"]:
        """Weighted means over rows of squared error and anomaly correlation.

        The ``climatology`` has the valid times; it is the forecast where ``predictions`` is None.
        """
        truth, normal = sample.target.double(), climatology.double()
        forecast = normal if predictions is None else predictions.double()

        def mean(field: Tensor) -> Tensor:
            return self._rows.mean(self._weights * field)

        anomaly, true_anomaly = forecast - normal, truth - normal
        norms = (mean(anomaly**2) * mean(true_anomaly**2)).sqrt()
        # A forecast equal to the climatology up to float32 rounding has no anomaly to correlate.
        has_anomaly = norms > 1e-12 * (mean(normal**2) * mean(true_anomaly**2)).sqrt()
        correlation = mean(anomaly * true_anomaly) / torch.where(has_anomaly, norms, 1.0)
        correlation = torch.where(has_anomaly, correlation, 0.0)
        error = mean((forecast - truth) ** 2).expand_as(correlation)
        rows = sample.weight.double()[:, None, None]
        return torch.stack([(rows * error).mean(0), (rows * correlation).mean(0)])[None]
