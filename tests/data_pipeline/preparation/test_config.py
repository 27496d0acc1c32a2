"""Trajectories through the same verbs as weather: prepare, windows, doctor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.doctor.examination import examine
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.grids.plane import grid_of
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.pde_dataset import simulate_equation, solve
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.formats.pde_benchmarks import BenchmarkConfig
from tests.builders.errors import rejects

SPLITS = Splits(train=6, validation=2, test=2)
DATA = DataConfig(
    pde=PDEConfig(
        equation="gray_scott", resolution=[16, 16], trajectories=SPLITS, num_steps=3, substeps=2
    ),
    prognostic=["u", "v"],
    train=Period(start="2001-01-01", end="2100-12-31"),
    validation=Period(start="2101-01-01", end="2200-12-31"),
    test=Period(start="2201-01-01", end="2261-12-31"),
    timestep_hours=1,
    allow_gaps=True,
    climatology_harmonics=0,
)
HEAT = """
from data_pipeline.pde import random_field

class Heat:
    variables, degree, extent = ("u",), 1, (1.0, 1.0)

    def linear(self, grid):
        return 0.1 * grid.laplacian[None]

    def nonlinear(self, grid, state):
        return 0 * state

    def initial(self, grid, rng):
        return random_field(grid, rng, scale=1.0, power=1.0, shift=1.0)[None]
"""


def test_a_forcing_is_computed_or_read_but_not_both() -> None:
    assert replace(DATA, forcings=["toa_incident_solar_radiation"]).forcings
    for name in ("toa_incident_solar_radiation", "tisr"):
        with rejects("bad-setting", "data.forcings", "toa_incident_solar_radiation"):
            replace(DATA, prognostic=["u", name], forcings=["toa_incident_solar_radiation"])


def test_both_spellings_of_a_timestep_are_the_same_settings() -> None:
    for text in ("1h", "60min"):
        assert replace(DATA, timestep=text, timestep_hours=None) == DATA
        assert replace(DATA, timestep=text) == DATA
    assert DATA.store_settings()["timestep_hours"] == 1
    assert "timestep" not in DATA.store_settings()
    monthly = replace(DATA, timestep="1MS", timestep_hours=None)
    assert monthly.store_settings()["timestep"] == "1MS"
    assert "timestep_hours" not in monthly.store_settings()
    with rejects("bad-setting", "data.timestep=2h", "data.timestep_hours=1"):
        replace(DATA, timestep="2h")
    with rejects("bad-setting", "data.timestep", "'1Y'", "1MS"):
        replace(DATA, timestep="1Y")


def test_a_year_of_months_has_few_harmonics() -> None:
    monthly = replace(DATA, timestep="1MS", timestep_hours=None, climatology_harmonics=5)
    assert monthly.climatology_harmonics == 5
    with rejects("bad-setting", "data.climatology_harmonics=6", "13 times", "set it to 5"):
        replace(monthly, climatology_harmonics=6)
    with rejects("bad-setting", "have 4", "set it to 1"):
        replace(monthly, timestep="3MS", climatology_harmonics=2)


def test_a_store_holds_the_trajectories_and_windows_stay_within_one(tmp_path: Path) -> None:
    store = prepare(DATA, tmp_path / "store")
    assert DATA.pde is not None
    values = store.dataset()
    fields = np.stack([values["u"], values["v"]], axis=1).reshape(10, 4, 2, 16, 16)
    np.testing.assert_array_equal(fields, solve(DATA.pde, list(range(10))))
    assert grid_of(simulate_equation(DATA.pde)) == store.grid
    windows = WindowDataset(store, DATA.train, 1, 2)
    assert windows.starts.tolist() == [4 * k + i for k in range(6) for i in (0, 1)]
    other = replace(DATA, pde=replace(DATA.pde, seed=1))
    with rejects("other-configuration", "data.pde"):
        prepare(other, tmp_path / "store")


def test_the_settings_of_trajectories_are_one_call() -> None:
    assert DATA.pde is not None
    assert DataConfig.of_pde(DATA.pde) == DATA
    fewer = DataConfig.of_pde(DATA.pde, prognostic=["v"], climatology_harmonics=1)
    assert fewer == replace(DATA, prognostic=["v"], climatology_harmonics=1)
    times = {name: getattr(fewer, name).contains(DATA.pde.times()).sum() for name in SPLITS.counts}
    assert times == {name: 4 * count for name, count in SPLITS.counts.items()}


def test_an_equation_that_was_edited_is_not_that_of_the_store(tmp_path: Path) -> None:
    file = tmp_path / "heat.py"
    file.write_text(HEAT)
    assert DATA.pde is not None
    pde = replace(DATA.pde, equation=f"{file}:Heat", parameters={})
    config = DataConfig.of_pde(pde)
    assert config.prognostic == ["u"]
    store = prepare(config, tmp_path / "store")
    file.touch()
    assert prepare(config, tmp_path / "store").fingerprint == store.fingerprint
    file.write_text(HEAT.replace("0.1 *", "0.2 *"))
    with rejects("other-configuration", "heat.py"):
        prepare(config, tmp_path / "store")
    file.unlink()
    assert prepare(config, tmp_path / "store").fingerprint == store.fingerprint


def test_lazy_blocks_give_the_same_store(tmp_path: Path) -> None:
    def read_lazily(config: DataConfig) -> xr.Dataset:
        assert config.pde is not None
        return simulate_equation(config.pde, lazy=True)

    whole = prepare(DATA, tmp_path / "whole")
    blocks = prepare(DATA, tmp_path / "blocks", read=read_lazily)
    for name in ("u", "v"):
        np.testing.assert_array_equal(blocks.dataset()[name], whole.dataset()[name])


def test_stores_of_earlier_versions_stay_valid() -> None:
    """Settings that did not exist are not in the identity of a store that does not use them."""
    source = SourceConfig(path="data.nc")
    settings = replace(DATA, pde=None, source=source).store_settings()
    assert "pde" not in settings
    assert "benchmark" not in settings["source"]
    assert DATA.store_settings()["pde"]["equation"] == "gray_scott"


def test_the_doctor_examines_an_equation_and_a_benchmark(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "darcy.npz", x=rng.random((10, 8, 8)) > 0.5, y=rng.random((10, 8, 8)))
    benchmark = BenchmarkConfig(layout="neuraloperator", trajectories=SPLITS)
    source = SourceConfig(path=str(tmp_path / "darcy.npz"), benchmark=benchmark)
    arrays = replace(DATA, pde=None, source=source, prognostic=["permeability", "pressure"])
    for config, shape in ((DATA, (16, 16)), (arrays, (8, 8))):
        examined = examine(config, str(tmp_path / "data.zarr"), PeriodNeeds())
        assert not [f for f in examined.report.findings if f.severity == "error"]
        assert examined.grid is not None
        assert examined.grid.shape == shape
    missing = replace(arrays, source=replace(source, path=str(tmp_path / "none.npz")))
    findings = examine(missing, str(tmp_path / "data.zarr"), PeriodNeeds()).report.findings
    assert any("none.npz" in finding.what for finding in findings)
    assert DATA.pde is not None
    absent = replace(DATA, pde=replace(DATA.pde, equation="none.py:Equation"))
    findings = examine(absent, str(tmp_path / "data.zarr"), PeriodNeeds()).report.findings
    assert any("there is no equation none.py:Equation" in finding.what for finding in findings)
