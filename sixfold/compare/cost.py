"""What sampling costs: seconds, evaluations of the network, and memory."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sixfold.core.model import GenerativeModel

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Drawn:
    """Samples, (N, *shape), and what they cost.

    Args:
        samples: in data space, on the CPU.
        seconds: for all of them.
        evaluations: calls of the module that was called most often: network evaluations of one batch.
        megabytes: largest memory of the process (of the device, on a GPU) while they were drawn.
    """

    samples: Tensor
    seconds: float
    evaluations: int
    megabytes: float


def draw(model: GenerativeModel, num: int, *, cond: Tensor | None, generator: torch.Generator) -> Drawn:
    """Draw samples and measure it."""
    calls: Counter[int] = Counter()
    _reset_peak(model.device)
    with _counting(model, calls):
        started = time.perf_counter()
        x = model.sample(num, cond=cond, generator=generator).cpu()
        seconds = time.perf_counter() - started
    return Drawn(x, seconds, max(calls.values(), default=0), _peak(model.device))


@contextmanager
def _counting(model: nn.Module, calls: Counter[int]) -> Iterator[None]:
    """Count how often each module is called within the block."""

    def called(module: nn.Module, arguments: Any, result: Any) -> None:
        calls[id(module)] += 1

    handles = [module.register_forward_hook(called) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reset_peak(device: torch.device) -> None:
    """Forget earlier peaks, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _RESET.exists():
        _RESET.write_text("5")


def _peak(device: torch.device) -> float:
    """Largest memory since the last reset, in MB; of the whole life of the process where there is no reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if _RESET.exists():
        line = next(row for row in _STATUS.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
