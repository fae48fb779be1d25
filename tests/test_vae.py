"""VAE: bounds below the truth where the truth is known, a KL that is the KL, a loss that is what it says."""

import itertools
import math

import pytest
import torch
from linear import LATENT, batch, data, linear_gaussian, raw, scrambled, seeded
from scipy import stats

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Lower
from sixfold.core.model import Batch, Split
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.vae.vae import VAE
from sixfold.nn.residual import ConvEncoder

BINARY = DataSpec((1, 3, 3), Support("binary"))
LEVELS = DataSpec((4,), Support("levels", 3))
GREY = DataSpec((1, 2, 3), Support("levels", 3))
TOKENS = DataSpec((4,), Support("tokens", 3))
PLANE = DataSpec((2,), Support("real"))
ALL = [BINARY, LEVELS, TOKENS, PLANE]
ALARM = 1e-4  # false-alarm rate of each statistical test


def broad(spec, **options):
    """A scrambled model whose posterior is a little wider than the prior, so that importance weights are bounded."""
    model = scrambled(VAE(spec, width=8, **options))
    last = (model.encoder.top if isinstance(model.encoder, ConvEncoder) else model.encoder).layers[-1]
    last.weight.data.mul_(0.1 * (8 / last.in_features) ** 2)
    last.bias.data[model.latent :] = raw(1.3)
    return model


def test_with_the_true_posterior_one_draw_of_the_bound_is_the_likelihood():
    model, truth = linear_gaussian(VAE)
    x = truth.sample((20,))
    for effort in (1, 7):
        log_p = model.log_prob(x, effort=effort, generator=seeded())
        assert log_p.kind is Lower
        torch.testing.assert_close(log_p.nats, truth.log_prob(x), rtol=1e-10, atol=1e-10)


def test_the_elbo_is_the_likelihood_less_the_gap_of_the_posterior():
    """ELBO = log p(x) - KL(q || posterior); for a Gaussian that is r times as wide the KL is Z (r^2 - 1 - 2 log r) / 2."""
    spread, num = 1.5, 20_000
    model, truth = linear_gaussian(VAE, spread=spread)
    x = truth.sample((3,))
    loss = model.loss(batch(x.repeat_interleave(num, 0)), "model").loss.detach().reshape(3, num)
    expected = -truth.log_prob(x) + LATENT * (spread**2 - 1 - 2 * math.log(spread)) / 2
    assert bool(((loss.mean(1) - expected).abs() < 4.3 * loss.std(1) / math.sqrt(num)).all())  # 3 normal tests: 5e-5 in all


def test_the_bound_rises_with_effort_to_the_truth():
    model, truth = linear_gaussian(VAE, spread=2.0)
    x, num = truth.sample((1,)), 2000
    many = x.expand(num, -1)
    bounds = [model.log_prob(many, effort=k, generator=seeded(k)).nats for k in (1, 4, 16, 256)]
    means, errors = [float(b.mean()) for b in bounds], [float(b.std()) / math.sqrt(num) for b in bounds]
    exact = float(truth.log_prob(x))
    for (a, b), (e, f) in zip(itertools.pairwise(means), itertools.pairwise(errors), strict=True):
        assert b > a + 4 * math.hypot(e, f)  # strictly, by four standard errors
    assert all(m < exact + 4 * e for m, e in zip(means, errors, strict=True))  # four one-sided normal tests: 1.3e-4 / 4 each
    assert means[0] < exact - 0.5
    assert means[-1] == pytest.approx(exact, abs=0.02)


CONV = {"network": "conv", "depth": 1}


@pytest.mark.parametrize(
    ("spec", "options"), [*((s, {}) for s in ALL), (BINARY, CONV), (GREY, CONV | {"components": 2})], ids=str
)
def test_weights_are_unbiased_and_the_bound_lies_below_the_truth(spec, options):
    """The truth by quadrature over a one-dimensional code."""
    model = broad(spec, latent=1, **options)
    x, num = data(spec, 4), 4000
    exact = _by_quadrature(model, x)
    each = model.log_prob(x.repeat_interleave(num, 0), effort=1, generator=seeded()).nats.reshape(4, num)
    weight = (each - exact[:, None]).exp()
    assert bool(((weight.mean(1) - 1).abs() < 4.5 * weight.std(1) / math.sqrt(num)).all())  # four normal tests: 3e-5 in all
    assert bool((each.mean(1) <= exact + 4 * each.std(1) / math.sqrt(num)).all())


