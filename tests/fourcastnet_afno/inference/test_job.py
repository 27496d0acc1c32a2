"""Units of a forecast job, and what tells two jobs apart."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline import memory
from fourcastnet_afno.inference.job import ForecastJob
from fourcastnet_afno.parallel import environment
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, make_config, make_states


def make_job(**changes: object) -> ForecastJob:
    data = make_states()
    times = data["time"].values[:7]
    config = make_config(**changes)
    return ForecastJob(steppers=[Growing()], dataset=data, init_times=times, config=config)


@pytest.mark.parametrize("output", ["members", "statistics"])
@pytest.mark.parametrize("num_members", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_units_hold_every_forecast_once(output: str, num_members: int, batch_size: int) -> None:
    settings = {"num_members": num_members, "perturbation": "gaussian", "output": output}
    job = make_job(**settings, batch_size=batch_size)
    count = np.zeros((7, num_members), int)
    for number, unit in enumerate(job.units):
        assert unit.number == number
        count[unit.inits, unit.members] += 1
        if output == "members":
            assert count[unit.inits, unit.members].size <= batch_size
        else:
            assert count[unit.inits, unit.members].shape[1] == num_members
    assert (count == 1).all()


def test_the_identity_depends_on_settings_states_times_and_provenance() -> None:
    job, attrs = make_job(), {"checkpoint_digest": "aa"}
    warmer = replace(job, dataset=make_states() + 1)
    others = [
        make_job(num_steps=6),
        replace(job, init_times=job.init_times[1:]),
        replace(warmer, dataset=warmer.dataset.assign_attrs(job.dataset.attrs)),
    ]
    identities = [job.identity(attrs), job.identity({"checkpoint_digest": "bb"})]
    identities += [other.identity(attrs) for other in others]
    assert make_job().identity(attrs) == identities[0]
    assert len({str(identity) for identity in identities}) == 5


def test_settings_are_checked_before_anything_runs() -> None:
    with rejects("missing-variable", "humidity"):
        make_job(variables=["humidity"])
    with rejects("bad-setting", "ensemble.lag"):
        make_job(num_members=2, perturbation="lagged", lag_hours=7)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_members": 1000, "perturbation": "gaussian", "output": "statistics"}, "1000 members"),
        ({"num_steps": 10**6}, "1000000 steps"),
    ],
)
def test_forecasts_that_do_not_fit_into_memory_are_named(
    settings: dict[str, object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "memory_limit", lambda: 2**20)
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**20)
    with rejects("too-little-memory", named, "GiB"):
        make_job(**settings)
