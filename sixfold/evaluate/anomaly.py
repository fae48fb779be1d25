"""Anomaly detection: scores of single data by what a model says of them, outliers to try them on, and how well they tell.

Every score is higher for stranger data, a polarity fixed here and never turned afterwards: an area below one half is a finding.

    -log p          -log p(x)                                                    likelihood
    typicality      | -log p(x) - mean over training data of -log p |            [1], for single data
    energy          E(x)                                                         where log p(x) = -E(x) - log Z
    gradient        | d log p(x) / dx |                                          [2], section 5.3: approximate mass
    reconstruction  | x - decode(encode(x)) |^2                                  differing elements for tokens
    complexity      -log2 p(x) - length of x compressed, in bits                 [3], S(x)

    AUROC = P(score of an outlier > score of an inlier) + P(they tie) / 2
    FPR at 95% TPR = share of outliers taken for inliers by the threshold that takes 95% of inliers for inliers; inliers are the
        positive class, as is the custom in this field
    AP = sum_n (R_n - R_(n-1)) P_n over the distinct scores; once with outliers as the positive class, once with inliers

High likelihood does not make a datum typical: likelihood prefers smooth outliers to data [4], which is why it never stands alone.

Source:  [1] Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick et al., 2019),
             arXiv:1906.02994.
         [2] Your Classifier is Secretly an Energy Based Model (Grathwohl et al., 2020), arXiv:1912.03263.
         [3] Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models (Serra et al., 2020),
             arXiv:1909.11480.
         [4] Do Deep Generative Models Know What They Don't Know? (Nalisnick et al., 2019), arXiv:1810.09136.
         Comparing the Areas under Two or More Correlated ROC Curves (DeLong, DeLong & Clarke-Pearson, 1988).
         Fast Implementation of DeLong's Algorithm (Sun & Xu, 2014): the variance by one sort instead of all pairs.
         Bounds for the Variance of the Mann-Whitney Statistic (Birnbaum & Klose, 1957): Var(AUROC) <= A (1 - A) / min(M, N).
Differs: DeLong's interval is made on the logit scale, where it stays between 0 and 1. The test of [1] is one of batches; here a
         batch is one datum, for which it is weak. [3] tries stronger coders beside PNG.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import GenerativeModel, HasDensity, HasEnergy, HasLatent, HasScore
from sixfold.core.spec import Array, DataSpec
from sixfold.evaluate.likelihood import log_prob_of
from sixfold.evaluate.score import LEVEL, PARTS, Score, fold, jackknife

Class = Literal["outliers", "inliers"]

TPR = 0.95
REFERENCE = 1000
RESAMPLES = 2000
Z = float(stats.norm.ppf((1 + LEVEL) / 2))


def auroc(inliers: Array, outliers: Array) -> Score:
    """Area under the ROC curve: how often an outlier's score is the higher one, ties by half.

    The interval is DeLong's on the logit scale. Where that variance is zero (full separation, or all scores equal) it is
    Wilson's for min(M, N) data, which Birnbaum & Klose's bound makes the widest that any distribution of scores asks for.

    Args:
        inliers, outliers: scores, (M,) and (N,), higher for stranger data; infinite ones are allowed.

    Raises:
        BadInput: for fewer than 20 scores of either, other shapes, or NaN.

    Example:
        >>> auroc(torch.arange(20.0), torch.arange(20.0) + 10).value
        0.875
    """
    return _Curves.of(inliers, outliers).auroc()


def average_precision(inliers: Array, outliers: Array, *, positive: Class = "outliers") -> Score:
    """Mean precision over the positive class' data, each at its own score; chance level is that class' share.

    Args:
        inliers, outliers: as in :func:`auroc`.
        positive: which class is looked for: the highest scores first for outliers, the lowest first for inliers.

    Raises:
        BadInput: as :func:`auroc`.
    """
    return _Curves.of(inliers, outliers).average_precision(positive)


def fpr_at_tpr(inliers: Array, outliers: Array, *, tpr: float = TPR) -> Score:
    """Share of outliers that pass for inliers at the lowest threshold which keeps a share ``tpr`` of the inliers.

    Args:
        inliers, outliers: as in :func:`auroc`.
        tpr: share of inliers kept, in (0, 1]; higher lets more outliers pass.

    Raises:
        BadInput: as :func:`auroc`, and for a share outside (0, 1].
    """
    if not 0 < tpr <= 1:
        raise BadInput(f"tpr is a share of inliers in (0, 1]; got {tpr}. Use 0.95.")
    return _Curves.of(inliers, outliers).fpr_at_tpr(tpr)


def detection(inliers: Array, outliers: Array) -> dict[str, Score]:
    """All measures of how well one score tells outliers from inliers; arguments as in :func:`auroc`."""
    curves = _Curves.of(inliers, outliers)
    return {
        "AUROC": curves.auroc(),
        "AP outliers": curves.average_precision("outliers"),
        "AP inliers": curves.average_precision("inliers"),
        f"FPR at {TPR:.0%} TPR": curves.fpr_at_tpr(TPR),
    }


@dataclass(frozen=True)
class _Curves:
    """Numbers of inliers and outliers at each distinct score, ascending: of all data, and without each part in turn.

    Args:
        inside, outside: (1 + PARTS, K) float64, exact as integers.
    """

    inside: Tensor
    outside: Tensor

    @classmethod
    def of(cls, inliers: Array, outliers: Array) -> _Curves:
        a, b = (_scores(s, name) for s, name in ((inliers, "inliers"), (outliers, "outliers")))
        levels, place = torch.unique(torch.cat([a, b]), return_inverse=True)
        return cls(*(_tally(part, len(levels)) for part in torch.split(place, [len(a), len(b)])))

    @cached_property
    def beaten(self) -> Tensor:
        """Inliers below each level, those at it by half, as a share, (1 + PARTS, K): DeLong's V10 of outliers there."""
        return (self.inside.cumsum(1) - self.inside / 2) / self.inside.sum(1, keepdim=True)

    def auroc(self) -> Score:
        areas = (self.outside * self.beaten).sum(1) / self.outside.sum(1)
        area, variance = float(areas[0]), self._delong(float(areas[0]))
        score = jackknife(area, areas[1:])
        return self._within(replace(score, method="DeLong"), Z * math.sqrt(variance))

    def _delong(self, area: float) -> float:
        """Variance of the area: that of its two structural components, V10 over outliers and V01 over inliers."""
        inside, outside = self.inside[0], self.outside[0]
        many, more = outside.sum(), inside.sum()
        above = 1 - (outside.cumsum(0) - outside / 2) / many
        s10 = (outside * (self.beaten[0] - area).square()).sum() / (many - 1)
        s01 = (inside * (above - area).square()).sum() / (more - 1)
        return float(s10 / many + s01 / more)

    def average_precision(self, positive: Class) -> Score:
        pair = (self.inside, self.outside) if positive == "inliers" else (self.outside.flip(1), self.inside.flip(1))
        found, others = pair
        hits = found.cumsum(1)
        precision = hits / (hits + others.cumsum(1)).clamp_min(1)
        values = (found * precision).sum(1) / hits[:, -1]
        score = jackknife(float(values[0]), values[1:])
        return self._within(score, score.half)

    def fpr_at_tpr(self, tpr: float) -> Score:
        total = self.inside.sum(1, keepdim=True)
        kept = self.inside.cumsum(1) >= tpr * total - 1e-9 * total  # rounding of the product must not cost a datum
        threshold = kept.long().argmax(1, keepdim=True)
        passed = self.outside.cumsum(1).gather(1, threshold)[:, 0] / self.outside.sum(1)
        score, spread = jackknife(float(passed[0]), passed[1:]), self._shares_passed(tpr)
        low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return replace(score, low=min(low, score.value), high=max(high, score.value), method=f"bootstrap, {RESAMPLES} draws")

    def _shares_passed(self, tpr: float) -> np.ndarray[Any, Any]:
        """Draws of the share of outliers that pass, (RESAMPLES,): of the threshold, and of the share given it.

        The r-th of m inliers drawn with replacement is the ceil(m u)-th of them, u ~ Beta(r, m - r + 1). Outliers get Jeffreys'
        posterior, which unlike their own bootstrap leaves a share of 0 or 1 in doubt.
        """
        rng, inside, outside = np.random.default_rng(0), self.inside[0].cumsum(0).numpy(), self.outside[0].cumsum(0).numpy()
        many, rank = outside[-1], math.ceil(tpr * inside[-1] * (1 - 1e-9))
        drawn = rng.beta(rank, inside[-1] - rank + 1, RESAMPLES)
        passed = outside[np.searchsorted(inside, np.ceil(drawn * inside[-1]))]
        shares: np.ndarray[Any, Any] = rng.beta(passed + 0.5, many - passed + 0.5)
        return shares

    def _within(self, score: Score, half: float) -> Score:
        """Share with an interval of half-width ``half`` made on the logit scale; Wilson's for the smaller class without one."""
        if half > 1e-12:  # what rounding leaves of zero is less
            middle, width = math.log(score.value / (1 - score.value)), half / (score.value * (1 - score.value))
            low, high = (1 / (1 + math.exp(-m)) for m in (middle - width, middle + width))
            return replace(score, low=low, high=high, method=f"{score.method}, logit")
        least = int(min(self.inside[0].sum(), self.outside[0].sum()))
        low, high = _wilson(score.value, least)
        return replace(score, low=low, high=high, method=f"Wilson for {least}: the variance is zero")


