"""DDPM: conversions, loss, likelihoods and guidance against closed forms; what it warns of and refuses."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sixfold.core.dataset import Dataset, Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Estimate, Lower, Measure, Numerical
from sixfold.core.model import Batch, HasDensity, HasScore, HasTrajectory
from sixfold.core.registry import build, recipe
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.data.sources import load
from sixfold.evaluate.sliced import sliced_floor, sliced_wasserstein
from sixfold.models.diffusion._family import PARAMETRISATIONS, Predict
from sixfold.models.diffusion.ddpm import DDPM, PRESETS, Weight
from sixfold.prob.schedules import SCHEDULES, ScheduleName
from sixfold.solve.diffusion import ancestral
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

REAL = Support("real")
PLANE = DataSpec((2,), REAL)
LABELLED = DataSpec((2,), REAL, Conditioning("classes", 3))
MEAN = torch.tensor([1.5, -0.5], dtype=torch.float64)
COV = torch.tensor([[0.9, 0.5], [0.5, 0.6]], dtype=torch.float64)
TRUTH = torch.distributions.MultivariateNormal(MEAN, COV)

every_prediction = pytest.mark.parametrize("predict", PARAMETRISATIONS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def draws(num: int, seed: int = 0) -> Draws:
    return Draws(num, generator=generator(seed), dtype=torch.float64)


Expected = Callable[[Tensor, Tensor, Tensor], Tensor]
"""E[u | z] from z, alpha and sigma."""


class Known(nn.Module):
    """A network that knows what the datum is expected to be, and says so in any parametrisation, each by its definition."""

    def __init__(self, expected: Expected, predict: Predict) -> None:
        super().__init__()
        self.expected, self.predict = expected, predict
        self.register_buffer("anything", torch.zeros((), dtype=torch.float64))  # a model's dtype is that of its tensors

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        alpha, sigma = (c.sqrt().reshape(-1, *[1] * (z.ndim - 1)) for c in (log_snr.sigmoid(), (-log_snr).sigmoid()))
        x = self.expected(z, alpha, sigma)
        eps = (z - alpha * x) / sigma
        return {"x0": x, "eps": eps, "v": alpha * eps - sigma * x, "flow": eps - x}[self.predict]


def known(expected: Expected, *, spec: DataSpec = PLANE, predict: Predict = "v", **options: Any) -> DDPM:
    model = DDPM(spec, predict=predict, **options).double()
    model.network = Known(expected, predict)  # type: ignore[assignment]
    return model


def shaken(spec: DataSpec, amount: float = 0.5, **options: Any) -> DDPM:
    """A model of random parameters, away from its start, where v is zero."""
    model = DDPM(spec, width=16, depth=2, **options).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += amount * normal(*parameter.shape, seed=i) / parameter.shape[-1] ** 0.5
    return model


def gaussian(**options: Any) -> DDPM:
    """The exact model of TRUTH behind a codec with statistics of its own."""
    model = known(lambda z, alpha, sigma: z, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare(Split(TRUTH.sample((500,))))
    shift, scale = model.codec.parts[0].mean, model.codec.parts[0].std
    mean, cov = (MEAN - shift) / scale, COV / (scale[:, None] * scale)

    def expected(z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        alpha, sigma = alpha[:, :, None], sigma[:, :, None]
        gain = alpha * cov @ torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(2, dtype=torch.float64))
        return mean + (gain @ (z - alpha[:, 0] * mean)[:, :, None])[:, :, 0]

    model.network.expected = expected
    return model


# Conversions and the loss


@every_prediction
def test_conversions_are_inverses_and_say_what_they_mean(predict: Predict) -> None:
    u, eps = normal(40, 3), normal(40, 3, seed=1)
    log_snr = torch.linspace(-10, 10, 40, dtype=torch.float64)[:, None]
    alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
    z, v = alpha * u + sigma * eps, alpha * eps - sigma * u
    to_v, from_v, error = PARAMETRISATIONS[predict]
    quantity = {"x0": u, "eps": eps, "v": v, "flow": eps - u}[predict]
    torch.testing.assert_close(from_v(v, z, alpha, sigma), quantity)
    torch.testing.assert_close(to_v(quantity, z, alpha, sigma), v, rtol=1e-9, atol=1e-9)
    moved = from_v(v + 1, z, alpha, sigma) - quantity
    torch.testing.assert_close(moved.square(), error(alpha, sigma).expand(40, 3))


class Recorder(nn.Module):
    """Answers with zeros and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        self.seen.append((z, log_snr, cond))
        return torch.zeros_like(z)


