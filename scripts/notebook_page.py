"""A notebook with its outputs as a page of the site."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat

PICTURES = {"image/png": "png", "image/gif": "gif"}
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def page(book: Path, folder: Path) -> str:
    """Markdown of a notebook; its pictures are written beside.

    Args:
        book: an executed notebook.
        folder: where the page will stand.

    Returns:
        text of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = nbformat.read(book, as_version=4).cells
    return "\n\n".join(part for at, cell in enumerate(cells) for part in _cell(cell, f"{book.stem}-{at}", folder)) + "\n"


def _cell(cell: nbformat.NotebookNode, name: str, folder: Path) -> list[str]:
    if cell.cell_type != "code":
        return [cell.source]
    outputs = [_output(output, f"{name}-{at}", folder) for at, output in enumerate(cell.outputs)]
    return [f"```python\n{cell.source}\n```", *filter(None, outputs)]


def _output(output: nbformat.NotebookNode, name: str, folder: Path) -> str:
    """A stream or a text as a block, a picture as a file."""
    if output.output_type == "stream":
        return _block(output.text) if output.name == "stdout" else ""
    for kind, suffix in PICTURES.items():
        if kind in output.data:
            (folder / f"{name}.{suffix}").write_bytes(base64.b64decode(output.data[kind]))
            return f"![Output of the cell above]({name}.{suffix})"
    return _block(output.data["text/plain"])


def _block(text: str) -> str:
    return f"```text\n{ESCAPE.sub('', text).rstrip()}\n```"
