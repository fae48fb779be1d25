"""How much of the labels simple readers find in frozen encodings: linear probe, nearest neighbours, active units.

    linear probe: softmax(W z + b) by   min_W  C sum_i -log p(y_i | z_i) + |W|^2 / 2      on z standardised by its training part
    neighbours:   the class that most of the k nearest training codes have; a tie goes to the tied class that is nearest
    active units: #{u : Var_x(E_q(u|x)[u]) > 0.01}

An accuracy says something about a model only beside those of raw pixels, of as many principal components and of the same
network untrained (:func:`raw`, :func:`pca_encoder`, the model as built); :func:`probe` makes that table. With few labels the
strength C is chosen on a fifth of these labels, never on more than are said to be used, and never on test data.

The interval covers the test data and the draws of a few labels, v_i for the first and w_d for the second:

    parts p_g = p_g(v) + t_(D-1) / t_(G-1) sqrt((G - 1) / (D - 1)) (w_(g mod D) - w)

    so that t_(G-1)^2 var(p) / G = t_(G-1)^2 var_test + t_(D-1)^2 var(w) / D: Student's t of each for what it rests on.

Source:  Representation Learning (Bengio, Courville & Vincent, 2013), arXiv:1206.5538, for linear readers of features.
         Realistic Evaluation of Deep Semi-Supervised Learning Algorithms (Oliver et al., 2018), arXiv:1804.09170, for validation
         labels that count as labels.
         Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), arXiv:1509.00519, section 5, for active units.
Differs: the count of active units has an interval; the paper gives the number alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.model import HasLatent
from sixfold.core.spec import Array
from sixfold.evaluate.neighbours import nearest
from sixfold.evaluate.score import LEVEL, PARTS, Score, jackknife, mean_score, samples, share_score

Encoder: TypeAlias = Callable[[Tensor], Tensor]
Metric = Literal["euclidean", "cosine"]
_Labelled: TypeAlias = tuple[Tensor, Tensor]
_Reader: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Predicted test labels from training codes and their labels."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
ROWS = 10_000
DRAWS = 5
HELD = 0.2


@dataclass(frozen=True)
class Encoded:
    """Codes of the parts of a data set, (N, Z) each; ``valid`` is what the strength of the probe on all labels is chosen on."""

    train: Tensor
    test: Tensor
    valid: Tensor | None = None


def raw(x: Tensor) -> Tensor:
    """Data as they are, flattened, (N, D): the baseline that a code must beat."""
    return x.flatten(1).float()


def pca_encoder(train: Array, dims: int) -> Encoder:
    """Projection onto the leading principal components.

    Args:
        train: data they are fitted on, (N, *shape).
        dims: components, as many as the code that they stand beside has; at most the data's own number are kept.

    Raises:
        BadInput: for fewer than two data, NaN or infinity.

    Example:
        >>> encode = pca_encoder(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 1.0]]), 1)
        >>> encode(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """
    blocks = torch.split(torch.as_tensor(train).detach().cpu().flatten(1), 2000)  # in double precision one at a time
    num = sum(len(x) for x in blocks)
    mean = torch.stack([x.double().sum(0) for x in blocks]).sum(0) / num
    if num < 2 or not bool(mean.isfinite().all()):
        raise BadInput(f"principal components need two finite data or more; got {num} with a mean of {mean.tolist()[:3]}.")
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for x in blocks:
        scatter.addmm_((x.double() - mean).T, x.double() - mean)
    chosen = torch.linalg.eigh(scatter).eigenvectors.flip(1)[:, :dims]  # eigenvalues ascend
    return lambda y: ((y.flatten(1).double().cpu() - mean) @ chosen).float()


def codes(model: HasLatent, *, generator: torch.Generator | None = None) -> Encoder:
    """The model's code of data: the posterior's mean where it has one.

    Args:
        model: unconditional; a condition would hand the label to the reader.
        generator: of what ``encode`` draws, dequantisation for one.
    """

    def encode(x: Tensor) -> Tensor:
        latent = model.encode(x, generator=generator)
        return (latent.z if latent.mean is None else latent.mean).detach().float().cpu()

    return encode


def encode_parts(encoder: Encoder, train: Tensor, test: Tensor, valid: Tensor | None = None, *, batch: int = 5000) -> Encoded:
    """Codes of every part, ``batch`` rows at a time; larger is faster and takes more memory."""

    def run(x: Tensor) -> Tensor:
        return torch.cat([encoder(rows).flatten(1) for rows in torch.split(x, batch)])

    return Encoded(run(train), run(test), None if valid is None else run(valid))


def linear_probe(
    train_z: Array,
    train_y: Array,
    test_z: Array,
    test_y: Array,
    *,
    valid: tuple[Array, Array] | None = None,
    labels: int | None = None,
    rows: int = ROWS,
    draws: int = DRAWS,
    seed: int,
) -> Score:
    """Test accuracy of multinomial logistic regression on frozen codes.

    Args:
        train_z, train_y, test_z, test_y: codes (N, Z) and integer labels (N,).
        valid: codes and labels that the strength C is chosen on, by their log-likelihood; without them a fifth of the training
            labels, after which all of them are fitted.
        labels: training labels used, a stratified subset; ``None`` takes all.
        rows: training rows that are used at most; more is slower.
        draws: subsets of ``labels`` that the accuracy is averaged over, a divisor of 20; more narrow the interval.
        seed: of the subsets; equal seeds give two encodings the same ones.

    Raises:
        BadInput: for labels that are missing, not integers or of one class, more labels than there are, NaN in the codes.
    """
    task = _Task.of(train_z, train_y, test_z, test_y)
    return task.linear(None if valid is None else _labelled(*valid), _Few(labels, rows, draws, seed))


def nearest_neighbours_accuracy(
    train_z: Array,
    train_y: Array,
    test_z: Array,
    test_y: Array,
    *,
    k: int = 5,
    metric: Metric = "euclidean",
    labels: int | None = None,
    rows: int = ROWS,
    draws: int = DRAWS,
    seed: int,
) -> Score:
    """Test accuracy of the majority among the ``k`` nearest training codes.

    Args:
        train_z, train_y, test_z, test_y: codes (N, Z), taken in their own units, and integer labels (N,).
        k: neighbours that vote; more smooth the boundary.
        metric: ``euclidean``, or ``cosine`` for the angle between codes.
        labels, rows, draws, seed: as in :func:`linear_probe`.

    Raises:
        BadInput: as :func:`linear_probe`, and for fewer labels than neighbours.
    """
    return _Task.of(train_z, train_y, test_z, test_y).neighbours(k, metric, _Few(labels, rows, draws, seed))


def probe(
    encodings: Mapping[str, Encoded],
    train_y: Array,
    test_y: Array,
    *,
    valid_y: Array | None = None,
    labels: Iterable[int] = (100, 1000),
    k: int = 5,
    metric: Metric = "euclidean",
    rows: int = ROWS,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, dict[str, Score]]:
    """Accuracies of both readers by encoding, all on the same labels and test data, so that differences pair.

    Args:
        encodings: by name, as ``{"code": ..., "raw": ..., "PCA": ..., "untrained": ...}``.
        train_y, test_y, valid_y: integer labels, (N,); validation serves the probe on all labels alone.
        labels: numbers of labels beside all; those that the training set does not exceed are left out.
        k, metric: of the neighbours.
        rows, draws, seed: as in :func:`linear_probe`.
    """
    numbers = [*(n for n in labels if n < len(train_y)), None]
    table: dict[str, dict[str, Score]] = {}
    for name, z in encodings.items():
        task, row = _Task.of(z.train, train_y, z.test, test_y), table.setdefault(name, {})
        valid = None if z.valid is None or valid_y is None else _labelled(z.valid, valid_y)
        for few in (_Few(number, rows, draws, seed) for number in numbers):
            row[f"linear probe, {few}"] = task.linear(valid if few.labels is None else None, few)
            row[f"{k} neighbours, {few}"] = task.neighbours(k, metric, few)
    return table


def active_units(means: Array, *, threshold: float = 0.01) -> Score:
    """Number of units of a code whose posterior mean varies over data.

    The interval holds the units whose variance is surely above the threshold, and those where it may be: by unit, the 95%
    interval of the variance from the fourth moment, on a logarithmic scale.

    Args:
        means: posterior means of data, (N, Z).
        threshold: variance above which a unit counts as active; the higher the fewer are.

    Raises:
        BadInput: for fewer than 20 data, NaN or infinity.
    """
    m, _ = samples(means, means)
    centred = m - m.mean(0)
    variance = centred.square().mean(0)
    error = ((centred**4).mean(0) - variance.square()).clamp_min(0).sqrt() / math.sqrt(len(m))
    factor = (float(stats.norm.ppf((1 + LEVEL) / 2)) * error / variance.clamp_min(1e-300)).exp()
    value, low, high = (float((v > threshold).sum()) for v in (variance, variance / factor, variance * factor))
    return Score(value, low, high, "units surely and possibly active")


def stratified(y: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random ``count`` rows in which every class keeps its share to within one row, (count,) int64.

    The j-th row of a class of n has the place (j + 1/2) / n; those of the smallest places are taken.
    """
    order = torch.randperm(len(y), generator=generator)
    _, which, size = torch.unique(y[order], return_inverse=True, return_counts=True)
    by_class = which.argsort(stable=True)
    nth = torch.empty_like(by_class)
    nth[by_class] = torch.arange(len(y)) - (size.cumsum(0) - size)[which[by_class]]
    return order[((nth + 0.5) / size[which]).argsort(stable=True)[:count]]


@dataclass(frozen=True)
class _Few:
    """How many labels are used, of at most how many rows, in how many draws of which seed."""

    labels: int | None
    rows: int
    draws: int
    seed: int

    def __str__(self) -> str:
        return f"{self.labels or 'all'} labels"

    def subsets(self, y: Tensor) -> list[Tensor]:
        """Rows of each draw."""
        wanted = len(y) if self.labels is None else self.labels
        if not PARTS <= wanted <= len(y):
            raise BadInput(f"labels must lie in [{PARTS}, {len(y)}], all there are; got {wanted}. Leave it out to use all.")
        if self.draws < 1 or PARTS % self.draws:
            raise BadInput(f"draws must divide {PARTS}, the parts of the test data; got {self.draws}. Use {DRAWS}.")
        generator = torch.Generator().manual_seed(self.seed)
        return [stratified(y, min(wanted, self.rows), generator) for _ in range(self.draws if wanted < len(y) else 1)]


@dataclass(frozen=True)
class _Task:
    """Checked codes, (N, Z) float32, and labels, (N,) int64."""

    z: Tensor
    y: Tensor
    test_z: Tensor
    test_y: Tensor

    @classmethod
    def of(cls, train_z: Array, train_y: Array, test_z: Array, test_y: Array) -> _Task:
        (z, y), (test, truth) = _labelled(train_z, train_y), _labelled(test_z, test_y)
        if z.shape[1] != test.shape[1]:
            raise BadInput(f"codes of training and test data need one size; got {z.shape[1]} and {test.shape[1]}.")
        if len(torch.unique(y)) < 2:
            raise BadInput(f"training labels need at least two classes; got class {int(y[0])} alone.")
        return cls(z, y, test, truth)

    def linear(self, valid: _Labelled | None, few: _Few) -> Score:
        return self._accuracy(lambda z, y: _logistic(z, y, self.test_z, valid, few.seed), few)

    def neighbours(self, k: int, metric: Metric, few: _Few) -> Score:
        return self._accuracy(lambda z, y: _vote(z, y, self.test_z, k, metric), few)

    def _accuracy(self, read: _Reader, few: _Few) -> Score:
        picks = few.subsets(self.y)
        score = _over_draws(torch.stack([read(self.z[p], self.y[p]) == self.test_y for p in picks]))
        drawn = f" x {len(picks)} draws" if len(picks) > 1 else ""
        return replace(score, method=f"{score.method}; {len(picks[0]):,} of {len(self.y):,} labels{drawn}")


def _labelled(z: Array, y: Array) -> _Labelled:
    code, labels = torch.as_tensor(z).detach().cpu().float().flatten(1), torch.as_tensor(y).cpu()
    if len(code) < PARTS:
        raise BadInput(f"at least {PARTS} codes in each part of the data are needed; got {len(code)}. Encode more.")
    if not bool(torch.isfinite(code).all()):
        bad = int((~torch.isfinite(code)).any(1).nonzero()[0, 0])
        raise BadInput(f"codes hold NaN or infinity, first in row {bad}; expected finite numbers. Drop that row.")
    if labels.is_floating_point() or tuple(labels.shape) != (len(code),):
        raise BadInput(f"labels must be integers of shape ({len(code)},), one a code; got {labels.dtype} {tuple(labels.shape)}.")
    return code, labels.long()


def _over_draws(hits: Tensor) -> Score:
    """Accuracy from whether each draw, (D, N) bool, is right on each test datum."""
    right = hits.double()
    if len(hits) == 1 or float(right.std()) == 0.0:
        return share_score(hits[0])
    plain, draws = mean_score(right.mean(0)), len(hits)
    few, many = (float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) for count in (draws, PARTS))
    shift = (right.mean(1) - plain.value) * math.sqrt((PARTS - 1) / (draws - 1)) * few / many
    parts = torch.tensor(plain.parts, dtype=torch.float64) + shift[torch.arange(PARTS) % draws]
    score = jackknife(plain.value, plain.value - (parts - plain.value) / (PARTS - 1))
    return replace(score, low=max(score.low, 0.0), high=min(score.high, 1.0))


