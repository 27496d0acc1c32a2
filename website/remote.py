"""What pages load: everything must come from the site itself."""

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

_REMOTE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_LOADED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s;]+)", re.I)
_FOLLOWED_BY_PEOPLE = {("a", "href"), ("form", "action")}
_NOT_LOADED = {"canonical", "license", "next", "prev", "author", "alternate", "edit"}


class _Loads(HTMLParser):
    """Collects the addresses that a browser loads when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        relation = set(values.get("rel", "").split())
        for name, value in values.items():
            if name in ("href", "src", "srcset", "data", "poster", "action"):
                is_loaded = (tag, name) not in _FOLLOWED_BY_PEOPLE and not (
                    tag == "link" and relation & _NOT_LOADED
                )
                addresses = value.split(",") if name == "srcset" else [value]
                self.found += [a for a in addresses if is_loaded and _REMOTE.match(a)]
            if name == "style":
                self.found += _LOADED_BY_STYLE.findall(value)
        # The theme asks the forge for stars where a page names a repository.
        if values.get("data-md-component") == "source":
            self.found.append(values.get("href", ""))


def remote_addresses(site: Path) -> dict[str, list[str]]:
    """Addresses of other hosts that pages and styles of a built site load, by file."""
    found: dict[str, list[str]] = {}
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            page = _Loads()
            text = path.read_text(encoding="utf-8")
            page.feed(text)
            styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)
            addresses = page.found + _LOADED_BY_STYLE.findall("\n".join(styles))
        elif path.suffix == ".css":
            addresses = _LOADED_BY_STYLE.findall(path.read_text(encoding="utf-8"))
        else:
            addresses = []
        if addresses:
            found[path.relative_to(site).as_posix()] = addresses
    return found


def missing_anchors(page: str, anchors: Iterable[str]) -> list[str]:
    """Anchors that the HTML of a page lacks."""
    there = set(re.findall(r'\bid="([^"]+)"', page))
    return [anchor for anchor in anchors if anchor not in there]
