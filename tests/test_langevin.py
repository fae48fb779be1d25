"""Langevin kernels against stationary laws in closed form or by quadrature, and quadrature against closed forms.

Statistical tests compare independent chains with their exact law and fix their seed; each states its false-alarm rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Diverged
from sixfold.solve.langevin import Kernel, langevin
from sixfold.solve.quadrature import gauss_legendre, lattice, log_integral

CHAINS = 10_000


def draws(count: int = CHAINS, seed: int = 0) -> Draws:
    return Draws(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowl(u: Tensor) -> Tensor:
    """-log N(u; 0, I) up to a constant."""
    return u.flatten(1).square().sum(1) / 2


def wells(u: Tensor) -> Tensor:
    """Two wells of different depth; the barrier is 3 high at temperature 1."""
    return 3 * (u[:, 0].square() - 1).square() + 0.5 * u[:, 0]


ENERGIES: dict[str, Callable[[Tensor], Tensor]] = {"bowl": bowl, "wells": wells}


def law(energy: Callable[[Tensor], Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """Edges of 24 equally likely cells of exp(-E / T) on the line, and a fine table to draw from."""
    points, volume = lattice([-8.0], [8.0], [160_000])
    mass = (-energy(points) / temperature).softmax(0)
    edges = points[torch.searchsorted(mass.cumsum(0), torch.arange(1, 24, dtype=torch.float64) / 24), 0] + volume / 2
    return edges, mass


def exact(mass: Tensor, count: int, seed: int) -> Tensor:
    """Draws of a law on the line, (count, 1)."""
    cell = torch.multinomial(mass, count, replacement=True, generator=torch.Generator().manual_seed(seed))
    return ((cell + 0.5) * 1e-4 - 8.0)[:, None].double()


def surprise(u: Tensor, edges: Tensor) -> float:
    """Probability of cells as uneven as these by chance, by chi-square."""
    counts = torch.bincount(torch.bucketize(u[:, 0], edges), minlength=24)
    return float(stats.chisquare(counts.numpy()).pvalue)


KERNELS = {
    "small": Kernel(0.05),
    "too large for the unadjusted": Kernel(2.5),
    "mixed sizes": Kernel(0.2, spread=5.0),
    "restarts": Kernel(0.05, restart=0.5, base=1.3),
    "restarts alone": Kernel(0.05, restart=1.0, base=0.7),
}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("name", ENERGIES)
def test_adjusted_chains_leave_their_law_unchanged(name, kernel, temperature):
    """Chains that start in exp(-E / T) are still in it. False alarm 1e-6 each."""
    edges, mass = law(ENERGIES[name], temperature)
    start = exact(mass, CHAINS, seed=1)
    walk = langevin(ENERGIES[name], start, draws(seed=2), replace(kernel, temperature=temperature), steps=12)
    assert surprise(walk.u, edges) > 1e-6
    assert float((walk.u != start).double().mean()) > 0.05  # they did move


@pytest.mark.parametrize("kernel", [Kernel(0.1, spread=3.0), Kernel(0.1, restart=0.3)], ids=["steps", "restarts"])
def test_adjusted_chains_reach_their_law(kernel):
    """From a point far out chains come to be distributed as the two wells are. False alarm 1e-6 each."""
    edges, _ = law(wells, 1.0)
    walk = langevin(wells, torch.full((CHAINS, 1), 2.0, dtype=torch.float64), draws(seed=3), kernel, steps=300)
    assert surprise(walk.u, edges) > 1e-6


def test_adjusted_chains_keep_a_correlated_gaussian():
    """Second moments in the plane within five standard errors: false alarm 2e-6 for all three."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    precision, root = torch.linalg.inv(covariance), torch.linalg.cholesky(covariance)
    source = draws(seed=4)
    start = source.normal(2) @ root.T
    walk = langevin(lambda u: (u @ precision * u).sum(1) / 2, start, source, Kernel(0.2), steps=30)
    moments = torch.stack([walk.u[:, 0] ** 2, walk.u[:, 0] * walk.u[:, 1], walk.u[:, 1] ** 2])
    errors = moments.std(1) / math.sqrt(CHAINS)
    assert ((moments.mean(1) - torch.tensor([1.0, 0.8, 1.0])) / errors).abs().max() < 5.0


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("step", [0.1, 0.5, 1.5])
def test_unadjusted_chains_have_the_known_bias(step, temperature):
    """Their variance on a bowl is T / (1 - h / 2). Five standard errors of a variance: false alarm 6e-7 each."""
    kernel = Kernel(step, temperature, metropolis=False)
    walk = langevin(bowl, torch.zeros(CHAINS, 1, dtype=torch.float64), draws(seed=5), kernel, steps=120)  # 0.9^240 = 1e-11
    assert float(walk.u.var()) / (temperature / (1 - step / 2)) == pytest.approx(1, abs=5 * math.sqrt(2 / CHAINS))
    assert float(walk.accepted) == 1.0


