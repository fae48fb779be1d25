"""Exercises of the first stage: energies, what they are learned by, and the chains that walk on them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from sixfold.testing.checks import expect, gap, seeded, untouched
from sixfold.testing.exercises.facts import Answer, fact


def _told(x: Tensor) -> list[float]:
    """Numbers as a reader wants to see them."""
    return [round(v, 3) for v in x.detach().flatten().tolist()]


# A step of a chain.


@fact("langevin step")
def step_keeps_the_shape(step: Answer) -> None:
    """A step maps points (N, 2) to points (N, 2)."""
    x = torch.randn(5, 2, generator=seeded(0))
    y = step(x, lambda x: -x, 0.1, seeded(1))
    expect(isinstance(y, torch.Tensor) and y.shape == x.shape, getattr(y, "shape", type(y).__name__), tuple(x.shape))


@fact("langevin step")
def step_leaves_its_start_alone(step: Answer) -> None:
    """A step gives new points and leaves those that it was given as they were."""
    x = torch.ones(5, 2)
    step(x, lambda x: -x, 0.1, seeded(1))
    expect(bool((x == 1).all()), "points that were changed in place", "the same points")


@fact("langevin step")
def generator_alone_decides(step: Answer) -> None:
    """All chance comes from the generator: the same seed gives the same step, and the global generator is left alone."""
    x = torch.zeros(5, 2)
    one, two = (step(x, lambda x: -x, 0.1, seeded(1)) for _ in range(2))
    expect(bool((one == two).all()), "two different steps from one seed", "the same step")
    untouched(lambda: step(x, lambda x: -x, 0.1, seeded(1)), "a step")


@fact("langevin step")
def step_drifts_by_half_its_size_times_the_score(step: Answer) -> None:
    """On average a step of size h moves by h/2 times the score, the gradient of log p."""
    x = torch.full((200_000, 2), 2.0)
    moved = (step(x.clone(), lambda x: -3.0 * x, 0.1, seeded(1)) - x).mean(0)  # standard error 7e-4
    expect(gap(moved, torch.full((2,), -0.3)) < 5e-3, _told(moved), "-0.3 in each coordinate")


@fact("langevin step")
def noise_has_the_variance_of_the_step(step: Answer) -> None:
    """The noise of a step of size h has variance h, independent in every coordinate."""
    y = step(torch.zeros(200_000, 2), torch.zeros_like, 0.1, seeded(1))
    expect(gap(torch.cov(y.mT), 0.1 * torch.eye(2)) < 2e-3, _told(y.var(0)), "0.1 in each, uncorrelated")


# The free energy of a restricted Boltzmann machine.


def _machine(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every state of four visible units, (16, 4), and a machine with three hidden ones."""
    v = torch.tensor(list(product([0.0, 1.0], repeat=4)))
    weight, visible, hidden = (torch.randn(*shape, generator=seeded(i)) for i, shape in enumerate([(4, 3), (4,), (3,)]))
    return v, scale * weight, scale * visible, scale * hidden


@fact("rbm free energy")
def one_number_a_row(free: Answer) -> None:
    """Visible units (N, V) have free energies (N,)."""
    found = free(*_machine())
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    expect(shape == (16,), shape, (16,))


@fact("rbm free energy")
def hidden_units_are_summed_out(free: Answer) -> None:
    """The density exp(-F(v)) is the sum over all hidden states of exp(v.b + h.c + v W h)."""
    v, weight, visible, hidden = _machine()
    h = torch.tensor(list(product([0.0, 1.0], repeat=3)))
    joint = (v @ visible)[:, None] + h @ hidden + v @ weight @ h.T  # (16, 8)
    found, wanted = free(v, weight, visible, hidden), -joint.logsumexp(1)
    expect(gap(found, wanted) < 1e-4, f"{_told(found[:3])} for the first states", _told(wanted[:3]))