def _logistic(z: Tensor, y: Tensor, test_z: Tensor, held: _Labelled | None, seed: int) -> Tensor:
    """Predicted test labels, (N,), with the strength that serves the held-out labels best."""
    if len(torch.unique(y)) == 1:  # a few labels of an unbalanced set: nothing to separate
        return y[:1].expand(len(test_z))
    mean, std = z.mean(0), z.std(0)
    scale = torch.where(std > 0, std, 1.0)
    z, test_z = (z - mean) / scale, (test_z - mean) / scale
    if held is None:
        chosen = _strongest(*_split(z, y, seed)).C
        model = _fit(z, y, chosen)
    else:
        model = _strongest((z, y), ((held[0] - mean) / scale, held[1]))
    return torch.from_numpy(model.predict(test_z.numpy()))


def _split(z: Tensor, y: Tensor, seed: int) -> tuple[_Labelled, _Labelled]:
    """Codes and labels to fit and to choose by; every class is among the first."""
    fit = torch.zeros(len(y), dtype=torch.bool)
    fit[stratified(y, round((1 - HELD) * len(y)), torch.Generator().manual_seed(seed))] = True
    return (z[fit], y[fit]), (z[~fit], y[~fit])


def _strongest(fit: _Labelled, held: _Labelled) -> LogisticRegression:
    """The fitted model whose strength C gives the held-out labels most likelihood, from weak ones up until that falls."""
    best, model = -math.inf, None
    for strength in STRENGTHS:
        candidate = _fit(*fit, strength)
        found = _log_likelihood(candidate, *held)
        if model is not None and found <= best:
            break
        best, model = found, candidate
    return model


