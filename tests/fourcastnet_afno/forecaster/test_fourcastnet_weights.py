"""Published layouts against a literal evaluation of FourCastNet's formulas in float64."""

import io
import json
import math
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_pipeline import memory
from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.fourcastnet_weights import load_fourcastnet_weights
from tests.builders.errors import rejects

CHANNELS, EMBED, DEPTH, BLOCKS, PATCH = 3, 8, 2, 2, 2
SHAPE = (12, 20)
GRID = (SHAPE[0] // PATCH, SHAPE[1] // PATCH)
THRESHOLD = 0.05

State = dict[str, Tensor]


def make_checkpoint(factor: int = 1) -> State:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    size = EMBED // BLOCKS
    state = {
        "patch_embed.proj.weight": draw(EMBED, CHANNELS, PATCH, PATCH),
        "patch_embed.proj.bias": draw(EMBED),
        "pos_embed": draw(1, GRID[0] * GRID[1], EMBED),
        "norm.weight": draw(EMBED),
        "norm.bias": draw(EMBED),
        "head.weight": draw(PATCH * PATCH * CHANNELS, EMBED),
    }
    for i in range(DEPTH):
        block = {
            "filter.w1": draw(2, BLOCKS, size, size * factor),
            "filter.b1": draw(2, BLOCKS, size * factor),
            "filter.w2": draw(2, BLOCKS, size * factor, size),
            "filter.b2": draw(2, BLOCKS, size),
            "mlp.fc1.weight": draw(3 * EMBED, EMBED),
            "mlp.fc1.bias": draw(3 * EMBED),
            "mlp.fc2.weight": draw(EMBED, 3 * EMBED),
            "mlp.fc2.bias": draw(EMBED),
        }
        for norm in ("norm1", "norm2"):
            block |= {f"{norm}.weight": 1 + draw(EMBED), f"{norm}.bias": draw(EMBED)}
        state |= {f"blocks.{i}.{name}": value for name, value in block.items()}
    return state


def dft_matrix(size: int) -> Tensor:
    turns = torch.outer(torch.arange(size), torch.arange(size)).double() / size
    return torch.exp(-2j * math.pi * turns) / math.sqrt(size)


def shrink(values: Tensor) -> Tensor:
    return torch.sign(values) * torch.clamp(values.abs() - THRESHOLD, min=0)


def mix_literally(tokens: Tensor, block: State, fraction: float) -> Tensor:
    """FourCastNet's filter for tokens (row, column, embed), one mode and one block at a time."""
    height, width, _ = tokens.shape
    rows, columns = dft_matrix(height), dft_matrix(width)
    spectrum = torch.einsum("ay,bx,yxc->abc", rows, columns, tokens.to(torch.complex128))
    half = width // 2 + 1
    output = torch.zeros_like(spectrum[:, :half])
    total = height // 2 + 1
    kept = int(total * fraction)
    w1, b1, w2, b2 = (torch.complex(*block[f"filter.{n}"]) for n in ("w1", "b1", "w2", "b2"))
    size = EMBED // BLOCKS
    for a in range(height):
        for b in range(half):
            if not (total - kept <= a < total + kept and b < kept):
                continue
            for k in range(BLOCKS):
                part = slice(k * size, (k + 1) * size)
                hidden = spectrum[a, b, part] @ w1[k] + b1[k]
                hidden = torch.complex(hidden.real.clamp(min=0), hidden.imag.clamp(min=0))
                mixed = hidden @ w2[k] + b2[k]
                output[a, b, part] = torch.complex(shrink(mixed.real), shrink(mixed.imag))
    # The real field of half a spectrum: an inverse transform over rows, then over columns, where
    # the imaginary parts of the columns 0 and width / 2 have no meaning.
    lines = torch.einsum("ya,abc->ybc", rows.conj().T, output)
    weight = torch.full((half,), 2.0, dtype=torch.float64)
    weight[0] = 1
    weight[-1] = 1 if width % 2 == 0 else 2
    basis = columns.conj()[:, :half] * weight
    return torch.einsum("xb,ybc->yxc", basis, lines).real + tokens


def normalize(tokens: Tensor, state: State, name: str) -> Tensor:
    centered = tokens - tokens.mean(-1, keepdim=True)
    scaled = centered / torch.sqrt(centered.square().mean(-1, keepdim=True) + 1e-6)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def evaluate_literally(state: State, field: Tensor, fraction: float) -> Tensor:
    """FourCastNet v1 for one field (channel, lat, lon)."""
    tokens = torch.empty(*GRID, EMBED, dtype=torch.float64)
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            patch = field[:, y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
            tokens[y, x] = (state["patch_embed.proj.weight"] * patch).sum((1, 2, 3))
    tokens = tokens + state["patch_embed.proj.bias"] + state["pos_embed"].reshape(*GRID, EMBED)
    for i in range(DEPTH):
        start = f"blocks.{i}."
        block = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        tokens = tokens + mix_literally(normalize(tokens, block, "norm1"), block, fraction)
        hidden = normalize(tokens, block, "norm2") @ block["mlp.fc1.weight"].T
        hidden = hidden + block["mlp.fc1.bias"]
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        tokens = tokens + hidden @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]
    output = torch.empty(CHANNELS, *SHAPE, dtype=torch.float64)
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            patch = (state["head.weight"] @ tokens[y, x]).reshape(PATCH, PATCH, CHANNELS)
            target = output[:, y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
            target.copy_(patch.permute(2, 0, 1))
    return output


def make_field() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(CHANNELS, *SHAPE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("fraction", [1.0, 0.6])
@pytest.mark.parametrize("factor", [1, 2])
def test_fourcastnet_layout_computes_what_its_formulas_say(
    fraction: float, factor: int, tmp_path: Path
) -> None:
    state = make_checkpoint(factor)
    prefixed = {f"module.{name}": value for name, value in state.items()}
    torch.save({"model_state": prefixed, "epoch": 3}, tmp_path / "backbone.ckpt")
    network = load_fourcastnet_weights(
        tmp_path / "backbone.ckpt",
        shape=SHAPE,
        sparsity_threshold=THRESHOLD,
        hard_thresholding_fraction=fraction,
    )
    expected = evaluate_literally(state, make_field(), fraction)
    torch.testing.assert_close(network(make_field()[None])[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_become_float32_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(dtype) for name, value in make_checkpoint().items()}
    torch.save({"model_state": state}, tmp_path / "half.ckpt")
    network = load_fourcastnet_weights(
        tmp_path / "half.ckpt", shape=SHAPE, sparsity_threshold=THRESHOLD
    )
    rounded = {name: value.double() for name, value in state.items()}
    expected = evaluate_literally(rounded, make_field(), 1.0)
    found = network(make_field()[None].float())[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_weights_that_are_no_floats_are_named(tmp_path: Path) -> None:
    state = make_checkpoint() | {"head.weight": torch.ones(12, EMBED, dtype=torch.int8)}
    torch.save(state, tmp_path / "int.ckpt")
    with rejects("other-layout", "int.ckpt", "head.weight", "int8"):
        load_fourcastnet_weights(tmp_path / "int.ckpt", shape=SHAPE)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_mdlus_archive_brings_its_settings(kind: str, tmp_path: Path) -> None:
    state, buffer = make_checkpoint(), io.BytesIO()
    torch.save(state | {"device_buffer": torch.empty(0)}, buffer)
    arguments = {
        "inp_shape": SHAPE,
        "sparsity_threshold": THRESHOLD,
        "hard_thresholding_fraction": 0.6,
    }
    members = {
        "model.pt": buffer.getvalue(),
        "args.json": json.dumps({"__name__": "AFNO", "__args__": arguments}).encode(),
    }
    write_archive(tmp_path / "afno.mdlus", kind, members)
    network = load_fourcastnet_weights(tmp_path / "afno.mdlus")
    expected = evaluate_literally(state, make_field(), 0.6)
    torch.testing.assert_close(network(make_field()[None])[0], expected, rtol=1e-10, atol=1e-10)


def write_archive(path: Path, kind: str, members: dict[str, bytes]) -> None:
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


class Unsafe:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state": Unsafe()}, tmp_path / "bad.ckpt")
    with rejects("unreadable-file", "bad.ckpt"):
        load_fourcastnet_weights(tmp_path / "bad.ckpt")
    assert not (tmp_path / "executed").exists()


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with rejects("missing-file", "none.ckpt"):
        load_fourcastnet_weights(tmp_path / "none.ckpt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with rejects("other-layout", "patch_embed.proj.weight"):
        load_fourcastnet_weights(tmp_path / "other.pt")
    torch.save(make_checkpoint(), tmp_path / "small.pt")
    with rejects("grid-mismatch", "60 patches"):
        load_fourcastnet_weights(tmp_path / "small.pt")
    torch.save(make_checkpoint() | {"blocks.1.filter.b1": torch.zeros(3)}, tmp_path / "odd.pt")
    with rejects("other-layout", "blocks.1.mixer.bias1"):
        load_fourcastnet_weights(tmp_path / "odd.pt", shape=SHAPE)


def test_damaged_weights_are_refused_by_name(tmp_path: Path) -> None:
    broken = make_checkpoint()
    broken["blocks.1.filter.b1"] = torch.full_like(broken["blocks.1.filter.b1"], torch.nan)
    torch.save(broken, tmp_path / "nan.pt")
    with rejects("not-finite", "nan.pt", "blocks.1.filter.b1"):
        load_fourcastnet_weights(tmp_path / "nan.pt", shape=SHAPE)
    raw = (tmp_path / "nan.pt").read_bytes()
    for length in (0, 1, 50, len(raw) // 2, len(raw) - 1):
        (tmp_path / "cut.pt").write_bytes(raw[:length])
        with rejects("unreadable-file", "cut.pt"):
            load_fourcastnet_weights(tmp_path / "cut.pt", shape=SHAPE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch_embed.proj.weight", torch.ones(EMBED, CHANNELS)),
        ("patch_embed.proj.weight", torch.ones(0, CHANNELS, PATCH, PATCH)),
        ("pos_embed", torch.tensor(1.0)),
        ("blocks.0.filter.w1", torch.ones(2, 3, 4, 4)),
        ("blocks.0.filter.w1", torch.ones(2, BLOCKS, 4, 1)),
        ("blocks.0.mlp.fc1.weight", torch.ones(1, 1)),
        ("head.weight", torch.ones(3, EMBED)),
        ("head.weight", torch.ones(12, EMBED, device="meta")),
        ("head.weight", torch.ones(12, EMBED).to_sparse()),
        ("blocks.0.norm1.weight", torch.ones(1).expand(EMBED)),
        ("module.head.weight", torch.ones(12, EMBED)),
        ("blocks.0.mixer.weight1", torch.ones(2, BLOCKS, 4, 4)),
        ("blocks.x.norm1.weight", torch.ones(EMBED)),
    ],
)
def test_weights_of_another_rank_size_or_kind_are_named(
    name: str, value: Tensor, tmp_path: Path
) -> None:
    torch.save(make_checkpoint() | {name: value}, tmp_path / "odd.pt")
    with rejects("other-layout", "odd.pt"):
        load_fourcastnet_weights(tmp_path / "odd.pt", shape=SHAPE)


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    "settings",
    ["[]", "{", '{"__args__": 3}', '{"inp_shape": [12]}', '{"inp_shape": ["12", "20"]}',
     '{"inp_shape": [-12, -20]}', '{"sparsity_threshold": NaN}', '{"sparsity_threshold": null}',
     '{"hard_thresholding_fraction": 7}'],
)  # fmt: skip
def test_settings_of_another_type_are_named(kind: str, settings: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(make_checkpoint(), buffer)
    members = {"model.pt": buffer.getvalue(), "args.json": settings.encode()}
    write_archive(tmp_path / "odd.mdlus", kind, members)
    with pytest.raises(InputError, match=r"odd\.mdlus") as error:
        load_fourcastnet_weights(tmp_path / "odd.mdlus", shape=SHAPE)
    assert error.value.code in ("unreadable-file", "other-layout", "bad-record")


def test_an_archive_that_expands_beyond_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.mdlus", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pt", bytes(2_000_000))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2_000_000))
    for name in ("bomb.mdlus", "bomb.pt"):
        with rejects("too-little-memory", name):
            load_fourcastnet_weights(tmp_path / name, shape=SHAPE)


def test_a_position_table_ties_the_network_to_its_grid(tmp_path: Path) -> None:
    torch.save(make_checkpoint(), tmp_path / "a.pt")
    network = load_fourcastnet_weights(tmp_path / "a.pt", shape=SHAPE)
    with pytest.raises(ValueError, match="position table"):
        network(torch.zeros(1, CHANNELS, 16, 20, dtype=torch.float64))
