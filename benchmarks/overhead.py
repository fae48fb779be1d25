"""What the loop costs over a hand-written one that does the same work.

Both train the same network on the same rows on one thread, in turns within one process, so that the machine's moods meet both;
what counts is the processor time, which other programs disturb less than the clock:

    hand-written:  index_select, forward, backward, gradient norm, check, clip, fused AdamW, cosine, moving average
    sixfold:       fit_model with a recipe that asks for the same

Run: python benchmarks/overhead.py [--pairs 30] [--steps 600]
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sixfold.core.dataset import Dataset, Split
from sixfold.core.model import Batch, GenerativeModel, Terms
from sixfold.core.spec import Array, DataSpec, Support
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

BATCH, WIDTH, DEPTH, ROWS, LR, CLIP, DECAY = 256, 128, 3, 20_000, 1e-3, 1.0, 0.999
SPEC = DataSpec((2,), Support("real"))


class Denoiser(GenerativeModel):
    """The benchmark's model: the loss of a denoiser, whose cost is that of its network."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        widths = [2, *[WIDTH] * DEPTH]
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def loss(self, batch: Batch, player: str) -> Terms:
        noise = batch.draws.normal(2)
        return Terms((self.net(batch.x + noise) - batch.x).square().sum(1))

    def sample(self, num: int, *, cond: Array | int | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.net(torch.randn(num, 2, generator=generator))


def by_hand(net: nn.Module, x: Tensor, steps: int) -> None:
    """The loop that one would write for this model alone."""
    parameters = list(net.parameters())
    means = [p.detach().clone() for p in parameters]
    optimiser = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    order, position = torch.randperm(len(x), generator=generator), 0
    for step in range(steps):
        if position + BATCH > len(x):
            order, position = torch.randperm(len(x), generator=generator), 0
        rows = x.index_select(0, order[position : position + BATCH])
        position += BATCH
        noise = torch.randn(BATCH, 2, generator=generator)
        loss = (net(rows + noise) - rows).square().sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            raise RuntimeError(f"not finite at step {step}")
        if norm > CLIP:
            torch._foreach_mul_(gradients, CLIP / norm)
        optimiser.param_groups[0]["lr"] = LR * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(means, parameters, 1.0 - min(DECAY, (1 + step) / (10 + step)))


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratio of the loop's time to a hand-written one's.")
    parser.add_argument("--pairs", type=int, default=30, help="repetitions of each")
    parser.add_argument("--steps", type=int, default=600, help="steps in each repetition")
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0))
    data = Dataset("noise", SPEC, Split(x), Split(x[:0]), Split(x[:0]))
    recipe = Recipe(steps=given.steps, batch=BATCH, lr=LR, clip=CLIP, ema=DECAY, warmup=0.0, validate_every=0.0)
    ours, theirs = [], []
    for pair in range(given.pairs + 1):
        a = timed(lambda: fit_model(Denoiser(SPEC), data, recipe))
        b = timed(lambda: by_hand(Denoiser(SPEC).net, x, given.steps))
        if pair:  # the first one warms up
            ours.append(a)
            theirs.append(b)
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    scale = 1e6 / given.steps
    print(f"hand-written {statistics.median(theirs) * scale:.0f} us a step, sixfold {statistics.median(ours) * scale:.0f} us")
    quartiles = statistics.quantiles(ratios, n=4)
    print(f"ratio of the fastest {min(ours) / min(theirs):.3f}, which other programs disturb least")
    print(f"ratio of medians {statistics.median(ours) / statistics.median(theirs):.3f}")
    print(f"ratio in pairs: median {quartiles[1]:.3f}, middle half {quartiles[0]:.3f} to {quartiles[2]:.3f}")


if __name__ == "__main__":
    main()
