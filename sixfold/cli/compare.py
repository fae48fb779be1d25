"""``sixfold compare RUN...``, ``sixfold compare --suite NAME`` and ``sixfold evaluate RUN``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sixfold.cli.parse import flag, parse, positional
from sixfold.compare.runs import Compared, compare_runs, compare_suite
from sixfold.compare.suite import GROUPS, Group, Suite, read_suite, shipped
from sixfold.compare.table import terminal
from sixfold.core.errors import BadInput
from sixfold.core.signature import Count
from sixfold.train.progress import Bars

_WORKERS = min(2, os.cpu_count() or 1)


def _print(compared: Compared, out: Path) -> int:
    console = Console(width=None if sys.stdout.isatty() else 200)
    for view in compared.views:
        console.print(terminal(view))
        for line in compared.note.findings[view.data]:
            console.print(f"- {line}", highlight=False, markup=False)
        console.print()
    for line in compared.note.not_comparable:
        console.print(f"- {line}", highlight=False, markup=False)
    console.print(f"{out / 'report.html'}", highlight=False)
    return 0


def compare(arguments: Sequence[str]) -> int:
    """Train the models of a suite, or take trained runs, score them under one protocol and write a report."""
    fields = [
        positional("runs", tuple[Path, ...], "folders of trained runs; none with --suite"),
        flag("suite", str | None, None, f"what to train and compare: {', '.join(shipped())}, or a YAML file"),
        flag("out", Path | None, None, "folder of the report; by default runs/SUITE, or runs/compare"),
        flag("data", tuple[str, ...], (), "data sets in place of the suite's"),
        flag("seeds", Count | None, None, "trainings of each model, in place of the suite's number"),
        *_shared(),
    ]
    values = parse(arguments, fields, prog="sixfold compare", description="Score models under one protocol, side by side.")
    if values["suite"] and values["runs"]:
        raise BadInput("got folders of runs and --suite; expected one of them.")
    out = values["out"] or Path("runs") / (Path(values["suite"]).stem if values["suite"] else "compare")
    with Bars() as bars:
        how = {"out": out, "workers": values["workers"], "watch": bars, "features": values["features"]}
        if values["suite"] is None:
            found = compare_runs(values["runs"], rows=values["rows"], metrics=values["metrics"], **how)
        else:
            command = " ".join(["sixfold compare", *_again(values)])
            found = compare_suite(_changed(read_suite(values["suite"]), values), command=command, **how)
    return _print(found, out)


def _shared() -> list[tuple[str, Any, Any]]:
    return [
        flag("rows", Count | None, None, "test data and samples that are scored, at most"),
        flag("metrics", tuple[Group, ...], (), f"groups of scores: {', '.join(GROUPS)}"),
        flag("features", tuple[str, ...], (), "further feature spaces: inception=PATH, dinov2=PATH"),
        flag("workers", Count, _WORKERS, "models at once; the cores are shared out among them"),
    ]


def _changed(suite: Suite, values: Mapping[str, Any]) -> Suite:
    """The suite with what the command line replaces."""
    return replace(suite, **{k: values[k] for k in ("data", "seeds", "rows", "metrics") if values[k]})


def _again(values: Mapping[str, Any]) -> list[str]:
    """Words of the command that makes the same report."""
    words = ["--suite", str(values["suite"])]
    for name in ("data", "seeds", "rows", "metrics", "features"):
        given = values[name]
        if given:
            words += [f"--{name}", *(map(str, given) if isinstance(given, tuple) else [str(given)])]
    return words


def evaluate(arguments: Sequence[str]) -> int:
    """Score one trained model, beside the references of its data."""
    fields = [
        positional("run", Path, "folder of a trained run"),
        flag("out", Path | None, None, "folder of the report; by default `evaluation` in the run's folder"),
        *_shared(),
    ]
    values = parse(arguments, fields, prog="sixfold evaluate", description="Score one trained model beside references.")
    out = values["out"] or values["run"] / "evaluation"
    with Bars() as bars:
        found = compare_runs(
            [values["run"]], out=out, workers=values["workers"], watch=bars, rows=values["rows"], metrics=values["metrics"],
            features=values["features"],
        )  # fmt: skip
    return _print(found, out)
