"""Runs the course in full and writes its notebooks with their outputs: notebooks/*.py to notebooks/*.ipynb.

The sources are percent scripts, which jupytext reads. Each runs in a kernel of its own, in the repository's root, with
the threads that the machine has. Outputs keep no times or machine names, so that a second run differs by its numbers alone.

Run: python scripts/make_notebooks.py [stage1_energy ...]        (`make notebooks` does all of them)
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parent.parent
COURSE = ROOT / "notebooks"
LIMIT = 6_000_000  # bytes of all notebooks together, so that a clone stays small


def stages() -> dict[str, Path]:
    """Sources by name, in the order of the course."""
    return {p.stem: p for p in sorted(COURSE.glob("stage*.py"))}


def source(path: Path) -> nbformat.NotebookNode:
    """The notebook of a script, without outputs; cells are numbered rather than named at random."""
    book: nbformat.NotebookNode = jupytext.read(path, fmt="py:percent")
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {}
    return book


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs.

    Raises:
        CellExecutionError: when a cell fails.
    """
    book = source(path)
    client = NotebookClient(book, timeout=900, resources={"metadata": {"path": str(ROOT)}}, record_timing=False)
    client.execute()
    return book


def main() -> int:
    """Run the stages that are named, or all."""
    parser = argparse.ArgumentParser(description="Run the course and write its notebooks.")
    parser.add_argument("stages", nargs="*", help="names of scripts without .py; all by default")
    chosen = parser.parse_args().stages or [*stages()]
    if unknown := [name for name in chosen if name not in stages()]:
        parser.error(f"no stage is called {unknown[0]!r}; expected one of {', '.join(stages())}")
    for name in chosen:
        began = time.monotonic()
        try:
            book = executed(stages()[name])
        except CellExecutionError as error:
            print(f"{name}: a cell failed\n{error}", file=sys.stderr)
            return 1
        target = COURSE / f"{name}.ipynb"
        nbformat.write(book, target)
        print(f"{name}: {time.monotonic() - began:.0f} s, {target.stat().st_size / 1e6:.2f} MB", flush=True)
    total = sum(p.stat().st_size for p in COURSE.glob("*.ipynb"))
    if total > LIMIT:
        got, most = f"{total / 1e6:.1f} MB", f"{LIMIT / 1e6:.0f} MB"
        print(f"got {got} of notebooks together; expected at most {most}: make pictures smaller", file=sys.stderr)
    return int(total > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
