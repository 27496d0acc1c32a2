"""Steps, forcings, initial times, what is watched and fixed, and other steppers."""

from pathlib import Path

import numpy as np
import torch

from fourcastnet_afno.inference.rollout import forcings_from, rollout
from tests.builders.forecasters import (
    GRID,
    Growing,
    make_forecast,
    make_states,
)


class Accumulating(Growing):
    """Adds the hour of the forcing's time to the state: x_{k+1} = x_k + hour(t_k)."""

    def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
        return state[:, -1] + forcing

    def forcing_at(self, times: np.ndarray) -> torch.Tensor:
        hours = (times - np.datetime64("2020-01-01", "ns")) / np.timedelta64(1, "h")
        return torch.from_numpy(hours).float()[:, None, None, None].expand(-1, 1, *GRID.shape)


def test_the_forcing_of_a_step_is_of_the_time_it_acts_on(tmp_path: Path) -> None:
    times = np.array(["2020-01-01T12", "2020-01-02T00"], "datetime64[ns]")
    stepper, zero = Accumulating(), torch.zeros(2, 1, 3, *GRID.shape)
    steps = list(rollout(stepper, zero, forcings_from(stepper, times), 3))
    # From 12 h: 12, 12 + 18, 12 + 18 + 24; from 24 h: 24, 24 + 30, 24 + 30 + 36.
    found = [step[:, 0, 0, 0].tolist() for step in steps]
    assert found == [[12, 24], [30, 54], [54, 90]]
    data = 0 * make_states()
    for name in data.data_vars:
        data[name].attrs["units"] = make_states()[name].attrs["units"]
    written = make_forecast(tmp_path / "f", stepper, data, times, num_steps=3)
    assert written["2m_temperature"][:, :, 0, 0].values.tolist() == [[12, 30, 54], [24, 54, 90]]


def test_rollout_is_lazy_and_composes() -> None:
    stepper = Growing(factor=2.0)
    state = torch.ones(1, 1, 3, *GRID.shape)
    steps = rollout(stepper, state, forcings_from(stepper, np.array(["2020"], "M8[ns]")), 10**9)
    assert [next(steps)[0, 0, 0, 0].item() for _ in range(4)] == [3, 7, 15, 31]
