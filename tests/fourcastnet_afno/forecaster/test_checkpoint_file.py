"""The file of a checkpoint: its digests, its header, and what is no such file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fourcastnet_afno.forecaster import checkpoint_file
from fourcastnet_afno.forecaster.checkpoint_file import read_tensors, write_tensors
from tests.builders.errors import rejects

RECORD = {"model": {}, "fields": {}, "position": {"step": 3}}
CHANNEL = {"name": "2m_temperature", "units": "K", "level": None}
HEAD = {"config": {"epsilon": 1.0}, "channels": [CHANNEL], "backbone": "0123"}
TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.scalar": torch.tensor(7.25),
    "b.half": torch.ones(4, dtype=torch.bfloat16),
    "b.empty": torch.zeros(0, 5),
    "a.empty_without_stride": torch.zeros(1, dtype=torch.int64).expand(0),
    "a.one_without_stride": torch.ones(()).expand(1),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of all tensors."""
    write_tensors(tmp_path / "a.safetensors", TENSORS, RECORD)
    return tmp_path / "a.safetensors"


def rewrite(path: Path, tensors: dict[str, Tensor], **header: str | None) -> None:
    """Replace tensors and entries of the header; those that are None are dropped."""
    with safe_open(path, "pt") as opened:
        entries = {**(opened.metadata() or {}), **header}
    save_file(tensors, path, {key: text for key, text in entries.items() if text is not None})


def test_tensors_and_record_come_back(file: Path) -> None:
    tensors, record = read_tensors(file)
    assert record == RECORD
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert read_tensors(file, "b").tensors.keys() == {"b.half", "b.empty"}


@pytest.mark.parametrize("name", ["a.weight", "a.scalar", "b.half"])
def test_a_flipped_bit_names_its_tensor(file: Path, name: str) -> None:
    raw, bits = bytearray(file.read_bytes()), TENSORS[name].reshape(-1).view(torch.uint8)
    raw[raw.rindex(bits.numpy().tobytes())] ^= 4
    file.write_bytes(raw)
    with rejects("damaged-checkpoint", "a.safetensors", name):
        read_tensors(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("a.scalar"), "a.scalar"),
        (lambda t: t.update(c=torch.zeros(1)), "c"),
        (lambda t: t.update({"a.weight": t["a.weight"].view(torch.int32)}), "a.weight"),
        (lambda t: t.update({"a.weight": t["a.weight"].reshape(3, 2)}), "a.weight"),
    ],
)
def test_another_set_of_tensors_is_rejected(
    file: Path, change: Callable[[dict[str, Tensor]], object], named: str
) -> None:
    tensors = dict(TENSORS)
    change(tensors)
    rewrite(file, tensors)
    with rejects("damaged-checkpoint", "a.safetensors", named):
        read_tensors(file)


def test_a_record_that_was_edited_is_rejected(file: Path) -> None:
    rewrite(file, TENSORS, metadata=json.dumps(RECORD | {"position": {"step": 4}}))
    with rejects("damaged-checkpoint", "a.safetensors", "metadata"):
        read_tensors(file, "none")


