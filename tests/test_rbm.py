"""The restricted Boltzmann machine against sums over all of its states: free energy, gradients, chains, log Z and its bracket.

Statistical tests compare counts of independent chains with the enumerated law by chi-square; each false alarm has a rate of 1e-6.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Estimate, Exact, Measure
from sixfold.core.model import Batch, Fills, HasDensity, HasEnergy, HasLatent, HasTrajectory
from sixfold.core.registry import recipe
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.energy import rbm
from sixfold.models.energy.rbm import RBM
from sixfold.prob.bipartite import Bipartite, Tempered
from sixfold.solve.annealing import forward
from sixfold.train.mover import Mover
from sixfold.train.recipe import Recipe

BINARY = Support("binary")
BITS = DataSpec((1, 2, 2), BINARY)
NAMED = DataSpec((1, 2, 2), BINARY, Conditioning("classes", 3))
SPECS = pytest.mark.parametrize("spec", [BITS, NAMED], ids=["plain", "classes"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def shaken(spec: DataSpec, hidden: int = 4, size: float = 0.8, **options) -> RBM:
    """A model in float64 with random parameters and a base of its own."""
    model = RBM(spec, hidden=hidden, **{"chains": 50, **options}).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data = size * normal(*parameter.shape, seed=i)
    model.base.copy_(0.5 * normal(spec.dims, seed=9))
    model.middle.copy_(normal(len(model.middle), seed=10).sigmoid())
    model.middle_hidden.copy_(normal(hidden, seed=11).sigmoid())
    return model


def bits(count: int) -> Tensor:
    """All states of ``count`` binary units, (2^count, count)."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * count).reshape(-1, count)


def units_of(spec: DataSpec) -> Tensor:
    """All states of pixels and, for each, of the units of classes, (M, V + C): pixels vary slowest."""
    pixels, C = bits(spec.dims), spec.cond.size
    if not C:
        return pixels
    labels = torch.eye(C, dtype=torch.float64)
    return torch.cat([pixels.repeat_interleave(C, 0), labels.repeat(len(pixels), 1)], 1)


