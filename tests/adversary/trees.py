"""Changes of JSON and YAML: keys that are lost, renamed or of another kind, and hostile text."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Path = tuple[Any, ...]
"""Keys and indices from the root of a tree to a value."""

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 7, 10**9, 10**12, -(10**12), 10**30, 0.5, -0.5, 1e-300, 1e308,
    float("nan"), float("inf"), float("-inf"), "", " ", "nan", "null", "1e9", "0x10", "[/x]",
    "[red]x", "\x1b[31mx", "two\nlines", "\u202eevil", "../up", "%s {} {0}", "9999-12-31",
    "2001-02-30", "0001-01-01", "-6h", "1e400h", "module:function", "file.py:Class", "x" * 5000,
    [], [None], [[]], [1, 2, 3], [-1, 0], [float("nan")], ["x", "x"], [[[[[[]]]]]], {}, {"a": 1},
    {"": {}}, {"nan": float("nan")},
]  # fmt: skip


def paths_of(tree: object, start: Path = ()) -> Iterator[Path]:
    """Paths to all values of a tree below its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if _is_list(tree) else ()
    for key, value in items:
        yield (*start, key)
        yield from paths_of(value, (*start, key))


def _is_list(tree: object) -> bool:
    return isinstance(tree, list)


def value_at(tree: Any, path: Path) -> Any:  # noqa: ANN401
    for key in path:
        tree = tree[key]
    return tree


def change_tree(tree: Any, random: random.Random, within: Path = ()) -> tuple[Any, Path, str]:  # noqa: ANN401
    """A tree with one change below ``within``; where it is, and what."""
    tree = copy.deepcopy(tree)
    path = random.choice(list(paths_of(value_at(tree, within), within)))
    parent, key = value_at(tree, path[:-1]), path[-1]
    old = parent[key]
    kind = random.choice(["drop", "rename", "value", "value", "value", "wrap", "shift", "swap"])
    if kind == "drop":
        del parent[key]
    elif kind == "rename" and isinstance(parent, dict):
        new = random.choice([f"{key}x", str(key).upper(), "", "[/x]", "\x1b[31m"])
        parent[new] = parent.pop(key)
        path = (*path[:-1], new, key)
    elif kind == "wrap":
        parent[key] = random.choice([[old], {"value": old}, str(old), [old, old]])
    elif kind == "swap":
        parent[key] = copy.deepcopy(value_at(tree, random.choice(list(paths_of(tree)))))
    elif kind == "shift" and isinstance(old, int | float) and not isinstance(old, bool):
        parent[key] = random.choice([-old, old + 1, old * 1e9, old / 3, old * 10**9])
    elif kind == "shift" and isinstance(old, str):
        parent[key] = random.choice([old[:-1], old + "x", old[::-1], old + "\0", old.upper()])
    else:
        parent[key] = random.choice(VALUES)
        kind = f"value {str(parent[key])[:40]!r}"
    return tree, path, f"{kind} at {'.'.join(map(str, path))}"


def _bomb(text: str) -> str:
    lines = ["bomb0: &b0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 10)]
    return text + "\n" + "\n".join(lines) + "\n"


TEXTS: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "null": lambda text: "null",
    "a list": lambda text: "[1, 2]",
    "a text": lambda text: '"text"',
    "a number": lambda text: "1",
    "an open bracket": lambda text: "{",
    "deep lists": lambda text: "[" * 100_000,
    "deep groups": lambda text: '{"a":' * 20_000,
    "a number of 5,000 digits": lambda text: '{"training": ' + "9" * 5_000 + "}",
    "not a number": lambda text: '{"training": NaN}',
    "bytes that are no text": lambda text: b"\xff\xfe" + text.encode(),
    "zeros": lambda text: b"\0" * 64,
    "surrogates": lambda text: '{"\\ud800": "\\udfff"}',
}
YAML_TEXTS: dict[str, Callable[[str], str | bytes]] = TEXTS | {
    "aliases of aliases": _bomb,
    "an alias of itself": lambda text: text + "\nloop: &loop [*loop]\n",
    "a python object": lambda text: '!!python/object/apply:os.system ["touch pwned"]',
    "a section twice": lambda text: text + "\n" + text,
    "two documents": lambda text: text + "\n---\n" + text,
    "tabs": lambda text: text.replace("  ", "\t"),
    "a key that is a list": lambda text: "? [a, b]\n: 1\n" + text,
    "a key that is a number": lambda text: "1: 2\n" + text,
    "a long list": lambda text: text + "\nlong: [" + "1, " * 500_000 + "1]\n",
    "an unknown tag": lambda text: "!unknown\n" + text,
}


def change_json(text: str, random: random.Random) -> tuple[str | bytes, Path, str]:
    """A JSON document with one change."""
    if random.random() < 0.15:
        name = random.choice(sorted(TEXTS))
        return TEXTS[name](text), (), name
    tree, path, what = change_tree(json.loads(text), random)
    return json.dumps(tree), path, what


def change_yaml(text: str, random: random.Random, within: Path = ()) -> tuple[Any, Path, str]:
    """A YAML document with one change, below ``within`` if its structure changes."""
    if random.random() < 0.15:
        name = random.choice(sorted(YAML_TEXTS))
        return YAML_TEXTS[name](text), (), name
    tree, path, what = change_tree(yaml.safe_load(text), random, within)
    return yaml.safe_dump(tree, sort_keys=False), path, what
