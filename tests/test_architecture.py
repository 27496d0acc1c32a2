"""The picture of the rooms is current, and every room has its place in a contract."""

import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("draw_architecture", ROOT / "docs" / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_package(folder: Path, imports: dict[str, list[str]]) -> Path:
    """Rooms of one module each."""
    for name, targets in imports.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f'"""Purpose of {name}."""\n')
        lines = [f"from {folder.name}.{target} import module\n" for target in targets]
        (folder / name / "module.py").write_text("".join(lines))
    return folder


def test_the_picture_is_current(script: ModuleType) -> None:
    is_current = script.PICTURE.read_text(encoding="utf-8") == script.draw()
    assert is_current, (
        "run python docs/draw_architecture.py and commit docs/images/architecture.svg"
    )


def test_every_room_has_its_place_in_a_contract(script: ModuleType) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers: dict[str, set[str]] = {}
    for contract in settings["contracts"]:
        for container in contract.get("containers", ()):
            names = " | ".join(contract["layers"]).split(" | ")
            layers.setdefault(container, set()).update(names)
    for package in script.PACKAGES:
        assert layers[package] == set(script.read_rooms(ROOT / package))


def test_every_room_says_what_it_is_for(script: ModuleType) -> None:
    rooms = [r for package in script.PACKAGES for r in script.read_rooms(ROOT / package).values()]
    assert all(10 < len(room.purpose) < 100 for room in rooms)


def test_arrows_lead_down_and_none_follows_from_others(script: ModuleType, tmp_path: Path) -> None:
    imports = {"top": ["middle", "low", "side"], "middle": ["low"], "low": [], "side": []}
    rooms = script.read_rooms(make_package(tmp_path / "pkg", imports))
    assert rooms["top"].imports == {"middle", "low", "side"}
    assert (rooms["top"].purpose, rooms["top"].num_modules) == ("Purpose of top.", 1)
    arrows = script.shortest_arrows(rooms)
    assert arrows == {"top": ["middle", "side"], "middle": ["low"], "low": [], "side": []}
    rows = script.find_rows(arrows)
    assert rows == [["top"], ["middle", "side"], ["low"]]
    arrows["middle"].append("side")
    arrows["top"].append("low")
    rows = script.find_rows(arrows)
    assert rows == [["top"], ["middle"], ["low", "side"]]
    centers, paths = script.arrange(rows, arrows)
    assert ["top", "top > low", "low"] in paths
    assert [sum(row[name] for name in names) for row, names in zip(centers, rows, strict=True)] == [
        0, 0, 0,
    ]  # fmt: skip
