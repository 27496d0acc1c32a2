"""A short truth, its mean as climatology and initial times, which several files of tests score."""

import numpy as np
import pytest
import xarray as xr

from tests.builders.experiments import make_dataset


@pytest.fixture
def truth() -> xr.Dataset:
    return make_dataset(40).drop_vars("height")


@pytest.fixture
def coefficients(truth: xr.Dataset) -> xr.Dataset:
    mean = truth.mean("time", keep_attrs=True)
    return mean.expand_dims(hour=[0], harmonic=[0])


@pytest.fixture
def inits(truth: xr.Dataset) -> np.ndarray:
    return truth["time"].values[5:30]