@fact("rbm free energy")
def its_slope_is_the_chance_that_a_unit_is_on(free: Answer) -> None:
    """Minus its gradient in the hidden biases is p(h = 1 | v), the logistic function of c + v W, summed over the rows."""
    v, weight, visible, hidden = _machine()
    hidden.requires_grad_()
    (slope,) = torch.autograd.grad(free(v, weight, visible, hidden).sum(), hidden)
    wanted = -(hidden + v @ weight).sigmoid().sum(0)
    expect(gap(slope, wanted) < 1e-4, _told(slope), _told(wanted))


@fact("rbm free energy")
def large_weights_do_not_overflow(free: Answer) -> None:
    """It is finite where hidden units are driven by hundreds of nats: there log(1 + exp(a)) is a."""
    found = free(*_machine(scale=300.0))
    expect(bool(found.isfinite().all()), f"{int((~found.isfinite()).sum())} of 16 not finite", "finite numbers")


# The loss that an energy is learned by.


class _Line:
    """E(x) = slope . x + shift, which counts nothing but what is asked of it."""

    def __init__(self, shift: float = 0.0) -> None:
        self.slope = torch.tensor([0.5, -1.0], requires_grad=True)
        self.shift = shift

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.slope + self.shift


def _points() -> tuple[Tensor, Tensor]:
    """Eight data and twelve ends of chains, in the plane."""
    return torch.randn(8, 2, generator=seeded(0)) + 1.0, torch.randn(12, 2, generator=seeded(1))


def _gradient(loss: Answer, energy: _Line, data: Tensor, chains: Tensor) -> Tensor:
    """Of the loss in the energy's slope, (2,)."""
    return torch.autograd.grad(loss(energy, data, chains), energy.slope)[0]


@fact("contrastive loss")
def gradient_is_a_difference_of_means(loss: Answer) -> None:
    """Its gradient is the mean gradient of the energy over data less that over chains, however many there are of each."""
    data, chains = _points()
    found, wanted = _gradient(loss, _Line(), data, chains), data.mean(0) - chains.mean(0)
    expect(gap(found, wanted) < 1e-5, _told(found), _told(wanted))


@fact("contrastive loss")
def constant_of_the_energy_is_free(loss: Answer) -> None:
    """An energy and the same energy plus 7 have one loss and one gradient: Z takes the constant up."""
    data, chains = _points()
    with torch.no_grad():
        low, high = loss(_Line(), data, chains), loss(_Line(7.0), data, chains)
    expect(gap(low, high) < 1e-4, f"{float(low):.4f} and {float(high):.4f}", "equal losses")
    slow, fast = (_gradient(loss, _Line(shift), data, chains) for shift in (0.0, 7.0))
    expect(gap(slow, fast) < 1e-4, f"gradients {_told(slow)} and {_told(fast)}", "equal gradients")


@fact("contrastive loss")
def chains_are_held_fixed(loss: Answer) -> None:
    """Chains that have walked on the energy depend on it; no gradient flows back through their walk."""
    data, chains = _points()
    energy = _Line()
    walked = chains - 0.5 * energy.slope  # one step downhill
    found, wanted = _gradient(loss, energy, data, walked), data.mean(0) - walked.detach().mean(0)
    expect(gap(found, wanted) < 1e-5, _told(found), _told(wanted))


@fact("contrastive loss")
def it_leads_to_the_law_of_the_data(loss: Answer) -> None:
    """Descending on it with E(x) = a x^2 / 2 and draws of that law as chains finds a = 1 / variance of the data."""
    data = 0.5 * torch.randn(2000, 1, generator=seeded(2))
    noise, log_a = torch.randn(2000, 1, generator=seeded(3)), torch.zeros((), requires_grad=True)
    for _ in range(60):
        chains = noise / noise.std(correction=0) * (-log_a / 2).exp()
        (slope,) = torch.autograd.grad(loss(_bowl(log_a), data, chains), log_a)
        log_a = (log_a - slope.clamp(-1.0, 1.0)).detach().requires_grad_()
    found, wanted = float(log_a.detach().exp()), 1 / float(data.square().mean())
    expect(abs(found / wanted - 1) < 0.02, f"a = {found:.3f}", f"{wanted:.3f}")


def _bowl(log_a: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: log_a.exp() * x.square().sum(1) / 2