def test_one_unadjusted_step_is_the_formula():
    u, h, T = draws(5, seed=6).normal(3), 0.3, 0.7
    source = draws(5, seed=7)
    source.uniform()  # of the sizes
    expected = u - h * u + math.sqrt(2 * h * T) * source.normal(3)
    walk = langevin(bowl, u, draws(5, seed=7), Kernel(h, T, metropolis=False), steps=1)
    torch.testing.assert_close(walk.u, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(walk.energy, bowl(expected), rtol=0, atol=1e-13)


def test_unadjusted_restarts_are_taken_at_their_rate():
    """A share of 0.3 of chains far out is at the base after one step. Five standard errors: false alarm 6e-7."""
    start = torch.full((CHAINS, 2), 1e3, dtype=torch.float64)
    walk = langevin(bowl, start, draws(seed=8), Kernel(1e-3, metropolis=False, restart=0.3, base=2.0), steps=1)
    fresh = walk.u[(walk.u.abs() < 100).all(1)]
    assert len(fresh) / CHAINS == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / CHAINS))
    assert float(fresh.square().mean()) == pytest.approx(4.0, abs=5 * 4 * math.sqrt(2 / fresh.numel()))
    assert float(walk.restarted) == 1.0


def product_rule(count: int = 2000) -> tuple[Tensor, Tensor]:
    """Nodes of two independent standard normals, (N, 2), with weights."""
    x, w = gauss_legendre(-9.0, 9.0, count // 10)
    p = w * (-x.square() / 2).exp() / math.sqrt(2 * math.pi)
    return torch.cartesian_prod(x, x), torch.outer(p, p).flatten()


def test_accepted_share_is_the_integral_of_the_rule():
    """On a bowl, mean over u and n of min(1, p(u') q(u | u') / (p(u) q(u' | u))). Five standard errors: false alarm 6e-7."""
    h = 1.2
    (u, n), w = product_rule()[0].T, product_rule()[1]
    there = (1 - h) * u + math.sqrt(2 * h) * n
    back = (u - (1 - h) * there) / math.sqrt(2 * h)
    expected = float((w * ((u**2 - there**2 + n**2 - back**2) / 2).exp().clamp(max=1)).sum())
    source = draws(seed=9)
    walk = langevin(bowl, source.normal(1), source, Kernel(h), steps=20)
    # Steps of one chain are correlated; counted as one, twenty of them overstate the error.
    assert float(walk.accepted) == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / CHAINS))


def test_restarted_share_is_the_integral_of_the_rule():
    """Mean over u of N(0, 1) and u' of N(0, b^2) of min(1, p(u') b(u) / (p(u) b(u'))). False alarm 6e-7."""
    b = 1.7
    (u, n), w = product_rule()[0].T, product_rule()[1]
    slack = (1 - 1 / b**2) / 2
    expected = float((w * (slack * (u**2 - (b * n) ** 2)).exp().clamp(max=1)).sum())
    source = draws(seed=10)
    walk = langevin(bowl, source.normal(1), source, Kernel(0.1, restart=1.0, base=b), steps=20)
    assert float(walk.restarted) == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / CHAINS))
    assert float(walk.accepted) == 0.0  # there was no Langevin proposal


