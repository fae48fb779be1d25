"""What the metrics cost: against other packages that compute the same, and all of them on images.

    packages   seconds on the same arrays in turns within one process, so that the machine's moods meet both, and the growth
               of peak memory in a fresh process each; values must agree before times are compared
    images     seconds of every score of 10,000 images against 10,000 of MNIST, and the peak memory of the process

Run: python benchmarks/metrics.py packages [--rows 10000] [--dims 64] [--pairs 3] [--threads 1] [--only coverage]
     python benchmarks/metrics.py images [--rows 10000] [--threads 2]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from sixfold.data import load
from sixfold.evaluate.coverage import precision_recall
from sixfold.evaluate.frechet import frechet
from sixfold.evaluate.kernel import kernel_distance

Found = TypeVar("Found")
Values = list[float]
Metric = Callable[[Tensor, Tensor], Values]


def ours_coverage(x: Tensor, y: Tensor) -> Values:
    return [score.value for score in precision_recall(x, y).values()]


def theirs_coverage(x: Tensor, y: Tensor) -> Values:
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        return [float(value) for value in compute_prdc(y.numpy(), x.numpy(), 5).values()]


def ours_frechet(x: Tensor, y: Tensor) -> Values:
    return [frechet(x, y).value]


def theirs_frechet(x: Tensor, y: Tensor) -> Values:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Identity(x.shape[1])).set_dtype(torch.float64)
    metric.update(y, real=True)
    metric.update(x, real=False)
    return [float(metric.compute())]


def ours_kernel(x: Tensor, y: Tensor) -> Values:
    return [kernel_distance(x, y).value]


def theirs_kernel(x: Tensor, y: Tensor) -> Values:
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that features are kept
        metric = KernelInceptionDistance(feature=_Identity(x.shape[1]), subsets=1, subset_size=min(len(x), len(y)))
    metric.update(y, real=True)
    metric.update(x, real=False)
    return [float(metric.compute()[0])]


class _Identity(nn.Module):
    """The feature network of arrays that are features already."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.num_features = dims

    def forward(self, x: Tensor) -> Tensor:
        return x


PACKAGES: Mapping[str, tuple[str, Metric, Metric]] = {
    "coverage": ("prdc", ours_coverage, theirs_coverage),
    "frechet": ("torchmetrics", ours_frechet, theirs_frechet),
    "kernel": ("torchmetrics", ours_kernel, theirs_kernel),
}
"""By metric: the other package, our function and theirs."""


def normals(rows: int, dims: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(rows, dims, generator=draw, dtype=torch.float64) for _ in range(2))
    return 0.9 * x + 0.1, y


def timed(metric: Callable[..., Found], *arrays: Tensor) -> tuple[float, float, Found]:
    """Seconds by the clock, seconds of all processors, and what was found."""
    clock, processor = time.perf_counter(), time.process_time()
    found = metric(*arrays)
    return time.perf_counter() - clock, time.process_time() - processor, found


def megabytes() -> float:
    """Most memory that this process has held, as Linux tells; getrusage would begin at what the parent held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _growth(metric: Metric, rows: int, dims: int, threads: int, answer: multiprocessing.Queue[float]) -> None:
    torch.set_num_threads(threads)
    metric(*normals(100, dims))  # what importing and starting take is not the metric's
    x, y = normals(rows, dims)
    before = megabytes()
    metric(x, y)
    answer.put(megabytes() - before)


def growth(metric: Metric, rows: int, dims: int, threads: int) -> float:
    """Megabytes by which a fresh process grows beyond its arrays."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=_growth, args=(metric, rows, dims, threads, answer))
    child.start()
    found: float = answer.get(timeout=600)
    child.join()
    return found


def packages(rows: int, dims: int, pairs: int, threads: int, only: str | None) -> None:
    """Ratio of our time to the other package's, metric by metric."""
    for name in [only] if only else PACKAGES:
        package, ours, theirs = PACKAGES[name]
        x, y = normals(rows, dims)
        ours(x[:100], y[:100]), theirs(x[:100], y[:100])
        runs = [(timed(ours, x, y), timed(theirs, x, y)) for _ in range(pairs)]
        for a, b in zip(runs[0][0][2], runs[0][1][2], strict=True):
            if not math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9):
                raise SystemExit(f"{name}: {a} here, {b} in {package}; their times mean nothing")
        print(f"{name}, {rows} x {dims} against {package}, medians of {pairs} pairs:")
        for what, column in (("clock", 0), ("processors", 1)):
            a, b = (statistics.median(run[side][column] for run in runs) for side in (0, 1))
            print(f"  {what:<10} {a:7.2f} s, {package} {b:7.2f} s, ratio {a / b:.2f}")
        a, b = (growth(f, rows, dims, threads) for f in (ours, theirs))
        print(f"  {'memory':<10} {a:7.0f} MB, {package} {b:5.0f} MB")


def images(rows: int) -> None:
    """Seconds and memory of every score of images but readouts and anomaly; training images stand in for samples."""
    from sixfold.compare.protocol import Ground, Protocol
    from sixfold.compare.score_samples import score_samples

    total = 0.0
    x = load("mnist").train.rows(rows)
    for group in ("samples", "novelty"):
        ground = Ground(Protocol("mnist", rows, (group,)))
        ready = timed(lambda g=ground: g.real_features)[0]
        clock, _, found = timed(score_samples, ground, x)
        print(
            f"{group}: {ready:.1f} s for features of test data, once a data set; {clock:.1f} s for {len(found)} scores of a model"
        )
        total += ready + clock
    print(f"all: {total:.1f} s, {megabytes():.0f} MB at most, with everything that Python has loaded")


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of the metrics.")
    parser.add_argument("part", choices=["packages", "images"])
    parser.add_argument("--rows", type=int, default=10_000, help="data in each sample")
    parser.add_argument("--dims", type=int, default=64, help="features of each, for packages")
    parser.add_argument("--pairs", type=int, default=3, help="repetitions of each, for packages")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--only", choices=PACKAGES, help="this metric alone, for packages")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.part == "packages":
        packages(given.rows, given.dims, given.pairs, given.threads, given.only)
    else:
        images(given.rows)


if __name__ == "__main__":
    main()
