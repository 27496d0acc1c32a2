"""Vertical coordinates of variables: the pressure, height or other surface that they are on.

A coordinate is an axis of the variable, or a scalar. xarray attaches a scalar to every variable of
a data set; the attribute ``coordinates`` of NetCDF tells to which it belongs, where it is written.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.sources.levels import VerticalKind, vertical_kind, vertical_values
from data_pipeline.sources.names import COORDINATES

LEVEL_NAMES = ("level", *(name for name, axis in COORDINATES.items() if axis == "level"))
LEVEL_NAMES += ("lev", "isobaricInPa", "isobaric")
_SURFACES = ("surface", "meanSea", "atmosphere", "entireAtmosphere", "nominalTop")
_SURFACES += ("atmosphereSingleLayer",)
_VERTICAL = (
    *("height", "heightAboveGround", "heightAboveGroundLayer", "altitude", "heightAboveSea"),
    *("depth", "zlev", "depthBelowLand", "depthBelowLandLayer", "depthBelowSea"),
    *("depthBelowSeaLayer", "soil_level", "soilLayer", "soil_layer", "hybrid", "hybridLevel"),
    *("model_level", "eta"),
    *("sigma", "theta", "potentialVorticity", "potential_vorticity", "isothermZero", "maxWind"),
    *("tropopause", "cloudBase", "cloudTop", "isobaricLayer", "generalVertical"),
    *("generalVerticalLayer", "lowCloudLayer", "middleCloudLayer", "highCloudLayer"),
    *("boundaryLayerCloudLayer", "sigmaLayer", "thetaLayer", "heightAboveSeaLayer"),
)
_STANDARD = ("air_pressure", "height", "altitude", "depth", "air_potential_temperature")


@dataclass(frozen=True)
class Vertical:
    """A vertical coordinate of a variable.

    Args:
        kind: See ``levels.vertical_kind``.
        coordinate: Name in the file.
        values: In hPa or m.
        is_axis: Whether the variable has it as an axis.
    """

    kind: VerticalKind
    coordinate: str
    values: tuple[float, ...]
    is_axis: bool

    @property
    def label(self) -> str:
        """Name, and the value of a scalar, such as ``heightAboveGround_80``."""
        if len(self.values) != 1 or self.kind == "surface":
            return self.coordinate
        return f"{self.coordinate}_{self.values[0]:g}"

    @property
    def text(self) -> str:
        """Values for messages."""
        return ", ".join(f"{value:g}" for value in self.values)


def verticals_by_variable(dataset: xr.Dataset, level_units: str = "") -> dict[str, list[Vertical]]:
    """Vertical coordinates of each variable, axes first.

    ``level_units`` are those of levels in place of the file's.
    """
    listed = {str(name): _listed(array) for name, array in dataset.variables.items()}
    claimed = set().union(*(listed[str(name)] for name in dataset.data_vars))
    scalars = [str(name) for name, coord in dataset.coords.items() if not coord.ndim]
    dims = list(map(str, dataset.dims))
    coordinates = {
        name: dataset[name] if name in dataset.coords else xr.DataArray([], dims=name)
        for name in [*dims, *scalars]
    }
    verticals = {
        name: _vertical(name, coordinate, level_units if name in LEVEL_NAMES else "", name in dims)
        for name, coordinate in coordinates.items()
        if _is_vertical(name, coordinate)
    }
    return {
        str(variable): [
            *(verticals[str(d)] for d in dataset.variables[variable].dims if d in verticals),
            # Scalars that belong to it, or may belong to it.
            *(
                verticals[name]
                for name in scalars
                if name in verticals and (name in listed[str(variable)] or name not in claimed)
            ),
        ]
        for variable in dataset.data_vars
    }


def _vertical(name: str, coordinate: xr.DataArray, level_units: str, is_axis: bool) -> Vertical:
    kind = vertical_kind(coordinate.rename(name), level_units)
    numeric = np.issubdtype(coordinate.dtype, np.number)
    values = np.atleast_1d(vertical_values(coordinate, level_units)) if numeric else np.array([])
    # Some tools write a level 0 for variables at the surface.
    at_surface = name in _SURFACES or (name in LEVEL_NAMES and values.tolist() == [0])
    return Vertical(
        "surface" if at_surface else kind,
        name,
        tuple(round(float(value), 6) for value in values),
        is_axis,
    )


def _is_vertical(name: str, coordinate: xr.DataArray) -> bool:
    attrs = coordinate.attrs
    known = name in (*LEVEL_NAMES, *_SURFACES, *_VERTICAL)
    return known or attrs.get("standard_name") in _STANDARD or bool({"positive"} & {*attrs})


def _listed(array: xr.Variable) -> set[str]:
    text = array.encoding.get("coordinates") or array.attrs.get("coordinates") or ""
    return set(str(text).split())
