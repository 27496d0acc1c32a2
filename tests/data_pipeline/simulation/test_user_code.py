from pathlib import Path

import pytest

from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.registry import build_equation
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.simulation.user_code import only_code_of_user
from tests.builders.errors import rejects


@pytest.mark.parametrize("place", ["file", "module"])
def test_code_runs_only_where_the_user_has_named_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange.py").write_text(
        f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from data_pipeline.simulation.equations import GrayScott as Mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    equation = f"{tmp_path / 'strange.py' if place == 'file' else 'strange'}:Mine"
    config = PDEConfig(equation=equation, resolution=[8, 8], trajectories=Splits(train=1))
    with only_code_of_user([]), rejects("foreign-code", equation, "--data.pde.equation"):
        build_equation(config)
    assert not (tmp_path / "ran").exists()
    with only_code_of_user([equation]):
        assert build_equation(config).variables == ("u", "v")
    assert (tmp_path / "ran").exists()


def test_named_equations_are_no_code() -> None:
    config = PDEConfig(equation="gray_scott", resolution=[8, 8], trajectories=Splits(train=1))
    with only_code_of_user([]):
        build_equation(config)
