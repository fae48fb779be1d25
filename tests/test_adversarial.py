"""Games and penalties against closed forms, finite differences and the divergences that their best critics measure."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from sixfold.core.errors import Unsupported
from sixfold.nn.mlp import MLP
from sixfold.prob.adversarial import GAMES, PENALTIES, between, game_of, gradient_penalty

PLAYERS = ("critic", "generator")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_sigmoid(v):
    return -np.log1p(np.exp(-v))


# Each game written another way: probabilities for the logistic ones, cases for the hinge.
CLOSED = {
    "relativistic": (lambda r, f: -log_sigmoid(r - f), lambda r, f: -log_sigmoid(f - r)),
    "nonsaturating": (lambda r, f: -log_sigmoid(r) - np.log(1 - np.exp(log_sigmoid(f))), lambda r, f: -log_sigmoid(f)),
    "hinge": (lambda r, f: np.where(r < 1, 1 - r, 0) + np.where(f > -1, 1 + f, 0), lambda r, f: -f),
    "least_squares": (lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2, lambda r, f: 0.5 * (f - 1) ** 2),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
}


def scores(low: float, high: float, num: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    r, f = torch.rand(2, num, generator=seeded(), dtype=torch.float64) * (high - low) + low
    return r.requires_grad_(), f.requires_grad_()


def side(game: str, player: str):
    return getattr(GAMES[game], player)


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("game", GAMES)
class TestGames:
    def test_losses_have_their_closed_form(self, game, player):
        r, f = scores(-4, 4)
        wanted = CLOSED[game][PLAYERS.index(player)](r.detach().numpy(), f.detach().numpy())
        # float64 rounding, and the cancellation of 1 - sigmoid in the form to compare with
        np.testing.assert_allclose(side(game, player)(r, f).detach().numpy(), wanted, rtol=1e-12, atol=1e-13)

    def test_slopes_agree_with_finite_differences(self, game, player):
        assert gradcheck(side(game, player), scores(-4, 4))

    def test_each_pair_has_its_own_loss(self, game, player):
        r, f = scores(-4, 4)
        alone = torch.cat([side(game, player)(a, b) for a, b in zip(r.split(1), f.split(1), strict=True)])
        # not bitwise: the vectorised logarithm rounds otherwise than the scalar one
        torch.testing.assert_close(alone, side(game, player)(r, f), rtol=1e-14, atol=0)


@pytest.mark.parametrize("game", GAMES)
def test_the_players_pull_the_scores_apart(game):
    """The critic raises r and lowers f, the generator raises f and never raises r; scores where no loss is flat."""
    r, f = scores(0.05, 0.95)
    slopes = [torch.autograd.grad(side(game, p)(r, f).sum(), (r, f), allow_unused=True, materialize_grads=True) for p in PLAYERS]
    (critic_r, critic_f), (generator_r, generator_f) = slopes
    assert (critic_r < 0).all()
    assert (critic_f > 0).all()
    assert (generator_f < 0).all()
    assert (generator_r >= 0).all()


def two_normals() -> tuple[torch.Tensor, torch.Tensor, float]:
    """Densities of N(0, 1) and N(1, 1.5^2) on a lattice, and its spacing; the trapezoid errs by less than 1e-12 here."""
    x = torch.linspace(-20, 20, 8001, dtype=torch.float64)
    p, q = (torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi)) for mean, std in ((0.0, 1.0), (1.0, 1.5)))
    return p, q, float(x[1] - x[0])


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


# Derivatives of the losses by r and by f, (player, game); those by r are zero for generators that do not see real data.
SLOPES = {
    ("critic", "relativistic"): lambda r, f: (-sigmoid(f - r), sigmoid(f - r)),
    ("critic", "nonsaturating"): lambda r, f: (-sigmoid(-r), sigmoid(f)),
    ("critic", "hinge"): lambda r, f: (-1.0 * (r < 1), 1.0 * (f > -1)),
    ("critic", "least_squares"): lambda r, f: (r - 1, f),
    ("critic", "wasserstein"): lambda r, f: (-np.ones_like(r), np.ones_like(f)),
    ("generator", "relativistic"): lambda r, f: (sigmoid(r - f), -sigmoid(r - f)),
    ("generator", "nonsaturating"): lambda r, f: (0 * r, -sigmoid(-f)),
    ("generator", "hinge"): lambda r, f: (0 * r, -np.ones_like(f)),
    ("generator", "least_squares"): lambda r, f: (0 * r, f - 1),
    ("generator", "wasserstein"): lambda r, f: (0 * r, -np.ones_like(f)),
}


@pytest.mark.parametrize(("player", "game"), SLOPES)
def test_gradients_of_a_line_of_critics_have_their_closed_form(player, game):
    """D(x) = a x + b and G(z) = t z: by the chain rule from the derivatives above, by hand."""
    x, z = np.random.default_rng(0).normal(size=(2, 30))
    a, b, t = 0.7, 0.2, -1.3
    by_r, by_f = SLOPES[player, game](a * x + b, a * t * z + b)
    wanted = [(by_r * x + by_f * t * z).mean(), (by_r + by_f).mean(), (by_f * a * z).mean()]
    knobs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (a, b, t)]
    real, noise = torch.tensor(x), torch.tensor(z)
    loss = side(game, player)(knobs[0] * real + knobs[1], knobs[0] * knobs[2] * noise + knobs[1]).mean()
    got = torch.autograd.grad(loss, knobs, allow_unused=True, materialize_grads=True)
    assert [g.item() for g in got] == pytest.approx(wanted, rel=1e-12, abs=1e-14)  # float64 rounding


def kl(p, q, step):
    return float((torch.xlogy(p, p / q)).sum()) * step


def divergence(game: str, p, q, step: float) -> tuple[torch.Tensor, float]:
    """The best critic of a game on a lattice, and the loss that it reaches, from the divergence that it measures."""
    middle = (p + q) / 2
    if game == "nonsaturating":
        return (p / q).log(), math.log(4) - kl(p, middle, step) - kl(q, middle, step)  # log 4 - 2 JS
    if game == "hinge":
        return (p - q).sign(), 2 - float((p - q).abs().sum()) * step  # 2 - 2 TV
    # 1/2 integral pq / (p + q) = 1/4 (1 - Pearson's chi^2 of p from the middle), by pq = ((p + q)^2 - (p - q)^2) / 4
    return p / (p + q), (1 - float(((p - q).square() / (4 * middle)).sum()) * step) / 4


def expected(game, d, p, q, step: float) -> torch.Tensor:
    """The critic's loss in expectation over independent real and generated data, for critics D on the lattice."""
    zero = torch.zeros((), dtype=torch.float64)
    # E_p of the part of r and E_q of the part of f: the loss is their sum up to what each leaves at zero.
    at_zero = game.critic(zero, zero) / 2
    return (p * (game.critic(d, zero) - at_zero) + q * (game.critic(zero, d) - at_zero)).sum() * step


