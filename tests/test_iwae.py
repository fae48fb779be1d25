"""IWAE: the bound of several codes is that bound, whichever estimator; what each estimator's gradient is, and how noisy."""

import itertools
import math
from functools import partial

import pytest
import torch
from linear import LATENT, batch, data, linear_gaussian, scrambled, seeded

from sixfold.core.draws import Draws
from sixfold.core.model import Batch
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.vae.iwae import IWAE
from sixfold.models.vae.vae import VAE

ESTIMATORS = ("plain", "stl", "dreg")
LEVELS = DataSpec((4,), Support("levels", 3))
PLANE = DataSpec((2,), Support("real"))
BITS = DataSpec((1, 3, 3), Support("binary"), Conditioning("classes", 3))


def gradients(model, part, given):
    """Mean gradient of the loss with respect to one network, as a vector."""
    loss = model.loss(given, "model").loss.mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(getattr(model, part).parameters()))])


def repeated(model, x, *, times, size, progress=1.0):
    """Independent gradients of the encoder for the same datum, (times, P), each the mean of ``size`` draws."""
    many = x.expand(size, *x.shape[1:])
    return torch.stack([gradients(model, "encoder", batch(many, seed=i, progress=progress)) for i in range(times)])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("particles", [1, 4])
def test_the_loss_is_the_bound_of_the_paper(particles, estimator):
    """Second implementation: log of the mean of K densities, in loops with distributions of torch."""
    model = scrambled(IWAE(PLANE, latent=3, width=8, particles=particles, estimator=estimator))
    x = data(PLANE, 3)
    given = batch(x)
    eps = Draws(3, generator=seeded(), dtype=torch.float64).normal(particles, 3)
    mean, std = model._posterior(x, None)
    normal, expected = torch.distributions.Normal, []
    for i in range(3):
        weights = []
        for k in range(particles):
            z = mean[i] + std[i] * eps[i, k]
            centre, wide = model._params(z[None], None)[0].unbind(-1)
            log_w = normal(centre, 0.01 + torch.nn.functional.softplus(wide)).log_prob(x[i]).sum()
            log_w = log_w + normal(0.0, 1.0).log_prob(z).sum() - normal(mean[i], std[i]).log_prob(z).sum()
            weights.append(log_w.exp())
        expected.append(-(sum(weights) / particles).log())
    torch.testing.assert_close(model.loss(given, "model").loss, torch.stack(expected), rtol=1e-9, atol=1e-9)


def test_the_bound_of_a_linear_model_rises_with_particles_to_the_truth():
    model, truth = linear_gaussian(IWAE, spread=2.0)
    x, num = truth.sample((1,)), 2000
    means, errors = [], []
    for model.particles in (1, 4, 16, 256):
        loss = model.loss(batch(x.expand(num, -1), seed=model.particles), "model").loss.detach()
        means.append(-float(loss.mean()))
        errors.append(float(loss.std()) / math.sqrt(num))
    exact = float(truth.log_prob(x))
    for (a, b), (e, f) in zip(itertools.pairwise(means), itertools.pairwise(errors), strict=True):
        assert b > a + 4 * math.hypot(e, f)
    assert all(m < exact + 4 * e for m, e in zip(means, errors, strict=True))  # four one-sided normal tests: 1.3e-4 / 4 each
    assert means[-1] == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_one_particle_is_the_elbo(spread):
    """ELBO = log p(x) - KL(q || posterior); for a Gaussian that is r times as wide the KL is Z (r^2 - 1 - 2 log r) / 2."""
    num = 20_000
    model, truth = linear_gaussian(IWAE, spread=spread, particles=1)
    x = truth.sample((2,))
    loss = model.loss(batch(x.repeat_interleave(num, 0)), "model").loss.detach().reshape(2, num)
    expected = -truth.log_prob(x) + LATENT * (spread**2 - 1 - 2 * math.log(spread)) / 2
    error = loss.std(1) / math.sqrt(num)
    assert bool(((loss.mean(1) - expected).abs() < 4.3 * error + 1e-10).all())  # 2 normal tests: 4e-5 in all


