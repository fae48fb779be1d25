"""One row of a comparison: what was trained, and what its likelihood and its samples say on the test split."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput
from sixfold.core.likelihood import Kind, MeanLogProb
from sixfold.core.model import GenerativeModel, HasDensity
from sixfold.evaluate.likelihood import log_prob_of
from sixfold.evaluate.sliced import sliced_floor, sliced_wasserstein


@dataclass(frozen=True)
class Floor:
    """What a perfect model would reach on a data set.

    Args:
        sliced: sliced Wasserstein distance between real samples of the scored size.
        nll: negative log-likelihood of the same test data under the truth, in nats, where it is known, else ``None``.
        count: data in each sample.
    """

    sliced: float
    nll: float | None
    count: int


@dataclass(frozen=True)
class RunRecord:
    """A scored model.

    Args:
        model: registry name.
        data: name of the data.
        parameters: of the model, count.
        seconds: of training.
        likelihood: mean log-probability of test data with its kind; ``None`` for a model without one.
        sliced: sliced Wasserstein distance of samples to test data, in the data's units.
        floor: what a perfect model would reach.
        sampling: seconds for 1,000 samples.
    """

    model: str
    data: str
    parameters: int
    seconds: float
    likelihood: MeanLogProb[Kind] | None
    sliced: float
    floor: Floor
    sampling: float

    @property
    def sliced_ratio(self) -> float:
        """Distance to data in units of the distance between real samples; 1 is perfect."""
        return self.sliced / self.floor.sliced

    @property
    def excess(self) -> float | None:
        """Nats per datum above the truth's on the same test data; ``None`` where either is unknown.

        Its mean is the Kullback-Leibler divergence from the truth; that of a bound bounds it from above.
        """
        if self.likelihood is None or self.floor.nll is None:
            return None
        return self.likelihood.nll - self.floor.nll


def _real_samples(dataset: Dataset, count: int, samples: int) -> list[Tensor]:
    """Independent draws of a known truth, or the test data and as many disjoint parts of the training data as there are."""
    if dataset.truth is not None:
        generator = torch.Generator().manual_seed(20_000)
        return [dataset.truth.sample(count, generator=generator) for _ in range(samples)]
    train = dataset.train.rows()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chunks = [order[i * count : (i + 1) * count] for i in range(min(samples - 1, len(train) // count))]
    return [dataset.test.rows(count), *(train[chunk] for chunk in chunks)]


def floor_of(dataset: Dataset, *, count: int, samples: int = 6) -> Floor:
    """What a perfect model would reach: fresh draws of a known truth, else test data against training data.

    Args:
        dataset: the data.
        count: data in each sample.
        samples: real samples whose pairs are averaged; more narrows the average.

    Raises:
        BadInput: when there are too few data to compare two samples.
    """
    real = _real_samples(dataset, count, samples)
    if len(real) < 2:
        raise BadInput(f"{dataset.name} has {len(dataset.train)} training data, too few for samples of {count}. Use fewer rows.")
    nll = None if dataset.truth is None else -float(dataset.truth.log_prob(dataset.test.rows(count)).double().mean())
    return Floor(sliced_floor(real), nll, count)


def _conditions(model: GenerativeModel, test: Split, count: int) -> Tensor | None:
    """The test data's own conditions, so that samples and data share their mix of classes."""
    return None if model.spec.cond.kind == "none" or test.cond is None else test.cond[:count]


def score_run(
    model: GenerativeModel, dataset: Dataset, *, seconds: float, floor: Floor, rows: int = 10_000, seed: int = 0
) -> RunRecord:
    """Score a trained model on the test split.

    Args:
        model: trained.
        dataset: whose test split is used.
        seconds: that training took.
        floor: of the data set, from :func:`floor_of`.
        rows: test data whose likelihood is averaged; more narrows the standard error.
        seed: of the samples and of bounds that draw.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    cond = _conditions(model, dataset.test, max(rows, floor.count))
    started = time.perf_counter()
    samples = model.sample(floor.count, cond=None if cond is None else cond[: floor.count], generator=generator)
    sampling = (time.perf_counter() - started) / floor.count * 1000
    likelihood = None
    if isinstance(model, HasDensity):
        x = dataset.test.rows(rows)
        likelihood = log_prob_of(model, x, None if cond is None else cond[: len(x)], generator=generator).mean()
    return RunRecord(
        model.name,
        dataset.name,
        sum(p.numel() for p in model.parameters()),
        seconds,
        likelihood,
        sliced_wasserstein(samples, dataset.test.rows(floor.count)),
        floor,
        sampling,
    )
