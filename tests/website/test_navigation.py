from pathlib import Path

import pytest

from website.navigation import REPOSITORY, navigation, page_of, with_links_of_the_site

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "page"),
    [
        ("docs/data.md", "data.md"),
        ("docs/images/maps.png", "images/maps.png"),
        ("README.md", "overview.md"),
        ("notebooks/quickstart.ipynb", "notebooks/quickstart.md"),
        ("LICENSE", None),
        ("docs/draw_architecture.py", None),
    ],
)
def test_files_have_pages(file: str, page: str | None) -> None:
    assert page_of(file) == page


@pytest.mark.parametrize(
    ("file", "link", "moved"),
    [
        ("README.md", "docs/data.md", "data.md"),
        ("README.md", "docs/data.md#units", "data.md#units"),
        ("README.md", "#pdes", "#pdes"),
        ("README.md", "LICENSE", f"{REPOSITORY}/LICENSE"),
        ("README.md", "https://arxiv.org/abs/2111.13587", "https://arxiv.org/abs/2111.13587"),
        ("docs/index.md", "../README.md", "overview.md"),
        ("docs/index.md", "data.md", "data.md"),
        ("docs/data.md", "../notebooks/own_data.ipynb", "notebooks/own_data.md"),
        ("notebooks/quickstart.ipynb", "../docs/data.md", "../data.md"),
    ],
)
def test_links_lead_to_pages(file: str, link: str, moved: str) -> None:
    assert with_links_of_the_site(f"see [it]({link}).", file) == f"see [it]({moved})."


def test_names_of_files_become_titles() -> None:
    text = "[docs/data.md](docs/data.md#grib), [own_data.ipynb](notebooks/own_data.ipynb)"
    assert with_links_of_the_site(text, "README.md") == (
        "[Data: sources, names and rules](data.md#grib), [Your own data](notebooks/own_data.md)"
    )


@pytest.mark.parametrize("code", ["```python\nf[0](x)\n```", "`f[0](x)`"])
def test_code_has_no_links(code: str) -> None:
    assert with_links_of_the_site(f"a\n\n{code}\n", "README.md") == f"a\n\n{code}\n"


def test_the_index_is_the_navigation() -> None:
    two = "[a](a.md) [b](b.md#c)\n[r](../README.md)"
    index = f"# Title\n## One\n[a](a.md)\n## Two\n{two}\n## Reference\n"
    assert navigation(index, ["made"]) == [
        {"Home": "index.md"},
        {"One": "a.md"},
        {"Two": ["b.md", "overview.md"]},
        {"Reference": ["made"]},
    ]


def test_every_document_is_in_the_navigation() -> None:
    entries = navigation((ROOT / "docs" / "index.md").read_text(), [])
    values = [value for entry in entries for value in entry.values()]
    pages = {page for value in values for page in ([value] if isinstance(value, str) else value)}
    assert {page_of(f"docs/{path.name}") for path in (ROOT / "docs").glob("*.md")} <= pages
