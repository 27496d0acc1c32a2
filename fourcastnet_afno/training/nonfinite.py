"""Where a loss or a gradient is not finite: channels, rollout steps, windows and their times."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, is_sharded
from fourcastnet_afno.training.objectives import Objective

_SHOWN = 4


def describe_loss(loss: Objective, sample: Sample, process: Process) -> str:
    """What is not finite in the data or in the loss of a batch; all processes must ask.

    Args:
        loss: Of the weights that gave the loss.
        sample: Rows of this process.
        process: This process.
    """
    inputs, labels = (part.spec.channels.labels for part in (loss.forecaster, loss.trained))
    with torch.no_grad():
        losses = loss.by_channel(sample.state, sample.forcing, sample.target)
    found = [
        _places("the initial states", sample.state, sample, inputs),
        _places("the targets", sample.target, sample, labels),
        _places("the loss", losses, sample, labels),
    ]
    return _joined(found, process)


def describe_gradient(loss: Objective, sample: Sample, process: Process) -> str:
    """Which windows and channels have a gradient that is not finite; all processes must ask.

    With sharded weights only the parameters are named, from the gradients that are there.
    """
    named = [(n, p) for n, p in loss.trained.named_parameters() if p.requires_grad]
    parameters = [parameter for _, parameter in named]
    if any(is_sharded(parameter) for parameter in parameters):
        bad = [
            n
            for n, p in named
            if p.grad is not None and not gather_dtensor(p.grad).isfinite().all()
        ]
        return f"the gradient of {_listed(bad)}"
    losses = loss.by_channel(sample.state, sample.forcing, sample.target)

    def is_finite(value: Tensor) -> bool:
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        finite = all(g is None or bool(g.isfinite().all()) for g in gradients)
        return _all_ranks(finite, loss.forecaster)

    rows = [r for r, value in enumerate(losses.mean(dim=(1, 2))) if not is_finite(value)]
    if not rows:
        return _joined([], process)
    channels = [c for c, v in enumerate(losses[rows[0]].mean(dim=0)) if not is_finite(v)]
    labels = loss.trained.spec.channels.labels
    names = _listed([labels[channel] for channel in channels])
    return _joined([f"the gradient of {names} at {_times(sample, rows)}"], process)


def _all_ranks(finite: bool, forecaster: Forecaster) -> bool:
    """Whether something is finite in all processes that share a field."""
    bad = torch.tensor(0.0 if finite else 1.0, device=forecaster.diff_std.device)
    return forecaster.rows.sum(bad).item() == 0


def _places(what: str, values: Tensor, sample: Sample, labels: Sequence[str]) -> str:
    """Rows and channels of values (batch, step, channel, ...) that are not finite."""
    bad = ~torch.isfinite(values.flatten(3).sum(-1) if values.ndim > 3 else values)
    if not bad.any():
        return ""
    channels = bad.flatten(0, 1).any(dim=0).nonzero().flatten().tolist()
    rows = bad.flatten(1).any(dim=1).nonzero().flatten().tolist()
    first = bad.flatten(2).any(dim=-1).any(dim=0).nonzero().flatten().tolist()[0]
    names = _listed([labels[channel] for channel in channels])
    return f"{what} of {names} from step {first + 1} at {_times(sample, rows)}"


def _times(sample: Sample, rows: Iterable[int]) -> str:
    times = sample.time.cpu().numpy().astype("datetime64[ns]").astype("datetime64[m]")
    return _listed([f"row {row} ({np.datetime_as_string(times[row])})" for row in rows])


def _listed(names: Iterable[object]) -> str:
    names = [str(name) for name in names]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _joined(found: Sequence[str], process: Process) -> str:
    """The findings of all processes, as one sentence."""
    mine = "; ".join(text for text in found if text)
    texts = process.gather(mine)
    if process.world_size > 1:
        texts = [f"on rank {rank}: {text}" if text else "" for rank, text in enumerate(texts)]
    return "; ".join(text for text in texts if text) or "no single window or channel"
