"""Likelihood heads: mass one, draws as the density says, marginals of data, no clamping."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sixfold.core.draws import Draws
from sixfold.core.spec import DataSpec, Support
from sixfold.prob.heads import FLOOR, Bernoulli, Categorical, Gaussian, MixtureOfGaussians, head_for
from sixfold.prob.logistics import mixture_for

DISCRETE = {"binary": Bernoulli(), "levels": Categorical(5, ordered=True), "tokens": Categorical(5, ordered=False)}
REAL = {"gaussian": Gaussian(), "mixture": MixtureOfGaussians(3)}
HEADS = DISCRETE | REAL
ALARM = 1e-4  # false-alarm rate of each statistical test


def draws(num, seed=0):
    return Draws(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(head, *shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, head.outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(head):
    """Every value of an element, (V,)."""
    return torch.arange(max(2, head.outputs))


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("scale", [0.0, 2.0, 100.0])
def test_probabilities_of_all_values_sum_to_one(name, scale):
    head = DISCRETE[name]
    params, x = numbers(head, 7, 4, scale=scale), values(head)
    total = head.log_prob(params[None].expand(len(x), *params.shape), x[:, None, None].expand(-1, 7, 4)).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-14)  # a few roundings in float64


@pytest.mark.parametrize("name", DISCRETE)
def test_an_unlikely_value_costs_what_it_costs(name):
    head = DISCRETE[name]
    params = torch.zeros(1, 1, head.outputs)
    params[..., -1] = 60.0  # log-probability of the first value: -60, which a clamp at 1e-7 would make -16
    assert float(head.log_prob(params, torch.zeros(1, 1, dtype=torch.long))) == pytest.approx(-60.0, rel=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_densities_integrate_to_one(name):
    head = REAL[name]
    params = numbers(head, 20, 1)
    # Scales are at least softplus(-6) > 0.01, resolved by a spacing of 0.002; means lie within +-8, tails reach 8 scales of 6.
    x = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    mass = head.log_prob(params.expand(20, len(x), head.outputs), x.expand(20, -1)).exp().sum(1) * (x[1] - x[0])
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_discrete_draws_have_the_stated_probabilities(name, temperature):
    head, num = DISCRETE[name], 20_000
    params, x = numbers(head, 1, 3, scale=1.0), values(head)
    log_p = head.log_prob(params.expand(len(x), -1, -1), x[:, None].expand(-1, 3)) / temperature
    drawn = head.sample(params.expand(num, -1, -1), draws(num), temperature=temperature)
    for element in range(3):
        counts = drawn[:, element].bincount(minlength=len(x)).numpy()
        assert stats.chisquare(counts, num * log_p.softmax(0)[:, element].numpy()).pvalue > ALARM / 3


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_real_draws_have_the_stated_distribution(name, temperature):
    head, num = REAL[name], 20_000
    params = numbers(head, 1, 1)
    drawn = head.sample(params.expand(num, -1, -1), draws(num), temperature=temperature).flatten().numpy()
    cooled = _cooled(params, temperature)
    grid = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    density = head.log_prob(cooled.expand(1, len(grid), -1), grid[None]).exp().flatten()
    below = torch.cumulative_trapezoid(density, grid).numpy()
    assert stats.kstest(drawn, lambda x: np.interp(x, grid[1:].numpy(), below)).pvalue > ALARM


def _cooled(params, temperature):
    """Numbers of the distribution at a temperature: logits over T, scales times its root."""
    *logits, mean, raw = params.chunk(3 if params.shape[-1] > 2 else 2, dim=-1)
    scale = (FLOOR + torch.nn.functional.softplus(raw)) * math.sqrt(temperature)
    return torch.cat([*(part / temperature for part in logits), mean, (scale - FLOOR).expm1().log()], dim=-1)


@pytest.mark.parametrize("name", HEADS)
def test_embedding_is_of_order_one_and_tells_values_apart(name):
    head = HEADS[name]
    x = values(head) if name in DISCRETE else torch.tensor([-1.0, 0.0, 1.0])
    seen = head.embed(x[None], torch.float64)
    assert seen.shape == (1, len(x), head.inputs)
    assert float(seen.abs().max()) <= 1.0
    assert len(seen[0].unique(dim=0)) == len(x)


@pytest.mark.parametrize("name", DISCRETE)
def test_marginal_of_discrete_data_is_their_frequency(name):
    head = DISCRETE[name]
    x = torch.randint(0, len(values(head)), (5000, 3), generator=torch.Generator().manual_seed(1))
    x[:, 1] = 0  # an element that never varies
    params = head.marginal(x)
    for value in values(head):
        p = head.log_prob(params[None], value.expand(1, 3)).exp()[0]
        share = (x == value).double().mean(0)
        torch.testing.assert_close(p, share.to(p.dtype), rtol=0, atol=1e-3)  # half a count for each of up to 5 values


def test_marginal_of_real_data_has_their_moments_and_a_scale_above_the_floor():
    x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([2.0, 0.0]) + 1.0
    params = Gaussian().marginal(x)
    mean, std = params[0, 0], FLOOR + torch.nn.functional.softplus(params[0, 1])
    assert float(mean) == pytest.approx(float(x[:, 0].mean()), rel=1e-6)
    assert float(std) == pytest.approx(float(x[:, 0].std(correction=0)), rel=1e-6)
    assert bool(params.isfinite().all())  # the constant element too


def test_marginal_of_a_mixture_covers_the_data():
    x = torch.cat([torch.randn(4000, 1) * 0.1 - 2, torch.randn(4000, 1) * 0.3 + 1])
    head = MixtureOfGaussians(16)
    nll = -head.log_prob(head.marginal(x)[None].expand(8000, -1, -1), x.double()).mean()
    single = -Gaussian().log_prob(Gaussian().marginal(x)[None].expand(8000, -1, -1), x.double()).mean()
    assert nll < single - 0.2  # two clear modes: a mixture at quantiles is better than a single Gaussian before any training


def test_scale_has_a_floor():
    params = torch.tensor([[[0.0, -1e4]]], dtype=torch.float64)
    peak = float(Gaussian().log_prob(params, torch.zeros(1, 1, dtype=torch.float64)))
    assert peak == pytest.approx(-math.log(FLOOR) - 0.5 * math.log(2 * math.pi))


@pytest.mark.parametrize("name", HEADS)
def test_mode_is_the_likeliest_value(name):
    head = HEADS[name]
    params = numbers(head, 50, 1)
    if name == "mixture":  # well apart, where the highest peak is the mode
        params[..., 3:6] = torch.tensor([-100.0, 0.0, 100.0])
    grid = values(head) if name in DISCRETE else torch.cat([params[..., i].flatten() for i in range(head.outputs)])
    at_mode = head.log_prob(params, head.mode(params))
    everywhere = head.log_prob(params.expand(50, len(grid), -1), grid.expand(50, -1))
    assert bool((at_mode >= everywhere - 1e-12).all())


@pytest.mark.parametrize(
    ("support", "kind"),
    [
        (Support("binary"), Bernoulli),
        (Support("levels", 17), Categorical),
        (Support("tokens", 17), Categorical),
        (Support("real"), MixtureOfGaussians),
    ],
)
def test_head_follows_the_support(support, kind):
    head = head_for(DataSpec((3,), support), components=4)
    assert type(head) is kind
    assert head.inputs == (17 if support.kind == "tokens" else 1)


def test_one_component_is_a_gaussian_and_equals_the_mixture_of_one():
    single, mixture = head_for(DataSpec((3,), Support("real"))), MixtureOfGaussians(1)
    params = numbers(single, 5, 3)
    x = torch.randn(5, 3, dtype=torch.float64)
    with_logit = torch.cat([torch.ones(5, 3, 1, dtype=torch.float64), params], dim=-1)
    torch.testing.assert_close(mixture.log_prob(with_logit, x), single.log_prob(params, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_draws_use_the_given_generator_alone(name):
    head = HEADS[name]
    params, before = numbers(head, 6, 2), torch.random.get_rng_state()
    assert torch.equal(head.sample(params, draws(6, seed=3)), head.sample(params, draws(6, seed=3)))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("components", [0, 3])
def test_many_levels_are_told_from_their_neighbours(components):
    spec = DataSpec((1,), Support("levels", 256))
    coarse, fine = (mixture_for(spec, components, fine=fine) for fine in (False, True))
    x = torch.arange(256)
    apart = [(head.embed(x, torch.float64)[1:] - head.embed(x, torch.float64)[:-1]).norm(dim=-1).min() for head in (coarse, fine)]
    assert float(apart[0]) == pytest.approx(2 / 255)
    assert float(apart[1]) > math.sqrt(2)  # a quarter of the shorter wave
    seen = fine.embed(x, torch.float64)
    assert seen.shape == (256, fine.inputs)
    assert float(torch.cdist(seen, seen).fill_diagonal_(9.0).min()) > 0.1  # levels a whole wave apart differ in their place
    assert float(seen.abs().max()) <= 1.0


def test_few_levels_need_no_waves():
    assert mixture_for(DataSpec((1,), Support("levels", 17)), 0, fine=True).inputs == 1