def recording(spec: DataSpec, **options: Any) -> tuple[DDPM, Recorder]:
    model, recorder = DDPM(spec, **options).double(), Recorder()
    model.network = recorder  # type: ignore[assignment]
    return model, recorder


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_network_sees_the_noisy_state_and_nothing_of_the_clean_one(shape: tuple[int, ...]) -> None:
    """Its input is alpha x + sigma eps: at the same draws affine in x, with alpha and sigma of the log-SNR that it is told."""
    model, recorder = recording(DataSpec(shape, REAL))
    x = normal(64, *shape, seed=1)
    for scale in (0.0, 1.0, -2.0):
        model.loss(Batch(scale * x, draws(64)), "model")
    (nothing, level, _), (once, same, _), (twice, _, _) = recorder.seen
    torch.testing.assert_close(level, same)
    alpha, sigma = (c.sqrt().reshape(-1, *[1] * len(shape)) for c in (level.sigmoid(), (-level).sigmoid()))
    torch.testing.assert_close(once, nothing + alpha * x)
    torch.testing.assert_close(twice, nothing - 2 * alpha * x)
    # With x = 0 what is left is sigma eps; 64 D squares of a standard normal, 5 standard deviations wide: false alarm below 1e-6.
    eps = nothing / sigma
    assert float(eps.square().mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / eps.numel()))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_times_are_stratified_over_the_schedule(schedule: ScheduleName) -> None:
    model, recorder = recording(PLANE, schedule=schedule)
    model.loss(Batch(normal(128, 2), draws(128)), "model")
    t = model.schedule.time_of(recorder.seen[0][1])
    assert torch.equal((t * 128).floor().long().sort()[0], torch.arange(128))


X0_WEIGHTS: dict[Weight, Callable[[Tensor, Tensor], Tensor]] = {
    "eps": lambda snr, slope: snr,
    "x0": lambda snr, slope: torch.ones_like(snr),
    "v": lambda snr, slope: snr + 1,
    "flow": lambda snr, slope: (snr.sqrt() + 1).square(),  # 1 / t^2 at the straight path's time t = 1 / (1 + sqrt(snr))
    "min-snr": lambda snr, slope: snr.clamp(max=5),
    "elbo": lambda snr, slope: -0.5 * slope * snr,
}


@every_prediction
@pytest.mark.parametrize("weight", ["simple", *X0_WEIGHTS])
def test_losses_differ_by_their_weight_on_the_error_of_x0(predict: Predict, weight: Weight) -> None:
    """Seen from outside: what the network implies for the datum, its squared error, and the papers' weights of it."""
    model = shaken(PLANE, predict=predict, weight=weight, log_snr_max=6.0, log_snr_min=-6.0)
    x = normal(32, 2, seed=1)
    shown: list[tuple[Tensor, Tensor]] = []
    hook = model.network.register_forward_pre_hook(lambda _, args: shown.append(args[:2]))
    loss = model.loss(Batch(x, draws(32)), "model").loss
    hook.remove()
    z, log_snr = shown[0]
    alpha, sigma = log_snr.sigmoid().sqrt()[:, None], (-log_snr).sigmoid().sqrt()[:, None]
    implied = alpha * z - sigma * model.velocity(z, log_snr, None)
    t = model.schedule.time_of(log_snr)
    weights = X0_WEIGHTS[predict if weight == "simple" else weight]
    expected = weights(log_snr.exp(), model.schedule.slope(t)) * (implied - x).square().mean(1)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-9)


