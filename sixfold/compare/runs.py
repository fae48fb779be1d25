"""From a suite, or from runs that are there, to a report: train, score, judge, write.

OUT/runs/         a folder a training                     OUT/suite.yaml   the suite, with all defaults
OUT/scores/       a record and an exhibit a run, and those of the references
OUT/report.html   with report.md, .csv, .json, note.md and pictures/
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from sixfold import __version__
from sixfold.compare import note, table
from sixfold.compare.exhibit import Exhibit
from sixfold.compare.job import Job, Task
from sixfold.compare.note import Note, Setting, note_of
from sixfold.compare.outcome import Outcome
from sixfold.compare.pool import Watch, exhibit_path, run_all
from sixfold.compare.protocol import Ground, Protocol
from sixfold.compare.record import Record
from sixfold.compare.references import References
from sixfold.compare.report import write_report
from sixfold.compare.suite import GROUPS, Group, Suite
from sixfold.compare.table import View, views
from sixfold.core.errors import BadInput
from sixfold.evaluate.features import features_of
from sixfold.run.folder import RunFolder, write_text
from sixfold.run.training import Settings

ROWS = 10_000
"""Test data and samples that are scored, at most, unless said otherwise."""


@dataclass(frozen=True)
class Compared:
    """A finished comparison: what was found on each data set, its short tables, and the note."""

    outcomes: tuple[Outcome, ...]
    views: tuple[View, ...]
    note: Note


def compare_suite(
    suite: Suite, *, out: Path, workers: int, watch: Watch, features: Sequence[str] = (), command: str = ""
) -> Compared:
    """Train and score everything in a suite and write the report; what an earlier call has done already is taken as it is.

    Args:
        suite: what is compared.
        out: folder of the report and the runs.
        workers: trainings at once.
        watch: called with the progress of each training.
        features: further feature spaces, as ``dinov2=PATH``.
        command: that makes the same report again.

    Raises:
        BadInput: for unknown models, data or options, or a folder that holds another suite.
    """
    jobs = suite.jobs()
    for job in jobs:
        job.asked()
    protocols = {
        data: Protocol(data, suite.rows, suite.metrics, tuple(features), suite.near.get(data, ())) for data in suite.data
    }
    grounds = _grounds(protocols)
    _claim(out, suite)
    runs = [_train(out, job) for job in jobs]
    said = Setting(_budget(suite), machine(), workers, (command,))
    return _compare(runs, grounds, out=out, workers=workers, watch=watch, title=suite.title, setting=said)


def compare_runs(
    paths: Sequence[str | Path],
    *,
    out: Path,
    workers: int,
    watch: Watch,
    rows: int | None = None,
    metrics: Sequence[Group] = (),
    features: Sequence[str] = (),
) -> Compared:
    """Score trained runs on the test split of their data and write the report; runs that differ in their seed alone are one row.

    Args:
        paths: folders of runs.
        out: folder of the report.
        workers: scorings at once.
        watch: called with progress.
        rows: test data and samples that are scored, at most; 10,000 by default.
        metrics: groups of scores; all by default.
        features: further feature spaces.

    Raises:
        BadInput: when a folder holds no run.
    """
    if not paths:
        raise BadInput("no runs to compare; expected one or more folders, as `sixfold compare runs/a runs/b`, or --suite NAME.")
    folders = [RunFolder.open(path) for path in dict.fromkeys(map(Path, paths))]
    tasks = _tasks_of(folders, out)
    protocols = {t.data: Protocol(t.data, rows or ROWS, tuple(metrics) or GROUPS, tuple(features)) for t in tasks}
    said = Setting("", machine(), workers, ("sixfold compare " + " ".join(map(str, paths)),))
    return _compare(tasks, _grounds(protocols), out=out, workers=workers, watch=watch, title="Runs side by side", setting=said)


def _grounds(protocols: Mapping[str, Protocol]) -> dict[str, Ground]:
    """Every data set made ready, so that what cannot be read is known before anything is trained."""
    grounds = {data: Ground(protocol) for data, protocol in protocols.items()}
    for ground in grounds.values():
        ground.near()
        for name in ground.protocol.features:
            features_of(name, ground.dataset.spec, ground.protocol.data, ground.train)
    return grounds


def _claim(out: Path, suite: Suite) -> None:
    """Keep the suite in the folder; one that holds another suite, and not this one with more or fewer seeds, is left alone."""
    path, text = out / "suite.yaml", suite.to_yaml()
    if path.is_file() and _whatever_the_seeds(path.read_text(encoding="utf-8")) != _whatever_the_seeds(text):
        raise BadInput(f"{out} holds a comparison by another suite. Choose another folder with --out, or remove this one.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise BadInput(f"cannot write to {out}: {error.strerror}. Choose another folder with --out.") from None


def _whatever_the_seeds(text: str) -> dict[str, Any]:
    """What a suite's file says but for the number of trainings, each of which stands for itself."""
    return {key: value for key, value in yaml.safe_load(text).items() if key != "seeds"}


