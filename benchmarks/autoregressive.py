"""How long autoregressive models take to draw images, by sampler: the same noise, the same images, other arithmetic.

    naive         the whole network for each pixel
    cached        each activation once
    fixed-point   the whole network until nothing changes

Weights are random, for they do not matter to the time of the first two; passes of fixed-point are those of the trained model
that ``--run`` names, and few where nothing was learned. The naive sampler is timed on its first pixels and scaled, since each one
costs the same.

Run: python benchmarks/autoregressive.py [--num 64] [--models autoregressive/pixelcnn:mnist ...] [--run runs/mine]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sixfold.core.registry import build
from sixfold.core.spec import DataSpec, Support
from sixfold.models.autoregressive._family import ChainRule
from sixfold.prob.sequential import WAYS, Chain, Draw, Way, naive
from sixfold.run.training import load_run

MODELS = ("autoregressive/pixelcnn:mnist", "autoregressive/transformer:mnist", "autoregressive/made")
PIXELS = 12  # of the naive sampler that are timed


def timed(work: Callable[[], tuple[Tensor, int]]) -> tuple[float, int]:
    start = time.perf_counter()
    _, passes = work()
    return time.perf_counter() - start, passes


def samplers(model: ChainRule, num: int) -> dict[str, tuple[float, int]]:
    """Seconds for ``num`` images and passes of the network, by sampler."""
    noise = model.head.noise(model.draws(num, torch.Generator().manual_seed(0)), model.spec.dims)

    def draw(params: Tensor, i: int | slice) -> Tensor:
        return model.head.pick(params, noise[:, i])

    def run(way: Way) -> tuple[float, int]:
        u = torch.zeros(num, model.spec.dims, dtype=torch.long)
        return timed(lambda: WAYS[way](model.chain(0, None), u, draw))

    return {"cached": run("cached"), "fixed-point": run("fixed-point"), "naive": first_pixels(model, num, draw)}


def first_pixels(model: ChainRule, num: int, draw: Draw) -> tuple[float, int]:
    """The naive sampler's time, from its first pixels."""
    chain = model.chain(0, None)
    u = torch.zeros(num, model.spec.dims, dtype=torch.long)
    few = Chain(chain.order[:PIXELS], chain.numbers, chain.walk)
    seconds, passes = timed(lambda: naive(few, u, draw))
    return seconds * len(chain.order) / passes, len(chain.order)


def models(names: list[str], run: str | None, support: Support) -> dict[str, ChainRule]:
    found = {name: build(name, DataSpec((1, 28, 28), support)) for name in names}
    chosen = {run: load_run(run)} if run else found
    assert all(isinstance(model, ChainRule) for model in chosen.values())
    return {name: model.eval() for name, model in chosen.items() if isinstance(model, ChainRule)}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Time of sampling images, by sampler.")
    parser.add_argument("--num", type=int, default=64, help="images drawn at once")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="registry names")
    parser.add_argument("--run", help="folder of a trained model, in place of random weights")
    parser.add_argument("--levels", type=int, default=2, help="values of a pixel")
    given = parser.parse_args()
    torch.set_num_threads(1)
    support = Support("binary") if given.levels == 2 else Support("levels", given.levels)
    for name, model in models(given.models, given.run, support).items():
        model.numbers(torch.zeros(given.num, model.spec.dims, model.head.inputs), torch.zeros(given.num, dtype=torch.long), None)
        found = samplers(model, given.num)
        print(f"{name}: {given.num} images of {model.spec.dims} pixels with {given.levels} values, one thread")
        for sampler, (seconds, passes) in found.items():
            print(f"  {sampler:12} {seconds:8.2f} s, {passes:4d} passes, naive / this {found['naive'][0] / seconds:6.1f}")


if __name__ == "__main__":
    main()