def _scores(scores: Array, name: str) -> Tensor:
    s = torch.as_tensor(scores).detach().cpu().double()
    if s.ndim != 1 or len(s) < PARTS:
        raise BadInput(f"scores of {name} must have shape (N,) with N >= {PARTS}; got {tuple(s.shape)}. Score more data.")
    if bool(s.isnan().any()):
        raise BadInput(f"scores of {name} hold NaN, first in row {int(s.isnan().nonzero()[0, 0])}; expected numbers to rank.")
    return s


def _tally(place: Tensor, levels: int) -> Tensor:
    """Data at each level, of all parts and without each one, (1 + PARTS, K)."""
    by_part = torch.bincount(fold(len(place)) * levels + place, minlength=PARTS * levels).reshape(PARTS, levels)
    whole = by_part.sum(0)
    return torch.cat([whole[None], whole - by_part]).double()


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The values a with |share - a| <= Z sqrt(a (1 - a) / count)."""
    shrink = 1 + Z * Z / count
    middle = (share + Z * Z / (2 * count)) / shrink
    half = Z / shrink * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def anomaly_scores(
    model: GenerativeModel,
    x: Array,
    *,
    reference: Split,
    cond: Array | int | None = None,
    generator: torch.Generator | None = None,
    batch: int = 1000,
) -> dict[str, Tensor]:
    """Every score that the model can give, per datum, (N,) float64; higher for stranger data.

    Args:
        model: trained.
        x: data, (N, *shape).
        reference: training data; at most 1,000 random rows give the mean that typicality is measured from.
        cond: conditions, one for all or one a datum. Gradient and energy take none and are left out then.
        generator: of bounds, estimates and codes that draw.
        batch: rows at a time; larger is faster and takes more memory.

    Returns:
        Scores by name as in the module's head. A gradient exists for real data only, complexity for discrete data only; a
        code of as many numbers as the datum reconstructs whatever it is given and is left out.
    """
    data = model.spec.check(x)
    found: dict[str, Tensor] = {}
    given = model.spec.check_cond(cond, len(data))
    if isinstance(model, HasDensity):
        surprise = -log_prob_of(model, data, given, batch=batch, generator=generator).nats
        known, its_cond = _some(reference, model)
        usual = -log_prob_of(model, known, its_cond, batch=batch, generator=generator).nats.double().mean()
        found = {"-log p": surprise, "typicality": (surprise.double() - usual).abs()}
        if model.spec.support.discrete:
            found["complexity"] = surprise.double().cpu() / math.log(2) - compressed_bits(data, model.spec)
    parts = list(_rows(data, given, batch))
    if given is None and isinstance(model, HasEnergy):
        found["energy"] = torch.cat([model.energy(rows) for rows, _ in parts])
    if given is None and not model.spec.support.discrete:
        found |= _joined("gradient", [_steepness(model, rows, generator) for rows, _ in parts])
    if isinstance(model, HasLatent):
        tokens = model.spec.support.kind == "tokens"
        found |= _joined("reconstruction", [_misfit(model, rows, c, generator, tokens) for rows, c in parts])
    return {name: score.detach().cpu().double() for name, score in found.items()}


def _rows(x: Tensor, cond: Tensor | None, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    for i in range(0, len(x), batch):
        yield x[i : i + batch], None if cond is None else cond[i : i + batch]


def _joined(name: str, parts: list[Tensor | None]) -> dict[str, Tensor]:
    found = [part for part in parts if part is not None]
    return {name: torch.cat(found)} if found else {}


def _some(reference: Split, model: GenerativeModel) -> tuple[Tensor, Tensor | None]:
    """Random rows of the training data, the same ones each time, with their conditions where the model takes them."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(reference), generator=generator)[:REFERENCE]
    x, cond = reference.batch(rows, Draws(len(rows), generator=generator))
    return x, None if model.spec.cond.kind == "none" else cond