def _budget(suite: Suite) -> str:
    return " ".join(f"{value:g} {unit if value != 1 else unit[:-1]}" for unit, value in suite.budget.items())


def _train(out: Path, job: Job) -> Task:
    return Task(job.data, job.title, out / "scores" / job.stem, out / "runs" / job.stem, job, job.row)


def _tasks_of(folders: Sequence[RunFolder], out: Path) -> list[Task]:
    """Runs as tasks; those with equal settings but for the seed share a label."""
    labels: dict[str, str] = {}
    tasks = []
    for i, folder in enumerate(folders):
        settings = dict(folder.config()["settings"])
        settings.pop("seed", None)
        label = labels.setdefault(json.dumps(settings, sort_keys=True), _label(settings["model"], labels.values()))
        stem = Settings.stem_of(settings["data"], f"{label}-{i}")
        tasks.append(Task(settings["data"], f"{label} on {settings['data']}", out / "scores" / stem, folder.path, None, label))
    return tasks


def _label(model: str, taken: Iterable[str]) -> str:
    """The model's name, with a number where other settings of it have taken it."""
    twins = sum(known.partition(" ")[0] == model for known in taken)
    return f"{model} ({twins + 1})" if twins else model


def _compare(
    runs: Sequence[Task], grounds: Mapping[str, Ground], *, out: Path, workers: int, watch: Watch, title: str, setting: Setting
) -> Compared:
    """Score everything, references first, and write what was found."""
    references = [Task(data, f"references on {data}", out / "scores" / Settings.stem_of(data, "references")) for data in grounds]
    tasks = [*references, *runs]
    records = run_all([(task, grounds[task.data].protocol) for task in tasks], workers=workers, watch=watch)
    outcomes = tuple(_outcome(g, [r for r in records if r.data == data], tasks) for data, g in grounds.items())
    compared = Compared(outcomes, tuple(views(o)[0] for o in outcomes), note_of(outcomes, setting))
    _write(compared, out, title=title)
    return compared


def _outcome(ground: Ground, records: Sequence[Record], tasks: Sequence[Task]) -> Outcome:
    """What was found on one data set, with what is drawn of it."""
    data = ground.protocol.data
    runs = [t for t in tasks if t.data == data and t.folder is not None]
    places = {t.label: t.place for t in reversed(runs)}  # of several seeds the first is shown
    root = next(t.place for t in tasks if t.data == data and t.folder is None)
    places = {label: root / label.replace(" ", "-") for label in References.labels} | places
    exhibits = {label: Exhibit.read(path) for label, place in places.items() if (path := exhibit_path(place)).is_file()}
    curves: dict[str, list[list[dict[str, object]]]] = {}
    for task in runs:
        if task.folder is not None:
            curves.setdefault(task.label, []).append(RunFolder(task.folder).metrics())
    return Outcome(ground.dataset, records, exhibits, curves, ground.count, ground.fingerprint)


def _write(compared: Compared, out: Path, *, title: str) -> None:
    """The report in all its forms."""
    both = [views(outcome) for outcome in compared.outcomes]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_report(
            compared.outcomes, [short for short, _ in both], [whole for _, whole in both], compared.note, out, title=title
        )
        write_text(out / "report.md", "\n".join(table.markdown(short) for short, _ in both))
        write_text(out / "note.md", note.markdown(compared.note, title=title))
        write_text(out / "report.csv", _csv(compared.outcomes))
        write_text(out / "report.json", json.dumps([r.to_json() for o in compared.outcomes for r in o.records], indent=1) + "\n")
    except OSError as error:
        raise BadInput(f"cannot write the report to {out}: {error.strerror}. Choose another folder with --out.") from None


def _csv(outcomes: Sequence[Outcome]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(table.CSV_HEAD)
    rows.writerows(row for outcome in outcomes for row in table.long_rows(outcome))
    return text.getvalue()


def machine() -> str:
    """What the numbers were measured on."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{where}, sixfold {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
