"""Denoising score matching of an energy: its loss and optimum in closed form; ratios, chains and density of known mixtures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Numerical, Unnormalised
from sixfold.core.model import Batch, HasDensity, HasEnergy, HasScore, HasTrajectory
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.energy.dsm import DSM, Way
from sixfold.solve.quadrature import gauss_legendre

REAL = Support("real")
LINE, PLANE = DataSpec((1,), REAL), DataSpec((2,), REAL)
CLASSES = DataSpec((2,), REAL, Conditioning("classes", 3))
IMAGE = DataSpec((1, 8, 8), Support("levels", 4), Conditioning("classes", 3))
WAYS: tuple[dict[str, Any], ...] = (
    {"steps": 40},
    {"steps": 20, "sampler": "heun"},
    {"steps": 20, "sampler": "ancestral", "moves": 2},
    {"steps": 30, "sampler": "langevin", "moves": 10},
)

every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.get("sampler", "default"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def draws(num: int, seed: int = 0) -> Draws:
    return Draws(num, generator=generator(seed), dtype=torch.float64)


def flagged(labels: Tensor) -> Tensor:
    """What the network sees of three classes: which one, and that it is shown."""
    return torch.cat([torch.eye(3)[labels], torch.ones(len(labels), 1)], 1).double()


def column(values: Tensor) -> Tensor:
    return values.unsqueeze(1)


def shaken(spec: DataSpec, **options: Any) -> DSM:
    """A model in float64 with random weights, behind a codec that moves and scales real data."""
    model = DSM(spec, **{"width": 16, "depth": 2, "channels": 8, **options}).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += 0.3 * normal(*parameter.shape, seed=i) / max(parameter[0].numel(), 1) ** 0.5
    if not spec.support.discrete:
        model.prepare(Split(3 + normal(500, *spec.shape, seed=50) * torch.arange(1.0, spec.dims + 1).reshape(spec.shape)))
    return model


class Told(nn.Module):
    """The network of an energy that is known: | z + alpha F |^2 / 2 = E with F along z. Keeps the levels that it was asked at."""

    def __init__(self, energy: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]) -> None:
        super().__init__()
        self.energy = energy
        self.levels: list[float] = []
        self.register_buffer("anything", torch.zeros((), dtype=torch.float64))

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        self.levels += log_snr[:1].tolist()
        alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
        length = (2 * self.energy(z, alpha, sigma, cond)).sqrt()
        return column((length / z.square().sum(1).sqrt() - 1) / alpha) * z


def told(energy: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor], spec: DataSpec = PLANE, **options: Any) -> DSM:
    model = DSM(spec, **options).double()
    model.network = Told(energy)  # type: ignore[assignment]
    return model


MEANS, WEIGHTS, WIDTH = torch.tensor([[-1.2, 0.3], [0.9, -0.5]], dtype=torch.float64), torch.tensor([0.3, 0.7]).double(), 0.3


def mixture_log_prob(z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Log-density of alpha u + sigma eps, u of two narrow Gaussians: (B, 2), (B,), (B,) to (B,)."""
    var = column(alpha**2 * WIDTH**2 + sigma**2)
    squares = (z[:, None, :] - alpha[:, None, None] * MEANS).square().sum(2)
    return (WEIGHTS.log() - squares / (2 * var) - (2 * math.pi * var).log()).logsumexp(1)


def mixture(**options: Any) -> DSM:
    """The model of the mixture; each level has a constant of its own, which keeps its energy above zero."""
    return told(lambda z, alpha, sigma, _: 5 + alpha - mixture_log_prob(z, alpha, sigma), **options)


def level(model: DSM, t: float, num: int) -> tuple[Tensor, Tensor]:
    alpha, sigma = model.schedule(torch.tensor(t, dtype=torch.float64))
    return alpha.expand(num), sigma.expand(num)


def mixture_draws(num: int, alpha: Tensor, sigma: Tensor) -> Tensor:
    which = torch.multinomial(WEIGHTS, num, replacement=True, generator=generator(1))
    u = MEANS[which] + WIDTH * normal(num, 2, seed=2)
    return column(alpha) * u + column(sigma) * normal(num, 2, seed=3)


