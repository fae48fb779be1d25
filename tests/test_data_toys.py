"""Toy truths: each density integrates to one, is the density of its own samples, and has the entropy it says."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from sklearn.datasets import make_moons

from sixfold.data import load
from sixfold.data.catalogue import TOYS as LISTED
from sixfold.data.toys import TOYS, Mixture, Rings, entropy
from sixfold.solve.quadrature import counts_for, gauss_legendre, lattice

SIGMAS = 4.0  # two-sided false-alarm rate 6.3e-5
FALSE_ALARM = 1e-4
CELLS = 14  # per axis of the picture on which samples are counted

toys = pytest.mark.parametrize("name", TOYS)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@cache
def toy_of(name):
    return TOYS[name]()


@cache
def cell_masses(name):
    """Mass of each cell of a coarse picture, summed over a lattice of another spacing than the entropy's."""
    toy = toy_of(name)
    counts = [CELLS * math.ceil(n / CELLS) for n in counts_for(toy.low, toy.high, toy.scale / 1.7)]
    points, volume = lattice(toy.low, toy.high, counts)
    density = toy.log_prob(points).exp().numpy().reshape(counts) * volume
    for axis, n in enumerate(counts):
        density = np.add.reduceat(density, np.arange(0, n, n // CELLS), axis=axis)
    return density


def test_every_listed_toy_exists():
    assert list(TOYS) == list(LISTED)


@toys
def test_density_integrates_to_one(name):
    # The lattice is exact to rounding; the box leaves out less than 1e-11.
    assert cell_masses(name).sum() == pytest.approx(1.0, abs=1e-8)


@toys
def test_samples_follow_density(name):
    toy, num = toy_of(name), 20_000
    x = toy.sample(num, generator=seeded(11)).double().numpy()
    edges = [np.linspace(a, b, CELLS + 1) for a, b in zip(toy.low, toy.high, strict=True)]
    got, want = np.histogramdd(x, edges)[0].ravel(), num * cell_masses(name).ravel()
    rare = want < 5  # the chi-square law needs five a cell; rarer ones are counted together
    got, want = np.append(got[~rare], num - got[~rare].sum()), np.append(want[~rare], num - want[~rare].sum())
    got, want = (got[:-1], want[:-1]) if want[-1] < 1e-3 else (got, want)
    assert stats.chisquare(got, want, sum_check=False).pvalue > FALSE_ALARM


@toys
def test_best_nll_is_the_mean_over_samples(name):
    toy, num = toy_of(name), 20_000
    nll = -toy.log_prob(toy.sample(num, generator=seeded(12)).double())
    assert abs(float(nll.mean()) - toy.best_nll) < SIGMAS * float(nll.std()) / math.sqrt(num)


@pytest.mark.parametrize("name", ["moons", "rings", "pinwheel", "mixture1d"])
def test_entropy_has_converged(name):
    toy = toy_of(name)
    assert entropy(toy, finer=1.5) == pytest.approx(toy.best_nll, abs=1e-6)


@pytest.mark.parametrize(("name", "modes", "std"), [("ring8", 8, 0.01), ("grid25", 25, 0.05)])
def test_entropy_of_far_modes(name, modes, std):
    # Modes at least 40 standard deviations apart: a choice and a Gaussian.
    assert toy_of(name).best_nll == pytest.approx(math.log(modes) + math.log(2 * math.pi * math.e * std**2), abs=1e-8)


def test_entropy_of_the_mixture_on_the_line():
    toy = toy_of("mixture1d")
    density = lambda x: sum(w * stats.norm.pdf(x, m, 0.3) for w, m in ((0.3, -2.0), (0.2, 0.0), (0.5, 1.5)))  # noqa: E731
    got, _ = integrate.quad(lambda x: -density(x) * math.log(density(x)), -4, 4, points=[-2, 0, 1.5], epsabs=1e-10)
    assert toy.best_nll == pytest.approx(got, abs=1e-6)


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_curve_density_is_the_integral_along_the_curve(name):
    toy = toy_of(name)
    x = toy.sample(6, generator=seeded(0)).double()

    def brute(point):
        t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
        kernels = [stats.norm.pdf(branch(t).numpy(), point.numpy(), toy.noise).prod(1).mean() for branch in toy.branches.values()]
        return math.log(np.mean(kernels))

    # The midpoint rule with 2e5 points errs by less than 1e-7 here.
    assert toy.log_prob(x).tolist() == pytest.approx([brute(point) for point in x], abs=1e-6)


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_curve_quadrature_has_converged(name):
    toy = toy_of(name)
    x = toy.sample(500, generator=seeded(1)).double() * 1.2
    finer = replace(toy, nodes=2 * toy.nodes)
    torch.testing.assert_close(toy.log_prob(x), finer.log_prob(x), rtol=0, atol=1e-8)


def test_moons_have_scikit_learns_geometry():
    points, label = make_moons(200, shuffle=False, noise=None)
    t = torch.linspace(0, 1, 100, dtype=torch.float64)
    branches = toy_of("moons").branches.values()
    for k, branch in enumerate(branches):
        np.testing.assert_allclose(branch(t).numpy(), points[label == k], atol=1e-12)


def test_ring_density_is_the_integral_over_the_angle():
    toy = Rings((0.4, 1.0), 0.2)
    angle = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    brute = Mixture(torch.cat([0.4 * circle, circle]), 0.2)
    x = torch.tensor([[0.0, 0.0], [0.3, 0.1], [1.0, -0.5], [4.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(toy.log_prob(x), brute.log_prob(x), rtol=1e-10, atol=1e-10)


def test_checkerboard_is_a_blurred_uniform():
    toy = toy_of("checkerboard")
    x = torch.tensor([[-3.0, -3.0], [-3.0, -1.0], [-2.0, -3.0], [0.01, -3.97], [4.3, 4.2]], dtype=torch.float64)
    sides = stats.norm.cdf(((x[:, None] - toy.corners) / 0.05).numpy()) - stats.norm.cdf(
        ((x[:, None] - toy.corners - 2) / 0.05).numpy()
    )
    with np.errstate(divide="ignore"):
        want = np.log(sides.prod(2).sum(1) / 32)
    np.testing.assert_allclose(toy.log_prob(x).numpy()[[0, 2, 3]], want[[0, 2, 3]], rtol=1e-10)
    # 20 standard deviations from each of three squares: there the difference of two distribution functions would cancel.
    assert float(toy.log_prob(x)[1]) == pytest.approx(special.log_ndtr(-20.0) + math.log(3 / 32), abs=1e-8)
    assert float(toy.log_prob(x)[0]) == pytest.approx(-math.log(32), abs=1e-12)


@toys
def test_score_is_finite_everywhere(name):
    toy = toy_of(name)
    dims = len(toy.low)
    x = (
        torch.cat([torch.zeros(1, dims), torch.full((1, dims), 30.0), toy.sample(50, generator=seeded(2))])
        .double()
        .requires_grad_()
    )
    log_p = toy.log_prob(x)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    assert bool(torch.isfinite(log_p).all() and torch.isfinite(score).all())
    step = 1e-5 * torch.ones_like(x)
    slope = (toy.log_prob(x + step) - toy.log_prob(x - step)) / 2e-5
    # A central difference errs by the third derivative, at most 1e-10 / scale^3 (ring8: 1e-4), and rounding of 1e-11 / scale^2.
    torch.testing.assert_close(score.sum(1)[2:], slope[2:], rtol=1e-4, atol=1e-3)


@toys
def test_labels_say_where_a_draw_came_from(name):
    toy = toy_of(name)
    num = 8_000
    _, label = toy.labelled(num, generator=seeded(3))
    weights = toy.log_weights.exp() if isinstance(toy, Mixture) else torch.full((len(toy.classes),), 1 / len(toy.classes))
    counts = torch.bincount(label, minlength=len(toy.classes)).double()
    assert stats.chisquare(counts, num * weights.double() / weights.sum()).pvalue > FALSE_ALARM


@pytest.mark.parametrize("name", ["ring8", "grid25"])
def test_labels_are_the_nearest_mode(name):
    toy = toy_of(name)
    x, label = toy.labelled(2_000, generator=seeded(4))
    assert torch.equal(torch.cdist(x.double(), toy.centres).argmin(1), label)


@toys
def test_generator_decides_and_the_global_one_rests(name):
    before = torch.get_rng_state()
    first, again = (toy_of(name).sample(7, generator=seeded(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.dtype == torch.float32


def test_float32_in_float32_out():
    toy = toy_of("moons")
    x = toy.sample(100, generator=seeded(6))
    assert toy.log_prob(x).dtype == torch.float32
    torch.testing.assert_close(toy.log_prob(x).double(), toy.log_prob(x.double()), rtol=1e-6, atol=1e-6)


@toys
def test_loaded_toys(name):
    data = load(name)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [50_000, 5_000, 10_000]
    assert data.spec.check(data.train.x) is not None
    assert torch.equal(load(name).test.x, data.test.x)
    assert not torch.equal(data.train.x[:5_000], data.valid.x)
    assert data.conditional().spec.cond.size == len(data.classes)


def test_gauss_legendre_is_exact_for_polynomials():
    nodes, weights = gauss_legendre(-1.0, 3.0, 5)
    for degree in range(10):
        assert float(weights @ nodes**degree) == pytest.approx(
            (3 ** (degree + 1) - (-1) ** (degree + 1)) / (degree + 1), rel=1e-12
        )
    assert float(weights @ nodes**10) != pytest.approx((3**11 + 1) / 11, rel=1e-6)


def test_lattice_is_a_picture():
    points, volume = lattice((0.0, -1.0), (1.0, 1.0), (2, 4))
    assert volume == 0.25
    picture = points.reshape(2, 4, 2)
    assert picture[1, 0].tolist() == [0.75, -0.75]
    assert picture[0, 3].tolist() == [0.25, 0.75]
