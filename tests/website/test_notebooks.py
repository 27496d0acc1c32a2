import json
import re
from pathlib import Path
from typing import Any

import pytest

from website.notebooks import STORED, execute, page_of_notebook

NOTEBOOKS = sorted(STORED.glob("*.ipynb"))
INDEX = (STORED.parent / "docs" / "index.md").read_text()


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def stem(path: Path) -> str:
    return path.stem


def notebook(path: Path, outputs: list[Any], code: str = "print(1)") -> Path:
    cell = {"cell_type": "code", "source": [code], "outputs": outputs}
    title = {"cell_type": "markdown", "source": ["# Title\n", "\n", "Read this."]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": [title, cell]}))
    return path


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "text": [text]}


def test_a_page_has_text_and_code(tmp_path: Path) -> None:
    page = page_of_notebook(notebook(tmp_path / "a.ipynb", []), tmp_path / "none")
    assert page.startswith("# Title\n\nRead this.\n\n")
    assert "`notebooks/a.ipynb`" in page
    assert page.endswith("```python\nprint(1)\n```\n\n")


def test_a_page_shows_outputs_of_the_executed_copy(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", [])
    picture = {"data": {"image/png": "QUJD\n", "text/plain": ["<Figure>"]}}
    notebook(tmp_path / "run" / "a.ipynb", [printed("a < b\n"), picture])
    page = page_of_notebook(path, tmp_path / "run")
    assert '<pre class="output" tabindex="0">a &lt; b</pre>' in page
    assert '<img alt="&lt;Figure&gt;" src="data:image/png;base64,QUJD">' in page


def test_outputs_of_other_code_are_not_shown(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", [])
    notebook(tmp_path / "run" / "a.ipynb", [printed("old")], code="print('old')")
    assert "output" not in page_of_notebook(path, tmp_path / "run")


def test_output_is_shown_as_a_terminal_shows_it(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", [])
    text = "\x1b[?25l10 %\r50 %\r100 %\n\x1b[31mdone\x1b[0m\n"
    notebook(tmp_path / "run" / "a.ipynb", [printed(text)])
    page = page_of_notebook(path, tmp_path / "run")
    assert '<pre class="output" tabindex="0">100 %\ndone</pre>' in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_notebooks_are_stored_without_outputs_and_say_who_should_read_them(path: Path) -> None:
    title, *others = cells(path)
    assert re.match(r"# .*\n\nRead this notebook when ", "".join(title["source"]))
    for cell in others:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert "".join(others[-1]["source"]).startswith("## Next\n")
    assert f"(../notebooks/{path.name})" in INDEX


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_links_of_notebooks_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert (STORED / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_notebooks_run_and_print_plain_text(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel and nbclient")
    executed = execute(path, tmp_path)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert {"stream", "display_data"} <= {output.output_type for output in outputs}
    texts = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "\x1b" not in texts  # what moves the cursor of a terminal
    assert "Traceback" not in texts
    assert "Warning" not in texts
