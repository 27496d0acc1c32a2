"""Commits of forecasts: what is in them, what stays, and kills."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from data_pipeline.sources.virtual.repository import open_repository, repository_path
from fourcastnet_afno.inference.commits.target import commit_target
from fourcastnet_afno.inference.open import is_forecast, open_diagnostics, open_forecast
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, make_forecast, make_states, write
from tests.builders.processes import on_ranks, start

icechunk = pytest.importorskip("icechunk", reason="needs icechunk")
ENSEMBLE = {
    "num_members": 3,
    "perturbation": "gaussian",
    "output": "statistics",
    "quantiles": [0.5],
}


def opened(path: Path) -> Any:  # noqa: ANN401
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))


def commits(path: Path, branch: str = "main") -> list[str]:
    """Messages of a branch, the newest first, but for that of the empty beginning."""
    return [each.message for each in opened(path).ancestry(branch=branch)][:-1]


def nodes(store: Any) -> dict[str, Any]:  # noqa: ANN401
    """Metadata and stored values, by name, of all arrays and groups of a store."""
    root = zarr.open_group(store, mode="r")
    found: dict[str, Any] = {"": dict(root.attrs)}
    for name, node in root.members(max_depth=None):
        found[name] = node.metadata.to_dict()
        if isinstance(node, zarr.Array):
            found[f"{name} values"] = np.asarray(node[...]).tobytes()
    return found


def committed(path: str | Path) -> Any:  # noqa: ANN401
    version = repository_path(str(path))
    assert version is not None
    return open_repository(version, {}, ()).store


@pytest.mark.parametrize(
    "settings",
    [{}, ENSEMBLE, {"compression": "none", "keep_bits": 9, "shard_mib": 0.01}],
)
def test_a_commit_holds_what_the_store_holds(tmp_path: Path, settings: dict) -> None:
    plain = make_forecast(tmp_path / "f.zarr", **settings)
    found = make_forecast(tmp_path / "f.icechunk", **settings)
    xr.testing.assert_identical(found, plain)
    for name, variable in plain.variables.items():
        for key in ("units", "dtype", "chunks", "shards", "compressors", "preferred_chunks"):
            assert found[name].encoding.get(key) == variable.encoding.get(key)
    store = committed(tmp_path / "f.icechunk")
    assert nodes(store) == nodes(tmp_path / "f.zarr")
    files = [file for file in (tmp_path / "f.zarr").rglob("*") if file.is_file()]
    for file in files:
        key = file.relative_to(tmp_path / "f.zarr").as_posix()
        found_bytes = sync(store.store.get(key, default_buffer_prototype()))
        assert file.name == "zarr.json" or found_bytes.to_bytes() == file.read_bytes()
    diagnostics = open_diagnostics(tmp_path / "f.icechunk")
    xr.testing.assert_identical(diagnostics, open_diagnostics(tmp_path / "f.zarr"))
    assert sorted(os.listdir(tmp_path)) == ["f.icechunk", "f.zarr"]
    assert len(commits(tmp_path / "f.icechunk")) == 1


def test_a_second_forecast_is_a_second_commit(tmp_path: Path) -> None:
    path, told = tmp_path / "f.icechunk", list[str]()
    first = make_forecast(path).load()
    snapshot = opened(path).lookup_branch("main")
    with rejects("output-exists", "f.icechunk@branch.main", "--existing overwrite"):
        make_forecast(path, num_steps=3, diagnostics=False, existing="refuse")
    second = make_forecast(
        path, num_steps=3, diagnostics=False, existing="overwrite", report=told.append
    )
    assert second.sizes["lead_time"] == 3
    xr.testing.assert_identical(open_forecast(Path(f"{path}@{snapshot}")).load(), first)
    assert f"stay, as {path}@{snapshot}" in told[-1]
    with rejects("no-diagnostics", "f.icechunk"):
        open_diagnostics(path)
    newest, oldest = commits(path)
    assert newest != oldest
    assert second.attrs["fingerprint"] in newest
    xr.testing.assert_identical(
        make_forecast(path, num_steps=3, diagnostics=False, existing="resume"), second
    )
    assert len(commits(path)) == 2


def test_branches_and_groups_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "all.icechunk"
    grown = {
        f"{path}": Growing(),
        f"{path}@branch.main/tests/twice": Growing(factor=2),
        f"{path}@branch.main/tests/half": Growing(factor=0.5),
        f"{path}@branch.other/a": Growing(factor=3),
    }
    made = {name: make_forecast(Path(name), stepper).load() for name, stepper in grown.items()}
    make_forecast(path, num_steps=2, existing="overwrite")
    for name in list(grown)[1:]:
        xr.testing.assert_identical(open_forecast(Path(name)).load(), made[name])
    assert open_forecast(path).sizes["lead_time"] == 2
    assert (len(commits(path)), len(commits(path, "other"))) == (4, 1)
    assert os.listdir(tmp_path) == ["all.icechunk"]
    assert is_forecast(path)
    assert not is_forecast(Path(f"{path}@branch.main/tests"))


def test_other_contents_of_a_repository_stay(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    states = make_states()
    states.to_zarr(session.store, group="era5", zarr_format=3, consolidated=False)
    snapshot = session.commit("states")
    for name in ("repository@branch.main/era5", "repository@branch.main/era5/geopotential/x"):
        with rejects("output-exists", "branch.forecasts"):
            make_forecast(tmp_path / name)
    assert opened(path).lookup_branch("main") == snapshot
    make_forecast(path)
    kept = xr.open_zarr(committed(f"{path}@branch.main/era5"), consolidated=False)
    xr.testing.assert_identical(kept.load(), states)


def kill(*arguments: object, **named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in(moment: str, path: Path, options: dict) -> None:
    """Write forecasts in a process that dies in some moment of the commit."""
    set_chunk, commit_all, left = icechunk.IcechunkStore.set, icechunk.Session.commit, [20]

    def set_some(*arguments: Any) -> Any:  # noqa: ANN401
        left[0] -= 1
        return set_chunk(*arguments) if left[0] else kill()

    def commit_first(*arguments: Any, **named: Any) -> None:  # noqa: ANN401
        commit_all(*arguments, **named)
        kill()

    rename = os.replace

    def name_first(source: Path, place: Path) -> None:
        rename(source, place)
        if place == path:
            kill()

    moments: dict[str, tuple[Any, str, Callable[..., Any]]] = {
        "after the name": (os, "replace", name_first),
        "before copying": (icechunk.IcechunkStore, "set", kill),
        "while copying": (icechunk.IcechunkStore, "set", set_some),
        "before the commit": (icechunk.Session, "commit", kill),
        "after the commit": (icechunk.Session, "commit", commit_first),
    }
    setattr(*moments[moment])
    write(path, **options)


SHORT: dict[str, Any] = {"num_steps": 3, "batch_size": 2}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("plain") / "f.zarr"
    make_forecast(path, **SHORT)
    return nodes(path)


@pytest.mark.parametrize(
    ("moment", "is_there"),
    [
        ("before copying", False),
        ("while copying", True),
        ("before the commit", False),
        ("after the name", False),
        ("after the commit", True),
    ],
)
def test_killed_at_any_moment_the_same_command_completes_it(
    tmp_path: Path, uninterrupted: dict[str, Any], moment: str, is_there: bool
) -> None:
    path, options = tmp_path / "f.icechunk", {**SHORT, "existing": "refuse"}
    if is_there:
        make_forecast(path, num_steps=1)
        options["existing"] = "overwrite"
    process = start(killed_in, moment, path, options)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / ".f.icechunk@branch.main.partial").is_dir()
    assert path.exists() == (is_there or moment == "after the name")
    if is_there:
        seen = 3 if moment == "after the commit" else 1
        assert open_forecast(path).sizes["lead_time"] == seen
    computed: list[object] = []
    make_forecast(path, Counting(computed), **options)
    assert not computed
    assert nodes(committed(path)) == uninterrupted
    assert len(commits(path)) == 1 + is_there
    assert os.listdir(tmp_path) == ["f.icechunk"]


class Counting(Growing):
    """Notes its steps."""

    def __init__(self, steps: list[object]) -> None:
        super().__init__()
        self._steps = steps

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        self._steps.append(None)
        return super().__call__(*arguments)


def of_a_rank(path: Path) -> bool:
    return write(path, environment=os.environ, **SHORT) is not None


def test_several_processes_make_one_commit(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    assert any(on_ranks(2, of_a_rank, tmp_path / "f.icechunk", joined=False))
    assert nodes(committed(tmp_path / "f.icechunk")) == uninterrupted
    assert len(commits(tmp_path / "f.icechunk")) == 1


def test_a_commit_beside_another_is_kept_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, commit_all = tmp_path / "f.icechunk", icechunk.Session.commit
    make_forecast(path, num_steps=1)

    def with_another(place: str) -> None:
        def second(*arguments: Any, **named: Any) -> str:  # noqa: ANN401
            monkeypatch.setattr(icechunk.Session, "commit", commit_all)
            make_forecast(Path(f"{path}@{place}"), num_steps=2)
            return commit_all(*arguments, **named)

        monkeypatch.setattr(icechunk.Session, "commit", second)

    with_another("branch.main/a")
    make_forecast(Path(f"{path}@branch.main/b"), **SHORT)
    with_another("branch.new/a")  # both make the root of the branch
    with rejects("cannot-write", "f.icechunk@branch.new/b", "another command"):
        make_forecast(Path(f"{path}@branch.new/b"), **SHORT)
    make_forecast(Path(f"{path}@branch.new/b"), **SHORT)
    for branch in ("main", "new"):
        made = [open_forecast(Path(f"{path}@branch.{branch}/{name}")) for name in "ab"]
        assert [each.sizes["lead_time"] for each in made] == [2, 3]


def test_what_appears_during_the_work_stays(tmp_path: Path) -> None:
    path, told = tmp_path / "f.icechunk", []
    target = commit_target(path)
    assert target is not None

    class Slow(Growing):
        def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
            if not told:
                told.append(make_forecast(tmp_path / "other.icechunk", num_steps=2))
                (tmp_path / "other.icechunk").rename(path)
            return super().__call__(*arguments)

    with rejects("output-exists", "since this work began", ".partial"):
        make_forecast(path, Slow(), existing="refuse")
    assert open_forecast(path).sizes["lead_time"] == 2
    assert target.working_name.with_name(".f.icechunk@branch.main.partial").is_dir()
