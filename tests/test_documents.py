"""Links, files, settings and commands that the documents name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
DOCUMENTS = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").glob("*.md"))]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a document, as Git forges make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_files_and_modules_that_are_named_exist(path: Path) -> None:
    text = path.read_text()
    tops = "fourcastnet_afno|data_pipeline|configs|scripts|benchmarks|tests|docs"
    files = re.findall(rf"(?<![\w/.])((?:{tops})/[\w./-]+\.(?:py|yaml|sh|md|svg))", text)
    missing = [
        file for file in files if not (ROOT / file).exists() and not re.search(r"[A-Z]{4}", file)
    ]
    modules = re.findall(r"python -m ((?:fourcastnet_afno|benchmarks)[\w.]*)", text)
    for module in modules:
        base = ROOT / module.replace(".", "/")
        missing += (
            [] if base.with_suffix(".py").exists() or (base / "__main__.py").exists() else [module]
        )
    assert missing == []


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_a_document_opens_with_a_paragraph(path: Path) -> None:
    title, _, rest = path.read_text().partition("\n\n")
    assert title.startswith("# ")
    assert re.match(r"[A-Z`]", rest), "the first paragraph says who should read the page"
