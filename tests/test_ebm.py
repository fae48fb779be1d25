"""The energy-based model: closed forms of a quadratic energy, its objective's gradient and optimum, its chains, its density."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Diverged, NotComparable, Unsupported
from sixfold.core.likelihood import Measure, Numerical, Unnormalised
from sixfold.core.model import Batch, HasDensity, HasEnergy, HasScore, HasTrajectory
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.data.toys import moons
from sixfold.models.energy.ebm import EBM
from sixfold.solve.langevin import OPTIMAL_ACCEPTANCE
from sixfold.solve.quadrature import lattice

REAL, LEVELS = Support("real"), Support("levels", 5)
LINE, PLANE, SPACE, IMAGE = DataSpec((1,), REAL), DataSpec((2,), REAL), DataSpec((3,), REAL), DataSpec((1, 2, 3), LEVELS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Quadratic(nn.Module):
    """f(u) = a |u|^2 / 2."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, u: Tensor) -> Tensor:
        return self.a * u.square().sum(1, keepdim=True) / 2


def quadratic(spec: DataSpec, a: float, **options) -> EBM:
    """A model whose density in the codec's space is Gaussian, with precision a + 1 / tail^2."""
    model = EBM(spec, **{"chains": 2000, "anchor": 0.0, **options}).double()
    model.net = Quadratic(a)  # type: ignore[assignment]
    return model


def shaken(spec: DataSpec, **options) -> EBM:
    """A model in float64 with random weights, behind a codec that moves and scales."""
    model = EBM(spec, **{"width": 16, "depth": 2, "chains": 64, **options}).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += 0.5 * normal(*parameter.shape, seed=i)
    if not spec.support.discrete:
        model.prepare(Split(3 + normal(500, *spec.shape, seed=50) * torch.arange(1, spec.dims + 1)))
    return model


def batch(x: Tensor, seed: int = 1) -> Batch:
    return Batch(x, Draws(len(x), generator=generator(seed), dtype=torch.float64))


def gaussian(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.distributions.Normal(mean, std).log_prob(x).sum(1)


def test_has_what_it_can_do():
    model = EBM(PLANE, width=8)
    assert all(isinstance(model, protocol) for protocol in (HasDensity, HasEnergy, HasScore, HasTrajectory))
    assert model.couples_batch


# The objective.


@pytest.mark.parametrize("spec", [LINE, PLANE, SPACE], ids=["line", "plane", "space"])
def test_first_gradient_is_the_likelihoods(spec):
    """At a = 0 the chains are draws of the model N(0, tail^2), so d NLL / da = (1 - tail^2) D / 2 for data of variance one.

    Its mean over data and chains lies within five standard errors: false alarm 6e-7. A wrong sign is dozens away.
    """
    model = quadratic(spec, 0.0, tail=1.5, walk=3)
    model.chains.copy_(1.5 * normal(*model.chains.shape, seed=2))
    x = normal(2000, *spec.shape, seed=3)
    model.loss(batch(x), "model").loss.mean().backward()
    D = spec.dims
    error = math.sqrt(D / 2 * (1 + 1.5**4) / 2000)
    assert float(model.net.a.grad) == pytest.approx((1 - 1.5**2) * D / 2, abs=5 * error)


def test_optimum_is_the_datas_variance():
    """Descent on a of f = a u^2 / 2 ends where the model's variance is the data's: a = 1 / var - 1 / tail^2.

    The variance of 2000 chains of precision 4 has a standard error of sqrt(2 / 2000) / 4, and a moves by 16 times as much to make
    up for it. The mean of the last 100 steps lies within five times that for a single step: false alarm below 6e-7.
    """
    model = quadratic(LINE, 0.0, tail=2.0, walk=10, restart=0.5)
    x = 0.5 * normal(2000, 1, seed=4)
    optimiser, path = torch.optim.SGD(model.parameters(), lr=1.0), []
    for step in range(200):
        optimiser.zero_grad()
        model.loss(batch(x, seed=step), "model").loss.mean().backward()
        optimiser.step()
        path.append(model.net.a.item())
    optimum = 1 / float(x.square().mean()) - 1 / 2.0**2
    assert sum(path[100:]) / 100 == pytest.approx(optimum, abs=5 * 4 * math.sqrt(2 / 2000))


def test_loss_is_the_energy_of_data_less_that_of_the_chains():
    """Value and gradient, with the chains held where they have come to: none flows back through the walk."""
    model = shaken(PLANE, anchor=0.01)
    x, u = normal(64, 2, seed=5), (normal(64, 2, seed=5) - model.codec.parts[0].mean) / model.codec.parts[0].std
    terms = model.loss(batch(x), "model")
    found = torch.autograd.grad(terms.loss.mean(), list(model.parameters()), retain_graph=True)
    f = [model.net(v).squeeze(1) for v in (u, model.chains)]  # all 64 chains have walked
    energies = [v + w.square().sum(1) / 2 for v, w in zip(f, (u, model.chains), strict=True)]
    mean = (energies[0] - energies[1] + 0.01 * (f[0].square() + f[1].square())).mean()
    torch.testing.assert_close(terms.loss.mean(), mean)
    torch.testing.assert_close(found, torch.autograd.grad(mean, list(model.parameters())))
    torch.testing.assert_close(terms.parts["contrast"].mean(), (energies[0] - energies[1]).mean().detach())


def test_sampler_leaves_parameters_without_gradient():
    model = shaken(PLANE)
    model.loss(batch(normal(32, 2)), "model")
    model.sample(8, generator=generator())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_exploding_chains_are_raised():
    model = quadratic(LINE, 1.0, metropolis=False, step=50.0, spread=1.0, walk=300, restart=0.0)
    before = model.chains.clone()
    with pytest.raises(Diverged, match="smaller step"):
        model.loss(batch(normal(100, 1)), "model")
    assert torch.equal(model.chains, before)


def test_training_finds_the_moons():
    """A small model after 250 steps: less energy on data than on noise of their mean and spread, and near the best NLL.

    0.4 nats above the best is far below the base's 1.1, and a wrong sign ends above the base.
    """
    toy = moons()
    x = toy.sample(5000, generator=generator(1))
    model = EBM(PLANE, width=64, depth=2, chains=512)
    model.prepare(Split(x))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.5, 0.99))
    for step in range(250):
        source = Draws(128, generator=generator(step))
        optimiser.zero_grad()
        model.loss(Batch(x[source.integers(5000)], source), "model").loss.mean().backward()
        optimiser.step()
    noise = x.mean(0) + x.std(0) * normal(2000, 2).float()
    assert float(model.energy(x).mean()) < float(model.energy(noise).mean()) - 1
    assert model.log_prob(x).mean().nll < toy.best_nll + 0.4