def joint(units: Tensor, weight: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
    """-E of every visible state with every hidden one, by the definition, (M, 2^H)."""
    h = bits(len(hidden))
    return (units @ visible)[:, None] + h @ hidden + units @ weight @ h.T


def free_energies(model: RBM) -> Tensor:
    return -joint(units_of(model.spec), model.weight, model.visible, model.hidden).logsumexp(1).detach()


def law(model: RBM) -> Tensor:
    """Probability of every state in :func:`units_of`, (M,)."""
    return (-free_energies(model)).softmax(0)


def given_label(model: RBM, label: int | None) -> Tensor:
    """Probability of every image, given a label where the model has them, (2^V,)."""
    if label is None:
        return law(model)
    own = law(model).reshape(-1, model.spec.cond.size)[:, label]
    return own / own.sum()


def exact_chains(model: RBM, count: int, seed: int = 3) -> Tensor:
    """Independent draws of the model, (count, V + C)."""
    return units_of(model.spec)[torch.multinomial(law(model), count, replacement=True, generator=generator(seed))]


def images(spec: DataSpec, states: Tensor) -> Tensor:
    return states[:, : spec.dims].reshape(-1, *spec.shape).to(torch.uint8)


def place(x: Tensor) -> Tensor:
    """Which row of ``bits`` each image is, (N,)."""
    flat = x.flatten(1).long()
    return (flat * 2 ** torch.arange(flat.shape[1] - 1, -1, -1)).sum(1)


def surprise(found: Tensor, probabilities: Tensor) -> float:
    """Probability of counts as uneven as these by chance, by chi-square."""
    counts = torch.bincount(found, minlength=len(probabilities)).numpy()
    return float(stats.chisquare(counts, probabilities.double().numpy() * counts.sum()).pvalue)


def batch(x: Tensor, cond: Tensor | None = None, seed: int = 1) -> Batch:
    return Batch(x, Draws(len(x), generator=generator(seed), dtype=torch.float64), cond)


def batch_of(spec: DataSpec, states: Tensor, seed: int = 1) -> Batch:
    return batch(images(spec, states), states[:, spec.dims :].argmax(1) if spec.cond.size else None, seed)


def data_for(model: RBM, count: int) -> Tensor:
    """Draws of another law than the model's, (count, V + C)."""
    every = units_of(model.spec)
    return every[torch.multinomial(normal(len(every), seed=20).softmax(0), count, replacement=True, generator=generator(21))]


def labels_of(spec: DataSpec) -> list[int | None]:
    return list(range(spec.cond.size)) or [None]


@SPECS
def test_has_what_it_can_do(spec):
    model = shaken(spec)
    assert all(isinstance(model, protocol) for protocol in (HasDensity, HasEnergy, HasLatent, HasTrajectory, Fills))
    assert model.couples_batch  # its chains are shared by the batch


# The energy and the density.


@SPECS
@pytest.mark.parametrize("hidden", [2, 4, 6])
def test_energy_is_a_sum_over_hidden_states(spec, hidden):
    """Brute force over hidden units and labels."""
    model = shaken(spec, hidden)
    every = (-free_energies(model)).reshape(2**spec.dims, -1).logsumexp(1)
    torch.testing.assert_close(model.energy(images(spec, bits(spec.dims))), -every)


@SPECS
@pytest.mark.parametrize("hidden", [2, 4, 6], ids=["fewer hidden", "as many", "fewer pixels"])
def test_log_prob_is_enumerated(spec, hidden):
    """Equal to brute force over all joint states, whichever layer is summed over; all images together have probability one."""
    model, x = shaken(spec, hidden), images(spec, bits(spec.dims))
    for label in labels_of(spec):
        found = model.log_prob(x, label)
        assert (found.kind, found.measure, found.dims) == (Exact, Measure(2), 4)
        assert float(found.nats.exp().sum()) == pytest.approx(1.0, abs=1e-12)
        torch.testing.assert_close(found.nats.exp(), given_label(model, label))


def test_enumeration_goes_in_parts():
    """2^13 states are summed over in two parts; both layers give the same sum."""
    layers = Bipartite(normal(13, 14), normal(13, seed=1), normal(14, seed=2))
    turned = Bipartite(layers.weight.T, layers.hidden, layers.visible)
    torch.testing.assert_close(layers.log_z(), turned.log_z(), rtol=0, atol=1e-9)
    every = bits(13) @ layers.visible + torch.nn.functional.softplus(bits(13) @ layers.weight + layers.hidden).sum(1)
    torch.testing.assert_close(layers.log_z()[0], every.logsumexp(0), rtol=0, atol=1e-9)


@SPECS
def test_criterion_is_the_negative_log_likelihood(spec):
    model = shaken(spec)
    x = batch_of(spec, data_for(model, 20))
    torch.testing.assert_close(model.criterion(x), -model.log_prob(x.x, x.cond).nats)
    assert shaken(DataSpec((13,), BINARY), 13).criterion(batch(torch.zeros(2, 13, dtype=torch.uint8))) is None


# The objective.


def gradients(model: RBM, x: Batch) -> list[Tensor]:
    return list(torch.autograd.grad(model.loss(x, "model").loss.mean(), [model.weight, model.visible, model.hidden]))


def centred(model: RBM, m: Tensor, n: Tensor, loss) -> list[Tensor]:
    """Descent in the parametrisation E = -(v - m)' b - (h - n)' c - (v - m)' W (h - n), taken back to the plain one.

    Args:
        loss: of the plain parameters weight, visible and hidden.
    """
    W = model.weight.detach().clone().requires_grad_()
    b = (model.visible.detach() + W.detach() @ n).requires_grad_()
    c = (model.hidden.detach() + m @ W.detach()).requires_grad_()
    g_w, g_b, g_c = torch.autograd.grad(loss(W, b - W @ n, c - m @ W), [W, b, c])
    return [g_w, g_b - g_w @ n, g_c - m @ g_w]  # to first order in a step, as b and c are moved with W


def offsets_of(model: RBM, data: Tensor, chains: Tensor) -> tuple[Tensor, Tensor]:
    """What the gradient is centred by, by its definition."""

    def means(u: Tensor) -> tuple[Tensor, Tensor]:
        return u.mean(0), torch.sigmoid(u @ model.weight + model.hidden).mean(0).detach()

    (v, h), (w, k) = means(data), means(chains)
    if model.gradient == "plain":
        return torch.zeros_like(v), torch.zeros_like(h)
    if model.gradient == "enhanced":
        v, h = (v + w) / 2, (h + k) / 2
    return torch.lerp(model.middle, v, model.slide), torch.lerp(model.middle_hidden, h, model.slide)


@SPECS
@pytest.mark.parametrize("gradient", ["plain", "centred", "enhanced"])
def test_gradient_is_that_of_the_free_energies(spec, gradient):
    """The gradient for the very chains that the loss has seen, by autograd in the centred parametrisation."""
    model = shaken(spec, 3, gradient=gradient, slide=0.3)
    data = data_for(model, 30)
    before = {name: getattr(model, name).clone() for name in ("middle", "middle_hidden")}
    found = gradients(model, batch_of(spec, data))
    chains = model.chains.double()
    model.middle.copy_(before["middle"])
    model.middle_hidden.copy_(before["middle_hidden"])
    wanted = centred(
        model, *offsets_of(model, data, chains),
        lambda W, b, c: joint(chains, W, b, c).logsumexp(1).mean() - joint(data, W, b, c).logsumexp(1).mean(),
    )  # fmt: skip
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@SPECS
@pytest.mark.parametrize("gradient", ["plain", "centred", "enhanced"])
@pytest.mark.parametrize("kind", ["persistent", "contrastive divergence"])
def test_gradient_is_the_likelihoods(spec, gradient, kind):
    """Chains in equilibrium, persistent or after a long way from the data, give the gradient of the enumerated NLL.

    The mean over 20,000 chains of a product of units in [-1, 1] has an error below 0.0071 / 2, and a bias takes in up to four of
    them with offsets below one: five errors are 0.05 at most (6e-7 for each number), and 0.3 is a gradient's size here.
    """
    count = 20_000
    model = shaken(spec, 4, gradient=gradient, walk=2 if kind == "persistent" else 60, slide=0.0)
    data = data_for(model, count)
    model.chains = exact_chains(model, count).to(torch.uint8) if kind == "persistent" else model.chains[:0]
    found = gradients(model, batch_of(spec, data))
    every = units_of(spec)

    def nll(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return joint(every, W, b, c).flatten().logsumexp(0) - joint(data, W, b, c).logsumexp(1).mean()

    wanted = centred(model, *offsets_of(model, data, exact_chains(model, count, seed=5)), nll)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.05)
    assert max(float(other.abs().max()) for other in wanted) > 0.2


@SPECS
def test_loss_is_the_contrast_of_free_energies(spec):
    """Per datum: another datum beside it changes nothing, and the chains enter with their mean."""
    model = shaken(spec, gradient="centred")
    data = data_for(model, 10)
    start = model.chains.clone()
    terms = model.loss(batch_of(spec, data), "model")
    chains = model.chains.double()
    free = [-joint(u, model.weight, model.visible, model.hidden).logsumexp(1).detach() for u in (data, chains)]
    torch.testing.assert_close(terms.loss.detach(), free[0] - free[1].mean())
    torch.testing.assert_close(terms.parts["contrast"], terms.loss.detach())
    model.chains.copy_(start)
    data[5:] = data[5:].flip(0)
    other = model.loss(batch_of(spec, data), "model")
    torch.testing.assert_close(other.loss[:5], terms.loss[:5])


@SPECS
def test_loss_moves_no_parameter(spec):
    model = shaken(spec)
    before = [p.detach().clone() for p in model.parameters()]
    model.loss(batch_of(spec, data_for(model, 10)), "model")
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_pseudo_likelihood_is_each_datums_own():
    """The mean over draws of the pixel is the pseudo-log-likelihood by its definition: five standard errors, 6e-7 each."""
    model, spec = shaken(NAMED), NAMED
    count = 20_000
    for state in units_of(spec)[[0, 17, 40]]:
        part = model.loss(batch_of(spec, state.expand(count, -1), seed=7), "model").parts["pseudo"]
        flipped = state.repeat(4, 1)
        flipped[range(4), range(4)] = 1 - flipped[range(4), range(4)]
        own, others = (joint(u, model.weight, model.visible, model.hidden).logsumexp(1).detach() for u in (state[None], flipped))
        truth = float((own - torch.logaddexp(own, others)).sum())
        assert float(part.mean()) == pytest.approx(truth, abs=5 * float(part.std()) / math.sqrt(count))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_not_scaled_by_the_learning_rate(momentum):
    """Under a constant gradient the k-th step is 1 + m + ... + m^(k-1) times the learning rate, which falls linearly."""
    model = shaken(BITS)
    own = Recipe.of(recipe("energy/rbm"), {"betas": (momentum, 0.999), "lr": 0.05})
    mover, before = Mover("model", model.players()["model"], own, 4), model.hidden.detach().clone()
    for step in range(4):
        for parameter in mover.parameters:
            parameter.grad = torch.ones_like(parameter)
        mover.apply([p.grad for p in mover.parameters if p.grad is not None], 0.0, mover.rate(step / 4))
    way = sum(0.05 * (1 - k / 4) * sum(momentum**i for i in range(k + 1)) for k in range(4))
    torch.testing.assert_close(model.hidden.detach(), before - way)


# The chains of training.


def frozen(**options) -> RBM:
    """Pixels that all agree stay as they are: one hidden unit holds them, with a chance of e^-50 to turn. The base is dark, and
    bright pixels have a free energy of 200 - 190 = 10 against 0.
    """
    model = RBM(BITS, hidden=1, **options).double()
    model.weight.data = torch.full((4, 1), 100.0, dtype=torch.float64)
    model.visible.data.fill_(-50.0)
    model.hidden.data.fill_(-210.0)
    model.base.fill_(-50.0)
    return model


def test_chains_persist_in_place():
    """Chains that cannot move stay what they are in the buffer itself, whatever the data; those that can go on from there."""
    model = frozen(chains=40)
    model.chains[:20], buffer = 1, model.chains
    model.loss(batch(torch.zeros(8, 1, 2, 2, dtype=torch.uint8)), "model")
    assert model.chains is buffer
    assert model.chains.sum(1).tolist() == [4] * 20 + [0] * 20
    loose = shaken(BITS, chains=40)
    before = loose.chains.clone()
    loose.loss(batch(torch.zeros(8, 1, 2, 2, dtype=torch.uint8)), "model")
    assert bool((loose.chains != before).any())


@pytest.mark.parametrize("restart", [0.0, 0.3, 1.0])
def test_chains_restart_at_their_rate(restart):
    """Bright chains that cannot turn are dark after a restart, and only then: five binomial errors, 6e-7."""
    model = frozen(chains=5000, restart=restart)
    model.chains.fill_(1)
    model.loss(batch(torch.ones(8, 1, 2, 2, dtype=torch.uint8)), "model")
    dark = float((model.chains.sum(1) == 0).double().mean())
    assert float((model.chains.sum(1) == 4).double().mean()) == 1 - dark
    assert dark == pytest.approx(restart, abs=5 * math.sqrt(restart * (1 - restart) / 5000))


def test_contrastive_divergence_starts_at_the_data():
    """Chains that cannot turn leave no contrast to bright data; persistent ones, which are dark, have 10 nats less energy."""
    bright = torch.ones(8, 1, 2, 2, dtype=torch.uint8)
    for chains, contrast in ((0, 0.0), (9, 10.0)):
        found = frozen(chains=chains).loss(batch(bright), "model").loss.detach()
        torch.testing.assert_close(found, torch.full((8,), contrast, dtype=torch.float64))


@SPECS
def test_chains_leave_the_model_unchanged(spec):
    """Exact draws are still draws of the joint law of pixels and labels after three rounds in training."""
    model = shaken(spec, walk=3)
    model.chains = exact_chains(model, 20_000).to(torch.uint8)
    model.loss(batch_of(spec, data_for(model, 5)), "model")
    C = spec.cond.size
    found = place(model.chains[:, :4]) * max(C, 1) + (model.chains[:, 4:].long().argmax(1) if C else 0)
    assert surprise(found, law(model)) > 1e-6
    assert not C or bool((model.chains[:, 4:].sum(1) == 1).all())


@SPECS
def test_start_is_the_datas_rates(spec):
    """Visible biases and the base are logits of smoothed means, offsets the means, chains draws of them: 6e-7 for each number."""
    torch.manual_seed(0)
    model = RBM(spec, hidden=5, chains=10_000)
    states = data_for(model, 3000)
    x = batch_of(spec, states)
    model.prepare(Split(x.x, x.cond))
    rates = (states[:, :4].sum(0) + 1) / 3002
    torch.testing.assert_close(model.base.double(), rates.logit(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.visible[:4], model.base)
    shares = (states[:, 4:].sum(0) + 1) / (3000 + spec.cond.size)
    torch.testing.assert_close(model.visible[4:].detach().double(), shares.log(), rtol=1e-5, atol=1e-5)
    wanted = torch.cat([rates, shares])
    torch.testing.assert_close(model.middle.double(), wanted, rtol=1e-5, atol=1e-5)
    error = 5 * (wanted * (1 - wanted) / 10_000).sqrt()
    assert bool(((model.chains.double().mean(0) - wanted).abs() < error).all())
    model.visible.data.fill_(0.5)
    model.prepared.fill_(True)
    model.prepare(Split(x.x, x.cond))
    assert bool((model.visible == 0.5).all())  # once


# Samples.


@SPECS
def test_gibbs_leaves_the_model_unchanged(spec):
    """From exact draws one round on, each label's samples follow the enumerated law of that label."""
    model = shaken(spec)
    model.chains = exact_chains(model, 20_000).to(torch.uint8)
    for label in labels_of(spec):
        count = 20_000 if label is None else int((model.chains[:, 4:].argmax(1) == label).sum())
        x = model.sample(count, cond=label, generator=generator(4), steps=1)
        assert surprise(place(x), given_label(model, label)) > 1e-6


@SPECS
@pytest.mark.parametrize("start", ["chains", "base"])
def test_samples_reach_the_model(spec, start):
    """From far off, 200 rounds on."""
    model = shaken(spec, chains=300)
    for label in labels_of(spec):
        x = model.sample(10_000, cond=label, generator=generator(5), start=start)
        assert (x.dtype, tuple(x.shape)) == (torch.uint8, (10_000, 1, 2, 2))
        assert surprise(place(x), given_label(model, label)) > 1e-6


def test_samples_start_at_chains_of_their_label():
    """Frozen pixels show where each sample has started: labels 0 and 1 at their own chains, label 2, which has none, at any."""
    model = RBM(NAMED, hidden=1, chains=8).double()
    plain = frozen(chains=0)
    model.weight.data = torch.cat([plain.weight.data, torch.zeros(3, 1)])
    model.visible.data = torch.cat([plain.visible.data, torch.zeros(3)])
    model.hidden.data = plain.hidden.data
    model.chains[:5, :4] = 1
    model.chains[:5, 4] = model.chains[5:, 5] = 1
    label = torch.tensor([0, 1, 2] * 8)
    bright = model.sample(24, cond=label, generator=generator(6), steps=3).flatten(1).sum(1)
    assert set(bright[label == 0].tolist()) == {4}
    assert set(bright[label == 1].tolist()) == {0}
    assert sorted(bright[label == 2].tolist()) == [0] * 3 + [4] * 5


@SPECS
def test_completions_follow_the_conditional(spec):
    """Two pixels known, in one mask for all: chi-square over the four completions, which claim no exactness."""
    model = shaken(spec)
    known = torch.tensor([[[True, False], [False, True]]])
    x = torch.tensor([[[1, 0], [0, 0]]], dtype=torch.uint8).expand(10_000, 1, 2, 2)
    for label in labels_of(spec):
        found = model.fill(x, known, cond=label, generator=generator(7))
        assert not found.exact
        assert bool((found.x[:, 0, 0, 0] == 1).all() and (found.x[:, 0, 1, 1] == 0).all())
        states = torch.tensor([0b1000, 0b1010, 0b1100, 0b1110])
        own = given_label(model, label)[states]
        assert surprise(torch.searchsorted(states, place(found.x)), own / own.sum()) > 1e-6


def test_a_wrong_mask_is_refused():
    x = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    for known in (torch.ones(2, 1, 2, 2), torch.ones(3, 1, 2, 2, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        with pytest.raises(BadInput, match="known"):
            shaken(BITS).fill(x, known)


def test_trajectory_goes_from_the_base_to_the_model():
    model = shaken(NAMED)
    path = model.trajectory(10_000, frames=5, steps=100, cond=1, generator=generator(8))
    assert path.times.tolist() == [0, 6, 25, 56, 100]
    rates = model.base.sigmoid()
    every = bits(4)
    assert surprise(place(path.frames[0]), (every * rates + (1 - every) * (1 - rates)).prod(1)) > 1e-6
    assert surprise(place(path.frames[-1]), given_label(model, 1)) > 1e-6


@SPECS
def test_codes_are_hidden_units(spec):
    """Probabilities by brute force over hidden states; draws of them; the likeliest pixels back."""
    model = shaken(spec, 3)
    states = units_of(spec)
    own = batch_of(spec, states)
    h, weights = bits(3), joint(states, model.weight, model.visible, model.hidden).softmax(1).detach()
    found = model.encode(own.x, own.cond, generator=generator(1))
    torch.testing.assert_close(found.mean, weights @ h)
    many = model.encode(own.x[:1].expand(10_000, 1, 2, 2), None if own.cond is None else own.cond[0], generator=generator(2)).z
    assert surprise((many.long() * torch.tensor([4, 2, 1])).sum(1), weights[0]) > 1e-6
    shut = model.decode(h, own.cond[0] if own.cond is not None else None)
    by_hand = torch.stack([(code @ model.weight[:4].T + model.visible[:4]).sigmoid() > 0.5 for code in h])
    assert torch.equal(shut.flatten(1).bool(), by_hand)


# log Z by annealing.


def truth(model: RBM) -> Tensor:
    """log Z given each label, (C,), or (1,), without the biases of the units of classes."""
    C, V = model.spec.cond.size, model.spec.dims
    every = -free_energies(model).reshape(2**V, -1)
    return every.logsumexp(0) - (model.visible[V:].detach() if C else 0)


def test_tempered_ends():
    """At beta = 0 a law of independent pixels with its log Z, at beta = 1 the model; in between their weighted mean energy."""
    layers, base = Bipartite(normal(4, 3), normal(4, seed=1), normal(3, seed=2)), normal(4, seed=3)
    family, v = Tempered(layers, base), bits(4)
    at = family.at(v)

    def log_f(beta: float) -> Tensor:
        return joint(v, beta * layers.weight, torch.lerp(base, layers.visible, beta), beta * layers.hidden).logsumexp(1)

    assert float(log_f(0.0).logsumexp(0)) == pytest.approx(family.log_z0)
    for low, high in ((0.0, 0.3), (0.3, 1.0), (0.0, 1.0)):
        torch.testing.assert_close(family.rise(at, low, high), log_f(high) - log_f(low))
    many = Draws(20_000, generator=generator(5), dtype=torch.float64)
    for beta in (0.0, 0.4, 1.0):
        own = log_f(beta).softmax(0)
        start = family.at(v[torch.multinomial(own, 20_000, replacement=True, generator=generator(6))])
        assert surprise(place(family.move(start, beta, many).v), own) > 1e-6
    assert surprise(place(family.start(many).v), log_f(0.0).softmax(0)) > 1e-6


@SPECS
def test_annealing_is_unbiased(spec):
    """E[w] = Z_1 / Z_0 with three temperatures, which are far too few for a single chain: five standard errors, 6e-7 each."""
    model = shaken(spec).requires_grad_(False)
    for label in labels_of(spec):
        layers = model._layers.given(None if label is None else torch.tensor([label]))
        family, source = Tempered(layers, model.base), Draws(50_000, generator=generator(3), dtype=torch.float64)
        w = (forward(family, family.start(source), [0.0, 0.5, 1.0], source) + family.log_z0 - truth(model)[label or 0]).exp()
        assert float(w.mean()) == pytest.approx(1.0, abs=5 * float(w.std()) / math.sqrt(50_000))


@SPECS
def test_bracket_holds_the_truth_in_expectation(spec, monkeypatch):
    """Means of 400 brackets of two temperatures and two runs: the forward one below, the reverse one, from exact draws, above.

    By more than five standard errors, which is the size of the effect and no matter of chance.
    """
    monkeypatch.setattr(rbm, "RUNS", 2)
    model = shaken(spec, size=1.2)
    model.chains = exact_chains(model, 3000).to(torch.uint8)
    found = [model.bracket(effort=2, seed=seed) for seed in range(400)]
    for side, sign in (("lower", -1), ("upper", 1)):
        values = torch.stack([getattr(b, side).value for b in found])
        assert values.shape == (400, max(spec.cond.size, 1))
        away = sign * (values - truth(model))
        assert float((away.mean(0) / (away.std(0) / math.sqrt(400))).min()) > 5


@SPECS
def test_many_temperatures_close_the_bracket(spec):
    model = shaken(spec)
    model.chains = exact_chains(model, 3000).to(torch.uint8)
    found = model.bracket(effort=400)
    assert bool((found.width.abs() < 0.05).all())
    low, high = found.interval
    assert bool(((low - 0.02 < truth(model)) & (truth(model) < high + 0.02)).all())


def test_annealing_starts_at_the_datas_rates():
    """A model of independent pixels at the base rates is the base: every weight is one, for any number of temperatures."""
    model = shaken(BITS, 3)
    model.weight.data.zero_()
    model.hidden.data.zero_()
    model.visible.data = model.base.clone()
    for side in (model.bracket(effort=1).lower, model.bracket(effort=1).upper):
        torch.testing.assert_close(side.value, truth(model))
        assert float(side.stderr) < 1e-9
        assert float(side.ess) == pytest.approx(rbm.RUNS)


@SPECS
def test_log_prob_is_an_estimate_where_states_are_too_many(spec, monkeypatch):
    """As the exact value to five standard errors of log Z at many temperatures; it says that error and its side."""
    model, x = shaken(spec), images(spec, bits(spec.dims))
    exact = [model.log_prob(x, label).nats for label in labels_of(spec)]
    monkeypatch.setattr(rbm, "ENUMERATED", 1)
    for label, known in zip(labels_of(spec), exact, strict=True):
        found = model.log_prob(x, label, effort=300)
        assert (found.kind, found.bias) == (Estimate, "high")
        assert bool(((found.nats - known).abs() < 5 * found.stderr).all())
        torch.testing.assert_close(found.tolerances, 2 * found.stderr)
        torch.testing.assert_close(
            found.nats + model.bracket(effort=300).lower.value[label or 0], known + truth(model)[label or 0]
        )


def test_log_z_is_found_once(monkeypatch):
    """For one state of the parameters; another state, effort or seed is another question, and the old answers go."""
    model, asked = shaken(BITS), []
    honest = RBM._anneal
    monkeypatch.setattr(RBM, "_anneal", lambda self, *a, **k: asked.append((a, k)) or honest(self, *a, **k))
    first = model.bracket(effort=3)
    assert model.bracket(effort=3) == first
    assert len(asked) == 2
    model.bracket(effort=4)
    model.bracket(effort=3, seed=1)
    assert len(asked) == 6
    model.hidden.data += 1e-9
    assert bool((model.bracket(effort=3).lower.value != first.lower.value).all())
    assert len(asked) == 8
    assert len(model._found) == 2


# What it refuses.


@pytest.mark.parametrize("support", [Support("levels", 4), Support("real"), Support("tokens", 5)], ids=str)
def test_data_that_are_not_binary_are_refused(support):
    with pytest.raises(Unsupported, match="binary"):
        RBM(DataSpec((4,), support))


def test_vectors_are_refused():
    with pytest.raises(Unsupported, match="classes"):
        RBM(DataSpec((4,), BINARY, Conditioning("vector", 2)))
