"""Exercises of the third stage: the optimal critic, a game's losses, a penalty on the critic's slope."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sixfold.testing.checks import expect, gap, seeded
from sixfold.testing.exercises.facts import Answer, fact


def _normal(centre: float) -> torch.distributions.Normal:
    return torch.distributions.Normal(torch.tensor(centre), torch.tensor(1.0))


@fact("optimal critic")
def critic_is_zero_where_both_are_equally_likely(build: Answer) -> None:
    """Where both densities are equal, the critic's logit is zero."""
    x = torch.linspace(-2, 2, 5)
    logits = build(_normal(0.0).log_prob, _normal(0.0).log_prob)(x)
    expect(gap(logits, torch.zeros(5)) < 1e-5, logits.tolist(), "zeros")


@fact("optimal critic")
def critic_is_the_logarithm_of_the_ratio(build: Answer) -> None:
    """Between data N(1, 1) and generated points N(-1, 1) the logit at x is 2x."""
    x = torch.linspace(-2, 2, 5)
    logits = build(_normal(1.0).log_prob, _normal(-1.0).log_prob)(x)
    expect(gap(logits, 2 * x) < 1e-4, [round(v, 3) for v in logits.tolist()], (2 * x).tolist())


@fact("optimal critic")
def critic_is_finite_far_from_both(build: Answer) -> None:
    """Where both densities are too small for a float, the logit is still right."""
    x = torch.tensor([-40.0, 40.0])
    logits = build(_normal(1.0).log_prob, _normal(-1.0).log_prob)(x)
    expect(gap(logits, 2 * x) < 1e-3, logits.tolist(), (2 * x).tolist())


def _judged(loss: Answer, r: float, f: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both losses of four equal pairs and their sums' gradients: of the critic's by r and f, of the generator's by f."""
    real, fake = (torch.full((4,), v, requires_grad=True) for v in (r, f))
    critic, generator = loss(real, fake)
    by_r, by_f = torch.autograd.grad(critic.sum(), (real, fake))
    (moved,) = torch.autograd.grad(loss(real, fake)[1].sum(), fake)
    return torch.stack([critic, generator]).detach(), by_r, by_f, moved


@fact("non-saturating game")
def losses_are_of_each_pair(loss: Answer) -> None:
    """From the logits of N real and N generated data come two losses of N numbers each."""
    critic, generator = loss(torch.randn(5, generator=seeded(0)), torch.randn(5, generator=seeded(1)))
    expect(critic.shape == generator.shape == (5,), (tuple(critic.shape), tuple(generator.shape)), "(5,) twice")


@fact("non-saturating game")
def a_critic_that_knows_nothing_pays_log_four(loss: Answer) -> None:
    """At logits of zero the critic pays log 4 and the generator log 2."""
    critic, generator = (float(part.mean()) for part in loss(torch.zeros(4), torch.zeros(4)))
    right = math.isclose(critic, math.log(4), abs_tol=1e-4) and math.isclose(generator, math.log(2), abs_tol=1e-4)
    expect(right, f"{critic:.4f} and {generator:.4f}", f"{math.log(4):.4f} and {math.log(2):.4f}")


@fact("non-saturating game")
def critic_is_pushed_by_its_own_mistakes(loss: Answer) -> None:
    """The critic's gradient by the logit of a real datum is sigmoid(r) - 1, of a generated one sigmoid(f)."""
    _, by_r, by_f, _ = _judged(loss, 0.5, -1.5)
    found, wanted = (float(by_r[0]), float(by_f[0])), (-1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(1.5)))
    expect(math.dist(found, wanted) < 1e-4, tuple(round(v, 4) for v in found), tuple(round(v, 4) for v in wanted))