def test_adjusted_chains_stop_at_infinite_energy():
    """Uniform on [0, 1): chains that start in it never leave it and stay uniform. False alarm 1e-6."""

    def box(u: Tensor) -> Tensor:
        return torch.where(((u >= 0) & (u < 1)).all(1), 0 * u.sum(1), math.inf)

    source = draws(seed=11)
    walk = langevin(box, source.uniform(1), source, Kernel(0.02), steps=30)
    assert bool(((walk.u >= 0) & (walk.u < 1)).all())
    assert float(stats.kstest(walk.u[:, 0].numpy(), "uniform").pvalue) > 1e-6


def test_temperature_is_a_scale_of_the_energy():
    """Steps h on E at temperature T are steps h T on E / T at temperature 1."""
    source = draws(100, seed=12)
    start = source.normal(2)
    hot, cold = (
        langevin(energy, start, draws(100, seed=13), Kernel(h, T, restart=0.2), steps=10).u
        for energy, h, T in ((bowl, 0.5, 3.0), (lambda u: bowl(u) / 3, 1.5, 1.0))
    )
    torch.testing.assert_close(hot, cold, rtol=1e-9, atol=1e-12)


def test_states_may_have_any_shape():
    """Chains of images are chains of their flattened elements."""
    start = draws(50, seed=14).normal(1, 4, 4)
    kernel = Kernel(0.1, spread=2.0, restart=0.3)
    image, flat = (langevin(bowl, u, draws(50, seed=15), kernel, steps=5).u for u in (start, start.flatten(1)))
    assert torch.equal(image.flatten(1), flat)


def test_walking_gives_parameters_no_gradient():
    network = torch.nn.Linear(2, 1).double()
    start = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():  # as sampling is
        walk = langevin(lambda u: bowl(u) + network(u)[:, 0], start, draws(4), Kernel(0.1), steps=3)
    assert network.weight.grad is None
    assert not walk.u.requires_grad
    assert not walk.energy.requires_grad


@pytest.mark.parametrize(
    ("energy", "kernel"),
    [
        (bowl, Kernel(30.0, metropolis=False)),
        (lambda u: torch.where(u[:, 0] > 0, math.nan, bowl(u)), Kernel(0.5)),
        (lambda u: torch.full_like(u[:, 0], math.inf) + bowl(u), Kernel(0.5)),
    ],
    ids=["explodes", "NaN is offered", "starts outside"],
)
def test_what_is_not_finite_is_raised(energy, kernel):
    start = torch.full((100, 1), -1.0, dtype=torch.float64)
    with pytest.raises(Diverged, match="smaller step"):
        langevin(energy, start, draws(100), kernel, steps=300)


@pytest.mark.parametrize(
    "wrong", [{"step": 0.0}, {"step": math.nan}, {"temperature": 0.0}, {"temperature": -1.0}, {"spread": 0.5}]
)
def test_wrong_kernels_are_refused(wrong):
    with pytest.raises(BadInput, match="positive step"):
        Kernel(**{"step": 0.1, **wrong})


# Quadrature of a density that is known up to its constant.


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize(
    ("half", "count"), [(6.0, 100), (6.0, 12), (1.5, 60), (40.0, 50)], ids=["fine", "coarse", "cut off", "wide"]
)
def test_log_integral_of_a_gaussian_lies_within_its_error_bar(dims, half, count):
    value, error = log_integral(lambda u: -bowl(u), [half] * dims, count=count)
    truth = dims / 2 * math.log(2 * math.pi)
    assert abs(value - truth) <= error + 1e-12  # rounding
    if (half, count) == (6.0, 100):
        assert error < 1e-7  # mass beyond six standard deviations: 2e-9 an axis


def test_log_integral_is_safe_from_overflow():
    value, _ = log_integral(lambda u: 5000 - bowl(u), [6.0], count=100, chunk=7)
    assert value == pytest.approx(5000 + math.log(2 * math.pi) / 2, abs=1e-7)
