"""Published folders."""

import json
from pathlib import Path

import fsspec
import pytest
import torch

from fourcastnet_afno.forecaster.checkpoint import (
    load_forecaster,
    read_checkpoint,
    save_checkpoint,
)
from fourcastnet_afno.interop.publish import save_pretrained
from fourcastnet_afno.published import Content, content_of
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    further = {"optimizer.momentum": torch.zeros(1000), "random.cpu": torch.zeros(8)}
    save_checkpoint(path, make_forecaster(), further, {"position": {"step": 7, "epoch": 1}})
    return path


def test_a_folder_holds_the_forecaster_its_digest_and_a_card(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "name"
    save_pretrained(checkpoint, folder)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
    }
    stated = json.loads((folder / "config.json").read_text())["checkpoint"]
    weights = folder / "model.safetensors"
    assert content_of(weights) == Content(sha256=stated["sha256"], size=stated["size"])
    found, expected = (load_forecaster(p).state_dict() for p in (folder, checkpoint))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert {n.partition(".")[0] for n in read_checkpoint(weights)[0]} == {"forecaster"}


def test_it_is_written_again(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "name"
    save_pretrained(checkpoint, folder)
    other = make_forecaster()
    torch.nn.init.ones_(next(other.parameters()))
    save_checkpoint(checkpoint, other, {}, {})
    save_pretrained(checkpoint, folder)
    found, expected = load_forecaster(folder).state_dict(), other.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_files_of_others_stay(checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "name"
    folder.mkdir()
    (folder / name).write_text("{}")
    with rejects("output-exists", name):
        save_pretrained(checkpoint, folder)
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "{}"


def test_it_does_not_replace_what_it_reads(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint.rename(tmp_path / "model.safetensors")
    with rejects("output-is-input", "model.safetensors"):
        save_pretrained(weights, tmp_path)


def test_urls_are_written_where_that_is_possible(checkpoint: Path) -> None:
    save_pretrained(checkpoint, "memory://published-here/name")
    files = fsspec.filesystem("memory")
    assert len(files.ls("/published-here/name")) == 3
    for url in ("hf://ORG/NAME", "https://host/name"):
        with rejects("bad-setting", url, "hf upload"):
            save_pretrained(checkpoint, url)


def test_scores_are_those_of_a_file(checkpoint: Path, tmp_path: Path) -> None:
    folder, scores = tmp_path / "name", tmp_path / "scores.json"
    with rejects("missing-file", "scores.json"):
        save_pretrained(checkpoint, folder, scores=scores)
    scores.write_text("{}")
    with rejects("unreadable-file", "scores.json"):
        save_pretrained(checkpoint, folder, scores=scores)
    values = {"forecasts": {"AFNO": {"rmse": {"geopotential_500": {"24": 123.25}}}}}
    scores.write_text(json.dumps(values))
    save_pretrained(checkpoint, folder, scores=scores)
    assert "123.2" in (folder / "README.md").read_text()
