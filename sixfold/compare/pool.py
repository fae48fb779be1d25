"""Trainings and scorings in processes of their own, as many at once as there are cores; a single worker is this process.

Small networks gain nothing from a second thread. What a process has done stands in files at once, a record and an exhibit a
model: a comparison that is stopped goes on from them.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, TypeAlias

import torch

from sixfold.compare.exhibit import Exhibit
from sixfold.compare.job import Task
from sixfold.compare.protocol import Ground, Protocol
from sixfold.compare.record import Record, read_record, write_record
from sixfold.compare.references import Reference, References
from sixfold.compare.score_model import excess, score_model
from sixfold.compare.score_samples import score_samples
from sixfold.core.errors import SixfoldError
from sixfold.evaluate.likelihood import likelihood_score
from sixfold.run.folder import RunFolder
from sixfold.run.training import dataset_of, load_run, run
from sixfold.train.checkpoint import FILE
from sixfold.train.progress import Progress

Watch = Callable[[str, Progress], None]
Said: TypeAlias = "tuple[str, Progress] | None"

_tell: Watch | None = None


def _begin(said: Queue[Said], threads: int) -> None:
    """Start of a process: where it reports to, and its share of the cores."""
    global _tell

    def tell(title: str, progress: Progress) -> None:
        said.put((title, progress))

    _tell = tell
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a process of a pool"
    parent.join()
    os._exit(1)


def _say(title: str, progress: Progress) -> None:
    """Report to who watches."""
    assert _tell is not None, "started with nobody to tell"
    _tell(title, progress)


@cache
def _ground(protocol: Protocol) -> Ground:
    """The data set of a protocol, made ready once a process."""
    return Ground(protocol)


def record_path(place: Path) -> Path:
    """Where the record stands."""
    return place.with_name(place.name + ".json")


def exhibit_path(place: Path) -> Path:
    """Where the exhibit stands."""
    return place.with_name(place.name + ".safetensors")


def _work(task: Task, protocol: Protocol) -> list[Record]:
    """What one task comes to: the record of a model, or those of the references."""
    try:
        return _references(task, protocol) if task.folder is None else [_model(task, task.folder, protocol)]
    except KeyboardInterrupt as stopped:  # as the plain class, which alone survives the way back to the parent
        raise KeyboardInterrupt(str(stopped)) from None


def _model(task: Task, folder: Path, protocol: Protocol) -> Record:
    """The record of a run, which is trained first where there is a job."""
    record = Record(task.label, task.data, model="?")
    try:
        if task.job is not None:
            record = replace(record, model=task.job.model, seed=task.job.seed)
            _train(task, folder)
        return _scored(task, folder, protocol)
    except SixfoldError as error:
        return replace(record, failed=str(error))


def _train(task: Task, folder: Path) -> None:
    assert task.job is not None
    settings = task.job.asked()
    dataset = dataset_of(task.data, conditional=False)
    run(settings, dataset, RunFolder(folder), resume=folder.exists(), watch=partial(_say, task.title))


def _scored(task: Task, path: Path, protocol: Protocol) -> Record:
    """The record of a trained run: the one that is there when it is of the same checkpoint and protocol, else a new one."""
    folder = RunFolder.open(path)
    asked = {**protocol.to_json(), "checkpoint": _digest(path / FILE)}
    kept = read_record(record_path(task.place), protocol=asked)
    if kept is not None and exhibit_path(task.place).is_file():
        return replace(kept, label=task.label)
    settings, rows = folder.config()["settings"], folder.metrics()
    seconds = next((row["seconds"] for row in reversed(rows) if "seconds" in row), None)
    seed = int(settings.get("seed", 0))
    _say(f"scoring {task.title}", Progress(0, None, 0.0, {}))
    found = score_model(_ground(protocol), load_run(path), seconds=seconds, seed=seed)
    _say(f"scoring {task.title}", Progress(0, None, 1.0, {}))
    record = Record(task.label, task.data, settings["model"], seed, found.scores, found.likelihood, facts=_facts(rows))
    task.place.parent.mkdir(parents=True, exist_ok=True)
    found.exhibit.write(exhibit_path(task.place))
    write_record(record, record_path(task.place), protocol=asked)
    return record


def _facts(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What the log of a run says beside its numbers."""
    best = [row for row in rows if row.get("best")]
    steps = {"steps": f"{rows[-1]['step']:,}"} if rows else {}
    return steps | {"chosen": f"best validation, at step {best[-1]['step']:,}" if best else "last"}