@pytest.mark.parametrize("name", ["nonsaturating", "least_squares", "hinge"])
def test_the_best_critic_measures_a_divergence(name):
    p, q, step = two_normals()
    best, wanted = divergence(name, p, q, step)
    value = expected(GAMES[name], best, p, q, step)
    # The hinge's best critic jumps where p = q, and the lattice sees the jump up to its spacing squared.
    assert value.item() == pytest.approx(wanted, abs=1e-9)
    for seed in range(5):
        bump = 0.1 * torch.randn(len(p), generator=seeded(seed), dtype=torch.float64)
        assert expected(GAMES[name], best + bump, p, q, step) > value


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_the_best_critic_is_less_sure_of_real_data_by_the_smoothing_alone(smoothing):
    """sigmoid(D), or D in the least-squares game, is (1 - smoothing) p / (p + q): both losses, convex in D, are stationary."""
    p, q, step = two_normals()
    share = (1 - smoothing) * p / (p + q)
    for name, best in (("nonsaturating", share.logit()), ("least_squares", share)):
        best = best.clone().requires_grad_()
        (slope,) = torch.autograd.grad(expected(game_of(name, smoothing=smoothing), best, p, q, step), best)
        assert slope.abs().max() < 1e-12


def test_smoothing_lowers_the_target_of_real_data_alone():
    r, f = scores(-4, 4)
    for name, measure, factor in (("nonsaturating", binary_cross_entropy_with_logits, 1), ("least_squares", mse_loss, 0.5)):
        smoothed = game_of(name, smoothing=0.2)
        wanted = sum(factor * measure(v, torch.full_like(v, t), reduction="none") for v, t in ((r, 0.8), (f, 0.0)))
        torch.testing.assert_close(smoothed.critic(r, f), wanted, rtol=1e-12, atol=1e-14)  # float64 rounding
        torch.testing.assert_close(smoothed.generator(r, f), GAMES[name].generator(r, f), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["relativistic", "hinge", "wasserstein"])
def test_a_game_without_targets_has_none_to_smooth(name):
    assert game_of(name) is GAMES[name]
    with pytest.raises(Unsupported, match="nonsaturating or least_squares"):
        game_of(name, smoothing=0.1)


