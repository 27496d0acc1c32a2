"""The house rules that a program can check, see CONTRIBUTING.md."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fourcastnet_afno", "data_pipeline")
# Places of version 0.1, which only import.
FORMER = {
    "fourcastnet_afno/autoregression.py",
    "fourcastnet_afno/evaluation/climatologies.py",
    "fourcastnet_afno/experiment.py",
    "data_pipeline/pde.py",
}
MOST_LINES = 500
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def defined(module: ast.Module) -> Iterator[str]:
    """Names of functions, classes and constants at the top of a module."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_a_public_name_is_defined_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for public in {n for n in defined(parse(path)) if not n.startswith("_")}:
            places[public].append(name(path))
    assert {key: files for key, files in places.items() if len(files) > 1} == {}


def returns_bool(node: ast.AST) -> bool:
    """Whether a function's annotation promises a boolean, or a decision on one."""
    return isinstance(node, ast.FunctionDef) and "bool" in ast.unparse(node.returns or node)


def test_docstrings_open_with_a_verb_or_a_noun() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    wrong = []
    for path in MODULES:
        for node in ast.walk(parse(path)):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            opening = (text or "_").split(maxsplit=1)[0]
            if opening in {"What", "Of", "Those", "By"} or (
                opening == "Whether" and not returns_bool(node)
            ):
                wrong.append(f"{name(path)}: {(text or '').splitlines()[0]}")
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_short_and_have_a_test_file_of_their_name(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES
    if path.name.startswith("__") or name(path) in FORMER:
        return
    test = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
    assert test.exists(), f"{name(path)} has no {name(test)}"
    assert re.search(r"^ *def test_", test.read_text(), re.MULTILINE)


def private_assignments(tree: ast.Module) -> Iterator[str]:
    """Assignments to private attributes of anything but ``self``, and patches of them."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in (part for whole in targets for part in ast.walk(whole)):
            private = isinstance(target, ast.Attribute) and re.match(r"_[^_]", target.attr)
            if private and not ast.unparse(target).startswith("self."):
                yield ast.unparse(target)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            texts = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
            yield from (text for text in texts[:1] if re.match(r"(.*\.)?_[^_]", text))


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_test_assigns_private_attributes(path: Path) -> None:
    text = path.read_text()
    assert list(private_assignments(ast.parse(text))) == []
    # Programs that tests run in processes of their own stand in strings.
    assert re.findall(r"^\s*(?!self\b)\w[\w.]*\._[a-z]\w* = ", text, re.MULTILINE) == []


def test_folders_have_few_modules_and_a_purpose() -> None:
    for package in PACKAGES:
        for folder in (ROOT / package).rglob("__init__.py"):
            siblings = [p for p in folder.parent.glob("*.py") if p.name != "__init__.py"]
            assert len(siblings) <= 16, name(folder.parent)
            assert ast.get_docstring(parse(folder)), f"{name(folder)} says not what it holds"


def test_scripts_are_shell_scripts() -> None:
    assert {path.suffix for path in (ROOT / "scripts").iterdir()} == {".sh"}


PRINTING = "data_pipeline/terminal.py"
# Their documents are JSON, a script and help, which hold nothing of others, or its ``repr``.
PRINTS = {"fourcastnet_afno/doctor/doctor.py": 1, "fourcastnet_afno/cli/main.py": 2}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_what_is_printed_goes_through_one_module(path: Path) -> None:
    """Elsewhere nothing prints, and nothing makes texts and tables that could read markup."""
    if name(path) == PRINTING:
        return
    found, prints = [], 0
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module in ("rich.table", "rich.markup"):
            found.append(node.module)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            prints += called == "print"
            is_text = called == "Text" and not isinstance(node.args[0], ast.IfExp)
            if called in ("Console", "Text.from_markup") or called.endswith(".print") or is_text:
                found.append(called)
            if called == "TextColumn" and "markup=False" not in ast.unparse(node):
                found.append(called)
    assert found == []
    assert prints == PRINTS.get(name(path), 0)
