"""The wheel and the source distribution: built, compared with the tree, installed and used."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from data_pipeline.yaml_text import read_settings, read_settings_file
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.shipped import SHIPPED, shipped_folder
from fourcastnet_afno.workflows.config import ExperimentConfig

ROOT = Path(__file__).parents[1]
PACKAGES = ("fourcastnet_afno", "data_pipeline")
MOST_BYTES = 5_000_000  # of a wheel
BUILD = "import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])"
BUILD_WHEEL = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"


def run(*words: str | Path, folder: Path) -> str:
    """What a command prints, run in a folder."""
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of_packages() -> set[str]:
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    return {
        path.relative_to(ROOT).as_posix()
        for path in found
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution, made of the tree, and the wheel that is made of it."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    run(sys.executable, "-c", BUILD, out, folder=tree)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(tree / "unpacked", filter="data")
    (source,) = (tree / "unpacked").iterdir()
    run(sys.executable, "-c", BUILD_WHEEL, out, folder=source)
    return out


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_packages()
    assert wheel.stat().st_size < MOST_BYTES


@pytest.mark.slow
def test_an_installed_wheel_forecasts_without_data(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, which finds other packages where this one does."""
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", "environment", folder=tmp_path)
    python = tmp_path / "environment" / "bin" / "python"
    libraries = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", folder=tmp_path).strip()
    )
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    run(sys.executable, *install, libraries, wheel, folder=tmp_path)
    (libraries / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    words = ["forecast", "--checkpoint", "quickstart", "--steps", "2"]
    words += ["--evaluation.maps=false", "--evaluation.spectra=false"]  # figures that take seconds
    text = run(python, "-I", "-m", "fourcastnet_afno", *words, folder=tmp_path)
    assert "geopotential" in text
    where = "import fourcastnet_afno; print(fourcastnet_afno.__file__)"
    assert str(libraries) in run(python, "-I", "-c", where, folder=tmp_path)
    written = {path.name for path in (tmp_path / "runs" / "quickstart").iterdir()}
    assert {"forecast.zarr", "scores.nc", "report.html"} <= written


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_are_small_and_say_how_they_were_made(name: str) -> None:
    folder = shipped_folder(name)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert sum(sizes) < 3_000_000
    _, metadata = read_checkpoint(folder / "model.safetensors", "none")
    card = (folder / "README.md").read_text()
    assert metadata["versions"]["commit"][:7] in card.split("## How it was made")[1]


def test_the_shipped_quickstart_is_that_of_the_recipe() -> None:
    _, metadata = read_checkpoint(shipped_folder("quickstart") / "model.safetensors", "none")
    trained, recipe = (
        parse_config(ExperimentConfig, settings)
        for settings in (
            read_settings(metadata["config"], "the checkpoint's"),
            read_settings_file(ROOT / "configs" / "quickstart.yaml"),
        )
    )
    assert trained == recipe
