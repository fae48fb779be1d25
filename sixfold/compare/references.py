"""References: generators whose quality is known, so that a metric can be tested on the very data it is to judge.

    real data         other real data than the test data: the best that any model can reach
    training copies   rows of the training data: perfect samples, and nothing new
    Gaussian          N(mean, covariance) of the training data
    KDE               training data with Gaussian noise, its width chosen on validation data
    modes dropped     real data without a third of their classes (clusters where there are no labels)
    blurred           real data out of focus; points are jittered

Gaussian and KDE also have a likelihood. On discrete data it is that of the density of dequantised data, a lower bound:
log P(x) >= E_u[ log p(x + u) ], u uniform on [0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans
from torch import Tensor

from sixfold.compare.meaning import BLURRED, COPIES, DROPPED, GAUSSIAN, REAL
from sixfold.core.dataset import Dataset
from sixfold.core.likelihood import LEBESGUE, Exact, Kind, LogProb, Lower, Measure

KDE = "KDE"
KEPT = 5000
"""Training data behind the KDE, at most: its likelihood takes their product with the test data."""

ENOUGH = 20_000
"""Training data that a covariance is taken of, at most."""

SHARPNESS = 20
"""Pixels of an image's side to one pixel of blur's standard deviation."""


@dataclass(frozen=True)
class Reference:
    """Samples of known quality.

    Args:
        label: row of the table.
        samples: in data space, (N, *shape).
        train: training data that these samples count as new against; the reference made of training data leaves those out.
        log_prob: of data as given, where the reference has one.
    """

    label: str
    samples: Tensor
    train: Tensor
    log_prob: Callable[[Tensor], LogProb[Kind]] | None = None


class References:
    """Makes the references of one data set.

    Args:
        dataset: with labels where the source has them.
        count: samples of each; at most the training data where the truth is not known.
        seed: of all that is drawn.
    """

    def __init__(self, dataset: Dataset, count: int, *, seed: int = 0) -> None:
        self.dataset, self.count = dataset, count
        self.generator = torch.Generator().manual_seed(20_000 + seed)
        self.train = dataset.train.rows()

    labels = (REAL, COPIES, DROPPED, BLURRED, GAUSSIAN, KDE)

    def all(self) -> list[Reference]:
        """Every reference, the best first."""
        gaussian, kde = self._gaussian(), self._kde()
        real, left = self._real()
        return [
            Reference(REAL, real, left),
            Reference(COPIES, self.train[self._some(len(self.train))], self.train),
            Reference(DROPPED, *self._dropped()),
            Reference(BLURRED, self._blurred(real), left),
            Reference(GAUSSIAN, self._drawn(gaussian), self.train, gaussian.log_prob),
            Reference(KDE, self._drawn(kde), self.train, kde.log_prob),
        ]

    def _some(self, among: int) -> Tensor:
        """Rows in random order: distinct ones as long as there are enough."""
        turns = math.ceil(self.count / among)
        return torch.cat([torch.randperm(among, generator=self.generator) for _ in range(turns)])[: self.count]

    def _real(self) -> tuple[Tensor, Tensor]:
        """New real data and the training data that they are new to."""
        if self.dataset.truth is not None:
            return self.dataset.truth.sample(self.count, generator=self.generator), self.train
        order = torch.randperm(len(self.train), generator=self.generator)
        held = order[: min(self.count, len(order) // 2)]
        return self.train[held], self._without(held)

    def _groups(self) -> Tensor:
        """Group of each training datum, (N,): its class, or its cluster where there are no labels."""
        labels = self.dataset.train.cond
        return _clusters(self.train) if labels is None or labels.is_floating_point() else labels

    def _dropped(self) -> tuple[Tensor, Tensor]:
        """Real data of two thirds of the groups, at least one group short, and the training data that are left."""
        group = self._groups()
        names = torch.unique(group)
        kept = (~torch.isin(group, names[: max(1, len(names) // 3)])).nonzero()[:, 0]
        chosen = kept[self._some(len(kept))]
        return self.train[chosen], self._without(chosen)

    def _without(self, rows: Tensor) -> Tensor:
        """Training data but for some rows."""
        return self.train[torch.ones(len(self.train), dtype=torch.bool).index_fill_(0, rows, False)]

    def _blurred(self, real: Tensor) -> Tensor:
        """Images filtered with a Gaussian; other data with noise of a third of each element's spread."""
        spec = self.dataset.spec
        if not spec.is_image:
            noise = torch.randn(real.shape, generator=self.generator) * real.double().std(0).float() / 3
            return self._in_space(real.double() + noise)
        width = max(0.6, spec.shape[-1] / SHARPNESS)
        soft = gaussian_filter(real.double().numpy(), sigma=(0, 0, width, width), mode="nearest")
        return self._in_space(torch.from_numpy(soft))

    def _drawn(self, law: Smooth) -> Tensor:
        return self._in_space(law.sample(self.count, self.generator).view(-1, *self.dataset.spec.shape))

    def _in_space(self, x: Tensor) -> Tensor:
        """Real numbers as data: the nearest level within range, of binary data by chance."""
        support = self.dataset.spec.support
        if not support.discrete:
            return x.float()
        if support.kind == "binary":
            return (torch.rand(x.shape, generator=self.generator) < x).to(self.dataset.spec.dtype)
        return x.round().clamp(0, support.count - 1).to(self.dataset.spec.dtype)

    def _gaussian(self) -> Smooth:
        x = self._smooth(self.train[:ENOUGH])
        centred = x - x.mean(0)
        covariance = centred.T @ centred / len(x)
        # A pixel that is always black has no variance; a thousandth of the mean variance keeps the density finite.
        ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
        return Smooth(x.mean(0)[None], torch.linalg.cholesky(covariance + ridge), self._measure, "Gaussian density")

    def _kde(self) -> Smooth:
        x = self._smooth(self.train)[:KEPT]
        valid = self._smooth(self.dataset.valid.rows(500))
        scale = x.std(0).square().mean().sqrt()
        squared = torch.cdist(valid, x).square()
        widths = scale * torch.logspace(-2.2, 0.2, 20, dtype=torch.float64)
        best = max(widths.tolist(), key=lambda w: float(_mixture(squared, x.shape[1], w).mean()))
        return Smooth(x, best * torch.eye(x.shape[1], dtype=torch.float64), self._measure, f"kernel density of width {best:.3g}")

    @property
    def _measure(self) -> Measure:
        support = self.dataset.spec.support
        return Measure(support.count) if support.discrete else LEBESGUE

    def _smooth(self, x: Tensor) -> Tensor:
        """Data as float64 rows, dequantised where they are discrete."""
        return dequantised(x, discrete=self.dataset.spec.support.discrete)


