"""Trained runs side by side, and the demonstration that trains them first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sixfold.compare.bench import SCORED, Bench
from sixfold.compare.pool import Job, Watch, run_all
from sixfold.compare.record import RunRecord
from sixfold.compare.report import Compared, write_report
from sixfold.compare.table import markdown_table
from sixfold.core.errors import BadInput
from sixfold.run.folder import RunFolder
from sixfold.run.training import Settings, load_run


def compare_runs(paths: Sequence[str | Path], *, out: Path, rows: int = SCORED) -> list[Compared]:
    """Score trained runs on the test split of their data and write ``report.html``, ``.png``, ``.md`` and ``.json``.

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
    folders = [RunFolder.open(path) for path in paths]
    compared = [_with_model(folder, bench, bench.score(folder)) for folder in folders]
    _write(compared, out, title="Runs side by side", subtitle=f"{len(compared)} trained models on their test data.",
           command="sixfold compare " + " ".join(map(str, paths)))  # fmt: skip
    return compared


def _with_model(folder: RunFolder, bench: Bench, record: RunRecord) -> Compared:
    return Compared(load_run(folder.path), bench.data_of(folder)[0], record, folder.path)


def _write(compared: Sequence[Compared], out: Path, *, title: str, subtitle: str, command: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_report(compared, out, title=title, subtitle=subtitle, command=command)
        (out / "report.md").write_text(markdown_table([c.record for c in compared]), encoding="utf-8")
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


def train_and_compare(
    jobs: Sequence[Job],
    *,
    out: Path,
    workers: int,
    resume: bool,
    watch: Watch,
    rows: int = SCORED,
    title: str,
    subtitle: str,
    command: str,
) -> list[Compared]:
    """Train every job and set them side by side.

    Args:
        jobs: what to train.
        out: folder of the report; each run has a folder in it.
        workers: trainings at once.
        resume: go on with the runs that are there rather than start new ones beside them.
        watch: called with the progress of each training.
        rows: test data and samples that are scored, at most.
        title: of the report.
        subtitle: of the report.
        command: that makes the same report again.
    """
    stems = [Settings.of(job.model, job.data, settings=job.settings).stem for job in jobs]
    folders = [RunFolder(out / stem) if resume else RunFolder.fresh(out, stem) for stem in stems]
    records = run_all(
        [(job, folder.path) for job, folder in zip(jobs, folders, strict=True)], workers=workers, watch=watch, rows=rows
    )
    bench = Bench(rows=rows)
    compared = [_with_model(folder, bench, record) for folder, record in zip(folders, records, strict=True)]
    _write(compared, out, title=title, subtitle=subtitle, command=command)
    return compared
