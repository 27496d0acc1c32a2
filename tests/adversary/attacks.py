"""Attacks on a workspace: an artifact is changed, and a verb reads it."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.adversary.artifacts import SCORE
from tests.adversary.damage import damage_file, damage_folder
from tests.adversary.snapshots import digests
from tests.adversary.trees import VALUES, change_json, change_tree, change_yaml

EXPERIMENT = "--config=experiment.yaml"
NEVER_SETTINGS = (
    "a section twice",
    "aliases of aliases",
    "an alias of itself",
    "a python object",
    "two documents",
    "deep lists",
)
"""Texts that are no settings, whatever the verb."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A command on a changed artifact.

    Args:
        words: The command.
        what: What was changed.
        names: An error has to name one of them.
        may_create: Whether the change names a further output.
        must_fail: Whether the command has to end with an error.
    """

    words: list[str]
    what: str
    names: list[str]
    may_create: bool = False
    must_fail: bool = False


def _keys(path: tuple[Any, ...]) -> list[str]:
    """The last keys on a path: an error has to name more than the section."""
    keys = [ascii(key)[1:-1] for key in path if isinstance(key, str) and len(key) > 1]
    return keys[1:][-2:] or keys


def attack_settings(folder: Path, random: random.Random) -> Attack:
    """Change the YAML of an experiment."""
    section, words = random.choice(
        [
            ("data", ["prepare", "--data.store=null"]),
            ("data", ["doctor", "--measure=false"]),
            ("model", ["train"]),
            ("training", ["train"]),
            ("forecast", ["forecast", "--checkpoint=run/checkpoints/best.safetensors"]),
            ("evaluation", SCORE),
        ]
    )
    file = folder / ("evaluation.yaml" if words is SCORE else "experiment.yaml")
    text, path, what = change_yaml(file.read_text(), random, (section,))
    _write(file, text)
    words = [words[0], EXPERIMENT, *words[1:]] if words is not SCORE else [*words]
    if words[0] == "forecast":
        words += ["--source=data.nc", "--output=out/forecast.zarr"]
    elif words[0] == "score":
        words += ["--output=out/scores.nc"]
    else:
        words += ["--output=out"]
    names = [*_keys(path), f"{file.name}, line"] if path else [file.name, "training"]
    return Attack(
        words=words,
        what=what,
        names=names,
        may_create="store" in path,
        must_fail=what in NEVER_SETTINGS,
    )


def _write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))


def _read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write_header(path: Path, header: object, data: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _forget_digests(path: Path) -> None:
    """Make a checkpoint like those of earlier versions, and of adversaries, which state none."""
    header, data = _read_header(path)
    header["__metadata__"].pop("digests")
    _write_header(path, header, data)


def _change_metadata(path: Path, random: random.Random) -> str:
    header, data = _read_header(path)
    record = header["__metadata__"]
    record["metadata"], _, what = change_json(record["metadata"], random)
    if isinstance(record["metadata"], bytes):
        record["metadata"] = record["metadata"].decode("latin1")
    _write_header(path, header, data)
    return f"metadata: {what}"


def _change_config(path: Path, random: random.Random) -> str:
    header, data = _read_header(path)
    metadata = json.loads(header["__metadata__"]["metadata"])
    text, _, what = change_yaml(metadata["config"], random)
    metadata["config"] = text.decode("latin1") if isinstance(text, bytes) else text
    header["__metadata__"]["metadata"] = json.dumps(metadata)
    _write_header(path, header, data)
    return f"config: {what}"


def _change_header(path: Path, random: random.Random) -> str:
    header, data = _read_header(path)
    header, _, what = change_tree(header, random)
    _write_header(path, header, data)
    return f"header: {what}"


def _change_tensor(path: Path, random: random.Random) -> str:
    header, _ = _read_header(path)
    tensors = load_file(path)
    name = random.choice(sorted(tensors))
    tensor = tensors.pop(name)
    changes: dict[str, Callable[[], torch.Tensor | None]] = {
        "removed": lambda: None,
        "int8": lambda: tensor.to(torch.int8),
        "float64": lambda: tensor.to(torch.float64),
        "bool": lambda: tensor.to(torch.bool),
        "complex64": lambda: tensor.to(torch.complex64),
        "NaN": lambda: torch.full(tensor.shape, torch.nan),
        "infinite": lambda: torch.full(tensor.shape, torch.inf),
        "zero": lambda: torch.zeros_like(tensor),
        "flat": lambda: tensor.flatten().clone(),
        "empty": lambda: tensor.flatten()[:0].clone(),
        "longer": lambda: torch.cat([tensor.flatten()] * 2),
    }
    kind = random.choice(sorted(changes))
    if (changed := changes[kind]()) is not None:
        tensors[name] = changed
    save_file(tensors, path, header["__metadata__"])
    return f"tensor {name}: {kind}"


def _damage_header_length(path: Path, random: random.Random) -> str:
    content = path.read_bytes()
    length = random.choice([0, 1, 2**31, 2**63, 2**64 - 1, len(content)])
    path.write_bytes(struct.pack("<Q", length) + content[8:])
    return f"header of {length} bytes"


def attack_checkpoint(folder: Path, random: random.Random) -> Attack:
    """Change a checkpoint that a forecast, an export or a training starts from."""
    change = random.choice(
        [
            *[_change_metadata] * 3,
            *[_change_config] * 2,
            _change_header,
            *[_change_tensor] * 3,
            damage_file,
            damage_file,
            _damage_header_length,
        ]
    )
    verb = random.choice(["forecast", "forecast without config", "train", "resume", "export"])
    path = folder / "run" / "checkpoints" / "best.safetensors"
    given = "run/checkpoints/best.safetensors"
    if verb == "resume":
        shutil.copytree(folder / "run", folder / "out")
        path = folder / "out" / "checkpoints" / "last.safetensors"
    before = load_file(path)
    has_digests = random.random() < 0.4
    if not has_digests:
        _forget_digests(path)
    what = change(path, random)
    must_fail = change is _change_tensor and not _are_equal(before, load_file(path))
    # Digests alone tell zeros and other precisions from the right weights; a training that starts
    # from other weights says which are missing.
    weights_too = (": zero", ": float64", *([": removed"] if verb == "train" else []))
    must_fail &= has_digests or not what.endswith(weights_too)
    what += "" if has_digests else ", without digests"
    forecast = ["forecast", f"--checkpoint={given}", "--source=data.nc", "--output=out/f.zarr"]
    export = ["export", f"--checkpoint={given}", "--output=out/f.pt2"]
    words = {
        "forecast": [*forecast, EXPERIMENT],
        "forecast without config": forecast,
        "train": ["train", EXPERIMENT, f"--training.start_from={given}", "--output=out"],
        "resume": ["train", EXPERIMENT, "--output=out"],
        "export": [*export, "--format=torch_export"],
    }[verb]
    names = [path.name, "not-here"]
    return Attack(words=words, what=f"{path.name}: {what}", names=names, must_fail=must_fail)


def _are_equal(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == others.keys() and all(
        tensor.dtype == others[name].dtype and tensor.equal(others[name])
        for name, tensor in tensors.items()
    )


def _change_zarr(store: Path, random: random.Random) -> tuple[str, list[str]]:
    """Change a zarr store, and return what, and the names of what was changed."""
    kind = random.choice(["metadata", "metadata", "metadata", "chunk", "chunk", "array"])
    if kind == "metadata":
        path = random.choice(sorted(store.rglob("zarr.json")))
        if random.random() < 0.2:
            what = damage_file(path, random)
        else:
            text, _, what = change_json(path.read_text(), random)
            _write(path, text)
        name = path.parent.name
    elif kind == "chunk":
        arrays = sorted({p.relative_to(store).parts[0] for p in store.rglob("c/**/*")})
        name = random.choice(arrays)
        chunks = sorted(
            p for p in (store / name).rglob("*") if p.is_file() and p.parts[-1] != "zarr.json"
        )
        path = random.choice(chunks)
        what = damage_file(path, random)
    else:
        path = random.choice(sorted(p for p in store.iterdir() if p.is_dir()))
        what, name = damage_folder(path, random), path.name
    return f"{path.relative_to(store.parent)}: {what}", [store.name, name]


def _forget_checksums(store: Path) -> None:
    """Make a store like those of earlier versions, and of adversaries, which state none."""
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"].pop("checksums")
    (store / "zarr.json").write_text(json.dumps(document))


def attack_store(folder: Path, random: random.Random) -> Attack:
    """Change a prepared store."""
    store = folder / "store.zarr"
    has_checksums = random.random() < 0.5
    if not has_checksums:
        _forget_checksums(store)
    before = digests(store, folder / "run")
    what, names = _change_zarr(store, random)
    what += "" if has_checksums else ", without checksums"
    is_changed = before != digests(store, folder / "run")
    forecast = ["forecast", EXPERIMENT, "--checkpoint=run/checkpoints/best.safetensors"]
    words = random.choice(
        [
            ["train", EXPERIMENT, "--output=out"],
            ["doctor", EXPERIMENT, "--measure=false", "--output=out"],
            ["prepare", EXPERIMENT, "--verify", "--output=out"],
            [*forecast, "--source=store.zarr", "--output=out/f.zarr"],
            [*SCORE, "--output=out/scores.nc"],
        ]
    )
    must_fail = is_changed and has_checksums and "--verify" in words
    return Attack(words=words, what=what, names=names, must_fail=must_fail)


def _change_netcdf(path: Path, random: random.Random) -> tuple[str, list[str]]:
    """Change attributes and values of a NetCDF file, or damage it."""
    if random.random() < 0.3:
        return damage_file(path, random), [path.name]
    with netCDF4.Dataset(path, "a") as file:
        file.set_auto_maskandscale(False)
        variable = file.variables[random.choice(sorted(file.variables))]
        kind = random.choice(["attribute", "attribute", "values", "rename"])
        if kind == "attribute":
            known = ["units", "calendar", "_FillValue", "scale_factor", "add_offset", "dtype"]
            name = random.choice([*known, "missing_value", "coordinates", "valid_range", "bounds"])
            name = "missing_value" if name == "_FillValue" else name
            value = random.choice(
                [v for v in VALUES if isinstance(v, str | float) or _fits(v)]
                + ["days since 9999-01-01", "months since 2001", "seconds since nan", "K", "noleap"]
            )
            if path.name == "data3.nc" and isinstance(value, int):
                value = np.int32(value)
            variable.setncattr(name, value)
            what = f"{variable.name}.{name} = {str(value)[:40]!r}"
        elif kind == "values":
            values = variable[:]
            index = random.choice([slice(None), 0, -1, slice(1, 3)])
            choices = [np.nan, np.inf, -1, 0, 1e30, 2**31 - 1, 2**62]
            value = random.choice(choices if values.dtype.kind == "f" else choices[2:4])
            values[index] = value
            variable[:] = values
            what = f"{variable.name}[{index}] = {value}"
        else:
            what = f"{variable.name} renamed"
            file.renameVariable(variable.name, random.choice(["x", "red[m]", "t", "lat2"]))
        name = what.split("[")[0].split(".")[0].split(" ")[0]
    return what, [path.name, name]


def _fits(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def attack_source(folder: Path, random: random.Random) -> Attack:
    """Change a source."""
    name = random.choice(["data.nc", "data3.nc", "data.zarr"])
    change = _change_zarr if name == "data.zarr" else _change_netcdf
    what, names = change(folder / name, random)
    source = ["--data.store=null", f"--data.source.path={name}"]
    forecast = ["forecast", EXPERIMENT, "--checkpoint=run/checkpoints/best.safetensors"]
    words = random.choice(
        [
            ["prepare", EXPERIMENT, *source, "--output=out"],
            ["prepare", EXPERIMENT, *source, "--output=out"],
            ["doctor", EXPERIMENT, *source, "--measure=false", "--output=out"],
            [*forecast, f"--source={name}", "--output=out/f.zarr"],
        ]
    )
    return Attack(words=words, what=f"{name}: {what}", names=names)


def attack_forecast(folder: Path, random: random.Random) -> Attack:
    """Change a forecast or the state of an evaluation."""
    words = [*SCORE, "--output=out/scores.nc"]
    kind = random.choice(["zarr", "zarr", "zarr", "netcdf", "state"])
    if kind == "zarr":
        what, names = _change_zarr(folder / "forecast.zarr", random)
    elif kind == "netcdf":
        what, names = _change_netcdf(folder / "forecast.nc", random)
        words = [w.replace("forecast.zarr", "forecast.nc") for w in words]
    else:
        state = folder / "out" / "state.npz"
        state.parent.mkdir()
        (folder / "state.npz").rename(state)
        what, names = damage_file(state, random), ["state.npz"]
        words.append("--state=out/state.npz")
    names += ["init_time", "lead_time"]  # as they are called here, whatever the file calls them
    return Attack(words=words, what=what, names=names)


def attack_run(folder: Path, random: random.Random) -> Attack:
    """Change the records of a run that ``runs`` compares."""
    shutil.copytree(folder / "run", folder / "out" / "run")
    names = ["config.yaml", "history.json", "logs/validation.csv", "logs/steps.csv"]
    path = folder / "out" / "run" / random.choice(names)
    if path.suffix == ".csv" or random.random() < 0.3:
        what = damage_file(path, random)
    else:
        change = change_json if path.suffix == ".json" else change_yaml
        text, _, what = change(path.read_text(), random)
        _write(path, text)
    return Attack(words=["runs", "out"], what=what, names=[path.name])


ATTACKS: dict[str, Callable[[Path, random.Random], Attack]] = {
    "settings": attack_settings,
    "checkpoint": attack_checkpoint,
    "store": attack_store,
    "source": attack_source,
    "forecast": attack_forecast,
    "run": attack_run,
}
