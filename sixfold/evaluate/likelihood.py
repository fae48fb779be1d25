"""Log-probabilities of many data, in batches, with their kind."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from sixfold.core.errors import Unsupported
from sixfold.core.likelihood import Kind, LogProb
from sixfold.core.model import GenerativeModel, HasDensity

K = TypeVar("K", bound=Kind)


def concat(parts: list[LogProb[K]]) -> LogProb[K]:
    """Log-probabilities of consecutive parts of the same data as one."""
    first = parts[0]
    assert all(p.kind is first.kind and p.measure == first.measure and p.scope == first.scope for p in parts)
    errors = [p.stderr for p in parts if p.stderr is not None]
    return LogProb(
        torch.cat([p.nats for p in parts]), first.kind, first.method, first.dims, first.measure,
        torch.cat(errors) if errors else None, max(p.tolerance for p in parts), first.bias, first.scope,
    )  # fmt: skip


def log_prob_of(
    model: GenerativeModel,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    batch: int = 5000,
    generator: torch.Generator | None = None,
    **options: Any,
) -> LogProb[Kind]:
    """Log-probabilities of data in batches of bounded memory.

    Args:
        model: that has a density.
        x: data, (N, *shape).
        cond: conditions, (N,) or (N, C).
        batch: rows at a time; larger is faster and takes more memory.
        generator: for bounds and estimates that draw.
        options: of the model's own ``log_prob``, as ``effort``.

    Raises:
        Unsupported: when the model has no density, with what it has instead.
    """
    if not isinstance(model, HasDensity):
        raise Unsupported(f"{model.name} has no log-probability. Score its samples instead: `sixfold compare`.")
    rows = [
        model.log_prob(x[i : i + batch], None if cond is None else cond[i : i + batch], generator=generator, **options)
        for i in range(0, len(x), batch)
    ]
    return concat(rows)
