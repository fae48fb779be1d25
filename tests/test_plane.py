"""Divergences by quadrature: against closed forms of Gaussians and SciPy's adaptive quadrature, and what kinds make of them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import dblquad
from scipy.stats import norm

from sixfold.core.errors import BadInput, NotComparable
from sixfold.core.likelihood import Estimate, Exact, LogProb, Lower, Numerical, Unnormalised, Upper
from sixfold.data.toys import TOYS, Mixture, ring8
from sixfold.evaluate.plane import kl_divergence, plane_scores, total_variation


def gaussian(mean, std):
    """Log-density of a product of normals."""
    m, s = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    return lambda x: torch.distributions.Normal(m, s).log_prob(x).sum(1)


def model(log_density, kind=Exact, shift=0.0, tolerance=0.0):
    """A model with that density, every log-probability off by ``shift``."""
    return lambda x: LogProb(log_density(x) + shift, kind, "by hand", x.shape[1], tolerance=tolerance)


def gaussian_kl(m, s, n, t):
    """Sum over dimensions of log t/s + (s^2 + (m - n)^2) / 2t^2 - 1/2."""
    return sum(math.log(d / b) + (b * b + (a - c) ** 2) / (2 * d * d) - 0.5 for a, b, c, d in zip(m, s, n, t, strict=True))


P, Q = ((0.0, 0.5), (1.0, 0.7)), ((0.4, 0.2), (1.3, 0.9))
BOX = ((-12.0, -9.0), (13.0, 10.0))


@pytest.mark.parametrize(("p", "q"), [(((0.0,), (1.0,)), ((0.5,), (2.0,))), (P, Q), (Q, P), (P, P)])
@pytest.mark.parametrize("reverse", [False, True])
def test_gaussians_have_a_closed_form(p, q, reverse):
    low, high = (b[: len(p[0])] for b in ((-18.0, -9.0), (18.0, 10.0)))
    found = kl_divergence(gaussian(*p), model(gaussian(*q)), low, high, step=0.25, reverse=reverse)
    expected = gaussian_kl(*q, *p) if reverse else gaussian_kl(*p, *q)
    # Points at 0.36 of the narrowest standard deviation and tails of 8: the rule is exact to 1e-9 (and the coarse one at 0.7
    # of it, which the interval holds, to 1e-4).
    assert found.value == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert found.low - 1e-9 <= expected <= found.high + 1e-9
    assert found.method == "quadrature, step halved"
    assert not found.parts


def test_total_variation_of_shifted_normals():
    """TV(N(0, 1), N(m, 1)) = 2 Phi(m / 2) - 1. The kink where the densities cross leaves an error of second order in the step."""
    for shift in (0.3, 1.0, 4.0):
        found = total_variation(gaussian((0.0,), (1.0,)), model(gaussian((shift,), (1.0,))), (-9.0,), (9.0,), step=0.001)
        assert found.value == pytest.approx(2 * norm.cdf(shift / 2) - 1, abs=1e-6)
        assert found.half < 1e-6


def test_a_model_outside_the_box_has_all_its_mass_in_the_wrong_place():
    far = model(gaussian((100.0, 0.0), (1.0, 1.0)))
    scores = plane_scores(gaussian(*P), far, *BOX, step=0.25)
    assert scores["total_variation"].value == pytest.approx(1.0, abs=1e-9)
    assert scores["model_mass"].value == pytest.approx(0.0, abs=1e-9)
    assert "at least" in scores["reverse_kl"].method


def test_mass_outside_the_box_counts():
    """Half of the model lies far away: TV is one half, KL log 2, and the reverse at least (log 0.5 + log(0.5 / 1e-4)) / 2."""
    p = gaussian(*P)
    scores = plane_scores(p, model(lambda x: p(x) - math.log(2)), *BOX, step=0.25)
    assert scores["total_variation"].value == pytest.approx(0.5, abs=1e-9)
    assert scores["kl"].value == pytest.approx(math.log(2), abs=1e-9)
    assert scores["model_mass"].value == pytest.approx(0.5, abs=1e-9)
    assert scores["reverse_kl"].value == pytest.approx(0.5 * math.log(0.5) + 0.5 * math.log(0.5e4), abs=1e-7)
    assert "at least, as 0.5 of" in scores["reverse_kl"].method


def test_agrees_with_adaptive_quadrature():
    truth = Mixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64), 0.5, torch.tensor([0.3, 0.7], dtype=torch.float64)
    )
    q = gaussian((0.2, 0.1), (1.2, 0.8))

    def normal(x, y, a, b, s, t):
        return math.exp(-(((x - a) / s) ** 2) / 2 - ((y - b) / t) ** 2 / 2) / (2 * math.pi * s * t)

    def scipy(integrand):
        def at(y, x):
            p = 0.3 * normal(x, y, -1.0, 0.0, 0.5, 0.5) + 0.7 * normal(x, y, 1.0, 0.5, 0.5, 0.5)
            return integrand(p, normal(x, y, 0.2, 0.1, 1.2, 0.8))

        return dblquad(at, -6.0, 6.0, -5.0, 5.5, epsabs=1e-8, epsrel=1e-8)[0]

    scores = plane_scores(truth.log_prob, model(q), (-6.0, -5.0), (6.0, 5.5), step=0.1)
    assert scores["kl"].value == pytest.approx(scipy(lambda p, q: p * math.log(p / q)), abs=1e-6)
    assert scores["reverse_kl"].value == pytest.approx(scipy(lambda p, q: q * math.log(q / p)), abs=1e-6)


@pytest.mark.parametrize("name", ["moons", "pinwheel", "mixture1d"])
def test_a_perfect_model_of_a_toy_scores_zero(name):
    toy = TOYS[name]()
    scores = plane_scores(toy.log_prob, model(toy.log_prob), toy.low, toy.high, step=toy.scale / 2)
    assert {key: s.value for key, s in scores.items()} == pytest.approx(
        {"kl": 0.0, "reverse_kl": 0.0, "total_variation": 0.0, "model_mass": 1.0}, abs=1e-6
    )


def test_a_dropped_mode_costs_its_share():
    """A mixture without one of its 8 modes: TV = 1/8, reverse KL = log 8/7; KL(truth, model) is enormous."""
    toy = ring8()
    fewer = Mixture(toy.centres[1:], toy.std)
    scores = plane_scores(toy.log_prob, model(fewer.log_prob), toy.low, toy.high, step=0.0075)
    assert scores["total_variation"].value == pytest.approx(1 / 8, abs=1e-6)
    assert scores["reverse_kl"].value == pytest.approx(math.log(8 / 7), abs=1e-6)
    assert scores["kl"].value > 100


def test_the_interval_holds_the_error_of_a_coarse_step():
    true = gaussian_kl(*P, *Q)
    for step in (0.6, 0.75, 0.9):  # up to 1.3 of the narrowest standard deviation
        found = kl_divergence(gaussian(*P), model(gaussian(*Q)), *BOX, step=step)
        assert found.low <= true <= found.high


# --- kinds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "shift", "says"), [(Lower, -0.3, "an upper bound"), (Upper, 0.3, "a lower bound")])
def test_a_bound_on_the_density_bounds_the_divergence(kind, shift, says):
    exact = plane_scores(gaussian(*P), model(gaussian(*Q)), *BOX, step=0.25)
    bounded = plane_scores(gaussian(*P), model(gaussian(*Q), kind, shift), *BOX, step=0.25)
    assert set(bounded) == {"kl", "total_variation", "model_mass"}
    for key in ("kl", "total_variation"):
        assert says in bounded[key].method
        assert (bounded[key].value > exact[key].value) is (kind is Lower)
    with pytest.raises(NotComparable, match="implies nothing"):
        kl_divergence(gaussian(*P), model(gaussian(*Q), kind), *BOX, step=0.25, reverse=True)


@pytest.mark.parametrize("shift", [-0.2, 0.2])
def test_a_tolerance_widens_the_interval_enough(shift):
    exact = plane_scores(gaussian(*P), model(gaussian(*Q)), *BOX, step=0.25)
    off = plane_scores(gaussian(*P), model(gaussian(*Q), Numerical, shift, tolerance=0.2), *BOX, step=0.25)
    for key, score in off.items():
        assert score.low - 1e-9 <= exact[key].value <= score.high + 1e-9, key
        assert "tolerance" in score.method


def test_an_estimate_is_called_one_and_an_unnormalised_density_refused():
    assert "estimate" in kl_divergence(gaussian(*P), model(gaussian(*Q), Estimate), *BOX, step=0.25).method
    for metric in (kl_divergence, total_variation, plane_scores):
        with pytest.raises(NotComparable, match="log Z"):
            metric(gaussian(*P), model(gaussian(*Q), Unnormalised), *BOX, step=0.25)


def test_no_mass_where_data_are_is_infinitely_bad():
    def half(x):
        return torch.where(x[:, 0] > 0, gaussian(*P)(x) + math.log(2), -math.inf)

    scores = plane_scores(gaussian(*P), model(half), *BOX, step=0.25)
    assert scores["kl"].value == scores["kl"].low == math.inf
    assert scores["total_variation"].value == pytest.approx(0.5, abs=1e-9)  # the lattice is symmetric about 0.5 steps
    assert scores["reverse_kl"].value == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize(
    ("box", "step", "says"),
    [
        (((-1.0, -1.0), (1.0, 1.0)), 0.1, "mass in the box comes to"),
        (BOX, 9.0, "mass in the box comes to"),
        (((1.0, 1.0), (-1.0, 2.0)), 0.1, "low < high"),
        (BOX, 0.0, "step above 0"),
        (((-1.0,), (1.0, 1.0)), 0.1, "low < high"),
    ],
)
def test_boxes_that_do_not_hold_the_truth(box, step, says):
    with pytest.raises(BadInput, match=says):
        kl_divergence(gaussian(*P), model(gaussian(*Q)), *box, step=step)


def test_not_a_number_is_named_with_its_place():
    with pytest.raises(BadInput, match=r"density of the model is not a number or \+infinity at \["):
        kl_divergence(gaussian(*P), model(lambda x: gaussian(*Q)(x) + x[:, 0].sqrt()), *BOX, step=0.5)
