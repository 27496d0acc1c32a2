"""Where a loss or a gradient is not finite: channels, rollout steps, windows and their times."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, is_sharded
from fourcastnet_afno.training.objectives import Objective

_MOST_NAMES = 4


def describe_loss(
    objective: Objective, sample: Sample, seeds: Sequence[int], process: Process
) -> str:
    """Places in the data or in the loss of a batch that are not finite; all processes must call."""
    inputs, labels = (
        module.spec.channels.labels for module in (objective.forecaster, objective.trained)
    )
    with torch.no_grad():
        losses = objective.by_channel(sample.state, sample.forcing, sample.target, seeds)
    findings = []
    for name, values, channels in (
        ("the initial states", sample.state, inputs),
        ("the targets", sample.target, labels),
        ("the loss", losses, labels),
    ):
        bad = ~torch.isfinite(values.flatten(3).sum(-1) if values.ndim > 3 else values)
        if bad.any():  # (batch, step, channel)
            names = _listed(channels[i] for i in _indices(bad.flatten(0, 1).any(dim=0)))
            first = _indices(bad.any(dim=2).any(dim=0))[0]
            times = _times(sample, _indices(bad.flatten(1).any(dim=1)))
            findings.append(f"{name} of {names} from step {first + 1} at {times}")
    return _joined("; ".join(findings), process)


def describe_gradient(
    objective: Objective, sample: Sample, seeds: Sequence[int], process: Process
) -> str:
    """Windows and channels with a gradient that is not finite; all processes must call.

    With sharded weights only the parameters are named, from the gradients that are there.
    """
    named = {n: p for n, p in objective.trained.named_parameters() if p.requires_grad}
    parameters = list(named.values())
    if any(is_sharded(parameter) for parameter in parameters):
        gradients = {n: gather_dtensor(p.grad) for n, p in named.items() if p.grad is not None}
        bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
        return f"the gradient of {_listed(bad)}"
    losses = objective.by_channel(sample.state, sample.forcing, sample.target, seeds)

    def is_finite(value: Tensor) -> bool:
        """Whether the gradient is finite in all processes that share the field or the window."""
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        finite = all(g is None or bool(g.isfinite().all()) for g in gradients)
        bad = torch.tensor(0.0 if finite else 1.0, device=value.device)
        if objective.sharing is not None:
            bad = objective.sharing.sum(bad)
        return objective.forecaster.rows.sum(bad).item() == 0

    rows = [row for row, value in enumerate(losses.mean(dim=(1, 2))) if not is_finite(value)]
    if not rows:
        return _joined("", process)
    labels, means = objective.trained.spec.channels.labels, losses[rows[0]].mean(dim=0)
    names = _listed(n for n, value in zip(labels, means, strict=True) if not is_finite(value))
    return _joined(f"the gradient of {names} at {_times(sample, rows)}", process)


def _indices(mask: Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


def _times(sample: Sample, rows: Iterable[int]) -> str:
    times = sample.time.cpu().numpy().astype("datetime64[ns]").astype("datetime64[m]")
    return _listed(f"row {row} ({np.datetime_as_string(times[row])})" for row in rows)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _joined(finding: str, process: Process) -> str:
    """The findings of all processes, as one sentence."""
    texts = process.gather(finding)
    if process.world_size > 1:
        texts = [f"on rank {rank}: {text}" if text else "" for rank, text in enumerate(texts)]
    return "; ".join(text for text in texts if text) or "no single window or channel"
