"""Configurations from the plain values that checkpoints and run folders keep."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.forecaster.config import DiagnosticConfig, ModelConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from fourcastnet_afno.training.config import OptimizerConfig, RolloutConfig, TrainingConfig
from fourcastnet_afno.training.schedules import ScheduleConfig
from tests.builders.errors import rejects


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(network=AFNONetConfig(padding=Padding(margin=(2, 3)), reference_grid=(8, 4))),
        DiagnosticConfig(epsilon=1e-3, nonnegative=["a*"]),
        LossConfig(kind="amse", channel_weights={"2m_temperature": 0.1}),
        RolloutConfig(gradient="checkpointed", discount=0.9),
        OptimizerConfig(name="lamb", betas=(0.8, 0.9), frozen=["network.blocks.0.*"]),
        ScheduleConfig(kind="wsd", decay_fraction=0.3),
    ],
)
def test_settings_survive_yaml(config: object) -> None:
    record = yaml.safe_load(yaml.safe_dump(asdict(config)))  # type: ignore[call-overload]
    assert parse_config(type(config), record) == config


NAMED = {"class_path": "strange.Class"}


@pytest.mark.parametrize(
    ("kind", "record", "code", "named"),
    [
        (ModelConfig, NAMED, "foreign-code", "class_path"),
        (ModelConfig, {"network": NAMED}, "foreign-code", "network"),
        (ModelConfig, {"network": "strange.Class"}, "bad-setting", "network"),
        (SourceConfig, {"path": "a", "select": {"x": NAMED}}, "foreign-code", "select.x"),
        (SourceConfig, {"path": "a", "select": {"x": [NAMED]}}, "foreign-code", "select.x[0]"),
        (SourceConfig, {"path": "a", "benchmark": "strange.Class"}, "bad-setting", "benchmark"),
        (TrainingConfig, {"stages": [NAMED]}, "foreign-code", "stages[0]"),
        (TrainingConfig, {"stages": ["strange.Class"]}, "bad-setting", "stages[0]"),
    ],
)
def test_no_value_imports_a_module(
    kind: type, record: dict, code: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange.py").write_text("class Class: ...")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)  # of another test
    with rejects(code, named, "class_path" if code == "foreign-code" else "strange.Class"):
        parse_config(kind, record)
    assert "strange" not in sys.modules


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"network": {"depth": 10**8}}, ("depth", "10000", "100000000")),
        ({"network": {"mlp_ratio": float("nan")}}, ("mlp_ratio", "nan")),
        ({"network": {"depth": None}}, ("depth",)),
        ({"network": {"embed_dim": []}}, ("network.embed_dim",)),
        ({"nonsense": 1}, ("nonsense",)),
        ({"num_history": "many"}, ("num_history", "many")),
    ],
)
def test_stored_settings_that_are_wrong_are_named(record: dict, named: tuple[str, ...]) -> None:
    with rejects("bad-setting", *named):
        parse_config(ModelConfig, record)


def test_nobody_changes_the_configuration_of_others() -> None:
    record = asdict(DiagnosticConfig(nonnegative=["a*"]))
    first = parse_config(DiagnosticConfig, record)
    first.nonnegative.append("b*")
    record["nonnegative"].append("c*")
    assert parse_config(DiagnosticConfig, record).nonnegative == ["a*", "c*"]
    record["nonnegative"].pop()
    assert parse_config(DiagnosticConfig, record).nonnegative == ["a*"]


def test_values_of_another_type_are_read_anew() -> None:
    assert parse_config(ModelConfig, {"num_history": 1}).num_history == 1
    for _ in range(2):  # an error is raised again, too
        for wrong in (True, 1.5, "many"):
            with rejects("bad-setting", "num_history", str(wrong)):
                parse_config(ModelConfig, {"num_history": wrong})
    for kind in (ModelConfig, DiagnosticConfig):  # of the same values, which are none
        assert parse_config(kind, {}) == kind()
