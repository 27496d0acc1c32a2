"""The site's places: which page a file of the project is, and the order of pages.

``docs/index.md`` is the one table of contents: its sections and links are the site's navigation.
"""

import json
import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/fourcastnet-afno/fourcastnet-afno/blob/main"
"""Where links to files go that are no pages."""
OF_THE_ROOT = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of files in the project's root."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#\s])")
_CODE_OR_LINK = re.compile(
    r"^```.*?^```|`[^`\n]+`"
    r"|(?P<name>(?<=\[)[\w/]+\.(?:md|ipynb))?\]\((?!\w+:)(?P<target>[^)#\s]+)(?=[)#\s])",
    re.DOTALL | re.MULTILINE,
)


def page_of(file: str) -> str | None:
    """Path of a file's page within the site; None if it has none.

    Args:
        file: Path from the project's root, such as ``docs/data.md``.
    """
    if file in OF_THE_ROOT:
        return OF_THE_ROOT[file]
    if file.startswith("docs/") and PurePosixPath(file).suffix in (".md", ".png", ".svg"):
        return file.removeprefix("docs/")
    return re.sub(r"\.ipynb$", ".md", file) if re.match(r"notebooks/\w+\.ipynb$", file) else None


def title_of(file: str) -> str:
    """The title of a document or a notebook, by its path from the project's root."""
    text = (ROOT / file).read_text()
    if file.endswith(".ipynb"):
        text = "".join(json.loads(text)["cells"][0]["source"])
    return text.partition("\n")[0].removeprefix("# ")


def with_links_of_the_site(text: str, file: str) -> str:
    """The text of a file with its links as they are between pages.

    Links with the name of a file have the title of its page instead.

    Args:
        text: Markdown.
        file: Path of the file from the project's root.
    """
    here = posixpath.dirname(page_of(file) or "")

    def moved(match: re.Match[str]) -> str:
        if match["target"] is None:  # code
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), match["target"]))
        page = page_of(target)
        text = title_of(target) if page and match["name"] else match["name"] or ""
        return f"{text}]({os.path.relpath(page, here or '.') if page else f'{REPOSITORY}/{target}'}"

    return _CODE_OR_LINK.sub(moved, text)


def navigation(index: str, reference: Iterable[Any]) -> list[Any]:
    """The navigation, as mkdocs wants it.

    Args:
        index: Text of ``docs/index.md``; each section's links in their order, and each page once.
        reference: Entries of the generated pages, which the section Reference holds.
    """
    seen, entries = {"index.md"}, [{"Home": "index.md"}]
    text = with_links_of_the_site(index, "docs/index.md")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        links = [link for link in _LINK.findall(body) if link.endswith(".md")]
        pages = [page for page in dict.fromkeys(links) if page not in seen]
        seen |= set(pages)
        if title == "Reference":
            entries.append({title: [*pages, *reference]})
        else:
            entries.append({title: pages[0] if len(pages) == 1 else pages})
    return entries