def _fit(z: Tensor, y: Tensor, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=strength, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its bounded time is wanted; held-out labels judge what it found
        return model.fit(z.numpy(), y.numpy())


def _log_likelihood(model: LogisticRegression, z: Tensor, y: Tensor) -> float:
    """Mean log-probability of the labels, in nats; of those classes that the model knows."""
    classes = torch.from_numpy(model.classes_)
    seen = torch.isin(y, classes)
    logits = torch.from_numpy(model.decision_function(z[seen].numpy())).double()
    if logits.ndim == 1:  # of two classes scikit-learn gives the second one's against the first
        logits = torch.stack([torch.zeros_like(logits), logits], 1)
    logs = logits.log_softmax(1)
    return float(logs.gather(1, torch.searchsorted(classes, y[seen])[:, None]).mean())


def _vote(z: Tensor, y: Tensor, test_z: Tensor, k: int, metric: Metric) -> Tensor:
    """The class of most neighbours, (N,); of tied ones that of the nearest neighbour."""
    if metric == "cosine":  # on the unit sphere both order neighbours alike
        z, test_z = (torch.nn.functional.normalize(c, dim=1) for c in (z, test_z))
    votes = y[nearest(test_z, z, k=k)[1]]  # (N, k), nearest first
    support = (votes[:, :, None] == votes[:, None, :]).sum(2)
    first = (support == support.amax(1, keepdim=True)).long().argmax(1)
    return votes.gather(1, first[:, None])[:, 0]
