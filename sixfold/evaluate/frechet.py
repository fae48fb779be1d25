"""Frechet distance between Gaussians fitted to two samples of features, and its extrapolation to infinite samples.

    FD = |m_1 - m_2|^2 + Tr( S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2 )

m and S are the mean and the unbiased covariance of the features handed in. It compares these two moments alone, whatever the
features are, and is a number of that feature space: it is not FID, which is this distance between Inception-v3's features.

The trace of the root is the sum of the singular values of R_1^T R_2 with S = R R^T from a symmetric eigen-decomposition. There
is no complex number to drop, singular covariances (fewer data than features, constant features) are no special case, and unlike
with the roots of a product's eigenvalues a rounding error of 1e-16 does not become 1e-8.

FD of finite samples is too large by about c/N, where c depends on the generator, so that even equal N do not make two of them
comparable. :func:`frechet_limit` fits a line in 1/N and takes its value at 1/N = 0.

Source:  The Frechet distance between multivariate normal distributions (Dowson & Landau, 1982).
         Effectively Unbiased FID and Inception Score and where to find them (Chong & Forsyth, 2020), arXiv:1911.07023.
Differs: the subsets of both samples shrink together (there the generated ones alone), so that the bias of the finite real sample
         goes too; they are nested random subsets instead of independent draws; the smallest is a quarter instead of a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array
from sixfold.evaluate.score import PARTS, Score, fold, jackknife, samples

SIZES = 15
"""Sizes of subsets that the line in 1/N is fitted to."""


def frechet(x: Array, y: Array) -> Score:
    """Frechet distance of two samples' features, in squared units of the features.

    Args:
        x: features of generated samples, (N, D).
        y: features of real data, (M, D).

    Returns:
        Distance at these sizes, biased upwards; compare only at equal sizes, or use :func:`frechet_limit`.

    Raises:
        BadInput: for different shapes, too few data, NaN or infinity.

    Example:
        >>> x = torch.linspace(0, 1, 40)[:, None]
        >>> round(frechet(x + 2.0, x).value, 4)
        4.0
    """
    a, b = samples(x, y)
    found = _by_part(a, b, fold(len(a)), fold(len(b)))
    return jackknife(float(found[0]), found[1:])


def frechet_limit(x: Array, y: Array, *, smallest: float = 0.25, seed: int = 0) -> Score:
    """Frechet distance that infinitely many samples would have; around zero, and then often below, for equal distributions.

    Args:
        x: features of generated samples, (N, D).
        y: features of real data, (M, D).
        smallest: share of the data in the smallest subset; more lessens the bias from terms beyond 1/N and widens the interval.
        seed: of the subsets.

    Raises:
        BadInput: for different shapes, too few data, NaN or infinity, a share outside (0, 1) or of too few data.

    Example:
        >>> round(frechet_limit(torch.ones(20, 3), torch.zeros(20, 3)).value, 4)
        3.0
    """
    if not 0 < smallest < 1:
        raise BadInput(f"smallest must be a share between 0 and 1; got {smallest}. Use 0.25.")
    a, b = samples(x, y)
    generator = torch.Generator().manual_seed(seed)
    i, j = (torch.randperm(len(z), generator=generator) for z in (a, b))
    inverse, found = [], []
    for share in torch.linspace(smallest, 1, SIZES, dtype=torch.float64).tolist():
        u, v = (order[: round(share * len(order))] for order in (i, j))
        part_u, part_v = fold(len(a))[u], fold(len(b))[v]
        inverse.append(_inverse_sizes(part_u, part_v, smallest))
        found.append(_by_part(a[u], b[v], part_u, part_v))
    limit = _intercept(torch.stack(inverse), torch.stack(found))
    return jackknife(float(limit[0]), limit[1:])


def _by_part(x: Tensor, y: Tensor, part_x: Tensor, part_y: Tensor) -> Tensor:
    """Distance of all data, then without each part in turn, (1 + PARTS,)."""
    pairs = zip(_fits(x, part_x), _fits(y, part_y), strict=True)
    return torch.stack([_distance(*p, *q) for p, q in pairs])


def _inverse_sizes(part_x: Tensor, part_y: Tensor, smallest: float) -> Tensor:
    """1/N + 1/M of all data, then without each part in turn, (1 + PARTS,); what the distance's bias is proportional to."""
    counts = torch.stack([torch.bincount(part, minlength=PARTS) for part in (part_x, part_y)])
    left = counts.sum(1, keepdim=True) - torch.cat([torch.zeros_like(counts[:, :1]), counts], dim=1)
    if left.min() < 2:
        raise BadInput(
            f"a share of {smallest} of the data is too few to fit a Gaussian to. Draw more samples or use a larger share."
        )
    return left.double().reciprocal().sum(0)


def _fits(x: Tensor, part: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Mean (D,) and covariance (D, D) of all data, then without each part, from sums that are taken once."""
    centre = x.mean(0)
    z = x - centre  # second moments of data far from zero cancel badly
    total, outer = z.sum(0), z.T @ z
    yield _moments(len(z), total, outer, centre)
    for g in range(PARTS):
        out = z[part == g]
        yield _moments(len(z) - len(out), total - out.sum(0), outer - out.T @ out, centre)


def _moments(count: int, total: Tensor, outer: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance of ``count`` data from their sums about ``centre``."""
    mean = total / count
    return centre + mean, (outer - count * torch.outer(mean, mean)) / (count - 1)


def _distance(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> Tensor:
    """Frechet distance between two Gaussians, 0-d."""
    overlap: Tensor = torch.linalg.svdvals(_root(cov_x).T @ _root(cov_y)).sum()
    squared: Tensor = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * overlap
    return squared.clamp_min(0)  # rounding alone goes below


def _root(cov: Tensor) -> Tensor:
    """R with R R^T = cov, (D, rank)."""
    values, vectors = torch.linalg.eigh(cov)
    # Below this an eigenvalue is rounding error, whose root would be 1e-8 of the largest.
    real = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    root: Tensor = vectors[:, real] * values[real].sqrt()
    return root


def _intercept(at: Tensor, values: Tensor) -> Tensor:
    """Value at zero of the least-squares line through each column's points, (SIZES, K) and (SIZES, K), (K,)."""
    centre = at - at.mean(0)
    slope = (centre * values).sum(0) / centre.square().sum(0)
    return values.mean(0) - slope * at.mean(0)