@fact("non-saturating game")
def generator_learns_when_the_critic_is_sure(loss: Answer) -> None:
    """The generator's gradient by the logit of a datum that the critic is sure of, f = -20, is -1 and not nearly 0."""
    moved = float(_judged(loss, 20.0, -20.0)[3][0])
    expect(math.isclose(moved, -1.0, abs_tol=1e-4), f"{moved:.2g}", -1.0)


@fact("non-saturating game")
def losses_are_finite_at_large_logits(loss: Answer) -> None:
    """At logits of +-1000 the losses are 2000 and 1000, and all gradients are finite."""
    losses, *gradients = _judged(loss, -1000.0, 1000.0)
    mild = _judged(loss, 1000.0, -1000.0)
    finite = all(bool(torch.isfinite(g).all()) for g in (*gradients, *mild[1:]))
    found = (float(losses[0].mean()), float(mild[0][1].mean()), finite)
    expect(math.dist(found[:2], (2000.0, 1000.0)) < 1e-2 and finite, found, (2000.0, 1000.0, True))


class _Plane(nn.Module):
    """D(x) = w . x + 1, whose slope is |w| everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight + 1.0


def _bowl(x: Tensor) -> Tensor:
    """D(x) = |x|^2 / 2, whose gradient at x is x."""
    return x.flatten(1).square().sum(1) / 2


@fact("gradient penalty")
def penalty_of_a_plane_is_known(penalty: Answer) -> None:
    """For a critic D(x) = w . x + 1 with |w| = 5 and centre 1, the penalty of every datum is 16."""
    found = penalty(_Plane(torch.tensor([3.0, 4.0])), torch.randn(3, 2, generator=seeded(0)), 1.0)
    expect(gap(found, torch.full((3,), 16.0)) < 1e-4, found.tolist(), [16.0] * 3)


@fact("gradient penalty")
def slope_is_that_of_each_datum(penalty: Answer) -> None:
    """Each datum has the slope at its own place: for D(x) = |x|^2 / 2 and centre 0 the penalties are |x|^2."""
    x = torch.tensor([[0.6, 0.8], [3.0, 4.0], [0.0, 2.0]])
    found = penalty(_bowl, x, 0.0)
    expect(gap(found, x.square().sum(1)) < 1e-4, [round(v, 3) for v in found.flatten().tolist()], [1.0, 25.0, 4.0])


@fact("gradient penalty")
def slope_is_over_all_elements_of_an_image(penalty: Answer) -> None:
    """The norm is over channels, rows and columns: sixteen slopes of 1/4 are a slope of 1."""
    found = penalty(_Plane(torch.full((16,), 0.25)), torch.randn(2, 1, 4, 4, generator=seeded(0)), 0.0)
    expect(gap(found, torch.ones(2)) < 1e-4, found.shape if found.shape != (2,) else found.tolist(), [1.0, 1.0])


@fact("gradient penalty")
def critic_learns_from_it(penalty: Answer) -> None:
    """The penalty can be differentiated by the critic's parameters: 2 (|w| - 1) w / |w| for the plane."""
    plane = _Plane(torch.tensor([3.0, 4.0]))
    found = penalty(plane, torch.randn(3, 2, generator=seeded(0)), 1.0).mean()
    (by,) = torch.autograd.grad(found, plane.weight) if found.requires_grad else (torch.full((2,), math.nan),)
    expect(gap(by, torch.tensor([4.8, 6.4])) < 1e-3, [round(v, 3) for v in by.tolist()], [4.8, 6.4])


@fact("gradient penalty")
def a_flat_critic_gives_no_nan(penalty: Answer) -> None:
    """Where the slope is zero, as at dead units, the gradient by the critic's parameters is finite."""
    plane = _Plane(torch.zeros(2))
    found = penalty(plane, torch.randn(3, 2, generator=seeded(0)), 1.0).mean()
    (by,) = torch.autograd.grad(found, plane.weight) if found.requires_grad else (torch.full((2,), math.nan),)
    expect(bool(torch.isfinite(by).all()), by.tolist(), "finite numbers")
