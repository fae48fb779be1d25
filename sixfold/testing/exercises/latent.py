"""Exercises of the second stage: a divergence, a draw that gradients pass through, a bound of several codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sixfold.testing.checks import expect, gap, seeded
from sixfold.testing.exercises.facts import Answer, fact

KL = "gaussian divergence"
DRAW = "reparameterised draw"
BOUND = "bound of several codes"


def _posteriors(rows: int) -> tuple[Tensor, Tensor]:
    """Means and log-variances of ``rows`` posteriors over three units."""
    noise = torch.randn(2, rows, 3, generator=seeded(0), dtype=torch.float64)
    return noise[0], 0.8 * noise[1] - 0.5


def _normal(x: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """Log-density of a normal distribution in nats, element by element."""
    std = torch.as_tensor(std, dtype=x.dtype)
    return -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)


def _rounded(x: Tensor) -> list[float]:
    return [round(float(v), 3) for v in x.detach().flatten()[:4]]


def _is_tensor(y: object, shape: tuple[int, ...]) -> None:
    expect(isinstance(y, Tensor) and tuple(y.shape) == shape, getattr(y, "shape", type(y).__name__), shape)


@fact(KL)
def divergence_is_one_number_a_datum(answer: Answer) -> None:
    """Means and log-variances (B, Z) give one divergence for each datum, (B,)."""
    _is_tensor(answer(*_posteriors(4)), (4,))


@fact(KL)
def divergence_is_zero_at_the_prior(answer: Answer) -> None:
    """A posterior that is the prior, mean 0 and log-variance 0, costs nothing."""
    y = answer(torch.zeros(4, 3), torch.zeros(4, 3))
    expect(float(y.abs().max()) < 1e-6, _rounded(y), "0")


@fact(KL)
def divergence_is_never_negative(answer: Answer) -> None:
    """No posterior has a divergence below zero."""
    y = answer(*_posteriors(500))
    expect(float(y.min()) >= 0, f"{float(y.min()):.3f} at the least", "0 or more")


@fact(KL)
def divergences_of_units_add_up(answer: Answer) -> None:
    """Units are independent, so the divergence of three is the sum of that of the first and that of the other two."""
    mean, logvar = _posteriors(5)
    whole, parts = answer(mean, logvar), answer(mean[:, :1], logvar[:, :1]) + answer(mean[:, 1:], logvar[:, 1:])
    expect(gap(whole, parts) < 1e-6, _rounded(whole), _rounded(parts))


@fact(KL)
def divergence_is_the_mean_of_log_q_less_log_p(answer: Answer) -> None:
    """It is the average of log q(z) - log p(z) over draws z from q."""
    mean, logvar = _posteriors(4)
    std = (0.5 * logvar).exp()
    z = mean + std * torch.randn(50_000, 4, 3, generator=seeded(1), dtype=torch.float64)
    drawn = (_normal(z, mean, std) - _normal(z, 0.0, 1.0)).sum(2)
    found, error = answer(mean, logvar), drawn.std(0) / math.sqrt(len(z))
    near = found.shape == error.shape and bool(((found - drawn.mean(0)).abs() < 5 * error).all())  # 2e-6 in all
    expect(near, _rounded(found), f"{_rounded(drawn.mean(0))} within {float(5 * error.max()):.3f}")


@fact(DRAW)
def draw_keeps_the_shape(answer: Answer) -> None:
    """Means and log-variances (B, Z) give codes (B, Z)."""
    _is_tensor(answer(*_posteriors(4), seeded(0)), (4, 3))


@fact(DRAW)
def draw_has_the_variance_whose_logarithm_is_given(answer: Answer) -> None:
    """Draws have the mean that is given, and the variance e to the log-variance: the standard deviation is its square root."""
    mean, logvar = torch.full((100_000, 2), 3.0), torch.tensor([math.log(4.0), math.log(0.25)]).expand(100_000, 2)
    z = answer(mean, logvar, seeded(1)).double()
    got = torch.cat([z.mean(0), z.var(0, correction=0)])
    wanted = torch.tensor([3.0, 3.0, 4.0, 0.25], dtype=torch.float64)  # standard errors 0.006, 0.002, 0.018, 0.001
    expect(gap(got, wanted) < 0.02, _rounded(got), f"{_rounded(wanted)}: two means, two variances")


@fact(DRAW)
def draw_has_noise_of_its_own_for_each_unit(answer: Answer) -> None:
    """Two units of one datum have independent noise."""
    z = answer(torch.zeros(20_000, 2), torch.zeros(20_000, 2), seeded(1))
    together = float((z[:, 0] * z[:, 1]).mean())  # standard error 0.007
    expect(abs(together) < 0.04, f"a covariance of {together:.2f}", "0")


@fact(DRAW)
def draw_takes_its_noise_from_the_generator(answer: Answer) -> None:
    """The same generator gives the same draw, whatever the global one has done meanwhile."""
    first = answer(*_posteriors(4), seeded(3))
    torch.rand(5)
    second = answer(*_posteriors(4), seeded(3))
    expect(torch.equal(first, second), f"a difference of {float((first - second).abs().max()):.3f}", "none")


@fact(DRAW)
def gradients_pass_through_the_draw(answer: Answer) -> None:
    """The draw moves with the mean, dz/dmean = 1, and with the log-variance, dz/dlogvar = (z - mean) / 2."""
    mean, logvar = (v.requires_grad_() for v in _posteriors(4))
    z = answer(mean, logvar, seeded(2))
    expect(z.requires_grad, "a draw without a gradient", "one that depends on mean and logvar")
    by_mean, by_logvar = torch.autograd.grad(z.sum(), (mean, logvar), allow_unused=True)
    for by, wanted, name in ((by_mean, torch.ones_like(mean), "mean"), (by_logvar, (z - mean) / 2, "logvar")):
        expect(by is not None, f"no gradient of {name}", "one")
        expect(gap(by, wanted) < 1e-6, f"dz/d{name} of {_rounded(by)}", _rounded(wanted))


def _terms(many: int, rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Log p(x|z), log p(z) and log q(z|x) at ``many`` codes of each of ``rows`` data, (B, K) each."""
    z = torch.randn(rows, many, generator=seeded(4), dtype=torch.float64)
    x = torch.linspace(-1.0, 2.0, rows, dtype=torch.float64)[:, None]
    return _normal(x, z, 0.5), _normal(z, 0.0, 1.0), _normal(z, 0.0, 1.0)