def dequantised(x: Tensor, *, discrete: bool) -> Tensor:
    """Rows as float64, (N, D); uniform noise on [0, 1) is added to discrete ones, the same for the same rows."""
    flat = x.flatten(1).double()
    if not discrete:
        return flat
    return flat + torch.rand(flat.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Smooth:
    """An equal mixture of Gaussians with one covariance: one component is a Gaussian, one a datum is a kernel density.

    Args:
        centres: (K, D) float64.
        root: Cholesky factor of the covariance, (D, D).
        measure: of the data; on discrete ones the density is that of dequantised data.
        method: as printed.
    """

    def __init__(self, centres: Tensor, root: Tensor, measure: Measure, method: str) -> None:
        self.centres, self.root, self.measure, self.method = centres, root, measure, method

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """Draws, (num, D) float64; of dequantised discrete data, less half a level."""
        rows = torch.randint(len(self.centres), (num,), generator=generator)
        noise = torch.randn(num, len(self.root), generator=generator, dtype=torch.float64) @ self.root.T
        return self.centres[rows] + noise - (0.5 if self.measure.levels is not None else 0.0)

    def log_prob(self, x: Tensor) -> LogProb[Kind]:
        """Of data as given: exact for real data, a lower bound by dequantisation for discrete ones."""
        discrete = self.measure.levels is not None
        flat = dequantised(x, discrete=discrete)
        white, centres = (torch.linalg.solve_triangular(self.root, z.T, upper=False).T for z in (flat, self.centres))
        rows = [_mixture(torch.cdist(part, centres).square(), flat.shape[1], 1.0) for part in torch.split(white, 1000)]
        nats = torch.cat(rows) - self.root.diagonal().log().sum()
        kind: type[Kind] = Lower if discrete else Exact
        method = f"{self.method}, dequantised" if discrete else self.method
        return LogProb(nats, kind, method, flat.shape[1], self.measure)


def _mixture(squared: Tensor, dims: int, width: float) -> Tensor:
    """Log-density of the equal mixture of N(centre, width^2 I), (N,), from squared distances to the centres, (N, K)."""
    constant = math.log(squared.shape[1]) + dims * math.log(width * math.sqrt(2 * math.pi))
    return (-squared / (2 * width**2)).logsumexp(1) - constant


def _clusters(x: Tensor, *, count: int = 9) -> Tensor:
    """Cluster of each datum, (N,), by k-means."""
    flat = x.flatten(1).double().numpy()
    return torch.from_numpy(KMeans(min(count, len(flat)), n_init=3, random_state=0).fit(flat[:5000]).predict(flat)).long()
