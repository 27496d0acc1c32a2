"""Events of mkdocs: pages made from the code, the navigation, links, and checks of the result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.api import PACKAGES, exports_of, page_of_package
from website.command_line import page_of_verbs
from website.navigation import OF_THE_ROOT, navigation, page_of, with_links_of_the_site
from website.notebooks import STORED, page_of_notebook
from website.remote import missing_anchors, remote_addresses
from website.settings import groups_of_section, page_of_settings, sections

ROOT = Path(__file__).parents[1]
_VERBS = "reference/command_line.md"
_REFERENCE = [
    {"Command line": _VERBS},
    {"Settings": [{name: f"reference/settings/{name}.md"} for name in sections()]},
    {"Python": [{package: f"reference/python/{package}.md"} for package in PACKAGES]},
]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation."""
    config.nav = navigation((ROOT / "docs" / "index.md").read_text(), _REFERENCE)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of ``docs``."""
    for path, text in _generated_pages():
        files.append(File.generated(config, path, content=text))
    return files


def _generated_pages() -> Iterator[tuple[str, str]]:
    """Path and text of each page from the root, the notebooks and the code."""
    for file, page in OF_THE_ROOT.items():
        yield page, with_links_of_the_site((ROOT / file).read_text(), file)
    for path in sorted(STORED.glob("*.ipynb")):
        file = f"notebooks/{path.name}"
        yield str(page_of(file)), with_links_of_the_site(page_of_notebook(path), file)
    yield _VERBS, page_of_verbs()
    for name in sections():
        yield f"reference/settings/{name}.md", page_of_settings(name)
    for package in PACKAGES:
        yield f"reference/python/{package}.md", page_of_package(package)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Change the links of a page of ``docs`` to those between pages."""
    if page.is_homepage:  # it has no neighbors to list
        page.meta["hide"] = ["navigation"]
    if page.file.generated_by:
        return markdown
    return with_links_of_the_site(markdown, f"docs/{page.file.src_uri}")


def on_post_build(config: MkDocsConfig) -> None:
    """Check that the site loads nothing from elsewhere, and that its reference is complete.

    Raises:
        PluginError: If it does, or is not.
    """
    site = Path(config.site_dir)
    faults = [f"{page} loads {address}" for page, address in remote_addresses(site).items()]
    wanted = {
        f"settings/{name}": [
            setting.name for group in groups_of_section(name) for setting in group.settings
        ]
        for name in sections()
    } | {f"python/{package}": [*exports_of(package).values()] for package in PACKAGES}
    for page, anchors in wanted.items():
        text = (site / "reference" / page / "index.html").read_text(encoding="utf-8")
        faults += [f"reference/{page} lacks {anchor}" for anchor in missing_anchors(text, anchors)]
    if faults:
        raise PluginError("\n".join(faults))
