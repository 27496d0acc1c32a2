"""Diagnostic head: precipitation and other quantities that are predicted and not fed back.

A network of its own maps the prognostic state that a frozen forecaster predicts for a time to
diagnostic channels at that time,

    z = conv(AFNO((state - mean) / std)),

with a 3 x 3 convolution that is periodic in longitude on global grids. Channels are

    logarithmic    epsilon (exp(max(z, 0)) - 1), never negative, where accumulations spread over
                   orders of magnitude
    nonnegative    std max(z, 0)
    other          mean + std z

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3 and appendix B: 6 h
    precipitation as log(1 + tp / 1e-5 m).
"""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.boundaries import adapt_config_to_grid
from fourcastnet_afno.forecaster.checkpoint import (
    content_digest,
    fingerprint_of,
    load_forecaster,
    read_checkpoint,
)
from fourcastnet_afno.forecaster.checkpoint_file import damaged
from fourcastnet_afno.forecaster.config import DiagnosticConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.interpolation import Regridder, regridded_fill
from fourcastnet_afno.forecaster.network_size import check_network_size
from fourcastnet_afno.forecaster.normalization import Normalizer
from fourcastnet_afno.forecaster.weight_checks import moments_in, require_depth, require_fit
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.published import local_checkpoint


class DiagnosticHead(nn.Module):
    """Diagnostic channels of a prognostic state at the same time, in physical units.

    Args:
        config: Transforms and network.
        forecaster: Gives the grid, the prognostic channels and their statistics; it stays out of
            this module.
        channels: Diagnostic channels.
        mean: Mean of each diagnostic channel, in its units.
        std: Standard deviation of each diagnostic channel, in its units.
        filled: Points without values in training, see ``Scales``; diagnostic channels are NaN
            there.

    Raises:
        InputError: If the network does not suit the grid.
    """

    is_logarithmic: Tensor
    is_nonnegative: Tensor
    filled: Tensor | None

    def __init__(
        self,
        config: DiagnosticConfig,
        forecaster: Forecaster,
        channels: Channels,
        *,
        mean: Float[Tensor, " diagnostic"],
        std: Float[Tensor, " diagnostic"],
        filled: Float[Tensor, "diagnostic lat lon"] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.channels, count = config, channels, len(channels)
        self.spec, grid = replace(forecaster.spec, channels=channels), forecaster.spec.grid
        self.padding_modes = tuple(
            "circular" if axis in grid.periodic_axes else "replicate" for axis in grid.dims
        )
        prognostic = forecaster.normalizer
        moments = (t.detach().clone().flatten() for t in (prognostic.mean, prognostic.std))
        self.input_normalizer = Normalizer(*moments)
        self.normalizer = Normalizer(mean, std)
        self.register_buffer("filled", None if filled is None else filled.float())
        for name, patterns in (
            ("is_logarithmic", config.logarithmic),
            ("is_nonnegative", config.nonnegative),
        ):
            matches = [any(fnmatchcase(label, p) for p in patterns) for label in channels.labels]
            self.register_buffer(name, torch.tensor(matches)[:, None, None], persistent=False)
        network = adapt_config_to_grid(config.network, grid, "diagnostic.network")
        sizes = len(forecaster.spec.channels), count
        check_network_size(network, *sizes, grid.shape, "diagnostic.network")
        self.network = AFNONet(*sizes, config=network)
        self.smoothing = nn.Conv2d(count, count, kernel_size=3)
        for parameter in self.smoothing.parameters():
            nn.init.zeros_(parameter)
        nn.init.dirac_(self.smoothing.weight)  # It starts as the identity.

    def forward(
        self, state: Float[Tensor, "batch channel lat lon"]
    ) -> Float[Tensor, "batch diagnostic lat lon"]:
        """Diagnostic channels, in physical units."""
        fields = self.to_physical(self.predict(state))
        return fields if self.filled is None else fields.where(self.filled.isnan(), torch.nan)

    def predict(
        self, state: Float[Tensor, "batch channel lat lon"]
    ) -> Float[Tensor, "batch diagnostic lat lon"]:
        """Diagnostic channels as the network sees them, see ``to_network``; these are trained."""
        raw = self.network(self.input_normalizer.normalize(state))
        rows, columns = self.padding_modes
        padded = F.pad(F.pad(raw, (1, 1, 0, 0), mode=columns), (0, 0, 1, 1), mode=rows)
        output = self.smoothing(padded).float()
        return torch.where(self.is_logarithmic | self.is_nonnegative, F.relu(output), output)

    def to_physical(
        self, values: Float[Tensor, "batch diagnostic lat lon"]
    ) -> Float[Tensor, "batch diagnostic lat lon"]:
        """Inverse of ``to_network``."""
        denormalized = self.normalizer.denormalize(values)
        scaled = torch.where(self.is_nonnegative, values * self.normalizer.std, denormalized)
        # The branch that is not taken must not overflow, or its gradient would be NaN.
        logarithms = torch.where(self.is_logarithmic, values, 0)
        amounts = self.config.epsilon * torch.expm1(logarithms)
        return torch.where(self.is_logarithmic, amounts, scaled)

    def to_network(
        self, fields: Float[Tensor, "batch diagnostic lat lon"]
    ) -> Float[Tensor, "batch diagnostic lat lon"]:
        """Physical values as logarithms or in units of the standard deviation, for the loss."""
        normalized = self.normalizer.normalize(fields)
        scaled = torch.where(self.is_nonnegative, fields / self.normalizer.std, normalized)
        amounts = torch.where(self.is_logarithmic, fields.clamp_min(0), 0)
        return torch.where(self.is_logarithmic, torch.log1p(amounts / self.config.epsilon), scaled)


class DiagnosticStepper:
    """A head as the diagnostic model of forecasts, which sees their newest states.

    Args:
        head: In evaluation mode, on the device of the forecaster.
        forecaster: The one it was trained behind, on the grid of the forecasts; on another grid
            than the network's, states and diagnostic channels are interpolated.
    """

    def __init__(self, head: DiagnosticHead, forecaster: Forecaster) -> None:
        self._head, self.channels = head, head.channels
        self._to_network_grid = forecaster.to_network_grid
        self._from_network_grid: nn.Module = nn.Identity()
        self._filled = head.filled
        grid, network_grid = forecaster.spec.grid, forecaster.network_grid
        if head.filled is not None and not head.spec.grid.is_same(grid):
            self._filled = regridded_fill(head.filled, head.spec.grid, grid, head.channels)
        if not network_grid.is_same(grid):
            device = forecaster.diff_std.device
            self._from_network_grid = Regridder(network_grid, grid, head.channels).to(device)

    def __call__(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch forcing network_lat network_lon"],
    ) -> Float[Tensor, "batch diagnostic lat lon"]:
        """Diagnostic channels at the time of the newest state."""
        head, newest = self._head, self._to_network_grid(state[:, -1])
        fields = self._from_network_grid(head.to_physical(head.predict(newest)))
        return fields if self._filled is None else fields.where(self._filled.isnan(), torch.nan)


def describe_diagnostic(head: DiagnosticHead, forecaster: Forecaster) -> dict[str, Any]:
    """Description of a head in its checkpoint, in addition to its weights, for JSON."""
    return {
        "config": head.config.to_json(),
        "channels": head.channels.to_json(),
        "backbone": fingerprint_of(forecaster),
    }


def fingerprint_of_head(head: DiagnosticHead, forecaster: Forecaster) -> str:
    """Digest of a head, its meaning and the forecaster behind it, see ``content_digest``."""
    return content_digest(describe_diagnostic(head, forecaster), head.state_dict())


def load_diagnostic(path: Path | str, device: str = "cpu") -> tuple[DiagnosticHead, Forecaster]:
    """The head of a checkpoint and its forecaster, ready to roll out; see ``DiagnosticStepper``.

    The path can be a URL, as that of ``load_forecaster``.

    Raises:
        InputError: If the file is missing, not a checkpoint, or holds no diagnostic head.
    """
    path = local_checkpoint(path, read_checkpoint)
    weights, metadata = read_checkpoint(path, "diagnostic")
    record = metadata.get("diagnostic")
    if record is None:
        raise InputError(
            f"{path} holds a forecaster without a diagnostic head; give the checkpoint of a head",
            code="no-diagnostic-head",
        )
    forecaster = load_forecaster(path, device)
    with damaged(path):
        config = parse_config(DiagnosticConfig, record["config"])
        channels = Channels.from_json(record["channels"])
        moments = moments_in(weights, "diagnostic", channels)
        require_depth(config.network, weights, "diagnostic")

        def build() -> DiagnosticHead:
            return DiagnosticHead(
                config, forecaster, channels, **moments, filled=weights.get("filled")
            )

        with torch.device("meta"):
            expected = build().state_dict()
        require_fit(expected, weights, "diagnostic")
        head = build()
        head.load_state_dict(weights)
    return head.to(device).eval(), forecaster


def load_chained(path: Path, forecasters: Mapping[Path, Forecaster], device: str) -> DiagnosticHead:
    """The head of a checkpoint that was trained behind each forecaster, given by file.

    Raises:
        InputError: If it was trained behind another one; both are named.
    """
    head, of_training = load_diagnostic(path, device)
    trained_behind = fingerprint_of(of_training)
    for file, forecaster in forecasters.items():
        if (fingerprint := fingerprint_of(forecaster)) != trained_behind:
            raise InputError(
                f"the diagnostic head {path} was trained behind the forecaster {trained_behind}, "
                f"{file} is {fingerprint}; give that checkpoint (or {path}, which holds it), or "
                "train a head behind this one with `fourcastnet-afno train-diagnostic`",
                code="other-forecaster",
            )
    return head
