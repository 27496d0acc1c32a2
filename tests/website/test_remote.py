from pathlib import Path

import pytest

from website.remote import missing_anchors, remote_addresses

ADDRESS = "https://cdn.example.org/it"


@pytest.mark.parametrize(
    "html",
    [
        f'<script src="{ADDRESS}"></script>',
        f'<link rel="stylesheet" href="{ADDRESS}">',
        f'<link rel="preconnect" href="{ADDRESS}">',
        f'<img srcset="a.png 1x,{ADDRESS} 2x">',
        f'<iframe src="{ADDRESS}"></iframe>',
        f"<style>@import '{ADDRESS}';</style>",
        f'<p style="background: url({ADDRESS})">text</p>',
        '<img src="//cdn.example.org/it">',
        f'<a data-md-component="source" href="{ADDRESS}">stars</a>',
    ],
)
def test_what_a_browser_would_load_is_found(tmp_path: Path, html: str) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text(f"<html><body>{html}</body></html>")
    (found,) = remote_addresses(tmp_path)["page/index.html"]
    assert "cdn.example.org/it" in found


def test_styles_are_searched(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text(f'@font-face {{ src: url("{ADDRESS}") }}')
    assert remote_addresses(tmp_path) == {"a.css": [ADDRESS]}


@pytest.mark.parametrize(
    "html",
    [
        f'<a href="{ADDRESS}">a link for people</a>',
        f'<link rel="canonical" href="{ADDRESS}">',
        '<img src="data:image/png;base64,AAAA"><script src="a.js"></script>',
        f"<p>{ADDRESS}</p>",
    ],
)
def test_links_and_own_files_are_no_loads(tmp_path: Path, html: str) -> None:
    (tmp_path / "index.html").write_text(html)
    assert remote_addresses(tmp_path) == {}


def test_missing_anchors_are_named() -> None:
    assert missing_anchors('<h2 id="a.b">x</h2>', ["a.b", "a.c"]) == ["a.c"]
