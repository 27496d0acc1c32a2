"""Notebooks as pages of the site.

They are stored without outputs. ``python -m website.notebooks`` runs them and keeps the executed
copies in ``build/notebooks``; pages show their outputs as long as the code is the same.
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STORED = ROOT / "notebooks"
EXECUTED = ROOT / "build" / "notebooks"
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
_MOST_SECONDS = 600


def page_of_notebook(path: Path, executed: Path = EXECUTED) -> str:
    """A notebook as Markdown, with the outputs of its executed copy if that has the same code.

    Args:
        path: The notebook.
        executed: Folder of executed copies.
    """
    cells, copy = _cells(path), executed / path.name
    outputs: list[list[Any]] = [[] for _ in cells]
    if copy.exists() and [_source(cell) for cell in _cells(copy)] == [_source(c) for c in cells]:
        outputs = [cell.get("outputs", []) for cell in _cells(copy)]
    parts = []
    for cell, shown in zip(cells, outputs, strict=True):
        if cell["cell_type"] == "markdown":
            parts.append(_source(cell))
        else:
            parts += [f"```python\n{_source(cell)}\n```", *_outputs(shown)]
    title, rest = parts[0].split("\n", 1)
    link = f"This page is the notebook `notebooks/{path.name}`, which you can run yourself."
    return "\n\n".join([title, rest.strip(), link, *parts[1:], ""])


def _cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"]).strip()


def _outputs(outputs: list[dict[str, Any]]) -> Iterator[str]:
    """Texts and pictures that a cell has printed; of a table its text."""
    text = ""
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            picture = "".join(data["image/png"]).replace("\n", "")
            label = html.escape("".join(data.get("text/plain", "picture")))
            yield f'<img alt="{label}" src="data:image/png;base64,{picture}">'
        else:
            text += "".join(output.get("text", data.get("text/plain", "")))
    if text.strip():
        yield f'<pre class="output" tabindex="0">{html.escape(_as_on_screen(text))}</pre>'


def _as_on_screen(text: str) -> str:
    """Text as a terminal shows it: without escapes, and with the last form of each line."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines).strip("\n")


def execute(path: Path, folder: Path) -> Any:  # noqa: ANN401
    """Run a notebook from top to bottom in a process and a folder of its own.

    Args:
        path: The notebook.
        folder: Working folder, in which it writes.

    Returns:
        The notebook with outputs.

    Raises:
        CellExecutionError: If a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=_MOST_SECONDS,
        startup_timeout=_MOST_SECONDS,  # where the machine is busy
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


def main() -> None:
    """Run all notebooks for the site."""
    import tempfile

    import nbformat

    EXECUTED.mkdir(parents=True, exist_ok=True)
    for path in sorted(STORED.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(path, Path(folder)), EXECUTED / path.name)


if __name__ == "__main__":
    main()
