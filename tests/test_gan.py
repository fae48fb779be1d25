"""The games against closed forms and finite differences, the penalty against analytic slopes, and the GAN that plays them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

from sixfold.core.dataset import Dataset, Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import Batch, HasDensity, HasLatent
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.gan.gan import GAN
from sixfold.nn.mlp import MLP
from sixfold.prob.adversarial import GAMES, gradient_penalty
from sixfold.testing import check_model
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

PLANE = DataSpec((2,), Support("real"))
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


@pytest.mark.parametrize("game", ["nonsaturating", "least_squares"])
def test_the_best_critic_measures_a_divergence(game):
    p, q, step = two_normals()
    middle = (p + q) / 2
    best, wanted = {
        "nonsaturating": (
            (p / q).log(),
            math.log(4) - float((torch.xlogy(p, p / middle) + torch.xlogy(q, q / middle)).sum()) * step,  # log 4 - 2 JS
        ),
        # 1/2 integral pq / (p + q) = 1/4 (1 - Pearson's chi^2 of p from the middle), by pq = ((p + q)^2 - (p - q)^2) / 4
        "least_squares": (p / (p + q), (1 - float(((p - q).square() / (4 * middle)).sum()) * step) / 4),
    }[game]

    def loss(d):
        zero = torch.zeros((), dtype=torch.float64)
        critic = GAMES[game].critic
        # E_p of the part of r and E_q of the part of f: the loss is their sum up to what each leaves at zero.
        real, fake = critic(d, zero) - critic(zero, zero) / 2, critic(zero, d) - critic(zero, zero) / 2
        return (p * real + q * fake).sum() * step

    best.requires_grad_()
    value = loss(best)
    (slope,) = torch.autograd.grad(value, best)
    assert value.item() == pytest.approx(wanted, abs=1e-9)
    assert slope.abs().max() < 1e-12  # stationary, and both losses are convex in D
    assert loss(best.detach() + 0.1) > value


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


# The model.


def gan(spec: DataSpec = PLANE, **options) -> GAN:
    torch.manual_seed(0)
    return GAN(spec, **{"width": 16, "latent": 3, **options}).double()


def batch(num: int = 6, *, progress: float = 0.5, shard: tuple[int, int] = (0, 1), x: torch.Tensor | None = None) -> Batch:
    draws = Draws(num, generator=seeded(1), dtype=torch.float64, shard=shard)
    x = torch.randn(12, 2, generator=seeded(2), dtype=torch.float64) if x is None else x
    return Batch(x[shard[0] * num : (shard[0] + 1) * num], draws, progress=progress)


class Quadratic(nn.Module):
    """D(x) = x'Ax / 2, whose slope at x is Ax."""

    def forward(self, x, cond=None):
        return 0.5 * ((x @ CURVED) * x).sum(1, keepdim=True)


def test_one_penalty_is_at_reals_and_the_other_at_fakes():
    model, given = gan(), batch()
    model.critic = Quadratic()
    parts = model.loss(given, "critic").parts
    fakes = model.decode(batch().draws.normal(3))  # the codec is the identity before prepare
    torch.testing.assert_close(parts["r1"], (given.x @ CURVED).square().sum(1))
    torch.testing.assert_close(parts["r2"], (fakes @ CURVED).square().sum(1))


@pytest.mark.parametrize(("progress", "gamma"), [(0.0, 8.0), (0.5, 5.0), (1.0, 2.0)])
def test_both_penalties_weigh_half_of_gamma_which_falls_by_a_cosine(progress, gamma):
    terms = gan(gamma=8.0, gamma_end=2.0).loss(batch(progress=progress), "critic")
    game, r1, r2 = (terms.parts[name] for name in ("game", "r1", "r2"))
    torch.testing.assert_close(terms.loss, game + gamma / 2 * r1 + gamma / 2 * r2)


@pytest.mark.parametrize("game", GAMES)
def test_the_losses_are_those_of_the_game(game):
    model = gan(game=game)
    real, fake = (model.critic(x).squeeze(1) for x in (batch().x, model.generator(batch().draws.normal(3))))
    torch.testing.assert_close(model.loss(batch(), "critic").parts["game"], GAMES[game].critic(real, fake))
    torch.testing.assert_close(model.loss(batch(), "generator").loss, GAMES[game].generator(real, fake))


@pytest.mark.parametrize("player", PLAYERS)
def test_a_step_leaves_the_other_players_gradients_untouched(player):
    """Even where gradients of everything are taken; and the player's own is that of the undetached loss."""
    model = gan()
    model.loss(batch(), player).loss.mean().backward()
    (other,) = set(PLAYERS) - {player}
    assert all(p.grad is None for p in getattr(model, other).parameters())
    own = dict(getattr(model, player).named_parameters())
    # the last bias of the critic cancels in the relativistic game
    assert all(p.grad is not None and (p.grad != 0).any() for n, p in own.items() if (player, n) != ("critic", "layers.6.bias"))


def test_the_generator_learns_through_the_critic():
    model = gan()
    real, fake = (model.critic(x).squeeze(1) for x in (batch().x, model.generator(batch().draws.normal(3))))
    own = list(model.generator.parameters())
    wanted = torch.autograd.grad(GAMES["relativistic"].generator(real, fake).mean(), own)
    torch.testing.assert_close(torch.autograd.grad(model.loss(batch(), "generator").loss.mean(), own), wanted)


