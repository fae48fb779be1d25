"""Batches and their noise as a pure function of a counter.

The order of an epoch follows from (seed, epoch), the rows of a batch from its number, and its noise from (seed, number). So a
run that goes on from its checkpoint needs the number alone, and processes that share a batch agree without talking.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.core.model import Batch

_WORD = 0xFFFFFFFF


def mixed(seed: int, number: int) -> int:
    """A 32-bit seed for one number of a stream; different numbers of one stream never share it.

    PyTorch's CPU generator takes 32 bits of its seed. The finaliser of MurmurHash3 is a bijection of them, so that no two
    batches of a run meet the same noise, as they would by chance with a hash of both.
    """
    word = (number + seed * 0x9E3779B1 + (seed >> 32) * 0x85EBCA77) & _WORD
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & _WORD
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & _WORD
    return word ^ (word >> 16)


class Feed:
    """Training batches by number, each of full size; what is left at the end of an epoch waits for the next order.

    Args:
        split: rows to train on.
        batch: rows of the joint batch; data with fewer rows shrink it.
        seed: of order and noise.
        device: of the batches.
        dtype: of floating-point data and noise.
        conditional: whether the batches carry the condition.
        shard: ``(rank, world)``; this process takes its rows of each joint batch.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        conditional: bool,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        world = shard[1]
        joint = min(batch, len(split))
        if batch % world or joint < world:
            raise BadInput(f"a batch of {batch} from {len(split)} rows cannot be shared by {world} processes. Use a multiple.")
        self.split, self.seed, self.shard, self.dtype, self.conditional = split, seed, shard, dtype, conditional
        self.share = joint // world
        self.joint = self.share * world
        self.per_epoch = len(split) // self.joint
        self.generator = torch.Generator(device)
        self._order = (-1, torch.empty(0))

    def _epoch(self, epoch: int) -> Tensor:
        """Order of an epoch, kept while it lasts."""
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mixed(self.seed + 1, epoch))
            self._order = epoch, torch.randperm(len(self.split), generator=generator)
        return self._order[1]

    def rows(self, number: int) -> Tensor:
        """Rows of this process in the batch of that number, (B,)."""
        epoch, position = divmod(number, self.per_epoch)
        start = position * self.joint + self.shard[0] * self.share
        return self._epoch(epoch)[start : start + self.share]

    def __call__(self, number: int, progress: float) -> Batch:
        """The batch of that number at a point of the run in [0, 1]."""
        self.generator.manual_seed(mixed(self.seed, number))
        draws = Draws(self.share, generator=self.generator, dtype=self.dtype, shard=self.shard)
        return taken(self.split, self.rows(number), draws, progress, conditional=self.conditional)


def taken(split: Split, rows: Tensor, draws: Draws, progress: float, *, conditional: bool) -> Batch:
    """The batch of those rows, floats in the dtype of the draws."""
    x, cond = split.batch(rows, draws)
    return Batch(x.to(draws.dtype) if x.is_floating_point() else x, draws, cond if conditional else None, progress)


def in_order(
    split: Split, *, rows: int, batch: int, device: torch.device, dtype: torch.dtype, conditional: bool, shard: tuple[int, int]
) -> Iterator[Batch]:
    """The first ``rows`` of a split, in order and with the same noise every time; processes take turns by batches."""
    generator = torch.Generator(device)
    pieces = torch.split(torch.arange(min(rows, len(split))), batch)
    for number, piece in list(enumerate(pieces))[shard[0] :: shard[1]]:
        draws = Draws(len(piece), generator=generator.manual_seed(mixed(0, number)), dtype=dtype)
        yield taken(split, piece, draws, 1.0, conditional=conditional)
