"""Names of places in repositories."""

import builtins
from pathlib import Path

import pytest

from fourcastnet_afno.inference.commits.target import commit_target
from tests.builders.errors import rejects
from tests.builders.forecasters import make_forecast


@pytest.mark.parametrize(
    ("name", "branch", "group", "working"),
    [
        ("f.icechunk", "main", "", "f.icechunk@branch.main"),
        ("f.icechunk@branch.x", "x", "", "f.icechunk@branch.x"),
        ("f.icechunk@branch.x/a/b", "x", "a/b", "f.icechunk@branch.x+a+b"),
    ],
)
def test_names(tmp_path: Path, name: str, branch: str, group: str, working: str) -> None:
    pytest.importorskip("icechunk", reason="needs icechunk")
    target = commit_target(tmp_path / name)
    assert target is not None
    assert (target.place, target.branch) == (tmp_path / "f.icechunk", branch)
    assert (target.path.group, target.working_name) == (group, tmp_path / working)
    assert target.found() == "nothing"
    assert not target.place.exists()


@pytest.mark.parametrize("name", ["f.zarr", "f.nc", "runs/a", "f.zarr@branch.main", "f.icechunk/x"])
def test_other_names(tmp_path: Path, name: str) -> None:
    assert commit_target(tmp_path / name) is None


@pytest.mark.parametrize("version", ["tag.v1", "ABCDEFGH0123456789AB"])
def test_forecasts_are_committed_to_branches_alone(tmp_path: Path, version: str) -> None:
    with rejects("bad-setting", version, "@branch.main"):
        commit_target(tmp_path / f"f.icechunk@{version}")


def test_a_folder_that_is_no_repository_stays(tmp_path: Path) -> None:
    pytest.importorskip("icechunk", reason="needs icechunk")
    (tmp_path / "f.icechunk").mkdir()
    with rejects("output-exists", "f.icechunk"):
        make_forecast(tmp_path / "f.icechunk")
    with rejects("bad-setting", "local folders alone"):
        make_forecast(Path("s3://bucket/f.icechunk"))


def test_without_the_package_one_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = builtins.__import__

    def lacking(name: str, *arguments: object, **named: object) -> object:
        if name == "icechunk":
            raise ImportError("No module named 'icechunk'")
        return found(name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", lacking)
    with rejects("missing-package", "f.icechunk", "[virtual]"):
        make_forecast(tmp_path / "f.icechunk")
    assert not list(tmp_path.iterdir())