def test_loss_of_the_truth_is_the_variance_that_no_network_explains() -> None:
    """For a datum N(0, I), v is independent of z and N(0, I): the least loss is 1. Ten deviations of 4096 x 2 squares."""
    model = known(lambda z, alpha, sigma: alpha * z)
    loss = model.loss(Batch(normal(4096, 2, seed=1), draws(4096)), "model").loss
    assert float(loss.mean()) == pytest.approx(1.0, abs=10 * math.sqrt(2 / 8192) / 2)


def test_conditions_are_hidden_at_the_stated_share() -> None:
    """Of 4000 conditions 1000 hidden, give or take 5 binomial deviations: false alarm below 1e-6."""
    model, recorder = recording(LABELLED, drop=0.25)
    labels = torch.randint(3, (4000,), generator=generator())
    model.loss(Batch(normal(4000, 2), draws(4000), labels), "model")
    given = recorder.seen[0][2]
    assert given is not None
    hidden = given.abs().sum(1) == 0
    assert int(hidden.sum()) == pytest.approx(1000, abs=5 * math.sqrt(4000 * 0.25 * 0.75))
    assert torch.equal(given[~hidden, :3].argmax(1), labels[~hidden])
    assert bool((given[~hidden, 3] == 1).all())


def test_a_vector_of_zeros_is_not_a_hidden_condition() -> None:
    model, recorder = recording(DataSpec((2,), REAL, Conditioning("vector", 2)))
    model.sample(1, cond=torch.zeros(2), steps=1)
    assert recorder.seen[0][2].tolist() == [[0.0, 0.0, 1.0]]  # type: ignore[union-attr]


# Likelihoods


@every_prediction
def test_ode_likelihood_of_a_gaussian_is_exact(predict: Predict) -> None:
    model = gaussian(predict=predict, log_snr_max=13.0, log_snr_min=-13.0)
    x = TRUTH.sample((100,)) * 1.5
    found = model.log_prob(x, effort=32)
    assert found.kind is Numerical
    # The ends of the schedule are off by variances of exp(-13) from the datum and from pure noise.
    torch.testing.assert_close(found.nats, TRUTH.log_prob(x), rtol=0, atol=1e-3)


