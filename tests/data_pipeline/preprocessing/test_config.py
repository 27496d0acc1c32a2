from typing import get_args

import numpy as np
import xarray as xr

from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.preprocessing.config import AccumulateRule

EXPECTED = {"sum": 1.0 + 2.0 + 3.0, "mean": 2.0, "last": 3.0}


def test_every_rule_of_an_accumulation_is_implemented() -> None:
    times = np.datetime64("2020-01-01T00", "ns") + np.arange(4) * np.timedelta64(1, "h")
    values = xr.DataArray(np.arange(4.0), {"time": times}, "time", attrs={"units": "m"})
    for rule in get_args(AccumulateRule):
        states = accumulate(
            xr.Dataset({"total_precipitation": values}),
            ["total_precipitation"],
            {"total_precipitation": rule},
            timestep_hours=3,
            contains=lambda times: np.ones(len(times), bool),
            allow_gaps=False,
        )
        assert states["total_precipitation"].values[-1] == EXPECTED[rule]
