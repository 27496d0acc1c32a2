"""What mkdocs loads; it runs as a program, for which the project's root is not importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from website.building import on_config, on_files, on_page_markdown, on_post_build

__all__ = ["on_config", "on_files", "on_page_markdown", "on_post_build"]
