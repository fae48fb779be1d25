"""Are samples new, or copies of the training data or of each other? A copy indicator.

It can show that a generator copies. It is no measure of privacy and must not be called one: data sets that look new by
distances to the nearest training datum have been found to leak who was in them.

With d(z) the distance from z to its nearest training datum t(z), d'(z) that from z to the nearest other datum of its own sample,
generated x_i, and real y_j that were held out of training:

    distance_ratio    median_i d(x_i) / median_j d(y_j)              about 1 for new data of the right distribution, 0 for copies
    exact_duplicates  share of samples with d(x_i) = 0
    near_duplicates   share of samples with d(x_i) below the alpha-quantile of d(y_j): between alpha and alpha + 1/M
                      for new data of the right distribution
    exact_repeats     share of samples with d'(x_i) = 0              a generator that repeats itself
    near_repeats      share of samples with d'(x_i) below the alpha-quantile of d'(y_j), samples of one size: alpha likewise
    authenticity      share of samples whose t(x_i) has another training datum nearer than x_i

Authenticity of new data is the chance that a datum is not the nearest neighbour of its own nearest neighbour: 1/3 in one
dimension, 0.38 in two, 0.9 for a Gaussian in a hundred. A ratio above 1 or few near duplicates are no praise: samples far from
all data have both. In data with few values real data repeat each other too: read all beside those of a second real sample in
place of ``x``.

Intervals are over samples and held-out data; the training data are taken as given.

Source:  How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and Auditing Generative Models (Alaa et al.,
         2022), arXiv:2102.08921, for authenticity. The DCR Delusion (Yao et al., 2025), arXiv:2505.01524, for what such distances
         cannot show.
Differs: authenticity is the raw share (some report it minus one half). A sample as far from t(x) as the next training
         datum is not authentic. Ties at a quantile count in the proportion that gives held-out data a share of exactly alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array
from sixfold.evaluate.neighbours import nearest, nearest_other
from sixfold.evaluate.score import PARTS, Score, fold, jackknife, jackknife_share, samples, share_score

OTHERS = 4  # nearest other data kept of each, so that one outside a given part is among them


def novelty(x: Array, y: Array, train: Array, *, alpha: float = 0.01) -> dict[str, Score]:
    """Distances of generated ``x`` to training data and among themselves, against those of held-out ``y``.

    Args:
        x: generated, (N, *shape).
        y: real and not trained on, (M, *shape); repeats are counted among the first min(N, M) of both.
        train: what the model was trained on, (T, *shape).
        alpha: share of held-out data that count as near duplicates; a larger one is steadier and less sharp.

    Returns:
        ``distance_ratio``, ``exact_duplicates``, ``near_duplicates``, ``exact_repeats``, ``near_repeats``, ``authenticity``.

    Raises:
        BadInput: for ``alpha`` outside (0, 1), and as :func:`samples`.

    Example:
        >>> train = torch.randn(200, 2)
        >>> found = novelty(train[:50], torch.randn(50, 2), train)
        >>> found["exact_duplicates"].value, found["distance_ratio"].value, found["authenticity"].value
        (1.0, 0.0, 0.0)
    """
    if not 0 < alpha < 1:
        raise BadInput(f"alpha must lie between 0 and 1; got {alpha}. Usual is 0.01.")
    a, b = samples(x, y)
    t = samples(y, train)[1]
    far, rows = (found[:, 0] for found in nearest(a, t))
    real = nearest(b, t)[0][:, 0]
    least = min(len(a), len(b))
    others, others_real = _others(a[:least]), _others(b[:least])
    near = partial(_below, alpha=alpha)
    return {
        "distance_ratio": _ratio_score(_leaving(_ratio, _same(far), _same(real))),
        "exact_duplicates": share_score(far == 0),
        "near_duplicates": _share(_leaving(near, _same(far), _same(real)), len(far)),
        "exact_repeats": _share(_leaving(_zeros, others, others_real), least),
        "near_repeats": _share(_leaving(near, others, others_real), least),
        "authenticity": share_score(far > _among(t, rows)),
    }


def _among(train: Tensor, rows: Tensor) -> Tensor:
    """Distance of the training data ``rows``, (N,), to the nearest other of them; each is searched once."""
    once, back = torch.unique(rows, return_inverse=True)
    return nearest_other(train, rows=once)[0][back, 0]


def _others(x: Tensor) -> Tensor:
    """Distance to the nearest other datum among all, and among those outside each part in turn, (1 + PARTS, N)."""
    distances, rows = nearest_other(x, k=OTHERS)
    part = fold(len(x))[rows]
    # Where all that are kept lie in the part, the farthest stands in for the one beyond.
    inside = torch.stack([(part == g).long().cumprod(1).sum(1) for g in range(-1, PARTS)])
    return distances.gather(1, inside.clamp_max(OTHERS - 1).T).T


def _same(far: Tensor) -> Tensor:
    """Distances that leaving out other data of the sample does not change, in the form of :func:`_others`."""
    return far.expand(1 + PARTS, -1)


def _leaving(metric: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor) -> list[float]:
    """A metric of distances on all data and without each part, from both (1 + PARTS, N) and (1 + PARTS, M)."""
    parts = fold(x.shape[1]), fold(y.shape[1])
    return [metric(a[parts[0] != g], b[parts[1] != g]) for g, (a, b) in enumerate(zip(x, y, strict=True), start=-1)]


def _ratio(far: Tensor, real: Tensor) -> float:
    above, below = float(far.median()), float(real.median())
    if below == 0:
        return 1.0 if above == 0 else math.inf
    return above / below


def _zeros(far: Tensor, real: Tensor) -> float:
    return float((far == 0).double().mean())


def _below(far: Tensor, real: Tensor, *, alpha: float) -> float:
    """Share of ``far`` below the alpha-quantile of ``real``; ties with it in the proportion that makes that of ``real`` alpha."""
    quantile = real.kthvalue(max(1, math.ceil(alpha * len(real) - 1e-9))).values  # 0.01 * 700 is a little more than 7
    under, tied = ((real < quantile).double().mean(), (real == quantile).double().mean())
    ties = (far == quantile).double().mean() * ((alpha - under) / tied).clamp(0, 1)
    return float((far < quantile).double().mean() + ties)


def _share(values: list[float], count: int) -> Score:
    return jackknife_share(values[0], values[1:], count)


def _ratio_score(values: list[float]) -> Score:
    """Jackknife, or no bound where too many held-out data coincide with training data for a ratio."""
    if all(map(math.isfinite, values)):
        return jackknife(values[0], values[1:])
    return Score(values[0], 0.0, math.inf, "no bound: half of the held-out data or more are in the training data")
