"""Exercises of the first stage: energies and chains."""

from __future__ import annotations

import torch

from sixfold.testing.checks import expect, gap, seeded
from sixfold.testing.exercises.facts import Answer, fact


@fact("langevin step")
def step_keeps_the_shape(step: Answer) -> None:
    """A step maps points (N, 2) to points (N, 2)."""
    x = torch.randn(5, 2, generator=seeded(0))
    y = step(x, lambda x: -x, 0.1, seeded(1))
    expect(isinstance(y, torch.Tensor) and y.shape == x.shape, getattr(y, "shape", type(y).__name__), tuple(x.shape))


@fact("langevin step")
def step_drifts_by_half_its_size_times_the_score(step: Answer) -> None:
    """On average a step of size h moves by h/2 times the score, the gradient of log p."""
    x = torch.full((200_000, 2), 2.0)
    moved = (step(x, lambda x: -3.0 * x, 0.1, seeded(1)) - x).mean(0)  # standard error 7e-4
    expect(gap(moved, torch.full((2,), -0.3)) < 5e-3, [round(v, 3) for v in moved.tolist()], "-0.3 in each coordinate")


@fact("langevin step")
def noise_has_the_variance_of_the_step(step: Answer) -> None:
    """The noise of a step of size h has variance h, independent in every coordinate."""
    y = step(torch.zeros(200_000, 2), torch.zeros_like, 0.1, seeded(1))
    expect(gap(torch.cov(y.T), 0.1 * torch.eye(2)) < 2e-3, [round(v, 3) for v in y.var(0).tolist()], "0.1 in each, uncorrelated")