def _steepness(model: GenerativeModel, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
    """Length of the gradient of log p by datum, (B,); ``None`` where the model has none."""
    if isinstance(model, HasScore):
        slope = model.score(x)
    else:
        with torch.enable_grad():
            point = x.to(model.device, model.dtype).detach().requires_grad_()
            height = _height(model, point, generator)
            if height is None or not height.requires_grad:
                return None
            (slope,) = torch.autograd.grad(height.sum(), point)
    length: Tensor = torch.linalg.vector_norm(slope.flatten(1).double(), dim=1)
    return length


def _height(model: GenerativeModel, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
    if isinstance(model, HasEnergy):
        return -model.energy(x)
    return model.log_prob(x, generator=generator).nats if isinstance(model, HasDensity) else None


def _misfit(model: HasLatent, x: Tensor, cond: Tensor | None, generator: torch.Generator | None, tokens: bool) -> Tensor | None:
    """Squared error of the datum that the code's mean gives, (B,); ``None`` for a code that holds the whole datum."""
    latent = model.encode(x, cond, generator=generator)
    if latent.mean is None and latent.z[0].numel() >= x[0].numel():
        return None
    again, truth = model.decode(latent.z if latent.mean is None else latent.mean, cond).cpu(), x.cpu()
    errors = (again != truth).double() if tokens else (again.double() - truth.double()).square()
    total: Tensor = errors.flatten(1).sum(1)
    return total


def compressed_bits(x: Array, spec: DataSpec) -> Tensor:
    """Length of each discrete datum compressed without loss, in bits, (N,): PNG for images of up to 256 levels, else zlib.

    Raises:
        Unsupported: for real data, which no code of finite length holds.
    """
    if not spec.support.discrete:
        raise Unsupported("real data have no compressed length; got a real support. Use levels.")
    data = spec.check(x).cpu()
    if spec.is_image and spec.dtype == torch.uint8:
        sizes = [_png(image) for image in data.numpy()]
    else:  # in the fewest bytes that hold every value
        sizes = [len(zlib.compress(row.tobytes(), 9)) for row in data.numpy().astype(np.min_scalar_type(spec.support.count - 1))]
    return 8 * torch.tensor(sizes, dtype=torch.float64)


def _png(image: np.ndarray[Any, Any]) -> int:
    """Bytes of an image, (C, H, W)."""
    store = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(store, "PNG", compress_level=9)
    return store.tell()


def outliers(x: Array, spec: DataSpec, *, near: Mapping[str, Array] | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Sets of outliers by name, in the data's own dtype and range: trivial ones made here, near ones as given.

    Images and discrete data: uniform noise; constant data, each of one random value; data with their elements in one other
    order for all; of images also upside down; of ordered values also with the range turned over.
    Points, tables and other real vectors: uniform in a box three times as wide as the data; a normal blob as wide as the data,
    ten standard deviations off; turned by 90 degrees in pairs of elements, in units of their standard deviations.

    Args:
        x: test data, (N, *shape).
        spec: what a datum is.
        near: sets of the same specification, as another data set of the same shape or a class left out of training.
        seed: of what is random.

    Raises:
        BadInput: for data, given or near, that ``spec`` does not describe, or fewer than 20.
    """
    data, g = spec.check(x).cpu(), torch.Generator().manual_seed(seed)
    if len(data) < PARTS:
        raise BadInput(f"outliers are made from at least {PARTS} data; got {len(data)}. Take more.")
    made = _pictures(data, spec, g) if spec.is_image or spec.support.discrete else _points(data, g)
    given = {name: spec.check(rows, name=name).cpu() for name, rows in (near or {}).items()}
    return {name: spec.check(rows.to(data.dtype), name=name) for name, rows in made.items()} | given


def _pictures(x: Tensor, spec: DataSpec, g: torch.Generator) -> dict[str, Tensor]:
    order = torch.randperm(spec.dims, generator=g)
    made = {
        "uniform noise": _uniform(x, spec, tuple(x.shape), g),
        "constant": _uniform(x, spec, (len(x), *(1 for _ in spec.shape)), g).expand_as(x).contiguous(),
        "permuted": x.flatten(1)[:, order].reshape(x.shape),
    }
    if spec.is_image:
        made["upside down"] = x.flip(-2)
    if spec.support.kind != "tokens":
        made["inverted"] = spec.support.count - 1 - x if spec.support.discrete else x.min() + x.max() - x
    return made


def _uniform(x: Tensor, spec: DataSpec, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """Uniform over the values of discrete data, or between the least and largest of real ones."""
    if spec.support.discrete:
        return torch.randint(spec.support.count, shape, generator=g)
    return x.min() + (x.max() - x.min()) * torch.rand(shape, generator=g, dtype=x.dtype)


def _points(x: Tensor, g: torch.Generator) -> dict[str, Tensor]:
    low, high, mean, std = x.amin(0), x.amax(0), x.mean(0), x.std(0)
    noise = torch.randn(x.shape, generator=g, dtype=x.dtype)
    made = {
        "uniform, wide box": (low + high) / 2 + 3 * (high - low) * (torch.rand(x.shape, generator=g, dtype=x.dtype) - 0.5),
        "far blob": mean + std * (noise + 10 / math.sqrt(x[0].numel())),
    }
    if x[0].numel() > 1:
        made["rotated"] = mean + std * _turned(((x - mean) / torch.where(std > 0, std, 1.0)).flatten(1)).reshape(x.shape)
    return made


def _turned(u: Tensor) -> Tensor:
    """(a, b) to (-b, a) in every pair of columns; a last column without partner stays."""
    even, out = u.shape[1] // 2 * 2, u.clone()
    out[:, 0:even:2], out[:, 1:even:2] = -u[:, 1:even:2], u[:, 0:even:2]
    return out


def anomaly(
    model: GenerativeModel,
    inliers: Array,
    outlier_sets: Mapping[str, Array],
    *,
    reference: Split,
    generator: torch.Generator | None = None,
    batch: int = 1000,
) -> dict[tuple[str, str], dict[str, Score]]:
    """How well each of the model's scores tells each set of outliers from test data.

    Args:
        model: trained, unconditional.
        inliers: test data, never those of training, which a model knows too well.
        outlier_sets: by name, as :func:`outliers` gives them.
        reference, generator, batch: as in :func:`anomaly_scores`.

    Returns:
        By set and name of score, what :func:`detection` says; without the pairs where a score is NaN, which has no rank.

    Raises:
        Unsupported: for a conditional model: outliers have no condition.
    """
    if model.spec.cond.kind != "none":
        raise Unsupported(f"{model.name} takes conditions, which outliers do not have. Fit it without conditional=True.")
    sets = [("inliers", inliers), *outlier_sets.items()]
    rows = [model.spec.check(x, name=name).cpu() for name, x in sets]
    scores = anomaly_scores(model, torch.cat(rows), reference=reference, generator=generator, batch=batch)
    found: dict[tuple[str, str], dict[str, Score]] = {}
    for name, score in scores.items():
        own, *others = torch.split(score, [len(x) for x in rows])
        pairs = zip(outlier_sets, others, strict=True)
        found |= {(kind, name): detection(own, of) for kind, of in pairs if not torch.cat([own, of]).isnan().any()}
    return found