def test_files_of_earlier_versions_have_no_digests(file: Path) -> None:
    rewrite(file, TENSORS, digests=None)
    assert read_tensors(file).record == RECORD


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"fields": {"timestep_hours": 7}}, "timestep"),
        ({"fields": {"timestep": "2h"}}, "timestep"),
        ({"fields": {"timestep_hours": 6, "forcings": ["x"]}}, "forcings"),
        ({"fields": {"timestep_hours": 6, "channels": []}}, "channels"),
        ({"model": {"num_history": 2}}, "model"),
        ({"diagnostic": HEAD | {"config": {"epsilon": 2.0}}}, "epsilon"),
        ({"diagnostic": HEAD | {"channels": []}}, "diagnostic.channels"),
        ({"config": "data: ["}, "config"),
        ({"config": "data: 3"}, "config.data"),
    ],
)
def test_without_digests_the_record_agrees_with_its_configuration(
    file: Path, record: dict[str, Any], named: str
) -> None:
    fields = {"timestep_hours": 6, "forcings": [], "channels": [CHANNEL]}
    data = "{prognostic: [t2m], diagnostic: [2t], forcings: [], timestep: 360min}"
    whole = {"fields": fields, "model": {"num_history": 1}, "position": {"step": 3}}
    whole["config"] = f"data: {data}\nmodel: {{num_history: 1}}\ndiagnostic: {{epsilon: 1.0}}"
    for intact in (whole, whole | {"diagnostic": HEAD, "model": {"num_history": 2}}):
        rewrite(file, TENSORS, metadata=json.dumps(intact), digests=None)
        assert read_tensors(file).record == intact
    changed = {**whole, **record, "fields": {**fields, **record.get("fields", {})}}
    rewrite(file, TENSORS, metadata=json.dumps(changed), digests=None)
    with rejects("damaged-checkpoint", "a.safetensors", named):
        read_tensors(file)


@pytest.mark.parametrize(
    "digests", ["", "[]", '{"metadata": "0"}', '{"metadata": 1, "tensors": 2}']
)
def test_digests_that_are_none_are_rejected(file: Path, digests: str) -> None:
    rewrite(file, TENSORS, digests=digests)
    with rejects("damaged-checkpoint", "a.safetensors", "digests"):
        read_tensors(file)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ([], "metadata"),
        ({"fields": {}}, "model"),
        ({"model": {}, "fields": 3}, "metadata.fields"),
        (RECORD | {"config": {}}, "metadata.config"),
        (RECORD | {"position": {"step": -1}}, "metadata.position.step"),
        (RECORD | {"scaler": {"scale": "x"}}, "metadata.scaler.scale"),
        (RECORD | {"optimizer_steps": [0.5]}, "metadata.optimizer_steps.0"),
        (RECORD | {"diagnostic": {"config": {}, "channels": []}}, "backbone"),
    ],
)
def test_entries_of_another_type_are_named(file: Path, record: Any, named: str) -> None:  # noqa: ANN401
    rewrite(file, TENSORS, metadata=json.dumps(record), digests=None)
    with rejects("damaged-checkpoint", "a.safetensors", named):
        read_tensors(file)


def test_a_file_that_is_cut_is_rejected(file: Path) -> None:
    raw = file.read_bytes()
    for length in (0, 1, 8, 100, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:length])
        with rejects("unreadable-file", "a.safetensors"):
            read_tensors(file)


def test_a_link_to_itself_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with rejects("no-checkpoint", "loop"):
        read_tensors(tmp_path / "loop")


@pytest.mark.parametrize("is_shorter", [False, True])
def test_a_file_that_is_replaced_while_it_is_opened_is_read_whole(
    file: Path, monkeypatch: pytest.MonkeyPatch, is_shorter: bool
) -> None:
    """The library opens a path twice; a training may replace it between both."""
    newer, opened = {"a.weight": torch.ones(2, 3)}, []

    def replace_then_open(path: Path, **options: str) -> Any:  # noqa: ANN401
        opened.append(path)
        if len(opened) == 1:
            old = safe_open(path, framework="pt")
            write_tensors(path, newer, RECORD | {"position": {"step": 4}})
            if is_shorter:
                raise RuntimeError("size <10> is smaller than the required mapping size <20>")
            return old
        return safe_open(path, **options)

    monkeypatch.setattr(checkpoint_file, "safe_open", replace_then_open)
    tensors, record = read_tensors(file)
    assert record["position"] == {"step": 4}
    assert torch.equal(tensors["a.weight"], newer["a.weight"])
    assert len(opened) == 2


def test_a_file_that_cannot_be_mapped_is_rejected(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, **options: str) -> None:
        raise RuntimeError(f"unable to map {path}")

    monkeypatch.setattr(checkpoint_file, "safe_open", fail)
    with rejects("unreadable-file", "a.safetensors", "unable to map"):
        read_tensors(file)
