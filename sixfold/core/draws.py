"""Randomness of one batch that does not depend on how many processes share it.

A loss draws its noise here. Every process draws for the joint batch and keeps its own rows, so that two processes with half
a batch each see the same noise as one process with the whole. The generator is seeded from the run's seed and the step,
which is why a resumed run needs no random state from its checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Random tensors whose first axis is this process' share of the batch.

    Args:
        size: number of rows in this process' share.
        generator: source of randomness; ``None`` is PyTorch's global one.
        device: where the tensors are made; the generator's device when one is given.
        dtype: of the floating-point draws.
        shard: ``(rank, world)``; the joint batch has ``size * world`` rows and this share starts at ``rank * size``.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> Draws(4, generator=g).normal(2).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        size: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.size = size
        self.generator = generator
        self.device = torch.device(device) if generator is None else generator.device
        self.dtype = dtype
        self.shard = shard

    def _mine(self, joint: Tensor) -> Tensor:
        rank, world = self.shard
        return joint if world == 1 else joint[rank * self.size : (rank + 1) * self.size]

    def _joint(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.size * self.shard[1], *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (B, *shape)."""
        return self._mine(torch.randn(self._joint(shape), generator=self.generator, device=self.device, dtype=self.dtype))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), (B, *shape)."""
        return self._mine(torch.rand(self._joint(shape), generator=self.generator, device=self.device, dtype=self.dtype))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high), int64, (B, *shape)."""
        return self._mine(torch.randint(high, self._joint(shape), generator=self.generator, device=self.device))

    def stratified(self) -> Tensor:
        """Uniform on [0, 1), (B,): one draw in each of the joint batch's equal cells, in random order.

        The same marginal as :meth:`uniform` with less variance of the batch mean (Kingma et al., 2021, arXiv:2107.00630,
        App. I.1).
        """
        total = self.size * self.shard[1]
        cells = torch.randperm(total, generator=self.generator, device=self.device)
        jitter = torch.rand(total, generator=self.generator, device=self.device, dtype=self.dtype)
        return self._mine((cells + jitter) / total)
