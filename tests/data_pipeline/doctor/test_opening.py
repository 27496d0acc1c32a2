"""Sources that prepare rejects are opened as far as possible, and their faults named."""

from pathlib import Path
from typing import Any

import pytest
from xarray.backends import ZarrStore

from data_pipeline.doctor.examination import Examination
from data_pipeline.doctor.opening import open_examined
from data_pipeline.sources.config import SourceConfig
from data_pipeline.trajectory_times import TrajectoryTimes
from tests.builders.earth import EARTH, examine_at, make_earth_config, only, serious
from tests.builders.faults import Change, Fault, check_fault, examine_data, replaced
from tests.builders.simulated import make_burgers_config

FAULTS = {
    "repeated": Fault(
        lambda d: d.isel(time=[0, 1, 1, *range(2, 731)]),
        "source",
        "error",
        ["time repeats", "index 2", "drop_duplicates"],
    ),
    "unsorted": Fault(
        lambda d: d.isel(time=[0, 2, 1, *range(3, 731)]),
        "source",
        "error",
        ["time decreases", "index 2"],
    ),
    "label": Fault(
        lambda d: d.assign(
            mean_sea_level_pressure=d["mean_sea_level_pressure"].assign_attrs(units="hPa")
        ),
        "source",
        "error",
        ["mean_sea_level_pressure in 'hPa'", "data.source.units"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    check_fault(FAULTS[name], tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    examination = examine_at(make_earth_config(tmp_path / "no.nc"), tmp_path / "data.zarr")
    finding = only(examination)
    assert finding.check == "source"
    assert "no.nc" in finding.what


def two_files(folder: Path, second: Change) -> Examination:
    (folder / "years").mkdir()
    EARTH.sel(time="2003").drop_vars(["land_sea_mask", "geopotential_at_surface"]).to_netcdf(
        folder / "years" / "2003.nc"
    )
    later = EARTH.sel(time="2004").drop_vars(["land_sea_mask", "geopotential_at_surface"])
    second(later).to_netcdf(folder / "years" / "2004.nc")
    config = make_earth_config(folder / "years", static=[])
    return examine_at(config, folder / "data.zarr")


def test_files_of_years_are_clean(tmp_path: Path) -> None:
    assert serious(two_files(tmp_path, lambda d: d)) == []


def test_another_grid_in_one_file(tmp_path: Path) -> None:
    finding = only(two_files(tmp_path, lambda d: d.isel(latitude=slice(1, None))))
    assert finding.check == "source"
    assert "2004.nc" in finding.what


def test_a_truncated_file_is_named_and_the_rest_is_examined(tmp_path: Path) -> None:
    two_files(tmp_path, lambda d: d)
    later = tmp_path / "years" / "2004.nc"
    later.write_bytes(later.read_bytes()[:1000])
    config = make_earth_config(tmp_path / "years", static=[])
    examination = examine_at(config, tmp_path / "data.zarr")
    finding = only(examination)
    assert finding.check == "source"
    assert "2004.nc" in finding.what
    assert examination.report.facts["variables"]["2m_temperature"]["nan_share"] == 0
    assert not examination.report.facts["source"]["complete"]


def test_options_of_the_source_reach_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["2m_temperature", "mean_sea_level_pressure"]
    EARTH[names].chunk(time=100).to_zarr(tmp_path / "data.zarr", zarr_format=2, consolidated=True)
    options, open_group = [], ZarrStore.open_group

    def record(path: str, **settings: Any) -> ZarrStore:  # noqa: ANN401
        options.append(settings["storage_options"]["auto_mkdir"])
        return open_group(path, **settings)

    monkeypatch.setattr(ZarrStore, "open_group", record)
    source = SourceConfig(
        path=f"file://{tmp_path}/data.zarr", storage_options={"auto_mkdir": False}
    )
    config = make_earth_config("", source=source, prognostic=names, static=[])
    assert serious(examine_at(config, tmp_path / "store")) == []
    assert options == [False]


def test_several_paths(tmp_path: Path) -> None:
    static = ["land_sea_mask", "geopotential_at_surface"]
    EARTH.drop_vars(static).to_netcdf(tmp_path / "a.nc")
    EARTH[static].to_netcdf(tmp_path / "b.nc")
    paths = [str(tmp_path / "a.nc"), str(tmp_path / "b.nc")]
    config = make_earth_config("", source=SourceConfig(path=paths))
    assert serious(examine_at(config, tmp_path / "data.zarr")) == []


def test_both_label_and_values_in_another_unit(tmp_path: Path) -> None:
    data = FAULTS["label"].change(EARTH.copy())
    data = replaced("mean_sea_level_pressure", lambda a: a / 100)(data)
    checks = [finding.check for finding in serious(examine_data(data, tmp_path))]
    assert checks == ["source", "units"]


def test_the_few_states_of_an_equation_have_the_time_axis_of_all() -> None:
    config = make_burgers_config()
    opened = open_examined(config)
    assert config.pde is not None
    assert opened.dataset is not None
    assert opened.dataset.sizes["time"] < config.pde.num_steps
    assert TrajectoryTimes.of(opened.dataset.attrs) == config.pde.trajectory_times
    assert len(opened.times) == 6 * 9
