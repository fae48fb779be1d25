"""Exponential moving average of the parameters, with a warm-up that forgets the random start.

    mean <- mean + (1 - d_s) (parameters - mean),        d_s = min(decay, (1 + s) / (10 + s)) after s rounds

Source:  Acceleration of Stochastic Approximation by Averaging (Polyak & Juditsky, 1992); the warm-up is TensorFlow's
         ``ExponentialMovingAverage(num_updates)``.
Differs: buffers are not averaged; they are taken as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Running mean of a model's parameters; a decay of 0 keeps none and stands for the parameters themselves.

    Args:
        model: whose parameters are averaged.
        decay: closer to 1 averages over more rounds, about 1 / (1 - decay) of them.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        named = {name: p for name, p in model.named_parameters() if p.is_floating_point()} if decay else {}
        self.parameters: list[Tensor] = list(named.values())
        self.means: dict[str, Tensor] = {name: p.detach().clone() for name, p in named.items()}
        self._means = list(self.means.values())

    @torch.no_grad()
    def update(self, rounds: int) -> None:
        """Take in the parameters after that many rounds."""
        if self.decay:
            torch._foreach_lerp_(self._means, self.parameters, 1.0 - min(self.decay, (1 + rounds) / (10 + rounds)))

    def swap(self) -> None:
        """Exchange mean and parameters by exchanging their storage; nothing is copied."""
        for parameter, mean in zip(self.parameters, self._means, strict=True):
            parameter.data, mean.data = mean.data, parameter.data

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The model holds the mean within this block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
