"""Winds at several heights are the fields that have names; levels stay levels."""

import numpy as np
import xarray as xr

from data_pipeline.sources.fields.stacked_heights import with_heights_split

DIMS = ("time", "height", "latitude", "longitude")


def test_heights_that_have_names_are_fields() -> None:
    heights = ("height", [10.0, 60.0, 100.0], {"units": "m"})
    values = np.arange(3.0)[None, :, None, None] * np.ones((2, 3, 4, 5))
    winds = xr.Dataset({"u": (DIMS, values), "q": (DIMS, values)}, {"height": heights})
    found = with_heights_split(winds.chunk(time=1))
    assert set(found.data_vars) == {
        *("u", "q", "10m_u_component_of_wind", "100m_u_component_of_wind")
    }
    upper = found["100m_u_component_of_wind"]
    assert upper.dims == ("time", "latitude", "longitude")
    assert upper.chunks is not None
    assert "height" not in upper.coords
    assert (upper == 2).all()
    assert set(with_heights_split(winds, {"u"}).data_vars) == {"u", "q"}


def test_pressures_are_not_split() -> None:
    levels = ("height", [10.0, 100.0], {"units": "hPa"})
    winds = xr.Dataset({"u": (DIMS, np.zeros((1, 2, 3, 4)))}, {"height": levels})
    assert with_heights_split(winds).identical(winds)