LINEAR = torch.tensor([3.0, -4.0], dtype=torch.float64)
CURVED = torch.tensor([[2.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
POINTS = torch.tensor([[0.5, 2.0], [-1.0, 1.0], [3.0, -2.0]], dtype=torch.float64)


@pytest.mark.parametrize("centre", [0.0, 1.0])
@pytest.mark.parametrize(
    ("critic", "slopes"),
    [(lambda x: x @ LINEAR, LINEAR.expand(3, 2)), (lambda x: 0.5 * ((x @ CURVED) * x).sum(1), POINTS @ CURVED)],
    ids=["linear", "quadratic"],
)
def test_the_penalty_is_that_of_each_analytic_slope(critic, slopes, centre):
    x = POINTS.clone().requires_grad_()
    wanted = (slopes.norm(dim=1) - centre).square()
    # the guard of the root adds 1e-12 below it
    torch.testing.assert_close(gradient_penalty(critic(x), x, centre=centre), wanted, rtol=1e-11, atol=0)


def smooth_critic() -> MLP:
    torch.manual_seed(0)
    return MLP(2, 1, width=5, depth=2, act="tanh").double()


@pytest.mark.parametrize("centre", [0.0, 1.0])
def test_the_penalty_of_a_datum_does_not_depend_on_the_others(centre):
    critic = smooth_critic()

    def penalty(x):
        x = x.clone().requires_grad_()
        return gradient_penalty(critic(x).squeeze(1), x, centre=centre)

    alone = torch.cat([penalty(x) for x in POINTS.split(1)])
    torch.testing.assert_close(penalty(POINTS), alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("centre", [0.0, 1.0])
def test_the_penalty_moves_the_critic_as_finite_differences_say(centre):
    critic = smooth_critic()
    names = [name for name, _ in critic.named_parameters()]

    def penalty(*values):
        x = POINTS.clone().requires_grad_()
        score = functional_call(critic, dict(zip(names, values, strict=True)), (x,)).squeeze(1)
        # The last bias does not reach the slope; adding it times zero gives it the gradient of zero that gradcheck expects.
        return gradient_penalty(score, x, centre=centre) + 0 * values[-1]

    assert gradcheck(penalty, tuple(p.detach().requires_grad_() for p in critic.parameters()))


def test_a_slope_of_zero_has_a_finite_penalty():
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for centre in (0.0, 1.0):
        x = POINTS.clone().requires_grad_()
        penalty = gradient_penalty(x @ weight, x, centre=centre).sum()
        assert torch.isfinite(torch.autograd.grad(penalty, weight)[0]).all()


@pytest.mark.parametrize(
    ("name", "wanted"), [("none", 0.0), ("r1", 12.5), ("r2", 12.5), ("r1+r2", 25.0), ("gp", 16.0), ("gp0", 25.0)]
)
@pytest.mark.parametrize("shape", [(2,), (1, 1, 2), (2, 1, 1)], ids=str)
def test_penalties_of_a_linear_critic_are_known(name, wanted, shape):
    """D(x) = 3 x_1 - 4 x_2 has a slope of length 5 everywhere: 25 / 2 at real data, at fakes, and (5 - 1)^2 between them."""
    penalty = PENALTIES[name]
    total = torch.zeros(3, dtype=torch.float64)
    for _ in penalty.at:
        x = POINTS.reshape(3, *shape).clone().requires_grad_()
        total = total + penalty.factor * gradient_penalty(x.flatten(1) @ LINEAR, x, centre=penalty.centre)
    torch.testing.assert_close(total, torch.full_like(total, wanted), rtol=1e-11, atol=0)  # the guard of the root


def test_penalties_are_where_their_names_say():
    assert {name: penalty.at for name, penalty in PENALTIES.items()} == {
        "none": (), "r1": ("real",), "r2": ("fake",), "r1+r2": ("real", "fake"), "gp": ("between",), "gp0": ("between",),
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(2,), (1, 4, 3)], ids=str)
def test_each_pair_has_its_own_point_between(shape):
    real, fake = torch.randn(2, 5, *shape, generator=seeded(), dtype=torch.float64)
    share = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.9], dtype=torch.float64)
    points = between(real, fake, share)
    assert torch.equal(points[0], fake[0])
    assert torch.equal(points[1], real[1])
    for i, s in enumerate(share.tolist()):
        torch.testing.assert_close(points[i], fake[i] + s * (real[i] - fake[i]), rtol=1e-12, atol=1e-14)  # float64 rounding
