"""EDM: its denoiser, loss and noise in the paper's own terms, flow and DDPM as the same denoiser, likelihoods, sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import kstest, truncnorm
from torch import Tensor, nn

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Estimate, Lower
from sixfold.core.model import Batch, HasDensity, HasScore, HasTrajectory
from sixfold.core.registry import build, recipe
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.data.sources import load
from sixfold.evaluate.sliced import sliced_floor, sliced_wasserstein
from sixfold.models.diffusion._family import PARAMETRISATIONS, Predict
from sixfold.models.diffusion.edm import EDM, PRESETS
from sixfold.nn.unet import UNet
from sixfold.prob.schedules import Schedule
from sixfold.solve.diffusion import Sampler
from sixfold.solve.quadrature import gauss_legendre
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

REAL = Support("real")
PLANE = DataSpec((2,), REAL)
IMAGE = DataSpec((1, 8, 8), Support("levels", 4))
LABELLED = DataSpec((1, 8, 8), Support("levels", 4), Conditioning("classes", 3))
MEAN = torch.tensor([1.5, -0.5], dtype=torch.float64)
COV = torch.tensor([[0.9, 0.5], [0.5, 0.6]], dtype=torch.float64)
SAMPLERS: dict[Sampler, int] = {"ancestral": 1, "ddim": 1, "heun": 2, "dpm++2m": 1, "dpm++3m": 1, "euler-maruyama": 1}

every_prediction = pytest.mark.parametrize("predict", PARAMETRISATIONS)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def draws(num: int, seed: int = 0) -> Draws:
    return Draws(num, generator=generator(seed), dtype=torch.float64)


Expected = Callable[[Tensor, Tensor, Tensor], Tensor]
"""E[u | z] from z, alpha and sigma."""


class Known(nn.Module):
    """Says what a known denoiser implies, in any parametrisation, each by its definition; keeps what it was shown."""

    def __init__(self, expected: Expected, predict: Predict) -> None:
        super().__init__()
        self.expected, self.predict = expected, predict
        self.seen: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self.register_buffer("anything", torch.zeros((), dtype=torch.float64))

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        self.seen.append((z, log_snr, cond))
        alpha, sigma = (c.sqrt().reshape(-1, *[1] * (z.ndim - 1)) for c in (log_snr.sigmoid(), (-log_snr).sigmoid()))
        x = self.expected(z, alpha, sigma)
        eps = (z - alpha * x) / sigma
        return {"x0": x, "eps": eps, "v": alpha * eps - sigma * x, "flow": eps - x}[self.predict]


def known(expected: Expected, *, spec: DataSpec = PLANE, predict: Predict = "v", **options: Any) -> tuple[EDM, Known]:
    model, network = EDM(spec, predict=predict, **options).double(), Known(expected, predict)
    model.network = network
    return model, network


def shaken(spec: DataSpec, **options: Any) -> EDM:
    """A model of random parameters, away from its start."""
    model = EDM(spec, **{"width": 16, "depth": 2, "channels": 8, **options}).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += 0.3 * normal(*parameter.shape, seed=i) / max(parameter[0].numel(), 1) ** 0.5
    return model


def gaussian(**options: Any) -> EDM:
    """The exact model of N(MEAN, COV) behind a codec with statistics of its own."""
    rows = MEAN + normal(500, 2) @ torch.linalg.cholesky(COV).T
    model, network = known(lambda z, alpha, sigma: z, **options)
    model.prepare(Split(rows))
    shift, scale = model.codec.parts[0].mean, model.codec.parts[0].std
    mean, cov = (MEAN - shift) / scale, COV / (scale[:, None] * scale)

    def expected(z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        alpha, sigma = alpha[:, :, None], sigma[:, :, None]
        gain = alpha * cov @ torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(2, dtype=torch.float64))
        return mean + (gain @ (z - alpha[:, 0] * mean)[:, :, None])[:, :, 0]

    network.expected = expected
    return model


# The paper's terms


def test_denoiser_is_the_papers_preconditioning() -> None:
    """D(x; s) = c_skip x + c_out F(c_in x, .) with the data's deviation d, in the data's own unit; F is -network."""
    model, d = shaken(DataSpec((3,), REAL), codec="unit"), 0.37
    model.prepare(Split(d * normal(1000, 3)))
    shift, d = model.codec.parts[0].mean, float(model.codec.parts[0].std[0])
    x = d * normal(7, 3, seed=1)
    for t in torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64):
        log_snr = model.schedule.log_snr(t)
        s = d * (-log_snr / 2).exp()  # the noise in the data's unit
        c_skip, c_out, c_in = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt(), 1 / (s**2 + d**2).sqrt()
        alpha = log_snr.sigmoid().sqrt()
        torch.testing.assert_close(alpha * x / d, c_in * x)  # what the network is shown
        expected = c_skip * x - c_out * model.network(c_in * x, log_snr.expand(7))
        found = model._denoiser(7, None, 1.0)(alpha * x / d, t)
        torch.testing.assert_close(model.codec.decode(found) - shift, expected)


def test_loss_is_the_papers_weighted_error_of_the_datum() -> None:
    """(s^2 + d^2) / (s d)^2 |D - y|^2 with d = 1, a mean over elements."""
    model = shaken(PLANE)
    shown: list[tuple[Tensor, Tensor]] = []
    model.network.register_forward_pre_hook(lambda _, args: shown.append(args[:2]))
    y = normal(64, 2, seed=1)
    loss = model.loss(Batch(y, draws(64)), "model").loss
    z, log_snr = shown[0]
    s, alpha = (-log_snr / 2).exp()[:, None], log_snr.sigmoid().sqrt()[:, None]
    d = z / alpha / (1 + s**2) - s / (1 + s**2).sqrt() * model.network(z, log_snr)
    torch.testing.assert_close(loss, ((s**2 + 1) / s**2 * (d - y).square()).mean(1))


@pytest.mark.parametrize(("centre", "spread"), [(-0.5, 1.2), (0.3, 0.8)])
def test_noise_is_log_normal_between_its_ends(centre: float, spread: float) -> None:
    """Kolmogorov-Smirnov on 4096 levels; stratified draws are closer than independent ones, so false alarms are below 1e-4."""
    model, network = known(lambda z, a, s: z, centre=centre, spread=spread, log_snr_max=8.0, log_snr_min=-5.0)
    model.loss(Batch(normal(4096, 2), draws(4096)), "model")
    log_sigma = -network.seen[0][1] / 2
    low, high = ((end - centre) / spread for end in (-4.0, 2.5))
    assert kstest(log_sigma.numpy(), truncnorm(low, high, centre, spread).cdf).pvalue > 1e-4
    assert -4 <= float(log_sigma.min()) < float(log_sigma.max()) <= 2.5


def test_flow_is_rectified_flow() -> None:
    """x_t = (1 - t) x + t eps at uniform t, and the error of eps - x, all seen from what the network was shown."""
    model, network = known(lambda z, a, s: z, **PRESETS["flow"])  # type: ignore[arg-type]
    x, dice = normal(256, 2, seed=1), draws(256)
    loss = model.loss(Batch(x, dice), "model").loss
    z, log_snr, _ = network.seen[0]
    t, end = 1 / (1 + (log_snr / 2).exp()), 1 / (1 + math.exp(5))
    # Uniform between the ends, one in each of 256 equal cells.
    assert torch.equal(((t - end) / (1 - 2 * end) * 256).floor().long().sort()[0], torch.arange(256))
    t = t[:, None]
    state = z * ((1 - t) ** 2 + t**2).sqrt()
    eps = (state - (1 - t) * x) / t
    error = (network(z, log_snr) - (eps - x)).square().mean(1)
    torch.testing.assert_close(loss, error, rtol=1e-6, atol=1e-9)
    # The flow's own noise is standard normal: 512 squares, 5 standard deviations.
    assert float(eps.square().mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / 512))


LOSSES = {"v": {}, "eps": {"predict": "eps"}, "flow": {"predict": "flow", "noise": "rectified"}, "elbo": {"weight": "elbo"}}


@pytest.mark.parametrize("name", LOSSES)
def test_least_loss_of_a_gaussian_is_its_closed_form(name: str) -> None:
    """For u ~ N(0, b^2) the best v_hat is k z, k = alpha sigma (1 - b^2) / (alpha^2 b^2 + sigma^2), and it leaves an error
    b^2 / (alpha^2 b^2 + sigma^2); the mean of the loss over the levels is an integral. Of 20000 x 4 numbers, 5 standard errors.
    """
    b, options = 0.5, LOSSES[name]
    ends = {"log_snr_max": 7.0, "log_snr_min": -7.0}
    model, _ = known(lambda z, a, s: a * b**2 / (a**2 * b**2 + s**2) * z, spec=DataSpec((4,), REAL), **options, **ends)  # type: ignore[arg-type]
    t, w = gauss_legendre(0.0, 1.0, 200)
    alpha, sigma = model.schedule(t)
    error = b**2 / (alpha**2 * b**2 + sigma**2)
    asked = PARAMETRISATIONS[options.get("predict", "v")].error(alpha, sigma)  # type: ignore[index]
    if name == "elbo":
        asked = -0.5 * model.schedule.slope(t) * alpha**2
    loss = model.loss(Batch(b * normal(20_000, 4, seed=1), draws(20_000)), "model").loss
    assert float(loss.mean()) == pytest.approx(float((w * asked * error).sum()), abs=5 * float(loss.std()) / math.sqrt(20_000))


@every_prediction
def test_parametrisations_of_one_denoiser_are_one_model(predict: Predict) -> None:
    one, other = gaussian(), gaussian(predict=predict)
    x = MEAN + normal(20, 2)
    for of in (
        lambda m: m.log_prob(x).nats,
        lambda m: m.log_prob(x, method="bound", generator=generator()).nats,
        *(lambda m, s=s: m.sample(20, generator=generator(), sampler=s, steps=8) for s in SAMPLERS),
    ):
        torch.testing.assert_close(of(other), of(one), rtol=1e-7, atol=1e-7)


# Sampling


@every_sampler
def test_samples_of_a_gaussian_have_its_moments(sampler: Sampler) -> None:
    """5000 draws know a mean or covariance to 0.014 of a deviation, and what the steps leave is below 0.02: 0.09 is 5 of both."""
    steps = {"heun": 30, "dpm++2m": 30, "dpm++3m": 30}.get(sampler, 400)
    x = gaussian().sample(5000, generator=generator(), steps=steps, sampler=sampler, spacing="log-snr")
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(COV), (x - MEAN).T, upper=False)
    torch.testing.assert_close(whitened.mean(1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.09)
    torch.testing.assert_close(whitened.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.09)


def test_samples_of_the_flow_have_the_likelihood_of_the_flow() -> None:
    """Sent back along the ode, what 200 steps of Heun make of the noise is that noise: its density says so."""
    model, z = gaussian(), normal(50, 2, seed=3)
    x = model.sample(50, generator=generator(3), sampler="heun", steps=200)
    found = model.log_prob(x, effort=64).nats
    # The flow of a Gaussian is linear, so that log p(x) = log N(z; 0, I) + a constant.
    gap = found + 0.5 * z.square().sum(1)
    torch.testing.assert_close(gap, gap.mean().expand(50), rtol=0, atol=2e-2)


@every_sampler
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_network_calls_are_counted(sampler: Sampler, guidance: float) -> None:
    model, network = known(lambda z, a, s: a * z, spec=LABELLED)
    model.sample(2, cond=1, steps=7, sampler=sampler, guidance=guidance)
    assert len(network.seen) == (7 * SAMPLERS[sampler] + 1) * (1 if guidance == 1 else 2)


def test_default_is_about_twenty_calls() -> None:
    model, network = known(lambda z, a, s: a * z)
    model.sample(2)
    assert len(network.seen) == 21


def test_guidance_of_one_is_the_conditional_model_and_more_goes_on_from_the_unconditional() -> None:
    model = shaken(LABELLED, codec="standardise")
    z, labels, t = normal(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor(0.5, dtype=torch.float64)
    model._limits = lambda: None  # type: ignore[method-assign]
    at = {w: model._denoiser(6, labels, w)(z, t).detach() for w in (0.0, 1.0, 2.5)}
    alpha, sigma = model.schedule(t)
    shown = torch.cat([torch.eye(3)[labels], torch.ones(6, 1)], 1).double()
    for w, given in ((1.0, shown), (0.0, torch.zeros_like(shown))):
        torch.testing.assert_close(at[w], (alpha * z - sigma * model.velocity(z, model.schedule.log_snr(t), given)).detach())
    torch.testing.assert_close(at[2.5], at[0.0] + 2.5 * (at[1.0] - at[0.0]))
    assert float((at[1.0] - at[0.0]).abs().max()) > 1e-4


def test_condition_is_dropped_at_the_stated_share_and_labels_reach_the_network() -> None:
    """Of 3000 conditions 600 hidden, give or take 5 binomial deviations: false alarm below 1e-6."""
    model, network = known(lambda z, a, s: a * z, spec=LABELLED, drop=0.2)
    labels = torch.randint(3, (3000,), generator=generator())
    x = torch.randint(4, (3000, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    model.loss(Batch(x, draws(3000), labels), "model")
    given = network.seen[0][2]
    assert given is not None
    hidden = given.abs().sum(1) == 0
    assert int(hidden.sum()) == pytest.approx(600, abs=5 * math.sqrt(3000 * 0.2 * 0.8))
    assert torch.equal(given[~hidden, :3].argmax(1), labels[~hidden])


@every_sampler
def test_trajectory_ends_in_the_sample(sampler: Sampler) -> None:
    model = gaussian()
    way = model.trajectory(4, frames=5, sampler=sampler, generator=generator())
    torch.testing.assert_close(way.frames[-1], model.sample(4, sampler=sampler, generator=generator()))
    assert way.frames.shape == (5, 4, 2)
    assert float(way.times[0]) == 1.0
    assert float(way.times[-1]) == 0.0
    assert bool((way.times.diff() < 0).all())


@pytest.mark.parametrize("codec", ["auto", "standardise", "scale", "logit"])
def test_expected_levels_stay_within_the_range_of_the_data(codec: Any) -> None:
    """Whatever the network says, a datum behind the codec lies between the least and the largest level's cell."""
    model, _ = known(lambda z, a, s: 100 * z, spec=IMAGE, codec=codec)
    x = torch.randint(4, (200, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    model.prepare(Split(x))
    ends = model._limits()
    assert ends is not None
    u, _ = model.codec.encode(torch.tensor([0, 3], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 1, 8, 8), draws(2))
    assert bool((ends[0] < u[0]).all() and (u[1] < ends[1]).all())
    found = model._denoiser(5, None, 1.0)(normal(5, 1, 8, 8), torch.tensor(0.5, dtype=torch.float64))
    assert bool((found >= ends[0]).all() and (found <= ends[1]).all())


# Likelihoods and the codec


def test_levels_have_mean_zero_and_variance_one_together() -> None:
    """What the preconditioning is made for: one mean and one scale for all pixels, so that flat areas stay flat."""
    x = (torch.rand(500, 1, 8, 8, generator=generator()) ** 3 * 4).floor().to(torch.uint8)
    model = EDM(IMAGE, channels=8).double()
    model.prepare(Split(x))
    u, _ = model.codec.encode(x, draws(500))
    assert float(u.mean()) == pytest.approx(0, abs=0.02)  # 32000 numbers, 5 standard errors of 0.0056 for fresh noise in cells
    assert float(u.var()) == pytest.approx(1, abs=0.02)
    shift, scale = model.codec.parts[1].mean, model.codec.parts[1].std
    assert len(shift.unique()) == len(scale.unique()) == 1


def test_bound_of_an_untrained_image_model_is_that_of_the_standard_normal() -> None:
    """v_hat starts at 0, which is N(0, I) behind the codec: E_v log N((x + v) / 4; m, s) in closed form, 5 standard errors."""
    model = EDM(IMAGE, channels=8).double()
    x = torch.randint(4, (1000, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    model.prepare(Split(x))
    m, s = (float(part.flatten()[0]) for part in (model.codec.parts[1].mean, model.codec.parts[1].std))
    low, high = ((x.double() + add) / 4 - m for add in (0, 1))
    second = (high**3 - low**3) / (3 * (high - low)) / s**2  # E u^2 in the pixel's cell
    exact = (-0.5 * second - 0.5 * math.log(2 * math.pi) - math.log(4 * s)).flatten(1).sum(1)
    found = model.log_prob(x, effort=1, generator=generator())
    assert found.kind is Lower
    gap = found.nats - exact
    assert float(gap.mean()) == pytest.approx(0, abs=5 * float(gap.std()) / math.sqrt(1000))
    torch.testing.assert_close(found.bits_per_dim(), -found.nats / 64 / math.log(2), check_dtype=False)


def test_ode_of_an_image_model_says_that_it_bounds_from_below() -> None:
    """Both take derivatives through the convolutions, and at the start both are the standard normal's."""
    model = EDM(IMAGE, channels=8).double()
    x = torch.randint(4, (60, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    ode = model.log_prob(x, method="ode", effort=2, generator=generator())
    assert (ode.kind, ode.bias) == (Estimate, "low")
    gap = ode.nats - model.log_prob(x, effort=1, generator=generator()).nats
    assert float(gap.mean()) == pytest.approx(0, abs=5 * float(gap.std()) / math.sqrt(60))


def test_trained_divergence_of_a_unet_is_its_jacobians_trace() -> None:
    """Hutchinson's probes through convolutions, normalisation and attention: 1000 of them, 5 standard errors."""
    model, z = shaken(DataSpec((1, 8, 8), REAL)), normal(1, 1, 8, 8)
    level = torch.tensor(0.3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: model.velocity(z, level, None)[0], z).reshape(64, 64)
    signs = 2.0 * torch.randint(2, (1000, 1, 8, 8), generator=generator()).double() - 1
    rows = z.repeat(1000, 1, 1, 1)
    _, along = torch.func.jvp(lambda z: model.velocity(z, level, None), (rows,), (signs,))
    found = (along * signs).flatten(1).sum(1).detach()
    assert float(found.mean()) == pytest.approx(float(jacobian.trace()), abs=5 * float(found.std()) / math.sqrt(1000))


def test_score_is_the_gradient_of_the_diffused_density() -> None:
    model = gaussian()
    scale, shift = model.codec.parts[0].std, model.codec.parts[0].mean
    for t in (None, 0.3, 0.9):
        alpha, sigma = model.schedule(torch.tensor(t or 0.0, dtype=torch.float64))
        cov = alpha**2 * COV + sigma**2 * scale.square().diag()
        x = (MEAN + normal(30, 2)).requires_grad_()
        density = torch.distributions.MultivariateNormal(shift + alpha * (MEAN - shift), cov).log_prob(x)
        (expected,) = torch.autograd.grad(density.sum(), x)
        torch.testing.assert_close(model.score(x.detach(), t), expected, rtol=1e-7, atol=1e-7)


# What it is, says and refuses


def test_capabilities() -> None:
    model = EDM(PLANE)
    assert isinstance(model, HasDensity)
    assert isinstance(model, HasScore)
    assert isinstance(model, HasTrajectory)


@pytest.mark.parametrize(
    ("shape", "network", "unet"),
    [
        ((2,), "auto", False),
        ((1, 7, 9), "auto", False),
        ((1, 8, 8), "auto", True),
        ((3, 32, 32), "auto", True),
        ((1, 8, 8), "mlp", False),
    ],
)
def test_images_of_some_size_go_through_a_unet(shape: tuple[int, ...], network: Any, unet: bool) -> None:
    assert isinstance(EDM(DataSpec(shape, REAL), network=network, channels=8).network, UNet) == unet


@pytest.mark.parametrize("preset", ["", *(f":{name}" for name in PRESETS)])
@pytest.mark.parametrize("spec", [PLANE, IMAGE])
def test_presets_end_in_noise_and_have_a_budget(preset: str, spec: DataSpec) -> None:
    """A schedule that did not end in noise would warn, which is an error here."""
    model = build(f"diffusion/edm{preset}", spec, channels=8)
    assert isinstance(model.schedule, Schedule)
    assert Recipe.of(recipe(f"diffusion/edm{preset}")).lr > 0


def test_loss_in_bfloat16_is_that_in_float32_up_to_rounding() -> None:
    model = shaken(LABELLED).float()
    x = torch.randint(4, (256, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    labels = torch.randint(3, (256,), generator=generator())

    def loss() -> Tensor:
        return model.loss(Batch(x, Draws(256, generator=generator()), labels), "model").loss.detach()

    exact = loss()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss()
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).abs().max() / exact.mean()) < 0.03


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: EDM(PLANE, network="unet"), Unsupported, r"a unet is for images .* got \(2,\)"),
    (lambda: EDM(PLANE, spread=0.3), BadInput, "within 7 spreads of its centre"),
    (lambda: EDM(PLANE).sample(2, eta=0.5), BadInput, "got eta=0.5 with sampler='dpm\\+\\+2m'"),
    (lambda: EDM(PLANE).sample(2, guidance=2.0), Unsupported, "this model has no condition"),
    (lambda: EDM(LABELLED, drop=0.0).sample(2, cond=1, guidance=2.0), Unsupported, "always shown its condition"),
    (lambda: EDM(LABELLED).sample(2), BadInput, "conditioned on classes of size 3; got none"),
    (lambda: EDM(DataSpec((2,), Support("tokens", 4))), Unsupported, "tokens have no order"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num", [0, 1])
def test_no_data_and_one_datum(num: int) -> None:
    model = EDM(IMAGE, channels=8)
    assert model.sample(num, steps=2).shape == (num, 1, 8, 8)
    for method in ("bound", "ode"):
        found = model.log_prob(torch.zeros(num, 1, 8, 8, dtype=torch.uint8), method=method, effort=1)  # type: ignore[arg-type]
        assert len(found) == num


# What the standard recipe reaches; `pytest -m slow -s` prints the numbers


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "most", "few"), [("", 0.05, 2.5), (":ddpm", 0.1, 8.0), (":flow", 0.05, 2.5)])
def test_recipe_solves_two_moons(preset: str, most: float, few: float) -> None:
    """Nats from the truth, and draws at most twice as far off as other real samples are, ``few`` times in 21 calls.

    A network that predicts eps has its error of the datum multiplied by sigma / alpha, 150 at the noisy end, which a few large
    steps do not average out.
    """
    data = load("moons").unconditional()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(f"diffusion/edm{preset}", data.spec)
    assert isinstance(model, EDM)
    fit_model(model, data, Recipe.of(recipe(f"diffusion/edm{preset}")))
    x = data.test.rows()
    assert data.truth is not None
    excess = float((data.truth.log_prob(x) - model.log_prob(x).nats).mean())
    floor = sliced_floor([data.truth.sample(10_000, generator=generator(s)) for s in (11, 12, 13)])
    distance = {
        (sampler, spacing, steps): sliced_wasserstein(
            model.sample(10_000, generator=generator(), sampler=sampler, spacing=spacing, steps=steps), x
        )
        / floor
        for sampler, spacing, steps in (
            ("dpm++2m", "karras", 20), ("dpm++2m", "log-snr", 20), ("dpm++3m", "log-snr", 20), ("heun", "karras", 10),
            ("ancestral", "time", 500),
        )
    }  # fmt: skip
    print(f"{preset}: excess {excess:.4f}, distance over floor {distance}")
    assert excess < most
    assert distance["ancestral", "time", 500] < 2
    assert distance["dpm++2m", "log-snr", 20] < few
