"""The course: every stage runs as a script, and the notebooks that are shown are those of the scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "scripts"))

import make_notebooks  # noqa: E402
import notebook_page  # noqa: E402

STAGES = make_notebooks.stages()


def sources(book):
    return [(cell.cell_type, cell.source) for cell in book.cells]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_as_a_script_in_its_fast_mode(stage, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-W", "error", STAGES[stage]],
        env={**os.environ, "SIXFOLD_COURSE": "fast", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert not list(tmp_path.iterdir()), "a stage leaves files behind"


@pytest.mark.parametrize("stage", STAGES)
def test_the_notebook_is_that_of_the_script_and_ran_without_an_error(stage):
    shown = nbformat.read(STAGES[stage].with_suffix(".ipynb"), as_version=4)
    written = make_notebooks.source(STAGES[stage])
    assert [(c.cell_type, c.source) for c in shown.cells] == [(c.cell_type, c.source) for c in written.cells], (
        "run `make notebooks`"
    )
    code = [c for c in shown.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not [o for c in code for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_the_notebooks_are_small():
    assert sum(p.stat().st_size for p in make_notebooks.COURSE.glob("*.ipynb")) < make_notebooks.LIMIT


def test_a_notebook_becomes_a_page(tmp_path):
    dot = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="\x1b[1m3\x1b[0m\n"),
        nbformat.v4.new_output("stream", name="stderr", text="noise"),
        nbformat.v4.new_output("display_data", data={"image/gif": dot, "text/plain": "<Image>"}),
        nbformat.v4.new_output("execute_result", data={"text/plain": "4"}),
    ]
    cells = [nbformat.v4.new_markdown_cell("# A title"), nbformat.v4.new_code_cell("print(3)", outputs=outputs)]
    book = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), book)
    text = notebook_page.page(book, tmp_path / "pages")
    picture = "![Output of the cell above](x-1-2.gif)"
    assert text == f"# A title\n\n```python\nprint(3)\n```\n\n```text\n3\n```\n\n{picture}\n\n```text\n4\n```\n"
    assert (tmp_path / "pages" / "x-1-2.gif").read_bytes().startswith(b"GIF89a")
