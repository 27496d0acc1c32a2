"""A model of the time of a training step on many devices; docs/scaling.md derives and checks it."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices in nodes.

    Args:
        peak: Operations per second of a device in the precision of the matrix products.
        share: Of the peak, that a step reaches on one device.
        devices: In a node.
        link: Bytes per second between devices of a node, each way.
        network: Bytes per second of a node, each way.
        latency: Seconds of a message between nodes.
        storage: Bytes per second that a node reads.
        jitter: Standard deviation of a device's step, relative to its mean.
    """

    peak: float
    share: float
    devices: int
    link: float
    network: float
    latency: float = 5e-6
    storage: float = 2e9
    jitter: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network, its data and how both are split.

    Args:
        num_rows: Latitudes.
        num_columns: Longitudes.
        num_channels: Channels.
        patch: Rows and columns of a patch.
        embed_dim: Channels of a token.
        depth: Blocks.
        num_blocks: Diagonal blocks of the mixer.
        windows: In a step, of each group of devices that share a field.
        spatial: Devices that share a field.
        value_bytes: Of a stored value.
        gradient_bytes: Of a value in the exchange of gradients.
    """

    num_rows: int = 720
    num_columns: int = 1440
    num_channels: int = 20
    patch: int = 8
    embed_dim: int = 768
    depth: int = 12
    num_blocks: int = 8
    windows: int = 1
    spatial: int = 1
    value_bytes: int = 4
    gradient_bytes: int = 4

    @property
    def tokens(self) -> int:
        """Of a field."""
        return self.num_rows * self.num_columns // self.patch**2

    @property
    def modes(self) -> int:
        """Of a field with all wavenumbers."""
        columns = self.num_columns // self.patch
        return self.num_rows // self.patch * (columns // 2 + 1)

    @property
    def operations(self) -> float:
        """Floating-point operations of forward and backward pass of a window, without FFTs."""
        width = self.embed_dim
        perceptron = 2 * 2 * 4 * width**2 * self.tokens
        mixer = 2 * 2 * (2 * width) ** 2 / self.num_blocks * self.modes
        ends = 2 * 2 * self.num_channels * self.patch**2 * width * self.tokens
        return 3 * (self.depth * (perceptron + mixer) + ends)

    @property
    def parameters(self) -> float:
        """Weights without biases and norms."""
        width = self.embed_dim
        block = 2 * 4 * width**2 + 2 * 2 * width**2 / self.num_blocks
        return self.depth * block + 2 * self.num_channels * self.patch**2 * width

    @property
    def window_bytes(self) -> float:
        """Of a pair of states."""
        return 2 * self.num_channels * self.num_rows * self.num_columns * self.value_bytes


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of the parts of a step that do not overlap with others."""

    compute: float
    all_to_all: float
    all_reduce: float
    waiting: float
    reading: float

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return self.compute + self.all_to_all + self.all_reduce + self.waiting + self.reading


def step_time(work: Workload, machine: Machine, num_devices: int) -> StepTime:
    """The time of a step with ``num_devices`` devices, each sharing a field with ``spatial``."""
    compute = work.windows * work.operations / work.spatial / (machine.peak * machine.share)
    exchange = _all_to_all(work, machine)
    waiting = machine.jitter * compute * math.sqrt(2 * math.log(num_devices))
    # Gradients of the last layers travel while those of the first are computed.
    reduce = max(0.0, _all_reduce(work, machine, num_devices) - 2 / 3 * compute)
    busy = compute + exchange + waiting + reduce
    share = min(num_devices, machine.devices) / work.spatial
    reading = work.windows * work.window_bytes * share / machine.storage
    return StepTime(
        compute=compute,
        all_to_all=exchange,
        all_reduce=reduce,
        waiting=waiting,
        reading=max(0.0, reading - busy),
    )


def _all_to_all(work: Workload, machine: Machine) -> float:
    """Two exchanges in each block, forward and backward, of complex modes along longitude."""
    if work.spatial == 1:
        return 0.0
    within = work.spatial <= machine.devices
    rate = machine.link if within else machine.network / machine.devices
    sent = 8 * work.modes * work.embed_dim / work.spatial * (1 - 1 / work.spatial)
    return 4 * work.depth * (work.windows * sent / rate + work.spatial * machine.latency)


def _all_reduce(work: Workload, machine: Machine, num_devices: int) -> float:
    """Rings within nodes and among them."""
    size = 2 * work.parameters * work.gradient_bytes
    inside = min(num_devices, machine.devices)
    nodes = math.ceil(num_devices / machine.devices)
    within = size * (1 - 1 / inside) / machine.link
    among = size * (1 - 1 / nodes) / machine.network
    return within + among + 2 * machine.latency * math.log2(max(1, num_devices))
