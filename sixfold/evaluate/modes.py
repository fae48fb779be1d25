"""Modes and classes: which parts of the data do samples reach, and in the right shares?

For mixtures with known centres a sample belongs to the nearest centre and is good within 3 standard deviations of it. For
labelled data a sample belongs to the class that a classifier predicts. Either way, with p the shares of samples and q the true
ones,

    found         modes k with at least one sample, and at least 20% as many as N q_k (good ones, of known modes)
    reverse KL    sum_k p_k log (p_k / q_k)      nats; finite when modes are missing
    shift         1/2 sum_k |p_k - q_k|          total variation: the share of samples in the wrong mode

A mode is found, in the papers, with a single sample. Then a stray sample counts for a mode of a thousand, and one dropped class
is always "found" by a classifier's mistakes, so that more samples find more modes; ``share=0`` gives that number. Of a perfect
sampler in D dimensions the share of good samples is P(chi^2_D < 9), 0.9973, 0.9889 and 0.9707 for D = 1, 2 and 3, not 1; its
reverse KL and shift are above zero by chance alone, the KL by about (K - 1) / 2N, with M real data (K - 1)(1 / 2N + 1 / 2M), the
shift by about sqrt(K (1 / N + 1 / M) / (2 pi)). Intervals are around these values and need not hold zero: compare with the same
number of real data against real data, or two models by their difference.

Source:  VEEGAN (Srivastava et al., 2017), arXiv:1705.07761, section 5 (good samples, modes found);
         PacGAN (Lin, Khetan, Fanti & Oh, 2018), arXiv:1712.04086, section 4 (reverse KL over modes).
Differs: a mode needs a share of its samples; the true shares of a mixture are its weights, not counts of a real sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array
from sixfold.evaluate.score import PARTS, Score, fold, jackknife, samples, share_score

FOUND = 0.2
"""Share of its expected samples that a mode needs to be found."""


def mode_scores(
    x: Array, centres: Array, std: float, weights: Array | None = None, *, within: float = 3.0, share: float = FOUND
) -> dict[str, Score]:
    """Modes found, share of good samples and reverse KL over modes, of samples from a model of a known mixture.

    Args:
        x: samples, (N, D).
        centres: of the true modes, (K, D).
        std: standard deviation of every mode.
        weights: true probability of each mode, (K,), all positive and summing to one; ``None`` makes them equal.
        within: distance from the nearest centre, in standard deviations, up to which a sample is good.
        share: of the samples that a mode would have at the true weights, that it needs to be found; 0: a single one is enough.

    Returns:
        ``modes``, a count; ``good``, in [0, 1]; ``mode_kl``, in nats.

    Raises:
        BadInput: for other shapes, too few samples, NaN, or weights that are no probabilities.

    Example:
        >>> mode_scores(torch.zeros(100, 1), torch.tensor([[0.0], [9.0]]), 1.0)["modes"].value
        1.0
    """
    if not (std > 0 and within > 0):
        raise BadInput(f"std and within must be above 0; got {std} and {within}.")
    points = samples(x, x)[0]
    middle = torch.as_tensor(centres).cpu().double()
    if middle.ndim != 2 or middle.shape[1] != points.shape[1] or not len(middle):
        raise BadInput(f"centres must have shape (K, {points.shape[1]}) like the samples; got {tuple(middle.shape)}.")
    truth = _weights(weights, len(middle))
    near = _nearest(points, middle)
    good = near[0] <= within * std
    counts, kept = _counts(near[1], len(middle)), _counts(near[1], len(middle), good)
    return {
        "modes": _jackknifed(lambda c, k: _found(k, c.sum(-1, keepdim=True) * truth, share), counts, kept),
        "good": share_score(good),
        "mode_kl": _jackknifed(lambda c: _kl(c, truth), counts),
    }


def class_scores(labels_x: Array, labels_y: Array, classes: int, *, share: float = FOUND) -> dict[str, Score]:
    """Classes found, and how far the shares of classes among samples are from those of real data.

    Args:
        labels_x: predicted classes of samples, (N,), integers in [0, classes).
        labels_y: classes of real data, (M,), predicted by the same classifier, so that its mistakes are in both.
        classes: how many there are; some may be missing on either side.
        share: of the samples that a class would have at its share of real data, that it needs to be found; 0: a single one is
            enough. Classes without real data cannot be found.

    Returns:
        ``classes``, a count; ``class_kl``, in nats, against shares of real data counted with half a datum more in each class
        (Jeffreys), so that a class without real data costs much but not infinitely much; ``class_shift``, total variation, in
        [0, 1]; ``class_p``, the p-value of a chi-square test that both have the same shares, without an interval.

    Raises:
        BadInput: for labels outside the classes or too few.
    """
    x, y = _labels(labels_x, classes), _labels(labels_y, classes)
    a, b = _counts(x, classes), _counts(y, classes)
    return {
        "classes": _jackknifed(lambda c, r: _found(c, c.sum(-1, keepdim=True) * _shares(r), share), a, b),
        "class_kl": _jackknifed(lambda c, r: _kl(c, _shares(r + 0.5)), a, b),
        "class_shift": _jackknifed(lambda c, r: (_shares(c) - _shares(r)).abs().sum(-1) / 2, a, b),
        "class_p": _chi_square(torch.stack([a.sum(0), b.sum(0)])),
    }


def conditional_accuracy(predicted: Array, wanted: Array) -> Score:
    """Share of samples that a classifier takes for the class that they were asked to be.

    It is at most about the classifier's own accuracy on real data: print that beside it.

    Args:
        predicted: classes of the samples, (N,), integers.
        wanted: classes that the samples were conditioned on, (N,).

    Raises:
        BadInput: for different lengths or too few.
    """
    said, asked = torch.as_tensor(predicted).cpu(), torch.as_tensor(wanted).cpu()
    if said.ndim != 1 or said.shape != asked.shape:
        raise BadInput(
            f"predicted and wanted classes must be of one shape (N,); got {tuple(said.shape)} and {tuple(asked.shape)}."
        )
    return share_score(said == asked)


def fit_classifier(features: Array, labels: Array, *, strength: float = 1.0) -> Callable[[Array], Tensor]:
    """A linear classifier of features, for labelled data that no trained network is at hand for.

    Args:
        features: of real training data, (N, *shape); flattened and standardised.
        labels: their classes, (N,), integers, at least two different ones.
        strength: of the penalty on squared weights; more is smoother.

    Returns:
        a function that maps features, (M, *shape), to predicted classes, (M,) in int64.

    Raises:
        BadInput: for different lengths, a single class, NaN or too few data.
    """
    z, found = _matrix(features), torch.as_tensor(labels).cpu()
    if found.ndim != 1 or len(found) != len(z) or found.is_floating_point():
        raise BadInput(f"integer labels of shape ({len(z)},) are needed; got {found.dtype} {tuple(found.shape)}.")
    if len(set(found.tolist())) < 2:
        raise BadInput("a classifier needs at least two classes; got one. Add data of another.")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0 / strength, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable classes have no finite optimum worth waiting for
        pipeline.fit(z, found.long().numpy())
    return lambda new: torch.from_numpy(np.asarray(pipeline.predict(_matrix(new)), dtype=np.int64))


def _matrix(features: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return samples(features, features, least=1)[0].numpy()


def _weights(weights: Array | None, count: int) -> Tensor:
    """True probabilities of the modes, (count,) in float64."""
    if weights is None:
        return torch.full((count,), 1.0 / count, dtype=torch.float64)
    w = torch.as_tensor(weights).cpu().double()
    if w.shape != (count,) or not bool((w > 0).all()) or abs(float(w.sum()) - 1) > 1e-6:
        raise BadInput(
            f"weights must be {count} positive numbers that sum to one; got shape {tuple(w.shape)}, sum {float(w.sum()):g}."
        )
    return w


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest centre and its index, (N,) each, a block of points at a time."""
    found = [torch.cdist(part, centres, compute_mode="donot_use_mm_for_euclid_dist").min(1) for part in torch.split(points, 2000)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _labels(labels: Array, classes: int) -> Tensor:
    found = torch.as_tensor(labels).detach().cpu()
    if found.ndim != 1 or found.is_floating_point() or len(found) < PARTS:
        raise BadInput(f"at least {PARTS} integer labels of shape (N,) are needed; got {found.dtype} {tuple(found.shape)}.")
    if int(found.min()) < 0 or int(found.max()) >= classes:
        raise BadInput(f"labels must lie in [0, {classes - 1}]; got {int(found.min())} to {int(found.max())}.")
    return found.long()


def _counts(labels: Tensor, classes: int, counted: Tensor | None = None) -> Tensor:
    """Data by part and class, (PARTS, classes) in float64; only those that are ``counted``, (N,) bool."""
    weight = torch.ones(len(labels), dtype=torch.float64) if counted is None else counted.double()
    place = fold(len(labels)) * classes + labels
    return torch.bincount(place, weights=weight, minlength=PARTS * classes).reshape(PARTS, classes)


def _jackknifed(metric: Callable[..., Tensor], *counts: Tensor) -> Score:
    """A function of counts by class, with its interval, from counts by part, (PARTS, classes) each.

    ``metric`` is asked once for all data and for all but each part, stacked: it maps (1 + PARTS, classes) each to (1 + PARTS,).
    """
    found = metric(*(torch.cat([c.sum(0, keepdim=True), c.sum(0) - c]) for c in counts))
    return jackknife(float(found[0]), found[1:])


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def _found(counts: Tensor, expected: Tensor, share: float) -> Tensor:
    """How many modes have at least one sample and that share of the expected ones; modes that nothing is expected in do not."""
    return ((counts >= (share * expected).clamp_min(1.0)) & (expected > 0)).sum(-1)


def _kl(counts: Tensor, truth: Tensor) -> Tensor:
    """KL(shares of the counts || truth) in nats."""
    p = _shares(counts)
    gain: Tensor = torch.special.xlogy(p, p) - torch.special.xlogy(p, truth)
    return gain.sum(-1)


def _chi_square(table: Tensor) -> Score:
    """p-value that both rows of counts, (2, K), are of one distribution, without classes that neither has."""
    present = table[:, table.sum(0) > 0]
    if present.shape[1] < 2:
        return Score(1.0, 1.0, 1.0, "p-value; there is only one class")
    found = stats.chi2_contingency(present.numpy(), correction=False)
    few = "; rough, as some expected counts are below 5" if float(np.min(found.expected_freq)) < 5 else ""
    p = float(found.pvalue)
    return Score(p, p, p, f"p-value, chi-square with {found.dof} degrees of freedom{few}")