# The chains.


def test_chains_move_in_place_and_others_stay():
    """One update moves a window of as many chains as data, in the very buffer, across its end."""
    model = shaken(PLANE, restart=0.0)
    buffer, seen = model.chains, set()
    for seed in range(40):
        before = buffer.clone()
        model.loss(batch(normal(16, 2), seed=seed), "model")
        moved = (buffer != before).any(1).nonzero()[:, 0]
        window = [(int(i) % 64) for i in range(64) if (buffer[i] == before[i]).all()]
        assert model.chains is buffer
        assert len(moved) <= 16
        # What did not move includes 48 neighbours, on the circle of chains.
        still = torch.zeros(128, dtype=torch.bool)
        still[torch.tensor(window)] = still[torch.tensor(window) + 64] = True
        assert bool((still.double().unfold(0, 48, 1).sum(1) == 48).any())
        seen |= set(moved.tolist())
    assert seen == set(range(64))  # 1 - 64 * 0.75^40 of all runs


def test_chains_are_left_where_the_loss_saw_them():
    model = quadratic(PLANE, 0.7, chains=50, restart=0.0)
    terms = model.loss(batch(torch.zeros(50, 2, dtype=torch.float64)), "model")
    energy = (0.7 + 1.0) * model.chains.square().sum(1) / 2
    torch.testing.assert_close(-terms.parts["contrast"].sum(), energy.sum())


@pytest.mark.parametrize("restart", [0.0, 0.3])
def test_unadjusted_chains_restart_at_their_rate(restart):
    """A share of chains far out is back at the base after one step of each, as wide as the base: false alarm 6e-7 for either."""
    model = quadratic(PLANE, 0.0, metropolis=False, walk=1, step=1e-6, restart=restart, tail=1.5)
    model.chains.fill_(1e3)
    model.loss(batch(normal(2000, 2)), "model")
    fresh = model.chains[(model.chains.abs() < 100).all(1)]
    assert len(fresh) / 2000 == pytest.approx(restart, abs=5 * math.sqrt(restart * (1 - restart) / 2000))
    assert not restart or float(fresh.square().mean()) == pytest.approx(2.25, rel=5 * math.sqrt(2 / max(fresh.numel(), 1)))