def _digest(path: Path) -> str:
    """Which checkpoint it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]


def _references(task: Task, protocol: Protocol) -> list[Record]:
    """The records of the references of a data set."""
    ground = _ground(protocol)
    asked = {**protocol.to_json(), "split": ground.fingerprint}
    made = References(ground.dataset, ground.count)
    places = {label: task.place / label.replace(" ", "-") for label in made.labels}
    kept = {label: read_record(record_path(place), protocol=asked) for label, place in places.items()}
    if all(record is not None and exhibit_path(places[label]).is_file() for label, record in kept.items()):
        return [record for record in kept.values() if record is not None]
    records = []
    for done, reference in enumerate(made.all(), 1):
        record = _reference(ground, reference)
        task.place.mkdir(parents=True, exist_ok=True)
        Exhibit(reference.samples[: 100 if ground.dataset.spec.is_image else 2000].clone()).write(
            exhibit_path(places[reference.label])
        )
        write_record(record, record_path(places[reference.label]), protocol=asked)
        records.append(record)
        _say(task.title, Progress(done, len(made.labels), done / len(made.labels), {}))
    return records


def _reference(ground: Ground, reference: Reference) -> Record:
    scores = score_samples(ground, reference.samples, train=reference.train)
    if reference.log_prob is None or "likelihood" not in ground.protocol.metrics:
        return Record(reference.label, ground.protocol.data, scores=scores)
    found, truth = reference.log_prob(ground.real), ground.dataset.truth
    above = {} if truth is None else {"excess": excess(found, truth.log_prob(ground.real))}
    likelihood = {"nll": likelihood_score(found), **above}
    return Record(reference.label, ground.protocol.data, scores=likelihood | scores, likelihood=found.mean())


def run_all(tasks: Sequence[tuple[Task, Protocol]], *, workers: int, watch: Watch) -> list[Record]:
    """Do every task; records in the order of the tasks. What is done already is not done again.

    Args:
        tasks: what to train and score, and how.
        workers: processes at once, which the cores are shared out among; with one, all is done in this process, so that a script
            needs no guard about its main part.
        watch: called with a task's title and progress, in a thread of its own where there are several workers.

    Raises:
        SixfoldError: when not one model could be scored: why the first could not.
    """
    records = _here(tasks, watch) if workers == 1 else _in_processes(tasks, workers, watch)
    failed = [r for r in records if r.failed]
    if failed and len(failed) == sum(not r.is_reference for r in records):
        raise SixfoldError(failed[0].failed)
    return records


def _here(tasks: Sequence[tuple[Task, Protocol]], watch: Watch) -> list[Record]:
    """One after the other in this process; data that were made ready are let go, as their files may change."""
    global _tell
    _tell = watch
    try:
        return [record for task, protocol in tasks for record in _work(task, protocol)]
    finally:
        _tell = None
        _ground.cache_clear()


def _in_processes(tasks: Sequence[tuple[Task, Protocol]], workers: int, watch: Watch) -> list[Record]:
    context = multiprocessing.get_context("spawn")
    said: Queue[Said] = context.Queue()
    listener = threading.Thread(target=_listen, args=(said, watch))
    listener.start()
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(said, threads)) as pool:
        waiting = [pool.submit(_work, task, protocol) for task, protocol in tasks]
        try:
            return [record for done in waiting for record in done.result()]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            said.put(None)
            listener.join()


def _listen(said: Queue[Said], watch: Watch) -> None:
    """Hand on what the processes say, until the end is said."""
    while (heard := said.get()) is not None:
        watch(*heard)
