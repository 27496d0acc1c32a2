"""Variables on different levels are in one dataset, and each knows its own levels."""

import numpy as np
import xarray as xr

from data_pipeline.sources.fields.levels_joined import joined_along_levels, levels_of


def on(name: str, *levels: int) -> xr.Dataset:
    values = np.array(levels, float)
    return xr.Dataset({name: ("level", values)}, {"level": list(levels)})


def test_levels_of_one_variable_are_put_in_order() -> None:
    found = joined_along_levels([on("t", 850), on("t", 500, 1000)])
    assert found["t"].values.tolist() == [500, 850, 1000]
    assert levels_of(found["t"]) == [500, 850, 1000]


def test_each_variable_knows_its_levels_also_when_joined_again() -> None:
    found = joined_along_levels([on("t", 500), on("q", 850), xr.Dataset({"sp": 1.0})])
    assert (levels_of(found["t"]), levels_of(found["q"]), levels_of(found["sp"])) == (
        [500],
        [850],
        [],
    )
    again = joined_along_levels([found, on("t", 850)])
    assert again["t"].values.tolist() == [500, 850]
    assert (levels_of(again["t"]), levels_of(again["q"])) == ([500, 850], [850])
