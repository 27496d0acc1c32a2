"""Conversions are those of the table, and apply to the variables that they suit."""

import numpy as np
import xarray as xr

from data_pipeline.sources.convert import conversion_between


def test_a_conversion_keeps_attributes_and_names_the_former_units() -> None:
    array = xr.DataArray(np.array([0.0, 100.0]), attrs={"units": "degC", "long_name": "air"})
    conversion = conversion_between("degC", "K", "temperature")
    assert conversion is not None
    found = conversion.apply(array, "K")
    np.testing.assert_allclose(found, [273.15, 373.15])
    assert found.attrs == {"units": "K", "long_name": "air", "converted_from": "degC"}


def test_mass_is_a_depth_for_water_alone() -> None:
    assert conversion_between("kg m-2", "m", "snowfall") == (1e-3, 0)
    assert conversion_between("kg m-2", "m", "surface_altitude") is None