def _by_quadrature(model, x):
    """log integral of p(x|z) N(z; 0, 1) dz, (B,), for a code of one number."""
    z = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    u, logdet = model.elements.encode(x, model.dtype)
    with torch.no_grad():
        params = model._params(z[:, None], None).expand(len(x), len(z), -1, -1)
        log_p = model.head.log_prob(params, u[:, None].expand(-1, len(z), -1)).sum(2)
    log_prior = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    return (log_p + log_prior).logsumexp(1) + math.log(float(z[1] - z[0])) + logdet


def test_the_model_of_nine_binary_pixels_has_mass_one():
    """Importance weights are unbiased for p(x), so that over all 512 images they sum to one."""
    model = broad(BINARY, latent=2)
    x = torch.tensor(list(itertools.product((0, 1), repeat=9)), dtype=torch.uint8).reshape(-1, 1, 3, 3)
    sums = torch.stack([model.log_prob(x, effort=200, generator=seeded(i)).nats.exp().sum() for i in range(20)])
    assert abs(float(sums.mean()) - 1) < 4.9 * float(sums.std()) / math.sqrt(20)  # t with 19 degrees of freedom: 1e-4
    assert float(sums.std()) < 0.05


@pytest.mark.parametrize("spec", [BINARY, LEVELS, TOKENS], ids=str)
def test_samples_have_the_probabilities_of_the_model(spec):
    model, num = scrambled(VAE(spec, latent=1, width=8)), 20_000
    size = spec.support.count**spec.dims
    every = torch.tensor(list(itertools.product(range(spec.support.count), repeat=spec.dims)), dtype=spec.dtype)
    p = _by_quadrature(model, every.reshape(-1, *spec.shape)).exp()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-9)
    drawn = model.sample(num, generator=seeded())
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (num, *spec.shape))
    code = (drawn.flatten(1).long() * spec.support.count ** torch.arange(spec.dims - 1, -1, -1)).sum(1)
    group = torch.where(p * num < 5, size, torch.arange(size))
    counts, expected = (
        torch.zeros(size + 1, dtype=torch.float64).index_add(0, group, v)
        for v in (code.bincount(minlength=size).double(), p * num)
    )
    assert stats.chisquare(counts[expected > 0].numpy(), expected[expected > 0].numpy(), sum_check=False).pvalue > ALARM


def test_real_samples_include_the_noise_of_the_likelihood_and_decode_does_not():
    model, truth = linear_gaussian(VAE)
    drawn, num = model.sample(20_000, generator=seeded()), 20_000
    # Covariance of a Gaussian sample: entries err by sqrt((C_ii C_jj + C_ij^2) / N); 25 tests at 5 errors: 1.5e-5 in all.
    c = truth.covariance_matrix
    error = ((torch.outer(c.diagonal(), c.diagonal()) + c.square()) / num).sqrt()
    assert bool(((drawn.T.cov() - c).abs() < 5 * error).all())
    z = torch.randn(50, LATENT, dtype=torch.float64)
    residual = torch.linalg.lstsq(torch.cat([z, torch.ones(50, 1, dtype=torch.float64)], 1), model.decode(z)).residuals
    assert float(residual.sum()) < 1e-18  # a linear function of the code, without noise


@pytest.mark.parametrize("latent", [1, 4])
def test_the_kl_is_that_of_monte_carlo(latent):
    model, num = scrambled(VAE(PLANE, latent=latent, width=8)), 200_000
    x = data(PLANE, 1)
    mean, std = (v.detach() for v in model._posterior(model.elements.encode(x, model.dtype)[0], None))
    q = torch.distributions.Normal(mean, std)
    z = mean + std * torch.randn(num, latent, generator=seeded(), dtype=torch.float64)
    draws = (q.log_prob(z) - torch.distributions.Normal(torch.zeros_like(mean), 1.0).log_prob(z)).sum(1)
    analytic = model.loss(batch(x), "model").parts["kl"]
    assert abs(float(draws.mean() - analytic)) < 4 * float(draws.std()) / math.sqrt(num)  # 6e-5


