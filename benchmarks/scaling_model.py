"""Time of a training step on 1 to 4,096 devices, by the model that docs/scaling.md derives.

python -m benchmarks.scaling_model
python -m benchmarks.scaling_model --work.patch 4 --work.spatial 4 --machine.devices 4
"""

import math
from dataclasses import dataclass, fields

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A cluster of nodes with several devices each.

    Args:
        peak: Operations per second of a device in the precision of the matrix products.
        share: Share of the peak that a step reaches on one device.
        devices: Devices in a node.
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
        windows: Windows in a step, of each group of devices that share a field.
        spatial: Devices that share a field.
        value_bytes: Bytes of a stored value.
        gradient_bytes: Bytes of a value in the exchange of gradients.
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
        """Tokens of a field."""
        return self.num_rows * self.num_columns // self.patch**2

    @property
    def modes(self) -> int:
        """Modes of a field with all wavenumbers."""
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
        """Bytes of a pair of states."""
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


# A node of JUWELS Booster: 4 A100 (312e12 operations per second with 16 bits) with NVLink, and 4
# adapters of 200 Gbit/s.
_A100 = Machine(peak=312e12, share=0.3, devices=4, link=300e9, network=100e9)


def model(
    work: Workload | None = None,
    machine: Machine = _A100,
    devices: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 3072, 3808, 4096),
) -> None:
    """Print the table.

    Args:
        work: Network and data.
        machine: Devices and what connects them.
        devices: Numbers of devices, a row each.
    """
    work = work or Workload()
    console = Console(soft_wrap=True)
    console.print(work, machine)
    console.print(
        f"{work.operations / 1e12:.2f}e12 operations a window and step, "
        f"{work.parameters / 1e6:.0f} million parameters"
    )
    parts = [field.name for field in fields(StepTime)]
    table = Table("devices", *(f"{part}, ms" for part in parts), "efficiency", "PFLOP/s", "of peak")
    for count in devices:
        time = step_time(work, machine, count)
        rate = count / work.spatial * work.windows * work.operations / time.total
        table.add_row(
            str(count),
            *(f"{1e3 * getattr(time, part):.1f}" for part in parts),
            f"{time.compute / time.total:.1%}",
            f"{rate / 1e15:.2f}",
            f"{rate / count / machine.peak:.1%}",
        )
    console.print(table)


if __name__ == "__main__":
    auto_cli(model)