# The objective


class Scaled(nn.Module):
    """E = q |z|^2 / 2 s^2, s^2 the variance of the state of data N(0, b^2): right at q = 1."""

    def __init__(self, q: float, b: float) -> None:
        super().__init__()
        self.b, self.q = b, nn.Parameter(torch.tensor(q, dtype=torch.float64))

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        alpha2, sigma2 = log_snr.sigmoid(), (-log_snr).sigmoid()
        return column((self.q.sqrt() / (alpha2 * self.b**2 + sigma2).sqrt() - 1) / alpha2.sqrt()) * z


def scaled(q: float, b: float = 0.5, num: int = 20_000) -> tuple[DSM, Tensor]:
    """The loss of data N(0, b^2 I) at that q, and the model."""
    model = DSM(DataSpec((4,), REAL)).double()
    model.network = Scaled(q, b)  # type: ignore[assignment]
    return model, model.loss(Batch(b * normal(num, 4, seed=1), draws(num)), "model").loss


def test_least_loss_of_a_gaussian_is_its_closed_form() -> None:
    """At q = 1 the error of v_hat is b^2 / (alpha^2 b^2 + sigma^2), averaged over the levels; five standard errors."""
    model, grown = scaled(1.0)
    loss = grown.detach()
    t, w = gauss_legendre(0.0, 1.0, 200)
    alpha, sigma = model.schedule(t)
    least = float((w * 0.25 / (alpha**2 * 0.25 + sigma**2)).sum())
    assert float(loss.mean()) == pytest.approx(least, abs=5 * float(loss.std()) / math.sqrt(len(loss)))


def test_optimum_is_the_score_with_its_sign_and_coefficient() -> None:
    """The loss is a parabola in q, whose vertex lies at q = 1: to 0.02, five times what 20000 data leave open.

    With the sign of the noise or of the energy wrong the vertex is at another q altogether, and so it is with another weight on
    z in the energy.
    """
    values = [float(scaled(q)[1].detach().mean()) for q in (0.5, 1.0, 1.5)]
    slope, bend = values[2] - values[0], values[2] - 2 * values[1] + values[0]
    assert bend > 0.1
    assert 1 - 0.5 * slope / (2 * bend) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("q", "sign"), [(0.8, -1), (1.25, 1)])
def test_gradient_of_the_loss_leads_to_the_optimum(q: float, sign: int) -> None:
    model, loss = scaled(q)
    loss.mean().backward()
    assert isinstance(model.network, Scaled)
    assert model.network.q.grad is not None
    assert sign * float(model.network.q.grad) > 0.05


