"""The record of a step."""

from fourcastnet_afno.training.monitoring.record import MEASURED_COLUMNS, STEP_COLUMNS, Rates
from tests.builders.logs import make_step_record


def test_a_row_has_the_columns_of_the_log_in_order() -> None:
    rates = Rates(samples_per_second=1 / 3, data_wait=0.125, memory_gib=2.0, flop_utilization=0.5)
    row = make_step_record(7, skipped=True, rates=rates).row()
    assert tuple(row) == STEP_COLUMNS
    assert (row["step"], row["skipped"], row["spike"]) == (7, 1, 0)
    assert tuple(row[name] for name in MEASURED_COLUMNS) == (0.333, 0.125, 2.0, 0.5)
    assert "flop_utilization" not in make_step_record(7).row()


def test_time_left() -> None:
    record = make_step_record(1, samples_left=7200)
    assert record.rates.samples_per_second == 2.0
    assert record.seconds_left == 3600
