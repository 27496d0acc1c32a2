"""Time of a training step on 1 to 4,096 devices by the model of docs/scaling.md.

python -m benchmarks.scaling_model
python -m benchmarks.scaling_model --work.patch 4 --work.spatial 4 --machine.devices 4
"""

from dataclasses import fields

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.scaling import Machine, StepTime, Workload, step_time

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
        devices: Numbers of devices.
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
