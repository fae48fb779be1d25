"""``sixfold compare RUN...`` and ``sixfold demo``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sixfold.cli.parse import flag, parse, positional
from sixfold.compare.report import Compared
from sixfold.compare.table import HIGHER, implied, terminal_table
from sixfold.core.signature import Count


def _print(compared: Sequence[Compared], out: Path) -> int:
    records = [c.record for c in compared]
    width = None if sys.stdout.isatty() else 200
    console = Console(width=width)
    console.print(terminal_table(records))
    said = [line for line in implied(records) if HIGHER in line]
    console.print(
        *(said or ["No likelihood here is implied to be higher than another; the report says why."]), sep="\n", highlight=False
    )
    console.print(f"{out / 'report.html'}", highlight=False)
    return 0


def compare(arguments: Sequence[str]) -> int:
    """Score trained runs and set them side by side."""
    from sixfold.compare.bench import SCORED
    from sixfold.compare.runs import compare_runs

    fields = [
        positional("runs", tuple[Path, ...], "folders of trained runs"),
        flag("out", Path, Path("runs/compare"), "folder of the report"),
        flag("rows", Count, SCORED, "test data and samples that are used, at most"),
    ]
    values = parse(arguments, fields, prog="sixfold compare", description="Set trained runs side by side on their test data.")
    return _print(compare_runs(values["runs"], out=values["out"], rows=values["rows"]), values["out"])


def demo(arguments: Sequence[str]) -> int:
    """Train all six families and compare them."""
    from sixfold.compare.demo import DATA, jobs
    from sixfold.compare.runs import train_and_compare
    from sixfold.train.progress import Bars

    fields = [
        flag("out", Path, Path("runs/demo"), "folder of the report and the runs"),
        flag("data", tuple[str, ...], DATA, "data sets"),
        flag("workers", Count, min(2, os.cpu_count() or 1), "trainings at once; the cores are shared out among them"),
        flag("resume", bool, False, "go on with the runs in --out rather than start new ones beside them"),
    ]
    values = parse(arguments, fields, prog="sixfold demo", description="All six families on two moons and digits.")
    words = [] if values["data"] == DATA else ["--data", *values["data"]]
    with Bars() as bars:
        compared = train_and_compare(
            jobs(values["data"]),
            out=values["out"],
            workers=values["workers"],
            resume=values["resume"],
            watch=bars,
            title="Six families, side by side",
            subtitle=f"One model of each family, trained by its own recipe on {' and '.join(values['data'])}.",
            command=" ".join(["sixfold demo", *words]),
        )
    return _print(compared, values["out"])