@fact(BOUND)
def bound_is_one_number_a_datum(answer: Answer) -> None:
    """Terms of K codes for each datum, (B, K), give one bound for each datum, (B,)."""
    _is_tensor(answer(*_terms(5)), (6,))


@fact(BOUND)
def bound_of_one_code_is_the_evidence_lower_bound(answer: Answer) -> None:
    """With one code it is log p(x|z) + log p(z) - log q(z|x)."""
    recon, prior, posterior = _terms(1)
    posterior = posterior - 0.3
    found, wanted = answer(recon, prior, posterior), (recon + prior - posterior)[:, 0]
    expect(gap(found, wanted) < 1e-9, _rounded(found), _rounded(wanted))


@fact(BOUND)
def bound_is_the_truth_under_the_true_posterior(answer: Answer) -> None:
    """Where q is the true posterior it is log p(x), whatever the codes are: here x = z + noise of standard deviation 1/2."""
    recon, prior, _ = _terms(7)
    x = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64)[:, None]
    z = torch.randn(6, 7, generator=seeded(4), dtype=torch.float64)
    found = answer(recon, prior, _normal(z, 0.8 * x, math.sqrt(0.2)))
    wanted = _normal(x, 0.0, math.sqrt(1.25))[:, 0]
    expect(gap(found, wanted) < 1e-9, _rounded(found), _rounded(wanted))


@fact(BOUND)
def bound_rises_with_the_number_of_codes(answer: Answer) -> None:
    """On average over codes the bound of ten is higher than that of one."""
    few, many = (float(answer(*_terms(k, rows=2000)).mean()) for k in (1, 10))
    expect(many > few + 0.1, f"{few:.2f} with one code and {many:.2f} with ten", "a rise")


@fact(BOUND)
def bound_averages_weights_and_not_their_logarithms(answer: Answer) -> None:
    """It is the logarithm of the mean of the weights, so that e to the bound is p(x) on average."""
    recon, prior, posterior = _terms(5)
    found, wanted = answer(recon, prior, posterior).exp(), (recon + prior - posterior).exp().mean(1)
    expect(gap(found, wanted) < 1e-9, _rounded(found), _rounded(wanted))


@fact(BOUND)
def bound_survives_tiny_weights(answer: Answer) -> None:
    """Images have log-probabilities of thousands of nats below zero, and their bounds are finite."""
    recon, prior, posterior = _terms(5)
    moved = answer(recon - 5000.0, prior, posterior) + 5000.0
    expect(gap(moved, answer(recon, prior, posterior)) < 1e-6, _rounded(moved), "the bound shifted by as much as the likelihood")