def test_adjusted_restarts_do_not_distort():
    """Chains of a narrow Gaussian under many restarts from a wide base stay Gaussian. Chi-square, false alarm 1e-6."""
    model = quadratic(LINE, 8.0, restart=0.5, walk=20)
    model.chains.copy_(normal(2000, 1, seed=7) / 3)
    model.loss(batch(normal(2000, 1)), "model")
    squares = float(9 * model.chains.square().sum())
    assert 1e-6 < stats.chi2(2000).cdf(squares) < 1 - 1e-6


@pytest.mark.parametrize("step", [0.01, 1.0])
def test_step_adapts_to_the_acceptance(step):
    """From too small or large a start, the step of adjusted chains comes to an acceptance within 0.05 of the stated one."""
    model = quadratic(SPACE, 15.0, step=step, restart=0.1, spread=1.0)
    model.chains.copy_(normal(2000, 3, seed=8) / 4)
    shares = [float(model.loss(batch(normal(500, 3), seed=i), "model").parts["accepted"]) for i in range(120)]
    assert sum(shares[-50:]) / 50 == pytest.approx(OPTIMAL_ACCEPTANCE, abs=0.05)


def test_unadjusted_step_stays():
    model = quadratic(SPACE, 0.0, step=0.01, metropolis=False, restart=0.0)
    model.loss(batch(normal(500, 3)), "model")
    assert float(model.log_step.exp()) == pytest.approx(0.01)


def test_more_data_than_chains_are_refused():
    with pytest.raises(BadInput, match="chains=65"):
        shaken(PLANE).loss(batch(normal(65, 2)), "model")


# The density.


@pytest.mark.parametrize("a", [0.0, 2.0, -0.3])
@pytest.mark.parametrize("spec", [LINE, PLANE], ids=["line", "plane"])
def test_density_of_a_quadratic_energy_is_gaussian(spec, a):
    """Closed form within the stated tolerance, which is small for a model that is as smooth and as near as this."""
    model = quadratic(spec, a, tail=1.5)
    std = (a + 1 / 1.5**2) ** -0.5
    scale = torch.arange(1.0, spec.dims + 1, dtype=torch.float64)
    model.prepare(Split(3 + scale * normal(500, *spec.shape)))
    standardise = model.codec.parts[0]
    x = 3 + normal(20, *spec.shape, seed=9)
    found = model.log_prob(x)
    assert found.kind is Numerical
    assert 0 < found.tolerance < (1e-3 if a >= 0 else 0.1)  # the last one reaches out of the box, and says so
    truth = gaussian(x, standardise.mean, standardise.std * std)
    torch.testing.assert_close(found.nats, truth, rtol=0, atol=found.tolerance)


@pytest.mark.parametrize("spec", [LINE, PLANE], ids=["line", "plane"])
def test_density_of_a_network_integrates_to_one(spec):
    """Over an independent lattice in data space, to the tolerance and 1e-6 for what lies outside."""
    model = shaken(spec)
    standardise = model.codec.parts[0]
    low, high = (standardise.mean + sign * 8 * standardise.std for sign in (-1, 1))
    points, volume = lattice(low.tolist(), high.tolist(), [300] * spec.dims)
    found = model.log_prob(points, effort=200)
    assert float(found.nats.exp().sum()) * volume == pytest.approx(1.0, abs=found.tolerance + 1e-6)


def test_tolerance_tells_a_coarse_lattice():
    """A Gaussian of a hundredth of the base's width needs more than 64 points a side, and the error bar says so."""
    model = quadratic(LINE, 1e4)
    x = torch.zeros(1, 1, dtype=torch.float64)
    for effort in (16, 64, 256, 4096):
        found = model.log_prob(x, effort=effort)
        truth = -0.5 * math.log(2 * math.pi / (1e4 + 1))
        assert abs(float(found.nats) - truth) <= found.tolerance
    assert model.log_prob(x, effort=16).tolerance > 0.1 > model.log_prob(x, effort=4096).tolerance


@pytest.mark.parametrize("spec", [SPACE, IMAGE, DataSpec((2,), LEVELS)], ids=["space", "image", "two levels"])
def test_density_is_unnormalised_elsewhere(spec):
    model = shaken(spec)
    x = torch.randint(5, (6, *spec.shape), generator=generator())
    x = x.to(torch.uint8) if spec.support.discrete else x.double()
    found = model.log_prob(x)
    assert (found.kind, found.measure) == (Unnormalised, Measure(spec.support.size))
    torch.testing.assert_close(found.nats, -model.energy(x), rtol=0, atol=0)
    assert model.criterion(batch(x)) is None
    with pytest.raises(Unsupported, match="bits"):
        found.bits_per_dim()


