"""Configuration dataclasses from the plain values that checkpoints keep."""

from collections.abc import Mapping
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

Config = TypeVar("Config")


def parse_config(kind: type[Config], record: Mapping[str, Any]) -> Config:
    """A configuration dataclass from the plain values that a checkpoint keeps of it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    return parser.instantiate(parser.parse_object({"config": dict(record)}))["config"]