@pytest.mark.parametrize("spec", ALL, ids=str)
@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.1, 2.0), (0.2, 4.0), (1.0, 4.0)])
def test_loss_is_recon_plus_the_warming_beta_times_kl(spec, progress, weight):
    model = scrambled(VAE(spec, latent=3, width=8, beta=4.0, beta_warmup=0.2))
    terms = model.loss(batch(data(spec, 6), progress=progress), "model")
    torch.testing.assert_close(terms.loss.detach(), terms.parts["recon"] + weight * terms.parts["kl"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{}, CONV], ids=str)
def test_loss_is_per_datum_whatever_else_is_in_the_batch(options):
    """Sums over elements, no mean or sum over the batch: a batch twice as long holds the same numbers twice."""
    model, x = scrambled(VAE(GREY, width=8, latent=3, **options)), data(GREY, 6)

    class Fixed(Draws):
        def normal(self, *shape):
            return torch.randn(6, *shape, generator=seeded(), dtype=torch.float64).repeat(self.size // 6, 1, 1)

    once, twice = (model.loss(Batch(v, Fixed(len(v))), "model").loss for v in (x, torch.cat([x, x])))
    torch.testing.assert_close(torch.cat([once, once]), twice, rtol=1e-12, atol=1e-12)


def test_log_prob_in_turns_of_bounded_memory_is_the_same_bound(monkeypatch):
    model, truth = linear_gaussian(VAE)  # the true posterior: every draw weighs the same, whatever the turns
    x = truth.sample((7,))
    monkeypatch.setattr("sixfold.models.vae._family.NUMBERS", 30)
    torch.testing.assert_close(model.log_prob(x, effort=10).nats, truth.log_prob(x), rtol=1e-10, atol=1e-10)
    loose, _ = linear_gaussian(VAE, spread=2.0)
    many = x[:1].expand(1000, -1)
    means = []
    for numbers in (30, 2**24):
        monkeypatch.setattr("sixfold.models.vae._family.NUMBERS", numbers)
        means.append(loose.log_prob(many, effort=10, generator=seeded(numbers)).nats)
    error = math.hypot(*(float(m.std()) for m in means)) / math.sqrt(1000)
    assert abs(float(means[0].mean() - means[1].mean())) < 4 * error  # 6e-5


def test_density_is_of_the_data_as_given():
    """Scaling the data by c moves log p by -D log c: the codec's determinant is accounted for."""
    nats = []
    for scale in (1.0, 100.0):
        model = scrambled(VAE(PLANE, width=8))
        model.prepare(Split(scale * data(PLANE, 500).float()))
        torch.nn.init.zeros_(model.decoder.layers[-1].bias)
        nats.append(model.log_prob(scale * data(PLANE, 20), generator=seeded()).nats)
    torch.testing.assert_close(nats[0] - 2 * math.log(100.0), nats[1], rtol=1e-6, atol=1e-6)  # statistics are in float32


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_encoder_and_decoder_both_see_the_condition(spec):
    spec = DataSpec(spec.shape, spec.support, Conditioning("classes", 3))
    model, x = scrambled(VAE(spec, latent=3, width=8)), data(spec, 6)
    codes = [model.encode(x, c, generator=seeded()).mean for c in (0, 1)]
    assert bool((codes[0] != codes[1]).all())
    z = torch.randn(6, 3, dtype=torch.float64)
    shown = [model._params(z, torch.full((6,), c)) for c in (0, 1)]
    assert bool((shown[0] != shown[1]).all())
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    mixed = model.encode(x, labels).mean
    torch.testing.assert_close(mixed[1], model.encode(x[1:2], 1).mean[0])
    assert model.sample(6, cond=labels, generator=seeded()).shape == x.shape


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_codes_are_draws_from_the_posterior(spec):
    model, num = scrambled(VAE(spec, latent=2, width=8)), 20_000
    code = model.encode(data(spec, 1).expand(num, *spec.shape), generator=seeded())
    mean, std = model._posterior(model.elements.encode(data(spec, 1), model.dtype)[0], None)
    standard = ((code.z - mean) / std).detach()
    assert min(stats.kstest(standard[:, i].numpy(), "norm").pvalue for i in range(2)) > ALARM / 2
    torch.testing.assert_close(code.mean, mean.detach().expand(num, -1))
    torch.testing.assert_close(code.std, std.detach().expand(num, -1))


def test_decode_gives_the_likeliest_value():
    model = scrambled(VAE(LEVELS, latent=2, width=8))
    z = torch.randn(20, 2, dtype=torch.float64)
    picture = model.decode(z)
    assert picture.dtype == torch.uint8
    torch.testing.assert_close(picture.long(), model._params(z, None).argmax(-1))


def test_decode_refuses_codes_of_another_size():
    with pytest.raises(BadInput, match=r"codes must have shape \(B, 2\)"):
        VAE(LEVELS, latent=2, width=8).decode(torch.zeros(4, 3))


def test_before_training_the_decoder_gives_about_the_marginals():
    x = torch.randint(0, 3, (3000, 4), generator=seeded()).clamp_max(1).to(torch.uint8)
    model = VAE(LEVELS)
    model.prepare(Split(x))
    assert float((model.sample(3000, generator=seeded()) == 2).float().mean()) < 0.02


@pytest.mark.parametrize("start", [0.1, 1.0])
def test_real_likelihoods_start_as_narrow_as_asked(start):
    x = torch.randn(5000, 2, generator=seeded()) * torch.tensor([3.0, 0.2]) + 5
    model = VAE(PLANE, start=start)
    model.prepare(Split(x))
    torch.nn.init.zeros_(model.decoder.layers[-1].weight)  # what the code does not move
    spread = (model.sample(20_000, generator=seeded()) - x.mean(0)).std(0) / x.std(0, correction=0)
    # A standard deviation of N draws errs by 1 / sqrt(2 N) = 0.5%: two tests at 5 of its errors, 1.2e-6.
    torch.testing.assert_close(spread, torch.full((2,), start), rtol=0.025, atol=0)


@pytest.mark.parametrize(
    ("preset", "attribute", "value"), [("beta", "beta", 4.0), ("plane", "latent", 2), ("mnist", "latent", 32)]
)
def test_presets(preset, attribute, value):
    assert getattr(build(f"vae/vae:{preset}", LEVELS), attribute) == value


def test_convolutions_need_images():
    with pytest.raises(Unsupported, match=r"convolutions need images of shape \(C, H, W\); got \(4,\)"):
        VAE(LEVELS, network="conv")


def test_rows_are_images_to_convolutions_whatever_the_support():
    """One pixel lit in one channel changes what the encoder sees around that pixel and nowhere else."""
    spec = DataSpec((3, 12, 12), Support("tokens", 4))
    model = scrambled(VAE(spec, network="conv", width=4, depth=0))
    x = torch.zeros(2, *spec.shape, dtype=torch.uint8)
    x[1, 2, 7, 4] = 3
    seen = model.head.embed(model.elements.encode(x, model.dtype)[0], model.dtype).flatten(1)
    first = []
    model.encoder.stages[0].register_forward_hook(lambda _, given, out: first.extend([given[0], out]))
    model.encoder(seen)
    planes, out = first
    assert planes.shape == (2, 12, 12, 12)  # one plane for each channel and value
    at = (planes[1] - planes[0]).nonzero().tolist()
    assert at == [[4 * 2 + 0, 7, 4], [4 * 2 + 3, 7, 4]]
    moved = (out[1] - out[0]).abs().sum(0).nonzero()
    assert moved.amin(0).tolist() == [3, 2]
    assert moved.amax(0).tolist() == [4, 2]


@pytest.mark.parametrize("components", [1, 3])
def test_grey_levels_may_be_mixtures_of_logistics(components):
    """The model of 4 elements of 3 levels has mass one with this likelihood too, by quadrature over its one code."""
    model = scrambled(VAE(LEVELS, latent=1, width=8, components=components))
    x = torch.tensor(list(itertools.product(range(3), repeat=4)), dtype=torch.uint8)
    assert float(_by_quadrature(model, x).exp().sum()) == pytest.approx(1.0, abs=1e-9)
    assert model.head.outputs == 3 * components
