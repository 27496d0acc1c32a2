"""The reference of Python's names, made from what the packages export."""

import ast
from collections.abc import Iterator
from pathlib import Path

from website.settings import place_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("fourcastnet_afno", "data_pipeline")


def exports_of(package: str) -> dict[str, str]:
    """Full name of each public name of a package, read from its source without importing it."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    (table,) = (
        ast.literal_eval(keyword.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_loader.attach"
        for keyword in node.keywords
        if keyword.arg == "submod_attrs"
    )
    full = {name: f"{package}.{module}.{name}" for module in table for name in table[module]}
    return dict(sorted(full.items(), key=lambda pair: pair[0].lower()))


def page_of_package(package: str) -> str:
    """A page with the public names of a package, for mkdocstrings, as Markdown."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    purpose = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    lines = [f"# {package}", "", f"{purpose} Import these names from `{package}`.", ""]
    for name, full in exports_of(package).items():
        lines += [*_directive(name, full), ""]
    return "\n".join(lines)


def _directive(name: str, full: str) -> Iterator[str]:
    yield f"::: {full}"
    if place := place_of(name):  # a configuration
        yield "    options:"
        yield "      show_signature: false"
        yield "      members: false"
        yield ""
        yield f"Its fields, with types, defaults and bounds: [settings](../settings/{place})."