@pytest.mark.parametrize("spec", [LEVELS, PLANE], ids=str)
@pytest.mark.parametrize("progress", [0.0, 0.05, 1.0])
def test_estimators_share_the_loss_and_the_gradient_of_the_decoder(spec, progress):
    """Bit for bit the same numbers from the same draws, at every stage of the warm-up; the encoder's gradients differ."""
    plain, *others = (scrambled(IWAE(spec, latent=3, width=8, particles=6, estimator=e)) for e in ESTIMATORS)
    given = partial(batch, data(spec, 5), progress=progress)
    for other in others:
        assert torch.equal(plain.loss(given(), "model").loss, other.loss(given(), "model").loss)
        for name, part in plain.loss(given(), "model").parts.items():
            assert torch.equal(part, other.loss(given(), "model").parts[name])
        torch.testing.assert_close(
            gradients(plain, "decoder", given()), gradients(other, "decoder", given()), rtol=1e-12, atol=1e-12
        )
        same = torch.allclose(gradients(plain, "encoder", given()), gradients(other, "encoder", given()), rtol=1e-6)
        assert same == (progress == 0.0)  # while the posterior has no weight there is but one way


@pytest.mark.parametrize("progress", [0.03, 1.0])
def test_dreg_squares_the_weights(progress):
    """Second implementation, piece by piece: sum_k [ (1 - beta) w~ + beta w~^2 ] d log w_k / dz_k  dz_k / d(encoder)."""
    model, x, particles = scrambled(IWAE(PLANE, latent=3, width=8, particles=5)), data(PLANE, 4), 5
    beta, eps = min(1.0, progress / 0.1), Draws(4, generator=seeded(), dtype=torch.float64).normal(particles, 3)
    mean, std = model._posterior(x, None)
    z = mean[:, None] + std[:, None] * eps
    free = z.detach().requires_grad_()
    held = torch.distributions.Normal(mean.detach()[:, None], std.detach()[:, None])
    log_ratio = (torch.distributions.Normal(0.0, 1.0).log_prob(free) - held.log_prob(free)).sum(2)
    log_w = model._recon(x, free, None) + beta * log_ratio
    (slope,) = torch.autograd.grad(log_w.sum(), free)
    w = log_w.detach().softmax(1)[..., None]
    surrogate = -(((1 - beta) * w + beta * w.square()) * slope * z).sum((1, 2)).mean()
    expected = torch.autograd.grad(surrogate, list(model.encoder.parameters()))
    found = gradients(model, "encoder", batch(x, progress=progress))
    torch.testing.assert_close(found, torch.cat([g.flatten() for g in expected]), rtol=1e-9, atol=1e-11)


def standard(a, b):
    """Differences of two means of repeated gradients in standard errors, (P,)."""
    error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
    return ((a.mean(0) - b.mean(0)) / error)[error > 1e-12]


@pytest.mark.parametrize(("particles", "progress"), [(1, 1.0), (8, 1.0), (4, 0.05)])
def test_dreg_is_unbiased_for_the_gradient_of_the_bound(particles, progress):
    """Against 200,000 plain draws on a linear model whose posterior is half as wide again as the true one."""
    own, reference = (linear_gaussian(IWAE, spread=1.5, particles=particles, estimator=e)[0] for e in ("dreg", "plain"))
    x = linear_gaussian(IWAE)[1].sample((1,)) + 0.3
    off = standard(*(repeated(m, x, times=200, size=1000, progress=progress) for m in (own, reference)))
    assert len(off) >= 12
    assert float(off.abs().max()) < 4.7  # 24 normal tests: 6e-5 in all


