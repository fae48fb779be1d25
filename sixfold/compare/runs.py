"""Trained runs side by side, and the demonstration that trains them first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sixfold.compare.record import Floor, floor_of, score_run
from sixfold.compare.report import Compared, write_report
from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput
from sixfold.run.folder import RunFolder
from sixfold.run.training import Settings, dataset_of, load_run, run
from sixfold.train.loop import OnStep

SCORED = 10_000


class Bench:
    """Data sets and their floors, each made once.

    Args:
        rows: test data whose likelihood is averaged, and samples whose distance is taken, at most.
    """

    def __init__(self, *, rows: int = SCORED) -> None:
        self.rows = rows
        self._made: dict[tuple[str, bool], tuple[Dataset, Floor]] = {}

    def __call__(self, data: str, *, conditional: bool) -> tuple[Dataset, Floor]:
        """The data set and what a perfect model would reach on it."""
        key = (data, conditional)
        if key not in self._made:
            dataset = dataset_of(data, conditional=conditional)
            self._made[key] = dataset, floor_of(dataset, count=min(self.rows, len(dataset.test)))
        return self._made[key]


def score_folder(folder: RunFolder, bench: Bench) -> Compared:
    """Score a run on the test split of the data that it was trained on."""
    settings = folder.config()["settings"]
    dataset, floor = bench(settings["data"], conditional=settings["conditional"])
    model = load_run(folder.path)
    seconds = next((row["seconds"] for row in reversed(folder.metrics()) if "seconds" in row), float("nan"))
    return Compared(model, dataset, score_run(model, dataset, seconds=seconds, floor=floor, rows=bench.rows), folder.path)


def compare_runs(paths: Sequence[str | Path], *, out: Path, rows: int = SCORED) -> list[Compared]:
    """Score trained runs on the test split of their data and write ``report.html``, ``report.png`` and ``report.json``.

    Args:
        paths: folders of runs.
        out: folder of the report.
        rows: test data and samples that are used, at most.

    Raises:
        BadInput: when a folder holds no run.
    """
    if not paths:
        raise BadInput("no runs to compare; expected one or more folders, as `sixfold compare runs/a runs/b`.")
    bench = Bench(rows=rows)
    compared = [score_folder(RunFolder.open(path), bench) for path in paths]
    _write(compared, out, title="Runs side by side", subtitle=f"{len(compared)} trained models on their test data.",
           command="sixfold compare " + " ".join(map(str, paths)))  # fmt: skip
    return compared


def _write(compared: Sequence[Compared], out: Path, *, title: str, subtitle: str, command: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_report(compared, out, title=title, subtitle=subtitle, command=command)
        (out / "report.json").write_text(json.dumps([_plain(c) for c in compared], indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot write the report to {out}: {error.strerror}. Choose another folder with --out.") from None


def _plain(one: Compared) -> dict[str, Any]:
    r = one.record
    known = r.likelihood
    likelihood = None if known is None else {
        "kind": known.kind.__name__, "nats": known.value, "stderr": known.stderr, "method": known.method,
        "count": known.count, "tolerance": known.tolerance,
    }  # fmt: skip
    return {
        "model": r.model, "data": r.data, "parameters": r.parameters, "train_seconds": r.seconds, "likelihood": likelihood,
        "above_best_nats": r.excess, "sliced_wasserstein": r.sliced, "sliced_wasserstein_real": r.floor.sliced,
        "seconds_per_1000_samples": r.sampling,
    }  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training of the demonstration."""

    model: str
    data: str
    settings: dict[str, Any] = field(default_factory=dict)


Progress = Callable[[str], AbstractContextManager[OnStep]]


def demo(jobs: Sequence[Job], *, out: Path, progress: Progress) -> list[Compared]:
    """Train every job and set them side by side.

    Args:
        jobs: what to train.
        out: folder of the report; each run has a folder in it.
        progress: makes the watcher of one training from its title.
    """
    bench = Bench()
    compared = []
    for i, job in enumerate(jobs):
        settings = Settings.of(job.model, job.data, settings=job.settings)
        dataset, _ = bench(job.data, conditional=False)
        folder = RunFolder.fresh(out, settings.stem)
        with progress(f"{i + 1}/{len(jobs)} {job.model} on {job.data}") as watch:
            run(settings, dataset, folder, resume=False, watch=watch)
        compared.append(score_folder(folder, bench))
    _write(compared, out, title="Six families, side by side",
           subtitle="One model of each family, trained in seconds on scikit-learn's digits (real 8x8 images) and on two moons.",
           command="make demo")  # fmt: skip
    return compared
