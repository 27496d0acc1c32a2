"""YAML files of the commit before: those of ``configs/``, and the one that a run has kept."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compatibility.conftest import ARTIFACTS
from tests.compatibility.make_artifacts import config_words
from tests.compatibility.public_calls import printed_config

WORDS = config_words(str(ARTIFACTS / "configs"))


def resolved(name: str) -> dict[str, Any]:
    """The configuration that the code of before made of a file, with its defaults."""
    with zipfile.ZipFile(ARTIFACTS / "resolved_configs.zip") as packed:
        return yaml.safe_load(packed.read(f"resolved/{name}.yaml"))


def differing(now: Any, before: Any, name: str = "") -> list[str]:  # noqa: ANN401
    """Settings of before that are gone or have another value; new ones may be there."""
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        now, before = (dict(enumerate(values)) for values in (now, before))
    if not (isinstance(now, dict) and isinstance(before, dict)):
        return [] if now == before else [f"{name}: {before!r} -> {now!r}"]
    return [
        found
        for key, value in before.items()
        for found in differing(now.get(key, "nothing"), value, f"{name}.{key}")
    ]


def test_every_yaml_is_taken() -> None:
    given = {word.partition("=")[2] for words in WORDS.values() for word in words[1:]}
    assert given == {str(path) for path in (ARTIFACTS / "configs").rglob("*.yaml")}


@pytest.mark.parametrize("name", WORDS)
def test_a_yaml_of_before_means_the_same(name: str) -> None:
    assert not differing(yaml.safe_load(printed_config(WORDS[name])), resolved(name))


def test_the_yaml_of_a_run_means_the_same(unpack: Callable[..., Path]) -> None:
    path = unpack("planet_run") / "planet" / "config.yaml"
    printed = yaml.safe_load(printed_config(["train", f"--config={path}"]))
    assert not differing(printed, yaml.safe_load(path.read_text()))
    assert not differing(printed, resolved("planet"))
