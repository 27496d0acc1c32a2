"""Records of training steps, and of TensorBoard."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from fourcastnet_afno.training.monitoring.record import Rates, StepRecord


def make_step_record(step: int, **changes: object) -> StepRecord:
    """A step of the second of three epochs."""
    values: dict = {
        "stage": 1,
        "epoch": 2,
        "num_epochs": 3,
        "samples": 16,
        "num_samples": 64,
        "samples_left": 112,
        "loss": 0.5,
        "median_loss": 0.5,
        "gradient_norm": 1.0,
        "learning_rate": 1e-3,
        "skipped": False,
        "num_skipped": 0,
        "spike": False,
        "rates": Rates(samples_per_second=2.0, data_wait=0.01, memory_gib=1.5),
    }
    return StepRecord(step=step, **(values | changes))


def read_events(folder: Path) -> list[Event]:
    """Records of TensorBoard's files: a length, its checksum, an event, its checksum."""
    records = []
    for path in sorted(folder.glob("events.out.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            records.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return records
