"""The GAN: its losses are those of game and penalty, its players move themselves alone, and classes count."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sixfold.core.dataset import Dataset, Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import Batch, HasDensity, HasLatent
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.gan.gan import GAN
from sixfold.nn.dcgan import Generator
from sixfold.prob.adversarial import GAMES, PENALTIES, between
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

PLANE = DataSpec((2,), Support("real"))
PLAYERS = ("critic", "generator")
CURVED = torch.tensor([[2.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
PIXELS = DataSpec((1, 8, 8), Support("levels", 17), Conditioning("classes", 3))
CONV = {"network": "conv", "width": 4}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


@pytest.mark.parametrize("name", PENALTIES)
def test_each_penalty_is_where_it_belongs(name):
    """At real data, at fakes, or at a point between the two whose share is each pair's own."""
    model, given = gan(penalty=name), batch()
    model.critic = Quadratic()
    parts = model.loss(given, "critic").parts
    draws = batch().draws
    fake = model.decode(draws.normal(3))  # the codec is the identity before prepare
    points = {"real": given.x, "fake": fake}
    if "between" in PENALTIES[name].at:
        points["between"] = between(given.x, fake, draws.uniform())
    assert {part for part in parts if part.startswith("penalty")} == {f"penalty_{place}" for place in PENALTIES[name].at}
    for place in PENALTIES[name].at:
        slope = (points[place] @ CURVED).norm(dim=1)
        # the guard of the root adds 1e-12 below it
        torch.testing.assert_close(parts[f"penalty_{place}"], (slope - PENALTIES[name].centre).square(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("progress", "gamma"), [(0.0, 8.0), (0.5, 5.0), (1.0, 2.0)])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_weigh_gamma_which_falls_by_a_cosine(name, progress, gamma):
    """Half of gamma at the data themselves, all of it between them."""
    terms = gan(penalty=name, gamma=8.0, gamma_end=2.0).loss(batch(progress=progress), "critic")
    half = 1.0 if "between" in PENALTIES[name].at else 0.5
    penalties = [part for key, part in terms.parts.items() if key.startswith("penalty")]
    torch.testing.assert_close(terms.loss, terms.parts["game"] + half * gamma * sum(penalties))
    assert len(penalties) == len(PENALTIES[name].at)


def test_a_penalty_now_and_then_counts_as_many_times():
    """Over a cycle of three steps of the critic the mean penalty is that of every step; the generator's steps do not count."""
    model = gan(penalty="r1", gamma=4.0, gamma_end=4.0, every=3)
    always = gan(penalty="r1", gamma=4.0, gamma_end=4.0)
    always.load_state_dict(model.state_dict())
    added = []
    for _ in range(6):
        terms = model.loss(batch(), "critic")
        added.append(terms.loss - terms.parts["game"])
        model.after_step("critic")
        model.after_step("generator")
    wanted = always.loss(batch(), "critic")
    torch.testing.assert_close(torch.stack(added).mean(0), wanted.loss - wanted.parts["game"])
    assert [bool((extra != 0).any()) for extra in added] == [True, False, False] * 2
    assert model.state_dict()["turn"] == 6  # a resumed run goes on in the cycle


def test_a_weight_of_zero_costs_no_gradient():
    terms = gan(gamma=0.0, gamma_end=0.0).loss(batch(), "critic")
    assert set(terms.parts) == {"game", "margin"}
    assert torch.equal(terms.loss.detach(), terms.parts["game"])


def test_smoothing_reaches_the_game():
    smoothed, plain = (gan(game="nonsaturating", smoothing=s).loss(batch(), "critic").parts["game"] for s in (0.1, 0.0))
    model = gan(game="nonsaturating")
    torch.testing.assert_close(smoothed - plain, 0.1 * model.critic(batch().x).squeeze(1).detach())


def test_the_critic_moves_as_often_as_it_is_told():
    assert {name: player.steps for name, player in gan(critic_steps=5).players().items()} == {"critic": 5, "generator": 1}


@pytest.mark.parametrize("game", GAMES)
def test_the_losses_are_those_of_the_game(game):
    model = gan(game=game)
    real, fake = (model.critic(x).squeeze(1) for x in (batch().x, model.generator(batch().draws.normal(3))))
    torch.testing.assert_close(model.loss(batch(), "critic").parts["game"], GAMES[game].critic(real, fake))
    torch.testing.assert_close(model.loss(batch(), "generator").loss, GAMES[game].generator(real, fake))


def pixels(num: int = 6, *, shard: tuple[int, int] = (0, 1)) -> Batch:
    """Images of 8x8 with 17 levels in three classes."""
    draws, rows = Draws(num, generator=seeded(1), dtype=torch.float64, shard=shard), slice(shard[0] * num, (shard[0] + 1) * num)
    x = torch.randint(17, (12, 1, 8, 8), generator=seeded(2), dtype=torch.uint8)
    return Batch(x[rows], draws, (torch.arange(12) % 3)[rows], 0.5)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("player", PLAYERS)
def test_a_step_leaves_the_other_players_gradients_untouched(player, penalty, network, spectral):
    """Even where gradients of everything are taken; and every parameter of the player has one."""
    model = gan(PIXELS, game="nonsaturating", penalty=penalty, network=network, width=4, spectral=spectral)
    model.loss(pixels(), player).loss.mean().backward()
    (other,) = set(PLAYERS) - {player}
    assert all(p.grad is None for p in getattr(model, other).parameters())
    own = dict(getattr(model, player).named_parameters())
    assert not [name for name, p in own.items() if p.grad is None or not (p.grad != 0).any()]


def test_the_generator_learns_through_the_critic():
    model = gan()
    real, fake = (model.critic(x).squeeze(1) for x in (batch().x, model.generator(batch().draws.normal(3))))
    own = list(model.generator.parameters())
    wanted = torch.autograd.grad(GAMES["relativistic"].generator(real, fake).mean(), own)
    torch.testing.assert_close(torch.autograd.grad(model.loss(batch(), "generator").loss.mean(), own), wanted)


@pytest.mark.parametrize("options", [{}, CONV, CONV | {"up": "bilinear", "spectral": True}], ids=["mlp", "conv", "spectral"])
@pytest.mark.parametrize("penalty", ["none", "r1+r2", "gp"])
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("player", PLAYERS)
def test_two_halves_of_a_batch_lose_what_the_whole_does(player, game, penalty, options):
    """Pairs and points between are of one real and one generated datum: no game, penalty or network couples the batch."""
    model = gan(PIXELS, game=game, penalty=penalty, **options).eval()  # power iteration rests
    assert not model.couples_batch
    halves = torch.cat([model.loss(pixels(6, shard=(i, 2)), player).loss for i in range(2)])
    # another order of summation in the convolutions, times two derivatives
    torch.testing.assert_close(halves, model.loss(pixels(12), player).loss, rtol=1e-9, atol=1e-11)


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
        (lambda: build("gan/gan", PLANE, penalty="r3"), BadInput, "gp0"),
        (lambda: build("gan/gan:dcgan", PLANE), Unsupported, r"images.*shape \(2,\).*network='mlp'"),
        (lambda: build("gan/gan:hinge", PLANE, smoothing=0.1), Unsupported, "no targets"),
    ],
    ids=["tokens", "noise", "cond", "game", "gamma", "penalty", "no image", "smoothing"],
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


