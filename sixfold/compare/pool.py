"""Runs in processes of their own, as many at once as there are cores: small networks gain nothing from a second thread."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, TypeAlias

import torch

from sixfold.compare.bench import SCORED, Bench
from sixfold.compare.record import RunRecord
from sixfold.run.folder import RunFolder
from sixfold.run.training import Settings, dataset_of, run
from sixfold.train.progress import Progress

Watch = Callable[[str, Progress], None]


@dataclass(frozen=True)
class Job:
    """One training: a model, its data and what differs from its recipe."""

    model: str
    data: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As the progress bar calls it."""
        return f"{self.model} on {self.data}"


Said: TypeAlias = "tuple[str, Progress] | None"

_said: Queue[Said] | None = None
_bench = Bench()


def _begin(said: Queue[Said], threads: int, rows: int) -> None:
    """Start of a process: where it reports to, its share of the cores, and how much it scores."""
    global _said, _bench
    _said, _bench = said, Bench(rows=rows)
    torch.set_num_threads(threads)


def _work(job: Job, path: Path) -> RunRecord:
    """Train and score one run."""
    assert _said is not None, "started without a queue"
    said = _said
    settings = Settings.of(job.model, job.data, settings=job.settings)
    dataset = dataset_of(job.data, conditional=False)
    try:
        run(settings, dataset, RunFolder(path), resume=path.exists(), watch=lambda progress: said.put((job.title, progress)))
    except KeyboardInterrupt as stopped:  # as the plain class, which alone survives the way back to the parent
        raise KeyboardInterrupt(str(stopped)) from None
    return _bench.score(RunFolder(path))


def run_all(jobs: Sequence[tuple[Job, Path]], *, workers: int, watch: Watch, rows: int = SCORED) -> list[RunRecord]:
    """Train every job into its folder and score it; records in the order of the jobs.

    Args:
        jobs: what to train and where; a folder that holds an unfinished run is gone on with.
        workers: processes at once; the cores are shared out among them.
        watch: called with a job's title and progress, in a thread of its own.
        rows: test data and samples that are scored, at most.

    Raises:
        SixfoldError: of the first training that failed; the others are ended.
    """
    context = multiprocessing.get_context("spawn")
    said: Queue[Said] = context.Queue()
    listener = threading.Thread(target=_listen, args=(said, watch))
    listener.start()
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(said, threads, rows)) as pool:
        waiting = [pool.submit(_work, job, path) for job, path in jobs]
        try:
            return [done.result() for done in waiting]
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
