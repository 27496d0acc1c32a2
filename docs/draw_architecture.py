"""Draw the rooms of both packages and their imports to ``docs/images/architecture.svg``.

    python docs/draw_architecture.py

A room is a folder of a package, or a module next to the folders; its purpose is the first line of
its docstring. An arrow leads from a room to one that it imports; arrows that follow from others
(A -> C from A -> B -> C) are left out. Rooms import only from rooms below them.
"""

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
PACKAGES = ("fourcastnet_afno", "data_pipeline")
_OLD_PLACES = ("autoregression", "experiment", "pde")  # names from before the rooms
_WIDTH, _HEIGHT, _GAP, _PITCH = 226, 94, 22, 130  # of a box; between boxes; of a row
_MARGIN, _HEADER, _BRIDGE = 20, 84, 88
_LANE = 14  # width of an arrow that passes a row
_STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
  fill: #1f2937 }
.paper { fill: #ffffff }
.surrogate { fill: #eef4fb; stroke: #0b62a4 }
.data { fill: #eef7f0; stroke: #2e8b57 }
.room { fill: #ffffff; stroke: #94a3b8 }
.package { font-size: 19px; font-weight: 700 }
.name { font-size: 15px; font-weight: 700 }
.purpose { font-size: 12px }
.soft { font-size: 11px; fill: #64748b }
.arrow { fill: none; stroke: #64748b; stroke-width: 1.6 }
.bridge { fill: none; stroke: #64748b; stroke-width: 5 }
.head { fill: #64748b }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb }
  .paper { fill: #14181f }
  .surrogate { fill: #17232f }
  .data { fill: #17251d }
  .room { fill: #1f2732; stroke: #64748b }
  .soft { fill: #9ca3af }
  .arrow, .bridge { stroke: #9ca3af }
  .head { fill: #9ca3af }
}
"""


@dataclass(frozen=True, kw_only=True)
class Room:
    """A folder or a module of a package.

    Args:
        name: Name without that of the package.
        purpose: First line of the docstring.
        num_modules: Modules, those of inner folders included.
        inner: Names of inner folders.
        imports: Other rooms of the package that it imports.
    """

    name: str
    purpose: str
    num_modules: int
    inner: tuple[str, ...]
    imports: frozenset[str]


@cache
def read_rooms(package: Path) -> dict[str, Room]:
    """Read the rooms of a package from its source, by name."""
    rooms = {}
    names = {path.stem for path in package.iterdir() if path.name[0] not in "_."}
    names = {n for n in names if (package / n / "__init__.py").exists() or _is_module(package / n)}
    for name in sorted(names - set(_OLD_PLACES)):
        folder = package / name
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
        imported = {
            target.split(".")[1]
            for tree in trees.values()
            for target in _imported_modules(tree)
            if target.startswith(f"{package.name}.")
        }
        home = folder / "__init__.py" if folder.is_dir() else files[0]
        rooms[name] = Room(
            name=name,
            purpose=(ast.get_docstring(trees[home]) or "").partition("\n")[0].replace("``", ""),
            num_modules=sum(file.name != "__init__.py" for file in files),
            inner=tuple(f.parent.name for f in files if f.name == "__init__.py" and f != home),
            imports=frozenset(imported & names - {name, *_OLD_PLACES}),
        )
    return rooms


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file()


def _imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def shortest_arrows(rooms: Mapping[str, Room]) -> dict[str, list[str]]:
    """Imports of each room that do not follow from others (the transitive reduction)."""

    def reachable(name: str) -> set[str]:
        return {name}.union(*(reachable(target) for target in rooms[name].imports))

    return {
        name: sorted(
            target
            for target in room.imports
            if not any(target in reachable(other) for other in room.imports - {target})
        )
        for name, room in rooms.items()
    }


def find_rows(arrows: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Rooms by row from the top: every arrow leads down; of possible rows the emptiest is taken."""

    def height(name: str) -> int:
        return max((1 + height(target) for target in arrows[name]), default=0)

    def depth(name: str) -> int:
        importers = [other for other in arrows if name in arrows[other]]
        return max((1 + depth(other) for other in importers), default=0)

    count = 1 + max(map(height, arrows))
    rows: list[list[str]] = [[] for _ in range(count)]
    by_slack = sorted(
        arrows, key=lambda name: (count - 1 - height(name) > depth(name), depth(name))
    )
    for name in by_slack:
        importers = [i for i, row in enumerate(rows) for other in row if name in arrows[other]]
        highest = max((i + 1 for i in importers), default=count - 1 - height(name))
        possible = range(highest, count - height(name))
        rows[min(possible, key=lambda i: len(rows[i]))].append(name)
    return [sorted(row) for row in rows]


def arrange(
    rows: list[list[str]], arrows: Mapping[str, Sequence[str]]
) -> tuple[list[dict[str, float]], list[list[str]]]:
    """Place rooms, and the lanes in which longer arrows pass rows, near those that import them.

    Returns:
        For each row the horizontal center of its rooms and lanes, and the path of each arrow
        through rooms and lanes.
    """
    index = {name: i for i, row in enumerate(rows) for name in row}
    paths = []
    lanes: list[list[str]] = [[] for _ in rows]
    for name, targets in arrows.items():
        for target in targets:
            passed = range(index[name] + 1, index[target])
            for i in passed:
                lanes[i].append(f"{name} > {target}")
            paths.append([name, *(f"{name} > {target}" for _ in passed), target])
    centers: list[dict[str, float]] = []
    for i, row in enumerate(rows):
        above = centers[-1] if centers else {}

        def wanted_center(item: str, i: int = i, above: dict[str, float] = above) -> float:
            sources = [
                above[p[step]]
                for p in paths
                for step in range(len(p) - 1)
                if p[step + 1] == item and index[p[0]] + step == i - 1
            ]
            return sum(sources) / len(sources) if sources else 0.0

        wanted = {item: wanted_center(item) for item in sorted([*row, *lanes[i]])}
        placed, left = {}, 0.0
        for item in sorted(wanted, key=lambda item: wanted[item]):
            width = _WIDTH if item in row else _LANE
            placed[item] = left + width / 2
            left += width + _GAP
        middle = sum(placed[name] for name in row) / len(row)
        centers.append({item: center - middle for item, center in placed.items()})
    return centers, paths


def draw() -> str:
    """The picture as SVG."""
    layouts = []
    for package in PACKAGES:
        rooms = read_rooms(ROOT / package)
        arrows = shortest_arrows(rooms)
        layouts.append((package, rooms, *arrange(find_rows(arrows), arrows)))
    num_rows = max(len(centers) for _, _, centers, _ in layouts)
    height = _HEADER + num_rows * _PITCH
    panels, right = [], _MARGIN - _BRIDGE
    for (package, rooms, centers, paths), kind in zip(layouts, ("surrogate", "data"), strict=True):
        halves = [
            abs(x) + (_WIDTH if i in rooms else _LANE) / 2 for c in centers for i, x in c.items()
        ]
        left, width = right + _BRIDGE, 2 * (max(halves) + _GAP)
        right, zero = left + width, left + width / 2
        panels.append(
            f'<rect class="{kind}" x="{left:g}" y="{_MARGIN}" width="{width:g}" '
            f'height="{height:g}" rx="14"/>'
        )
        source = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
        purpose = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        panels.append(_text("package", left + width / 2, _MARGIN + 32, package))
        for line, text in enumerate(textwrap.wrap(purpose, int(width / 7.5))):
            panels.append(_text("purpose", left + width / 2, _MARGIN + 52 + 15 * line, text))
        panels += _draw_rooms(rooms, centers, paths, zero)
    middle, start = _MARGIN + height / 2, right - width - _BRIDGE
    panels.append(f'<path class="bridge" d="M{start:g} {middle:g} h{_BRIDGE - 14}"/>')
    panels.append(f'<path class="head" d="M{start + _BRIDGE:g} {middle:g} l-18 -11 v22 z"/>')
    for line, text in enumerate(("imports,", "never the", "other way")):
        panels.append(_text("soft", start + _BRIDGE / 2, middle + 28 + 15 * line, text))
    footer = "An arrow: imports. Arrows that follow from others are left out."
    panels.append(_text("soft", (right + _MARGIN) / 2, height + 2 * _MARGIN, footer))
    size = f'width="{right + _MARGIN:g}" height="{height + 3 * _MARGIN:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
            f'viewBox="0 0 {right + _MARGIN:g} {height + 3 * _MARGIN:g}">',
            "<title>Rooms of the packages and their imports</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" {size}/>',
            *panels,
            "</svg>\n",
        ]
    )


def _draw_rooms(
    rooms: Mapping[str, Room],
    centers: Sequence[Mapping[str, float]],
    paths: Sequence[Sequence[str]],
    zero: float,
) -> Iterator[str]:
    """Arrows, and boxes above them; ``zero`` is the horizontal origin of the centers."""
    top = _MARGIN + _HEADER
    index = {name: i for i, row in enumerate(centers) for name in row if name in rooms}
    for path in paths:
        first = index[path[0]]
        points = [
            (zero + centers[first + step][item], top + _PITCH * (first + step), item in rooms)
            for step, item in enumerate(path)
        ]
        parts = [f"M{points[0][0]:g} {points[0][1] + _HEIGHT:g}"]
        for (x0, y0, _), (x1, y1, is_room) in pairwise(points):
            start, end = y0 + _HEIGHT, y1 - (7 if is_room else 0)
            bend = (end - start) / 2
            parts.append(f"C{x0:g} {start + bend:g} {x1:g} {end - bend:g} {x1:g} {end:g}")
            if not is_room:
                parts.append(f"V{y1 + _HEIGHT:g}")
        yield f'<path class="arrow" d="{" ".join(parts)}"/>'
        yield f'<path class="head" d="M{points[-1][0]:g} {points[-1][1]:g} l-5 -9 h10 z"/>'
    for i, row in enumerate(centers):
        for name, center in row.items():
            if name in rooms:
                yield from _draw_room(rooms[name], zero + center, top + _PITCH * i)


def _draw_room(room: Room, center: float, top: float) -> Iterator[str]:
    yield (
        f'<rect class="room" x="{center - _WIDTH / 2:g}" y="{top:g}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="8"/>'
    )
    yield _text("name", center, top + 20, room.name)
    for line, text in enumerate(textwrap.wrap(room.purpose, 34)):
        yield _text("purpose", center, top + 37 + 14 * line, text)
    plural = "" if room.num_modules == 1 else "s"
    contents = f"{room.num_modules} module{plural}"
    if room.inner:
        names = ", ".join(room.inner)
        contents += f" · {names}" if len(names) < 20 else f" in {1 + len(room.inner)} folders"
    yield _text("soft", center, top + _HEIGHT - 7, contents)


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="middle">{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