@pytest.mark.parametrize("preset", ["mnist", "dcgan"])
def test_conditional_images_are_of_their_class(preset):
    """Class c lights up row 2c + 1 of 8x8: after brief training it is the brightest row of that class' samples."""
    label = torch.arange(1500) % 3
    x = torch.randint(4, (1500, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    x[torch.arange(1500), 0, 2 * label + 1] += 12
    parts = {name: Split(x, label) for name in ("train", "valid", "test")}
    model = build(f"gan/gan:{preset}", PIXELS, width=8)
    fit_model(model, Dataset("rows", PIXELS, **parts), Recipe(steps=150, batch=64, betas=(0.0, 0.99), lr=2e-3, ema=0.9))
    for c in range(3):
        rows = model.sample(200, cond=c, generator=seeded(3)).double().mean((1, 3))
        assert (rows.argmax(1) == 2 * c + 1).double().mean() > 0.9


def test_samples_come_from_the_averaged_generator():
    """After one round the mean is 9/11 of the new parameters and 2/11 of the old (the warm-up of the average)."""
    data = Dataset(
        "points", PLANE, **{name: Split(torch.randn(64, 2, generator=seeded())) for name in ("train", "valid", "test")}
    )

    def trained(ema: float) -> GAN:
        torch.manual_seed(0)
        model = build("gan/gan", PLANE, width=8)
        fit_model(model, data, Recipe(steps=1, batch=32, lr=1e-2, ema=ema))
        return model

    torch.manual_seed(0)
    start, last, mean = build("gan/gan", PLANE, width=8), trained(0.0), trained(0.999)
    for old, new, kept in zip(*(m.generator.parameters() for m in (start, last, mean)), strict=True):
        torch.testing.assert_close(kept, (2 * old + 9 * new) / 11)
    z = torch.randn(4, 8, generator=seeded(3))
    assert not torch.equal(mean.decode(z), last.decode(z))


@pytest.mark.parametrize("options", [{}, CONV], ids=["mlp", "conv"])
def test_many_samples_are_made_in_turns(options, monkeypatch):
    model = gan(PIXELS, **options)
    label, z = torch.arange(10) % 3, torch.randn(10, 3, generator=seeded(), dtype=torch.float64)
    whole = model.decode(z, label)
    monkeypatch.setattr("sixfold.models.gan.gan.ROWS", 4)
    seen = []
    model.generator.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    assert torch.equal(model.decode(z, label), whole)
    assert seen == [4, 4, 2]


@pytest.mark.parametrize(("support", "codec", "bounded"), [
    (Support("levels", 17), "auto", True), (Support("binary"), "scale", True),
    (Support("levels", 17), "logit", False), (Support("real"), "auto", False),
])  # fmt: skip
def test_a_generator_is_bounded_where_its_codec_is(support, codec, bounded):
    generator = gan(DataSpec((1, 8, 8), support), codec=codec, **CONV).generator
    assert isinstance(generator, Generator)
    assert generator.bounded == bounded


def test_mixed_precision_gives_losses_and_penalties_in_full():
    model = GAN(PIXELS, spectral=True, **CONV)
    draws = Draws(6, generator=seeded(1))
    for player in PLAYERS:
        with torch.autocast("cpu", torch.bfloat16):
            terms = model.loss(Batch(pixels().x, draws, pixels().cond, 0.5), player)
        assert {value.dtype for value in (terms.loss, *terms.parts.values())} == {torch.float32}