@pytest.mark.parametrize("spec", [PLANE, CLASSES, IMAGE], ids=["plane", "classes", "image"])
def test_loss_is_edms_of_the_denoiser_that_the_energy_implies(spec: DataSpec) -> None:
    """(s^2 + 1) / s^2 |D - y|^2 with x = y + s n and D = x - s^2 dE/dx by functional derivatives, value and gradients."""
    model = shaken(spec, drop=0.0)
    shown: list[tuple[Tensor, Tensor, Tensor | None]] = []
    hook = model.network.register_forward_pre_hook(lambda _, args: shown.append(args))
    cond = torch.tensor([0, 2, 1, 1]) if spec.cond.kind == "classes" else None
    x = torch.randint(4, (4, 1, 8, 8), generator=generator()).byte() if spec.support.discrete else normal(4, 2, seed=1)
    loss = model.loss(Batch(x, draws(4), cond), "model").loss
    hook.remove()
    z, log_snr, given = shown[0]
    z, y = z.detach(), model.codec.encode(x, draws(4))[0]
    rows = [-1] + [1] * (z.ndim - 1)
    s = (-log_snr / 2).exp()
    assert given is None or torch.equal(given, flagged(cond))

    def energy(x: Tensor) -> Tensor:
        state = x / (1 + s**2).sqrt().reshape(rows)
        out = model.network(state, log_snr, given)
        return 0.5 * (state + log_snr.sigmoid().sqrt().reshape(rows) * out).square().sum()

    x = z * (1 + s**2).sqrt().reshape(rows)
    denoised = x - (s**2).reshape(rows) * torch.func.grad(energy)(x)
    expected = (1 + s**2) / s**2 * (denoised - y).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    found, wanted = (torch.autograd.grad(v.mean(), parameters, allow_unused=True) for v in (loss, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert sum(g is not None and bool((g != 0).any()) for g in found) == len(parameters)


def test_first_model_is_the_standard_normal() -> None:
    model = DSM(IMAGE, channels=8).double()
    z = normal(5, 1, 8, 8)
    given = flagged(torch.tensor([0, 1, 2, 0, 1]))
    for place in torch.tensor([-8.0, 0.0, 6.0], dtype=torch.float64):
        torch.testing.assert_close(model._energy(z, place, given), z.square().flatten(1).sum(1) / 2)
        assert not model.velocity(z, place, given).any()


def test_loss_in_bfloat16_is_that_in_float32_up_to_rounding() -> None:
    """The loss to 3% and the direction of its gradient to a cosine of 0.98, through the gradient of a gradient."""
    model = shaken(IMAGE).float()
    x = torch.randint(4, (256, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    labels = torch.randint(3, (256,), generator=generator())

    def parts() -> tuple[Tensor, Tensor]:
        loss = model.loss(Batch(x, Draws(256, generator=generator()), labels), "model").loss
        gradients = torch.autograd.grad(loss.mean(), list(model.parameters()))
        return loss.detach(), torch.cat([g.flatten() for g in gradients])

    exact, slope = parts()
    with torch.autocast("cpu", torch.bfloat16):
        rounded, other = parts()
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert float(rounded.mean()) == pytest.approx(float(exact.mean()), rel=0.03)
    assert float(torch.nn.functional.cosine_similarity(slope, other, dim=0)) > 0.98


# Energies, ratios and scores


@pytest.mark.parametrize("t", [0.0, 0.4, 0.9])
def test_energies_at_a_level_have_the_ratios_of_the_mixture(t: float) -> None:
    model = mixture()
    x = normal(50, 2)
    truth = mixture_log_prob(x, *level(model, t, 50))
    energy = model.energy(x, t)
    torch.testing.assert_close(energy[0] - energy, truth - truth[0])
    torch.testing.assert_close(energy + truth, (5 + level(model, t, 1)[0]).expand(50))  # a constant of the level


def test_the_mixtures_denoiser_is_that_of_its_modes() -> None:
    """E[u | z] as the mean of the modes' own, weighted by their responsibilities."""
    model, z = mixture(), normal(50, 2)
    for t in (0.0, 0.3, 0.7):
        alpha, sigma = level(model, t, 50)
        var = alpha[0] ** 2 * WIDTH**2 + sigma[0] ** 2
        near = WEIGHTS.log() - (z[:, None] - alpha[0] * MEANS).square().sum(2) / (2 * var)
        own = MEANS + (alpha[0] * WIDTH**2 / var) * (z[:, None] - alpha[0] * MEANS)
        expected = (near.softmax(1)[:, :, None] * own).sum(1)
        torch.testing.assert_close(model._denoiser(None, 1.0)(z, torch.tensor(t, dtype=torch.float64)), expected)


@pytest.mark.parametrize("t", [None, 0.5])
@pytest.mark.parametrize("spec", [PLANE, CLASSES, DataSpec((1, 8, 8), REAL)], ids=["plane", "classes", "image"])
def test_score_is_the_slope_of_the_energy(spec: DataSpec, t: float | None) -> None:
    """Central differences along random directions, in data space, to what 1e-5 apart leaves."""
    model = shaken(spec)
    x, along = 3 + normal(4, *spec.shape, seed=1), 1e-5 * normal(4, *spec.shape, seed=2)
    cond = 1 if spec.cond.kind == "classes" else None
    slope = (model.energy(x + along, t, cond=cond) - model.energy(x - along, t, cond=cond)) / 2
    torch.testing.assert_close((model.score(x, t, cond=cond) * along).flatten(1).sum(1), -slope, rtol=1e-5, atol=1e-9)


def test_condition_moves_the_energy() -> None:
    model, x = shaken(CLASSES), 3 + normal(3, 2)
    one, other = (model.energy(x, cond=c) for c in (0, 1))
    assert float((one - other).abs().min()) > 1e-3
    both = model.energy(torch.cat([x, x]), cond=torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(both, torch.cat([one, other]))


# Chains and other samplers


@pytest.mark.parametrize("t", [0.1, 0.5])
def test_adjusted_moves_leave_the_mixture_unchanged_and_unadjusted_ones_do_not(t: float) -> None:
    """20 large steps of 4000 draws: energies by Kolmogorov-Smirnov against fresh ones, and modes by their share.

    False alarm below 1e-4 for the one; the other must be told apart at 1e-6.
    """
    model = mixture(log_snr_max=5.0)
    alpha, sigma = level(model, t, 4000)
    log_snr = model.schedule.log_snr(torch.tensor(t, dtype=torch.float64))
    start = mixture_draws(4000, alpha, sigma)

    def p_value(metropolis: bool) -> tuple[float, float]:
        chain = Way(1, "langevin", moves=20, step=3.0, metropolis=metropolis, spacing="time", guidance=1.0)
        moved = model._moved(start, log_snr, None, chain, draws(4000, seed=4))
        assert float((moved != start).any(1).double().mean()) > 0.9
        fresh = mixture_draws(8000, *level(model, t, 8000))[4000:]
        found, wanted = (mixture_log_prob(z, alpha, sigma) for z in (moved, fresh))
        return float(stats.ks_2samp(found, wanted).pvalue), float((moved[:, 0] < -0.1).double().mean())

    p, share = p_value(metropolis=True)
    assert p > 1e-4
    assert share == pytest.approx(float((mixture_draws(4000, alpha, sigma)[:, 0] < -0.1).double().mean()), abs=0.05)
    assert p_value(metropolis=False)[0] < 1e-6


@every_way
def test_samples_of_the_mixture_have_its_modes_and_widths(way: dict[str, Any]) -> None:
    """Of 2000, shares to five binomial deviations (0.051) and 0.03 for the steps, widths to five errors and 5% for the steps."""
    model = mixture(log_snr_max=5.0)
    x = model.sample(2000, generator=generator(), **way)
    left = (x - MEANS[0]).square().sum(1) < (x - MEANS[1]).square().sum(1)
    assert float(left.double().mean()) == pytest.approx(0.3, abs=0.08)
    alpha, sigma = (float(c) for c in model.schedule(torch.tensor(0.0, dtype=torch.float64)))
    width = math.sqrt(alpha**2 * WIDTH**2 + sigma**2)
    for part, mean in ((x[left], MEANS[0]), (x[~left], MEANS[1])):
        torch.testing.assert_close(part.mean(0), alpha * mean, rtol=0, atol=0.09)
        assert float((part - alpha * mean).square().mean().sqrt()) == pytest.approx(
            width, rel=0.05 + 5 / math.sqrt(4 * len(part))
        )


@every_way
def test_trajectory_ends_in_the_sample(way: dict[str, Any]) -> None:
    model = shaken(CLASSES)
    path = model.trajectory(4, frames=5, cond=1, generator=generator(), **way)
    torch.testing.assert_close(path.frames[-1], model.sample(4, cond=1, generator=generator(), **way))
    assert path.frames.shape == (5, 4, 2)
    assert (float(path.times[0]), float(path.times[-1])) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("way", "calls"),
    [({}, 7), ({"sampler": "heun"}, 14), ({"moves": 3}, 35), ({"sampler": "langevin", "moves": 3}, 28)],
    ids=["default", "heun", "moves", "langevin"],
)
def test_gradients_are_counted(way: dict[str, Any], calls: int) -> None:
    """One for each call of the denoiser, and for moves one each and one at their start."""
    model = mixture()
    model.sample(2, steps=7, generator=generator(), **way)
    assert isinstance(model.network, Told)
    assert len(model.network.levels) == calls


def test_moves_are_made_at_the_level_that_a_state_has_come_to() -> None:
    model = mixture()
    model.sample(2, steps=4, sampler="langevin", moves=2, generator=generator())
    levels = model.schedule.log_snr(model.schedule.grid(4, "log-snr"))[1:].repeat_interleave(3)
    assert isinstance(model.network, Told)
    torch.testing.assert_close(torch.tensor(model.network.levels, dtype=torch.float64), levels)


def test_images_end_in_the_mean_given_the_last_state() -> None:
    """What one more call of the denoiser says of the last state; real data end in the state itself."""
    for spec in (IMAGE, DataSpec((1, 8, 8), REAL, IMAGE.cond)):
        model = shaken(spec)
        states: list[Tensor] = []
        model.network.register_forward_pre_hook(lambda _, args, seen=states: seen.append(args[0].detach()))
        x = model.sample(3, cond=1, steps=4, generator=generator())
        if spec.support.discrete:
            mean = model._denoiser(model._given(torch.tensor([1, 1, 1])), 1.0)(states[4], torch.tensor(0.0, dtype=torch.float64))
            assert torch.equal(x, model.codec.decode(mean))
        assert len(states) == (6 if spec.support.discrete else 4)


# Conditions that are weighted


CENTRES = torch.tensor([[0.0, 2.0], [2.0, 0.0], [-1.0, -1.0]], dtype=torch.float64)


def guided(**options: Any) -> DSM:
    """Classes N(c, 1 / 2) at three centres; what is seen without a class is N(0, 1)."""

    def energy(z: Tensor, alpha: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        assert cond is not None
        shown, var = cond[:, 3], torch.where(cond[:, 3] > 0, alpha**2 / 2, alpha**2) + sigma**2
        return 1 + (z - column(alpha * shown) * (cond[:, :3] @ CENTRES)).square().sum(1) / (2 * var)

    return told(energy, CLASSES, **options)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_moves_under_guidance_leave_the_weighted_gaussian_unchanged(guidance: float) -> None:
    """exp(-(E + w (E_c - E))) of Gaussians is one: of precision (1 - w) / v + w / v_c, where w E_c pulls to its centre.

    Means to 0.1 and variances to 12%, five errors of 2000 draws at least; starts are far away.
    """
    model = guided()
    t, labels = torch.tensor(0.3, dtype=torch.float64), torch.ones(2000, dtype=torch.long)
    alpha, sigma = (float(c) for c in model.schedule(t))
    v, own = alpha**2 + sigma**2, alpha**2 / 2 + sigma**2
    precision = (1 - guidance) / v + guidance / own
    mean = guidance / own * alpha * CENTRES[1] / precision
    chain = Way(1, "langevin", moves=60, step=1.0, metropolis=True, spacing="time", guidance=guidance)
    moved = model._moved(normal(2000, 2), model.schedule.log_snr(t), flagged(labels), chain, draws(2000, seed=1))
    torch.testing.assert_close(moved.mean(0), mean, rtol=0, atol=0.1)
    torch.testing.assert_close(moved.var(0), torch.full((2,), 1 / precision, dtype=torch.float64), rtol=0.16, atol=0)
    score = -(moved - mean) * precision  # what the guided denoiser is to follow
    denoised = model._denoiser(flagged(labels), guidance)(moved, t)
    torch.testing.assert_close(denoised, (moved + sigma**2 * score) / alpha)


def test_condition_is_hidden_at_the_stated_share() -> None:
    """Of 3000 conditions 600, give or take five binomial deviations: false alarm below 1e-6."""
    model, seen = shaken(CLASSES, drop=0.2), []
    model.network.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    labels = torch.randint(3, (3000,), generator=generator())
    model.loss(Batch(normal(3000, 2), draws(3000), labels), "model")
    hidden = seen[0].abs().sum(1) == 0
    assert int(hidden.sum()) == pytest.approx(600, abs=5 * math.sqrt(3000 * 0.2 * 0.8))
    assert torch.equal(seen[0][~hidden], flagged(labels[~hidden]))


# The density


def test_density_of_the_mixture_is_its_closed_form() -> None:
    """Whatever constant the level has; behind a codec that moves and scales, within the stated tolerance and rounding."""
    model = mixture()
    model.prepare(Split(3 + normal(500, 2) * torch.tensor([1.0, 2.0])))
    x = 3 + normal(20, 2)
    part = model.codec.parts[0]
    truth = mixture_log_prob((x - part.mean) / part.std, *level(model, 0.0, 20)) - part.std.log().sum()
    found = model.log_prob(x)
    assert found.kind is Numerical
    assert 0 < float(found.tolerances.max()) < 1e-3
    torch.testing.assert_close(found.nats, truth, rtol=0, atol=float(found.tolerances.max()))


def test_each_class_has_its_own_constant() -> None:
    """Gaussians of three means and constants: the energies keep the constants, the densities lose them."""
    means = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]], dtype=torch.float64)
    extra = torch.tensor([0.0, 3.0, 7.0], dtype=torch.float64)

    def energy(z: Tensor, alpha: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        assert cond is not None
        var = alpha**2 * WIDTH**2 + sigma**2
        return 1 + cond[:, :3] @ extra + (z - column(alpha) * (cond[:, :3] @ means)).square().sum(1) / (2 * var)

    model, x, labels = told(energy, CLASSES), normal(9, 2), torch.arange(9) % 3
    alpha, sigma = level(model, 0.0, 9)
    var = column(alpha**2 * WIDTH**2 + sigma**2)
    truth = torch.distributions.Normal(column(alpha) * means[labels], var.sqrt()).log_prob(x).sum(1)
    found = model.log_prob(x, labels)
    torch.testing.assert_close(found.nats, truth, rtol=0, atol=float(found.tolerances.max()) + 1e-9)
    torch.testing.assert_close(model.energy(x, cond=labels) + truth, (1 + extra - (2 * math.pi * var[0]).log())[labels])
    assert len(model.log_prob(x[:0], labels[:0])) == 0


@pytest.mark.parametrize(
    "spec", [DataSpec((3,), REAL), DataSpec((2,), REAL, Conditioning("vector", 2)), IMAGE], ids=["space", "vector", "image"]
)
def test_other_densities_are_unnormalised(spec: DataSpec) -> None:
    """Minus the energy, of a scope that any change of the model changes."""
    model = shaken(spec)
    x = torch.randint(4, (4, 1, 8, 8), generator=generator()).byte() if spec.support.discrete else 3 + normal(4, *spec.shape)
    cond = {"none": None, "classes": 1, "vector": torch.ones(2)}[spec.cond.kind]
    found = model.log_prob(x, cond)
    assert found.kind is Unnormalised
    torch.testing.assert_close(found.nats, -model.energy(x, cond=cond))
    next(model.parameters()).data += 1e-6
    assert model.log_prob(x, cond).scope != found.scope


# What it says and refuses


def test_capabilities() -> None:
    model = DSM(PLANE, width=8)
    assert all(isinstance(model, protocol) for protocol in (HasDensity, HasEnergy, HasScore, HasTrajectory))
    assert not model.couples_batch


def test_refusals() -> None:
    model = shaken(PLANE)
    with pytest.raises(BadInput, match="moves=5"):
        model.sample(2, sampler="langevin")
    for t in (-0.1, 1.5):
        with pytest.raises(BadInput, match="from data to noise"):
            model.energy(normal(2, 2), t)
    with pytest.raises(Unsupported, match="Use energy"):
        shaken(IMAGE).score(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), cond=1)
    with pytest.raises(Unsupported, match="this model has no condition"):
        model.sample(2, guidance=2.0)
    with pytest.raises(Unsupported, match="always shown its condition"):
        shaken(CLASSES, drop=0.0).sample(2, cond=1, guidance=2.0)
    with pytest.raises(Unsupported, match="unet"):
        DSM(PLANE, network="unet")
