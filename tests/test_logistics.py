"""Mixtures of discretised logistics: masses that sum to one, draws that follow them, a start near the data."""

import pytest
import torch
from scipy import stats

from sixfold.core.draws import Draws
from sixfold.prob.heads import Taste
from sixfold.prob.logistics import MixtureOfLogistics

ALARM = 1e-4  # false-alarm rate of each statistical test


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(head, *shape, scale=2.0, seed=0, dtype=torch.float64):
    return scale * torch.randn(*shape, head.outputs, generator=seeded(seed), dtype=dtype)


def masses(head, params):
    """Probability of every level, (values, ...)."""
    every = torch.arange(head.values).reshape(-1, *[1] * (params.ndim - 1)).expand(-1, *params.shape[:-1])
    return head.log_prob(params.expand(head.values, *params.shape), every).exp()


@pytest.mark.parametrize("values", [2, 5, 256])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_probabilities_sum_to_one_however_far_the_numbers(values, scale):
    head = MixtureOfLogistics(values, 3)
    total = masses(head, numbers(head, 40, scale=scale)).sum(0)
    torch.testing.assert_close(total, torch.ones(40, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("values", [3, 256])
def test_a_mass_is_the_difference_of_the_distribution_function(values):
    """Against SciPy's logistic distribution, at scales where the difference does not cancel."""
    head = MixtureOfLogistics(values, 2)
    params = numbers(head, 20, scale=0.5)
    logits, mean, raw = params.chunk(3, -1)
    scale, weight = head.floor + torch.nn.functional.softplus(raw), logits.softmax(-1)
    edges = torch.linspace(-1 - head.half, 1 + head.half, values + 1, dtype=torch.float64)
    edges[0], edges[-1] = -torch.inf, torch.inf
    below = torch.as_tensor(stats.logistic.cdf(edges[:, None, None], mean, scale))
    torch.testing.assert_close(masses(head, params), ((below[1:] - below[:-1]) * weight).sum(-1), rtol=1e-8, atol=1e-12)


def test_unlikely_levels_have_finite_nats_and_gradients_in_single_precision():
    head = MixtureOfLogistics(256, 1)
    params = torch.tensor([[0.0, 1.0, -40.0], [0.0, -50.0, -40.0], [0.0, 0.0, 60.0]], requires_grad=True)
    nats = head.log_prob(params, torch.tensor([0, 128, 128]))
    assert float(nats[0].detach()) < -1000  # half the range away at the least scale
    (gradient,) = torch.autograd.grad(nats.sum(), params)
    assert bool(torch.isfinite(nats).all() and torch.isfinite(gradient).all())


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("components", [1, 3])
def test_draws_follow_the_masses(temperature, components):
    """At a temperature those of weights to its inverse and of scales times it."""
    head, num = MixtureOfLogistics(7, components), 20_000
    params = numbers(head, 1, scale=1.0)
    drawn = head.sample(params.expand(num, 1, -1), Draws(num, generator=seeded(1), dtype=torch.float64), temperature=temperature)
    logits, mean, raw = params.chunk(3, -1)
    scale = temperature * (head.floor + torch.nn.functional.softplus(raw)) - head.floor
    p = masses(head, torch.cat([logits / temperature, mean, scale.expm1().log()], -1))[:, 0]
    counts = drawn.flatten().bincount(minlength=7).double()
    few = p * num < 5
    counts, expected = (torch.cat([v[~few], v[few].sum(0, keepdim=True)]) for v in (counts, p * num))
    kept = expected > 1e-9
    assert stats.chisquare(counts[kept].numpy(), expected[kept].numpy(), sum_check=False).pvalue > ALARM


def test_the_likeliest_level_of_one_component_is_the_mode():
    head = MixtureOfLogistics(9, 1)
    params = numbers(head, 50, scale=0.7)
    assert torch.equal(head.mode(params), masses(head, params).argmax(0))


def test_a_start_is_near_the_data():
    """Nats of the start on data of two clusters are below those of a uniform and near the entropy of the levels."""
    x = torch.where(torch.rand(5000, 3, generator=seeded()) < 0.3, 200, 0)
    x = (x + (4 * torch.randn(5000, 3, generator=seeded(1))).long()).clamp(0, 255)
    x[:, 2] = 17  # the same everywhere
    head = MixtureOfLogistics(256, 3)
    nats = -head.log_prob(head.marginal(x).expand(5000, -1, -1), x).mean(0)
    p = torch.stack([x[:, i].bincount(minlength=256) for i in range(2)]).double() / 5000
    entropy = -(p * p.clamp_min(1e-12).log()).sum(1)
    assert bool((nats[:2] < entropy + 0.3).all())
    assert float(nats[2]) < 0.1


def test_elements_are_seen_in_place():
    head = MixtureOfLogistics(5, 2)
    assert head.embed(torch.tensor([[0, 2, 4]]), torch.float64).flatten().tolist() == [-1.0, 0.0, 1.0]


def test_cut_draws_follow_the_masses_of_the_levels_that_are_left():
    head, num = MixtureOfLogistics(7, 2), 20_000
    params = numbers(head, 1, 1, scale=0.5)
    p = masses(head, params).flatten()
    left = torch.zeros_like(p).index_copy(0, p.topk(3).indices, p.topk(3).values)
    source = Draws(num, generator=seeded(), dtype=torch.float64)
    drawn = head.pick(params.expand(num, 1, -1), head.noise(source, 1), Taste(top_k=3))
    counts = drawn.flatten().bincount(minlength=7)
    assert not bool(counts[left == 0].any())
    assert stats.chisquare(counts[left > 0].numpy(), (num * left / left.sum())[left > 0].numpy()).pvalue > ALARM
