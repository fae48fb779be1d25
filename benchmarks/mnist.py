"""What trained models of MNIST have reached: the figures of docs/mnist.md, by what each model can be asked.

Every run tells its training (updates, seconds, processors' threads), its likelihood on the test data with its kind, and what its
samples look like to the shipped classifier: how sure it is of them on average, which classes it finds, and for models of a class
how often it names the class that was asked for, each beside the same of real test data. Autoencoders tell how well the ten
nearest codes name a digit, Boltzmann machines the bracket of log Z. With ``--ancestral N`` diffusion models draw N images by
20 evaluations and N by the 1,000-step ancestral sampler, and the kernel distances of both are told with their difference.

Run: python benchmarks/mnist.py runs/mine runs/other [--rows 10000] [--samples 10000] [--guidance 2] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from sixfold.core.dataset import Dataset
from sixfold.core.likelihood import Unnormalised
from sixfold.core.model import GenerativeModel, HasDensity, HasLatent
from sixfold.evaluate.features import Features, features_of
from sixfold.evaluate.kernel import kernel_distance
from sixfold.evaluate.likelihood import log_prob_of
from sixfold.evaluate.modes import class_scores, conditional_accuracy
from sixfold.evaluate.representation import codes, nearest_neighbours_accuracy
from sixfold.evaluate.score import difference, mean_score
from sixfold.run.folder import RunFolder
from sixfold.run.training import dataset_of, load_run
from sixfold.solve.annealing import HasBracket

Facts = Iterator[tuple[str, object]]

CODES = 500  # draws of an autoencoder's code for each datum
IMAGES = 64  # whose time is taken
QUICK, SLOW = {"steps": 20}, {"steps": 1000, "sampler": "ancestral", "spacing": "time"}


def training(folder: RunFolder, model: GenerativeModel) -> Facts:
    last = folder.metrics()[-1]
    yield "parameters", f"{sum(p.numel() for p in model.parameters()):,}"
    yield "training", f"{last['step']:,} updates in {last['seconds']:.0f} s"


def likelihood(model: GenerativeModel, data: Dataset, rows: int) -> Facts:
    if not isinstance(model, HasDensity):
        return
    x, cond = data.test.rows(rows), None if data.test.cond is None else data.test.cond[:rows]
    effort = {"effort": CODES} if model.name.startswith("vae/") else {}
    mean = log_prob_of(model, x, cond, generator=generator(), **effort).mean()
    if mean.kind is not Unnormalised:
        yield "log p, test", f"{mean}, {mean.sign} {mean.bits_per_dim:.4f} bits/dim"


def representation(model: GenerativeModel, labelled: Dataset, rows: int) -> Facts:
    if not isinstance(model, HasLatent) or not model.name.startswith("vae/") or model.spec.cond.kind != "none":
        return
    code, train, test = codes(model), labelled.train, labelled.test
    assert train.cond is not None
    assert test.cond is not None
    found = nearest_neighbours_accuracy(
        code(train.rows()), train.cond, code(test.rows(rows)), test.cond[:rows], k=10, rows=len(train), seed=0
    )
    yield "ten nearest codes", found


def bracket(model: GenerativeModel) -> Facts:
    if isinstance(model, HasBracket):
        found = model.bracket()
        low, high = found.interval
        yield "log Z", ", ".join(f"[{a:.2f}, {b:.2f}], width {w:.2f}" for a, b, w in zip(low, high, found.width, strict=True))


def seen(space: Features, labelled: Dataset, features: Tensor, real: Tensor, asked: Tensor | None) -> Facts:
    """What the classifier makes of samples."""
    logits, true = space.classify(features), space.classify(real)
    yield "classifier's confidence", f"{mean_score(sure(logits))}; of real data {mean_score(sure(true))}"
    for name, score in class_scores(logits.argmax(1), true.argmax(1), len(labelled.classes)).items():
        if name in ("classes", "class_shift"):
            yield name, score
    if asked is not None and labelled.test.cond is not None:
        own = conditional_accuracy(true.argmax(1), labelled.test.cond[: len(true)])
        yield "class as asked", f"{conditional_accuracy(logits.argmax(1), asked)}; of real data {own}"
    yield "kernel distance", kernel_distance(features, real)


def sure(logits: Tensor) -> Tensor:
    """The largest of each datum's class probabilities, (N,)."""
    return logits.softmax(1).amax(1)


def samples(model: GenerativeModel, labelled: Dataset, space: Features, count: int, guidance: float) -> Facts:
    asked = torch.arange(count) % model.spec.cond.size if model.spec.cond.kind == "classes" else None
    started = time.perf_counter()
    way = {} if guidance == 1 else {"guidance": guidance}
    model.sample(IMAGES, cond=None if asked is None else asked[:IMAGES], generator=generator(), **way)
    yield f"{IMAGES} images", f"{time.perf_counter() - started:.2f} s"
    drawn = torch.cat(list(model.stream(count, cond=asked, generator=generator(), **way)))
    yield from seen(space, labelled, space(drawn), space(real_of(labelled, model, count)), asked)


def real_of(labelled: Dataset, model: GenerativeModel, count: int) -> Tensor:
    """As many test data as there are samples, at most all."""
    return labelled.test.rows(min(count, len(labelled.test)))


def ancestral(model: GenerativeModel, labelled: Dataset, space: Features, count: int) -> Facts:
    """The sampler of 20 evaluations against the one of 1,000, from the same noise at the start."""
    asked = torch.arange(count) % model.spec.cond.size if model.spec.cond.kind == "classes" else None
    real = space(labelled.test.rows())
    found = [
        kernel_distance(space(torch.cat(list(model.stream(count, cond=asked, generator=generator(), **way)))), real)
        for way in (QUICK, SLOW)
    ]
    yield "kernel distance in 20", found[0]
    yield "kernel distance in 1,000", found[1]
    yield "their difference", difference(*found)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def report(path: Path, given: argparse.Namespace) -> Facts:
    folder, model = RunFolder.open(path), load_run(path)
    name = folder.config()["settings"]["data"]
    labelled = dataset_of(name, conditional=True)
    data = labelled if model.spec.cond.kind != "none" else labelled.unconditional()
    space = features_of("cnn", labelled.spec.without_cond(), name, labelled.train.rows())
    yield "model", f"{model.name} on {name}"
    yield from training(folder, model)
    yield from likelihood(model, data, given.rows)
    yield from representation(model, labelled, given.rows)
    yield from bracket(model)
    if given.samples:
        yield from samples(model, labelled, space, given.samples, given.guidance)
    if given.ancestral and model.name.startswith("diffusion/"):
        yield from ancestral(model, labelled, space, given.ancestral)


def main() -> None:
    parser = argparse.ArgumentParser(description="What trained models of MNIST have reached.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders that `sixfold fit` left")
    parser.add_argument("--rows", type=int, default=10_000, help="test data that are scored")
    parser.add_argument("--samples", type=int, default=10_000, help="samples that are judged; 0 for none")
    parser.add_argument("--guidance", type=float, default=1.0, help="weight of the class, for models that take one")
    parser.add_argument("--ancestral", type=int, default=0, help="samples of diffusion models by either sampler")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for path in given.runs:
        for what, value in report(path, given):
            print(f"{what:<24} {value}", flush=True)
        print()


if __name__ == "__main__":
    main()