def test_tolerance_of_the_ode_covers_its_error() -> None:
    model = gaussian()
    x = TRUTH.sample((200,))
    finest = model.log_prob(x, effort=96).nats
    errors = []
    for effort in (3, 6, 12, 24):
        found = model.log_prob(x, effort=effort)
        off = (found.nats - finest).abs()
        assert bool((off <= found.tolerances).all())
        errors.append(float(off.max()))
    assert all(a > 4 * b for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("effort", [1, 16])
def test_bound_of_a_gaussian_is_close_from_below(effort: int) -> None:
    """2000 data, their differences within 5 standard errors of [-0.001, 0]: false alarm below 1e-6."""
    model = gaussian()
    x = TRUTH.sample((2000,))
    found = model.log_prob(x, method="bound", effort=effort, generator=generator())
    assert found.kind is Lower
    gap = found.nats - TRUTH.log_prob(x)
    error = 5 * float(gap.std()) / math.sqrt(2000)
    assert -0.001 - error < float(gap.mean()) < error


def linear_vlb(c: float, u: Tensor, model: DDPM, steps: int) -> Tensor:
    """Prior, steps and decoder of the bound by the paper's own terms, for the wrong model v_hat = c z; (B, D) to (B,)."""
    log_snr = torch.linspace(model.schedule.log_snr_min, model.schedule.log_snr_max, steps + 1, dtype=torch.float64)
    alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
    k = alpha - sigma * c  # x_hat = k z
    error = (1 - k * alpha) ** 2 * u[..., None] ** 2 + (k * sigma) ** 2  # E |u - x_hat|^2 an element
    prior = 0.5 * (sigma[0] ** 2 + alpha[0] ** 2 * u**2 - 1 - 2 * sigma[0].log())
    diffusion = 0.5 * (log_snr.exp().diff() * (error[..., 1:] + error[..., :-1]) / 2).sum(-1)
    decoder = 0.5 * (math.log(2 * math.pi) + 2 * sigma[-1].log() + error[..., -1] / sigma[-1] ** 2)
    return -(prior + diffusion + decoder).sum(-1)


@pytest.mark.parametrize("c", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("ends", [(10.0, -10.0), (4.0, -5.0)])
def test_bound_is_prior_steps_and_decoder(c: float, ends: tuple[float, float]) -> None:
    """One number of many draws against the terms of Kingma et al., Eq. (11): within 5 standard errors, false alarm below 1e-6."""
    model = known(lambda z, alpha, sigma: (alpha - sigma * c) * z, log_snr_max=ends[0], log_snr_min=ends[1])
    u = torch.tensor([0.8, -1.7], dtype=torch.float64)
    found = model.log_prob(u.expand(4000, 2), method="bound", effort=16, generator=generator()).nats
    expected = float(linear_vlb(c, u, model, 20_000))
    assert float(found.mean()) == pytest.approx(expected, abs=5 * float(found.std()) / math.sqrt(4000) + 1e-5)


@pytest.mark.parametrize("c", [-0.4, 0.3])
def test_bound_lies_below_the_likelihood_of_ancestral_sampling(c: float) -> None:
    """For v_hat = c z every step is linear, so that what 4000 ancestral steps and the decoder draw has a known density."""
    model = known(lambda z, alpha, sigma: (alpha - sigma * c) * z, spec=DataSpec((1,), REAL), log_snr_max=6.0)

    class Still(Draws):
        def normal(self, *shape: int) -> Tensor:
            return torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    variance, grid = torch.ones(1, dtype=torch.float64), model.schedule.grid(4000)
    denoiser = model._denoiser(2, None, 1.0)
    for pair in torch.stack([grid[:-1], grid[1:]], 1):
        z = torch.tensor([[1.0], [0.0]], dtype=torch.float64)  # the first row gives the factor, the second the noise
        (step,) = ancestral(denoiser, model.schedule, z, pair, draws=Still(2))
        variance = step[0] ** 2 * variance + step[1] ** 2
    alpha, sigma = model.schedule(grid[-1])
    spread = ((alpha - sigma * c) ** 2 * variance + sigma**2).sqrt()
    u = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    truth = torch.distributions.Normal(0.0, spread).log_prob(u)
    gap = truth - linear_vlb(c, u[:, None], model, 20_000)
    assert bool((gap > -1e-3).all()), gap  # 4000 steps are not infinitely many
    assert float(gap.max()) > 0.01  # the model is wrong, and a bound of a wrong model is not tight


def line(points: int) -> Tensor:
    return torch.linspace(-8, 8, points, dtype=torch.float64)[:, None]


def test_ode_density_of_any_network_integrates_to_one() -> None:
    model, x = shaken(DataSpec((1,), REAL)), line(801)
    total = float(model.log_prob(x, effort=64).nats.exp().sum()) * 16 / 800
    assert total == pytest.approx(1, abs=2e-3)


def test_bound_of_any_network_integrates_to_less_than_one() -> None:
    """E of the bound by 800 levels a point; its noise, 0.05, lifts the integral of its exponential by a thousandth."""
    model, x = shaken(DataSpec((1,), REAL)), line(161)
    bound = model.log_prob(x, effort=200, method="bound", generator=generator())
    total = float(bound.nats.exp().sum()) * 16 / 160
    assert 0.3 < total < 1
    assert float((bound.nats - model.log_prob(x, effort=32).nats).abs().max()) > 0.01  # sampling by noise is another model


@pytest.mark.parametrize("method", ["bound", "ode"])
def test_probabilities_of_levels_sum_to_less_than_one(method: Any) -> None:
    model = shaken(DataSpec((1,), Support("levels", 5)), amount=0.3)
    x = torch.arange(5, dtype=torch.uint8)[:, None]
    found = model.log_prob(x, method=method, effort=64, probes=100, generator=generator())
    assert found.measure == Measure(5)
    assert 0.2 < float(found.nats.exp().sum()) < 1


def test_levels_of_a_standard_normal_are_bounded_by_dequantisation() -> None:
    """v_hat = 0 is N(0, 1), of which E_v log p((x + v) / 5 * 2 - 1) is known: 5 standard errors, false alarm below 1e-6."""
    model = known(lambda z, alpha, sigma: alpha * z, spec=DataSpec((1,), Support("levels", 5)))
    low = torch.arange(5, dtype=torch.float64) * 0.4 - 1
    second_moment = ((low + 0.4) ** 3 - low**3) / 1.2
    expected = -0.5 * (second_moment + math.log(2 * math.pi)) + math.log(0.4)
    x = torch.arange(5, dtype=torch.uint8)[:, None].repeat_interleave(2000, 0)
    for method in ("bound", "ode"):
        found = model.log_prob(x, method=method, effort=1, probes=2, generator=generator()).nats.reshape(5, 2000)
        assert bool(((found.mean(1) - expected).abs() < 5 * found.std(1) / math.sqrt(2000)).all())


def test_standard_error_of_the_bound_is_calibrated() -> None:
    """The spread of 400 repetitions against what one of them says; a spread of 400 is known to 3.5%, so 20% is 5 deviations."""
    model = shaken(PLANE)
    x = normal(4, 2, seed=5)
    found = model.log_prob(x.repeat(400, 1), method="bound", effort=16, generator=generator())
    assert found.stderr is not None
    said = found.stderr.reshape(400, 4).square().mean(0).sqrt()
    torch.testing.assert_close(said, found.nats.reshape(400, 4).std(0), rtol=0.2, atol=0)


def test_ode_in_many_dimensions_is_an_unbiased_estimate() -> None:
    """Ten dimensions with one strong correlation: Hutchinson's probes against the exact value, 5 standard errors of 500 rows."""
    spec = DataSpec((2, 5), REAL)
    cov = torch.eye(10, dtype=torch.float64)
    cov[0, 1] = cov[1, 0] = 0.6

    def expected(z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        alpha, sigma = alpha.reshape(-1, 1, 1), sigma.reshape(-1, 1, 1)
        inverse = torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(10, dtype=torch.float64))
        return (alpha * cov @ inverse @ z.reshape(-1, 10, 1)).reshape(z.shape)

    model = known(expected, spec=spec, log_snr_max=13.0)
    x = normal(1, 2, 5).expand(500, 2, 5)
    found = model.log_prob(x, method="ode", probes=2, effort=16, generator=generator())
    assert found.kind is Estimate
    assert found.bias == "none"
    assert found.stderr is not None
    exact = torch.distributions.MultivariateNormal(torch.zeros(10, dtype=torch.float64), cov).log_prob(x[0].flatten())
    spread = float(found.nats.std()) / math.sqrt(500)
    assert spread > 1e-3
    assert float(found.nats.mean() - exact) == pytest.approx(0, abs=5 * spread + 1e-3)
    assert float(found.stderr.square().mean().sqrt()) == pytest.approx(float(found.nats.std()), rel=0.2)


KINDS = [
    (DataSpec((2,), REAL), "auto", Numerical, "none"),
    (DataSpec((2, 4), REAL), "auto", Numerical, "none"),
    (DataSpec((9,), REAL), "auto", Lower, "none"),
    (DataSpec((9,), REAL), "ode", Estimate, "none"),
    (DataSpec((2,), REAL), "bound", Lower, "none"),
    (DataSpec((2,), Support("levels", 4)), "auto", Lower, "none"),
    (DataSpec((2,), Support("levels", 4)), "ode", Estimate, "low"),
    (DataSpec((1, 3, 3), Support("binary")), "ode", Estimate, "low"),
]


@pytest.mark.parametrize(("spec", "method", "kind", "bias"), KINDS)
def test_kind_is_honest(spec: DataSpec, method: Any, kind: type, bias: str) -> None:
    x = torch.zeros(3, *spec.shape, dtype=spec.dtype)
    found = DDPM(spec, width=8).log_prob(x, method=method, effort=1)
    assert (found.kind, found.bias, found.measure, found.dims) == (kind, bias, Measure(spec.support.size), spec.dims)
    assert (found.stderr is None) == (kind is Numerical)


def test_parametrisations_of_one_denoiser_are_one_model() -> None:
    models = [gaussian(predict=predict) for predict in PARAMETRISATIONS]
    x = TRUTH.sample((20,))
    for of in (
        lambda m: m.log_prob(x).nats,
        lambda m: m.log_prob(x, method="bound", generator=generator()).nats,
        lambda m: m.score(x, 0.3),
        lambda m: m.sample(20, generator=generator()),
        lambda m: m.sample(20, generator=generator(), sampler="ddim", eta=0.3, steps=10),
    ):
        first, *rest = map(of, models)
        for other in rest:
            torch.testing.assert_close(other, first, rtol=1e-8, atol=1e-8)


# Sampling


@pytest.mark.parametrize("options", [{"sampler": "ancestral"}, {"sampler": "ddim"}, {"sampler": "ddim", "eta": 0.5}])
def test_samples_of_a_gaussian_have_its_moments(options: dict[str, Any]) -> None:
    """5000 draws; a mean or covariance is known to 0.014 of a deviation, and 200 steps leave about 0.01: 0.08 is 5 of both."""
    x = gaussian().sample(5000, generator=generator(), steps=200, **options)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(COV), (x - MEAN).T, upper=False)
    torch.testing.assert_close(whitened.mean(1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.08)
    torch.testing.assert_close(whitened.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.08)


def test_score_is_the_gradient_of_the_diffused_density() -> None:
    model = gaussian()
    scale = model.codec.parts[0].std
    shift = model.codec.parts[0].mean
    for t in (None, 0.0, 0.2, 0.7, 1.0):
        alpha, sigma = model.schedule(torch.tensor(t or 0.0, dtype=torch.float64))
        cov = alpha**2 * COV + sigma**2 * scale.square().diag()
        mean = shift + alpha * (MEAN - shift)
        x = TRUTH.sample((30,)).requires_grad_()
        density = torch.distributions.MultivariateNormal(mean, cov).log_prob(x)
        (expected,) = torch.autograd.grad(density.sum(), x)
        torch.testing.assert_close(model.score(x.detach(), t), expected, rtol=1e-7, atol=1e-7)


def test_guidance_moves_along_the_difference_of_the_conditions() -> None:
    """With one step the mean of the datum is affine in the guidance: at 1 the conditional's, at 0 the unconditional's."""
    model = shaken(LABELLED)
    z = normal(6, 2)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    t = torch.tensor(0.5, dtype=torch.float64)
    at = {w: model._denoiser(6, labels, w)(z, t) for w in (0.0, 1.0, 2.5)}
    alpha, sigma = model.schedule(t)
    hidden = alpha * z - sigma * model.velocity(z, model.schedule.log_snr(t), torch.zeros(6, 4, dtype=torch.float64))
    torch.testing.assert_close(at[0.0], hidden)
    torch.testing.assert_close(at[2.5], at[0.0] + 2.5 * (at[1.0] - at[0.0]))
    assert float((at[1.0] - at[0.0]).detach().abs().min()) > 1e-4


def test_guidance_of_one_is_the_conditional_model() -> None:
    """Neither another result nor another call: the unconditional network is not asked."""
    model, recorder = recording(LABELLED)
    model.sample(4, cond=1, generator=generator(), steps=7, guidance=1.0)
    assert len(recorder.seen) == 7 + 1
    assert all(given is not None and given.tolist() == [[0, 1, 0, 1]] * 4 for _, _, given in recorder.seen)


def test_levels_stay_within_their_range_on_the_way() -> None:
    """What is expected of a datum with levels lies in [-1, 1], whatever the network says."""
    spec = DataSpec((1, 3, 3), Support("levels", 7))
    model = known(lambda z, alpha, sigma: 100 * z, spec=spec)
    x = model._denoiser(5, None, 1.0)(normal(5, 1, 3, 3), torch.tensor(0.5))
    assert float(x.abs().max()) == 1.0
    drawn = model.sample(5, generator=generator())
    assert drawn.dtype == torch.uint8
    assert int(drawn.max()) <= 6


@pytest.mark.parametrize("frames", [1, 2, 5, 40])
def test_trajectory_ends_in_the_sample(frames: int) -> None:
    model = gaussian()
    way = model.trajectory(6, frames=frames, steps=12, generator=generator())
    assert way.frames.shape == (frames, 6, 2)
    torch.testing.assert_close(way.frames[-1], model.sample(6, steps=12, generator=generator()))
    assert float(way.times[-1]) == 0.0
    assert bool((way.times.diff() <= 0).all())
    if frames > 1:
        assert float(way.times[0]) == 1.0


def test_a_generator_is_the_only_source_of_randomness() -> None:
    model = shaken(LABELLED)
    x, labels = normal(5, 2), torch.tensor([0, 1, 2, 0, 1])
    calls: list[Callable[[], Tensor]] = [
        lambda: model.sample(5, cond=labels, generator=generator(), guidance=2.0),
        lambda: model.sample(5, cond=labels, generator=generator(), sampler="ddim", eta=0.5),
        lambda: model.trajectory(5, cond=labels, generator=generator()).frames,
        lambda: model.log_prob(x, labels, generator=generator(), method="bound").nats,
        lambda: model.log_prob(x, labels, generator=generator()).nats,
    ]
    before = torch.get_rng_state()
    assert all(torch.equal(call(), call()) for call in calls)
    assert torch.equal(torch.get_rng_state(), before)


# What it is, says and refuses


def test_capabilities() -> None:
    model = DDPM(PLANE)
    assert isinstance(model, HasDensity)
    assert isinstance(model, HasScore)
    assert isinstance(model, HasTrajectory)


@pytest.mark.parametrize("stop", [-2.0, -4.5])
def test_it_warns_of_a_schedule_that_does_not_end_in_noise(stop: float) -> None:
    with pytest.warns(UserWarning, match=rf"does not end in noise: its SNR at t = 1 is {math.exp(stop):.2g}"):
        DDPM(PLANE, log_snr_min=stop)


@pytest.mark.parametrize("preset", ["", *(f":{name}" for name in PRESETS)])
def test_no_preset_warns(preset: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build(f"diffusion/ddpm{preset}", PLANE)
    assert model.schedule.ends_in_noise
    assert recipe(f"diffusion/ddpm{preset}")["steps"] > 0


def test_such_a_start_is_wrong_in_fact() -> None:
    """What the warning is for: from a start that is not noise, the same exact denoiser does not reach the data's correlation."""
    with pytest.warns(UserWarning, match="does not end in noise"):
        wrong = gaussian(log_snr_min=2.0)
    right, missed = (float(m.sample(4000, generator=generator()).T.corrcoef()[0, 1]) for m in (gaussian(), wrong))
    true = float(COV[0, 1] / (COV[0, 0] * COV[1, 1]).sqrt())
    assert abs(right - true) < 0.05 < abs(missed - true)  # 4000 draws know it to 0.008


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: DDPM(PLANE).sample(2, eta=0.5), BadInput, "eta is the noise of ddim; got eta=0.5"),
    (lambda: DDPM(PLANE).sample(2, guidance=2.0), Unsupported, "this model has no condition"),
    (lambda: DDPM(LABELLED, drop=0.0).sample(2, cond=1, guidance=2.0), Unsupported, "always shown its condition"),
    (lambda: DDPM(LABELLED).sample(2), BadInput, "conditioned on classes of size 3; got none"),
    (lambda: DDPM(PLANE).score(torch.zeros(1, 2), 1.5), BadInput, r"t must lie in \[0, 1\]"),
    (lambda: DDPM(DataSpec((2,), Support("levels", 4))).score(torch.zeros(1, 2)), Unsupported, "got discrete data"),
    (lambda: DDPM(DataSpec((2,), Support("tokens", 4))), Unsupported, "tokens have no order"),
    (lambda: DDPM(PLANE, log_snr_max=-10.0, log_snr_min=1.0), BadInput, "log_snr_min must lie below"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num", [0, 1])
def test_no_data_and_one_datum(num: int) -> None:
    model = DDPM(PLANE, width=8)
    assert model.sample(num, steps=2).shape == (num, 2)
    for method in ("bound", "ode"):
        assert len(model.log_prob(torch.zeros(num, 2), method=method, effort=1)) == num


# What the standard recipe reaches; `pytest -m slow -s` prints the numbers


def fitted(model_name: str, name: str) -> tuple[DDPM, Dataset]:
    data = load(name).unconditional()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(model_name, data.spec)
    assert isinstance(model, DDPM)
    started = time.process_time()
    fit_model(model, data, Recipe.of(recipe(model_name)))
    print(f"{name}: {time.process_time() - started:.1f} s of one core")
    return model, data


@pytest.mark.slow
def test_recipe_solves_two_moons() -> None:
    """The stated target: within 0.05 nats of the truth, and draws at most twice as far off as other real samples are."""
    model, data = fitted("diffusion/ddpm", "moons")
    x = data.test.rows()
    assert data.truth is not None
    found = model.log_prob(x)
    excess = float((data.truth.log_prob(x) - found.nats).mean())
    bound = model.log_prob(x, method="bound", generator=generator())
    looseness = float((data.truth.log_prob(x) - bound.nats).mean())
    floor = sliced_floor([data.truth.sample(10_000, generator=generator(s)) for s in (11, 12, 13)])
    distances = {
        sampler: sliced_wasserstein(model.sample(10_000, generator=generator(), sampler=sampler), x) / floor
        for sampler in ("ancestral", "ddim")
    }
    off = float(found.tolerances.mean())
    print(f"excess {excess:.4f}, by the bound {looseness:.4f}, tolerance {off:.3f}, distance over floor {distances}")
    assert excess < 0.05
    assert distances["ancestral"] < 2  # the default; ddim needs more than its 100 steps for as much


@pytest.mark.slow
def test_standardised_levels_are_bounded_better_than_scaled_ones_on_digits() -> None:
    """By 0.1 bits/dim, four standard errors over the test data. The yardstick that is printed is each pixel's own histogram."""
    bits = {}
    for preset in ("diffusion/ddpm", "diffusion/ddpm:pixels"):
        model, data = fitted(preset, "digits")
        found = model.log_prob(data.test.rows(), generator=generator()).mean()
        assert found.kind is Lower
        bits[preset] = found.bits_per_dim
        print(f"{preset}: {found}, {found.bits_per_dim:.3f} +- {found.bits_stderr:.3f} bits/dim")
    train, x, levels = data.train.rows().flatten(1).long(), data.test.rows().flatten(1).long(), data.spec.support.count
    counts = torch.stack([(train == v).sum(0) for v in range(levels)], 1) + 1.0
    histogram = (counts / counts.sum(1, keepdim=True)).log2()
    print(f"independent pixels: {-float(histogram[torch.arange(data.spec.dims), x].mean()):.3f} bits/dim")
    assert bits["diffusion/ddpm:pixels"] < bits["diffusion/ddpm"] - 0.1