def test_stl_is_unbiased_for_one_particle_and_not_for_several():
    found = {}
    for particles in (1, 8):
        own, reference = (linear_gaussian(IWAE, spread=1.5, particles=particles, estimator=e)[0] for e in ("stl", "plain"))
        x = linear_gaussian(IWAE)[1].sample((1,)) + 0.3
        found[particles] = standard(*(repeated(m, x, times=200, size=1000) for m in (own, reference))).abs().max()
    assert float(found[1]) < 4.7  # 24 normal tests: 6e-5 in all
    assert float(found[8]) > 10


@pytest.mark.parametrize("estimator", ["stl", "dreg"])
@pytest.mark.parametrize("particles", [1, 6])
def test_at_the_true_posterior_the_gradient_has_no_noise(estimator, particles):
    """log w is log p(x) whatever the code, so the gradient through the codes is 0; the plain one is not, its noise is left."""
    own, reference = (linear_gaussian(IWAE, particles=particles, estimator=e) for e in (estimator, "plain"))
    x = own[1].sample((3,))
    assert float(gradients(own[0], "encoder", batch(x)).abs().max()) < 1e-10
    assert float(gradients(reference[0], "encoder", batch(x)).abs().max()) > 0.01


def test_dreg_is_less_noisy_than_plain_the_more_so_the_more_particles():
    """Ratio of the summed variances; Tucker et al. (2019), section 5: the plain one's signal drowns as K grows."""
    ratios = []
    for particles in (4, 64):
        own, reference = (linear_gaussian(IWAE, spread=1.5, particles=particles, estimator=e)[0] for e in ("dreg", "plain"))
        x = linear_gaussian(IWAE)[1].sample((1,))
        a, b = (repeated(m, x, times=400, size=20).var(0).sum() for m in (own, reference))
        ratios.append(float(a / b))
    assert ratios[0] < 0.5
    assert ratios[1] < 0.5 * ratios[0]


def test_the_elbo_of_the_sibling_is_this_bound_with_one_particle():
    """The same networks, the KL known there and drawn here: the same mean."""
    num, x = 50_000, data(PLANE, 1)
    one, two = scrambled(VAE(PLANE, latent=2, width=8)), scrambled(IWAE(PLANE, latent=2, width=8, particles=1))
    a, b = (m.loss(batch(x.expand(num, -1), seed=i), "model").loss.detach() for i, m in enumerate((one, two)))
    error = math.hypot(float(a.std()), float(b.std())) / math.sqrt(num)
    assert abs(float(a.mean() - b.mean())) < 4 * error  # 6e-5


@pytest.mark.parametrize("options", [{}, {"network": "conv", "depth": 1}], ids=str)
def test_loss_is_per_datum_whatever_else_is_in_the_batch(options):
    """Sums over elements, logarithms of means over codes: a batch twice as long holds the same numbers twice."""
    model, x = scrambled(IWAE(BITS, width=8, latent=3, particles=5, **options)), data(BITS, 6)
    cond = torch.tensor([0, 1, 2, 0, 1, 2])

    class Fixed(Draws):
        def normal(self, *shape):
            return torch.randn(6, *shape, generator=seeded(), dtype=torch.float64).repeat(self.size // 6, 1, 1)

    once, twice = (model.loss(Batch(torch.cat([x] * n), Fixed(6 * n), torch.cat([cond] * n)), "model").loss for n in (1, 2))
    torch.testing.assert_close(torch.cat([once, once]), twice, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_loss_needs_no_gradient(estimator):
    model, x = scrambled(IWAE(LEVELS, latent=2, width=8, estimator=estimator)), data(LEVELS, 3)
    assert torch.equal(model.criterion(batch(x, progress=0.0)), model.loss(batch(x), "model").loss)


@pytest.mark.parametrize(("preset", "attribute", "value"), [("points", "estimator", "plain"), ("mnist", "latent", 32)])
def test_presets(preset, attribute, value):
    assert getattr(build(f"vae/iwae:{preset}", LEVELS), attribute) == value