def test_scope_is_the_state_of_one_model():
    """The same weights compare, others do not: their log Z differ."""
    one, x = shaken(SPACE), normal(4, 3)
    same, other = copy.deepcopy(one), copy.deepcopy(one)
    other.net.layers[0].bias.data[0] += 1e-3
    assert float((one.log_prob(x) - same.log_prob(x)).nats.abs().max()) == 0.0
    with pytest.raises(NotComparable):
        one.log_prob(x) - other.log_prob(x)


def test_criterion_is_the_negative_log_likelihood():
    model, x = shaken(PLANE), normal(10, 2)
    torch.testing.assert_close(model.criterion(batch(x)), -model.log_prob(x).nats, rtol=0, atol=1e-4)  # a coarser lattice


def test_levels_are_taken_in_the_middle_of_their_cells():
    """The energy of discrete data is deterministic: that of (x + 1/2) / k, less the codec's log-determinant."""
    model = shaken(IMAGE, codec="scale")
    x = torch.randint(5, (4, 1, 2, 3), generator=generator()).to(torch.uint8)
    u = (x.double() + 0.5) / 5 * 2 - 1
    inner = model.net(u.flatten(1)).squeeze(1) + u.flatten(1).square().sum(1) / 2
    torch.testing.assert_close(model.energy(x), inner - 6 * math.log(2 / 5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spec", [LINE, PLANE, SPACE], ids=["line", "plane", "space"])
def test_score_is_the_slope_of_the_log_density(spec):
    """Central differences of 1e-6 in float64: error 1e-9 of rounding."""
    model = shaken(spec)
    x = 3 + normal(5, *spec.shape, seed=11)
    steps = 1e-6 * torch.eye(spec.dims, dtype=torch.float64)
    slope = torch.stack([(model.log_prob(x + h).nats - model.log_prob(x - h).nats) / 2e-6 for h in steps], 1)
    torch.testing.assert_close(model.score(x), slope, rtol=0, atol=1e-7)


def test_score_of_levels_is_refused():
    with pytest.raises(Unsupported, match="gradient"):
        shaken(IMAGE).score(torch.zeros(1, 1, 2, 3, dtype=torch.uint8))


# Samples.


@pytest.mark.parametrize("start", ["chains", "base"])
@pytest.mark.parametrize("temperature", [0.25, 1.0])
def test_samples_of_a_quadratic_energy_are_gaussian(start, temperature):
    """Variance T / (a + 1 / tail^2) in the codec's space. Chi-square of 3000 elements: false alarm 2e-6 each."""
    model = quadratic(SPACE, 3.0, tail=1.0, chains=1000, step=0.1)
    model.chains.copy_(normal(1000, 3) / 2)
    x = model.sample(1000, generator=generator(12), temperature=temperature, steps=60, start=start)
    assert 1e-6 < stats.chi2(3000).cdf(float(x.square().sum() * 4 / temperature)) < 1 - 1e-6


def test_samples_start_at_different_chains():
    """Steps too small to see leave ten samples of ten chains at one each."""
    model = quadratic(PLANE, 0.0, chains=10, step=1e-12, restart=0.0)
    x = model.sample(10, generator=generator(15), steps=1)
    assert torch.cdist(x, model.chains).argmin(1).sort().values.tolist() == list(range(10))


def test_samples_outnumber_chains():
    """Chains are used again, as often as the others, and go their own ways."""
    model = quadratic(PLANE, 0.0, chains=10, step=0.1)
    x = model.sample(95, generator=generator(13), steps=30)
    assert len(x.unique(dim=0)) == 95


def test_trajectory_goes_from_base_to_model():
    """Variances of the first and last frame in closed form. Chi-square of 4000 elements: false alarm 2e-6 each."""
    model = quadratic(PLANE, 3.0, tail=1.5, step=0.1)
    path = model.trajectory(2000, frames=7, steps=80, generator=generator(14))
    assert path.frames.shape == (7, 2000, 2)
    assert path.times.tolist() == [0, 2, 9, 20, 36, 56, 80]
    for frame, variance in ((0, 2.25), (-1, 1 / (3 + 1 / 2.25))):
        assert 1e-6 < stats.chi2(4000).cdf(float(path.frames[frame].square().sum() / variance)) < 1 - 1e-6


# What it refuses.


@pytest.mark.parametrize("cond", [Conditioning("classes", 3), Conditioning("vector", 2)])
def test_conditions_are_refused(cond):
    with pytest.raises(Unsupported, match="no condition"):
        EBM(DataSpec((2,), REAL, cond))


def test_tokens_are_refused():
    with pytest.raises(Unsupported, match="tokens"):
        EBM(DataSpec((4,), Support("tokens", 9)))