@pytest.mark.parametrize("player", PLAYERS)
def test_two_halves_of_a_batch_lose_what_the_whole_does(player):
    model = gan()
    halves = torch.cat([model.loss(batch(6, shard=(i, 2)), player).loss for i in range(2)])
    torch.testing.assert_close(halves, model.loss(batch(12), player).loss, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("player", PLAYERS)
def test_discrete_reals_are_dequantised_and_fakes_are_not_floored(player):
    model = gan(DataSpec((2,), Support("levels", 4)))
    x = torch.randint(4, (12, 2), generator=seeded(), dtype=torch.uint8)
    seen = []
    model.critic.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.loss(batch(x=x), player)
    real, fake = torch.cat(seen).chunk(2)
    cells = (real * 0.5 + 0.5) * 4
    assert torch.equal(cells.floor(), x[:6].double())
    assert len(cells.unique()) == cells.numel()
    torch.testing.assert_close(fake, model.generator(later_noise(model)))


def later_noise(model: GAN) -> torch.Tensor:
    """The noise of the batch, which is drawn after that of the dequantisation."""
    draws = batch().draws
    draws.uniform(2)
    return draws.normal(model.latent)


@pytest.mark.parametrize(("support", "dtype"), [(Support("levels", 17), torch.uint8), (Support("binary"), torch.uint8)])
def test_samples_of_discrete_data_are_levels(support, dtype):
    spec = DataSpec((1, 4, 4), support)
    x = gan(spec).sample(50, generator=seeded())
    assert x.dtype == dtype
    assert spec.check(x).shape == (50, 1, 4, 4)


def test_a_sample_is_the_decoded_noise_of_its_generator_alone():
    model = gan()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (model.sample(4, generator=seeded(7)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, two)
    noise = torch.randn(4, 3, generator=seeded(7), dtype=torch.float64)
    assert torch.equal(one, model.decode(noise))
    assert not torch.equal(one, model.sample(4, generator=seeded(8)))


def test_a_gan_claims_nothing_that_it_has_not():
    model = gan()
    assert not isinstance(model, HasDensity | HasLatent)
    assert model.criterion(batch()) is None


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: GAN(DataSpec((5,), Support("tokens", 9))), Unsupported, "autoregressive"),
        (lambda: gan().decode(torch.zeros(2, 4)), BadInput, r"shape \(B, 3\); got \(2, 4\)"),
        (lambda: gan(replace(PLANE, cond=Conditioning("classes", 3))).sample(2), BadInput, "Pass cond="),
        (lambda: build("gan/gan", PLANE, game="zero-sum"), BadInput, "relativistic"),
        (lambda: build("gan/gan", PLANE, gamma=-1.0), BadInput, "gamma"),
    ],
    ids=["tokens", "noise", "cond", "game", "gamma"],
)
def test_mistakes_are_explained(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()


def test_conditional_samples_go_to_their_class():
    """Three classes a distance of 3 apart with a spread of 0.1: after brief training every class mean is within 1 of its own."""
    spec = DataSpec((1,), Support("real"), Conditioning("classes", 3))
    label = torch.arange(3000) % 3
    x = 3.0 * label[:, None] + 0.1 * torch.randn(3000, 1, generator=seeded())
    parts = {name: Split(x, label) for name in ("train", "valid", "test")}
    model = build("gan/gan", spec, width=32)
    fit_model(model, Dataset("three", spec, **parts), Recipe(steps=400, batch=128, betas=(0.0, 0.99), lr=2e-3))
    means = [float(model.sample(500, cond=c, generator=seeded(3)).mean()) for c in range(3)]
    assert means == pytest.approx([0.0, 3.0, 6.0], abs=1.0)


@pytest.mark.parametrize("name", ["gan/gan", "gan/gan:nonsaturating"])
def test_the_contract_holds(name):
    # The critic's last bias shifts r and f alike: it cancels in a game of differences.
    unused = () if "nonsaturating" in name else ("critic.layers.6.bias",)
    data = DataSpec((3,), Support("real"), Conditioning("classes", 2))
    report = check_model(name, data, options={"width": 32}, unused=unused)
    assert not {"each_player_moves_its_own_parameters_alone", "samples_follow_their_condition"} - set(report.passed)


def test_wasserstein_with_slope_one_is_a_composition():
    """WGAN-GP needs no function of its own: the game, and the penalty between the two at slope one."""
    critic = smooth_critic()
    real, fake = POINTS, POINTS.flip(0)
    share = torch.rand(3, 1, generator=seeded(), dtype=torch.float64)
    between = (share * real + (1 - share) * fake).requires_grad_()
    loss = GAMES["wasserstein"].critic(critic(real)[:, 0], critic(fake)[:, 0])
    penalty = gradient_penalty(critic(between)[:, 0], between, centre=1.0)
    jacobian = torch.autograd.functional.jacobian(lambda x: critic(x)[:, 0], between.detach())
    slope = torch.stack([jacobian[i, i] for i in range(3)]).norm(dim=1)
    torch.testing.assert_close(loss + 10 * penalty, critic(fake)[:, 0] - critic(real)[:, 0] + 10 * (slope - 1).square())
