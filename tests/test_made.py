"""MADE: causal in every order, mass one, samples and completions as the density says."""

import itertools
import math

import pytest
import torch
from scipy import stats

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.core.model import Batch, Split
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.autoregressive.made import MADE, permutations
from sixfold.nn.masked import MaskedMLP
from sixfold.prob.heads import Bernoulli, Categorical, Gaussian, MixtureOfGaussians
from sixfold.prob.logistics import MixtureOfLogistics

BINARY = DataSpec((6,), Support("binary"))
LEVELS = DataSpec((1, 2, 2), Support("levels", 3))
TOKENS = DataSpec((4,), Support("tokens", 3))
PLANE = DataSpec((2,), Support("real"))
PAIR = DataSpec((1, 1, 2), Support("levels", 4))  # with one component a mixture of logistics
SQUARE = DataSpec((1, 1, 2), Support("levels", 16))  # with three
CLASSES = Conditioning("classes", 3)
ALARM = 1e-4  # false-alarm rate of each statistical test


def scrambled(module, *, seed=0, scale=0.5):
    """The module in float64 with random parameters, so that nothing is zero by its start."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.double().parameters():
        torch.nn.init.normal_(p, std=scale, generator=generator)
    return module.eval()


def made(spec, **options):
    return scrambled(MADE(spec, **{"orders": 4, "width": 24} | options))


def conditioned(spec):
    return DataSpec(spec.shape, spec.support, CLASSES)


def everything(spec):
    """All possible data, (V^D, *shape)."""
    rows = itertools.product(range(spec.support.count), repeat=spec.dims)
    return torch.tensor(list(rows), dtype=spec.dtype).reshape(-1, *spec.shape)


def position(orders, k):
    return orders[k].argsort()


@pytest.mark.parametrize("cond", [0, 2])
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("inputs", [1, 3])
def test_outputs_depend_on_earlier_elements_and_on_all_of_them(cond, direct, depth, inputs):
    dims, orders = 5, permutations(5, 4)
    net = scrambled(MaskedMLP(orders, inputs=inputs, outputs=2, width=20, depth=depth, cond=cond, direct=direct))
    context = torch.randn(1, cond, dtype=torch.float64) if cond else None
    x = torch.randn(1, dims, inputs, dtype=torch.float64)
    for k in range(len(orders)):
        jacobian = torch.autograd.functional.jacobian(lambda v, k=k: net(v, torch.tensor([k]), context)[0], x)
        reach = jacobian[:, :, 0].abs().sum((1, 3)) > 0  # (D, D): output by input
        assert torch.equal(reach, position(orders, k)[:, None] > position(orders, k))


def test_every_element_hears_the_condition():
    net = scrambled(MaskedMLP(permutations(4, 2), inputs=1, outputs=1, width=16, depth=1, cond=2))
    x = torch.zeros(1, 4, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda c: net(x, torch.tensor([1]), c), torch.zeros(1, 2, dtype=torch.float64))
    assert bool((jacobian.abs().sum((0, 2, 3, 4)) > 0).all())


def test_masks_multiply_and_never_change_the_weights():
    net = scrambled(MaskedMLP(permutations(4, 1), inputs=1, outputs=2, width=12, depth=1))
    before = {name: p.clone() for name, p in net.named_parameters()}
    net(torch.randn(8, 4, 1, dtype=torch.float64), torch.zeros(8, dtype=torch.long)).square().sum().backward()
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    masked = net.degrees[:, None] <= torch.arange(4)  # a unit of degree m sees elements 0..m-1 of the natural order
    assert bool((net.first.grad[masked] == 0).all())
    assert bool((net.first.grad[~masked] != 0).all())
    heard = torch.arange(4)[:, None] >= net.degrees
    assert bool((net.last.grad.transpose(1, 2)[~heard] == 0).all())


@pytest.mark.parametrize("cond", [0, 2])
def test_rows_of_a_mixed_batch_equal_rows_alone(cond):
    net = scrambled(MaskedMLP(permutations(4, 3), inputs=1, outputs=2, width=12, depth=1, cond=cond))
    x, order = torch.randn(9, 4, 1, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 2, 0, 0, 2, 1])
    context = torch.randn(9, cond, dtype=torch.float64) if cond else None
    alone = [net(x[i : i + 1], order[i : i + 1], None if context is None else context[i : i + 1]) for i in range(9)]
    torch.testing.assert_close(net(x, order, context), torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("cond", [0, 2])
@pytest.mark.parametrize("width", [3, 20])  # fewer units than elements, and more
def test_walk_gives_what_forward_gives(depth, cond, width):
    net = scrambled(MaskedMLP(permutations(5, 3), inputs=2, outputs=3, width=width, depth=depth, cond=cond))
    x = torch.randn(7, 5, 2, dtype=torch.float64)
    context = torch.randn(7, cond, dtype=torch.float64) if cond else None
    for k in range(3):
        seen, visited = torch.full_like(x, 1e3), []  # what is not known yet must not matter
        expected = net(x, torch.full((7,), k), context)
        for element, params in net.walk(seen, k, context):
            torch.testing.assert_close(params, expected[:, element], rtol=1e-10, atol=1e-10)
            seen[:, element] = x[:, element]
            visited.append(element)
        assert visited == net.orders[k].tolist()


@pytest.mark.parametrize(
    ("spec", "components"),
    [(BINARY, 16), (LEVELS, 16), (TOKENS, 16), (DataSpec((1,), Support("levels", 5)), 16), (PAIR, 1), (SQUARE, 3)],
    ids=str,
)
@pytest.mark.parametrize("orders", [1, 4])
def test_probabilities_of_all_data_sum_to_one(spec, components, orders):
    log_p = made(spec, orders=orders, components=components).log_prob(everything(spec))
    assert float(log_p.nats.exp().sum()) == pytest.approx(1.0, abs=1e-12)  # float64, up to 256 terms
    assert log_p.measure.levels == spec.support.count


@pytest.mark.parametrize(
    ("spec", "components", "head", "outputs"),
    [
        (LEVELS, 1, Categorical, 3),  # as many numbers either way
        (PAIR, 1, MixtureOfLogistics, 3),
        (PAIR, 2, Categorical, 4),
        (DataSpec((1, 2, 2), Support("levels", 256)), 16, MixtureOfLogistics, 48),
        (DataSpec((3,), Support("tokens", 256)), 1, Categorical, 256),  # names have no order
        (BINARY, 16, Bernoulli, 1),
        (PLANE, 1, Gaussian, 2),
        (PLANE, 16, MixtureOfGaussians, 48),
    ],
    ids=str,
)
def test_many_levels_take_a_mixture_where_it_has_fewer_numbers(spec, components, head, outputs):
    model = MADE(spec, width=8, components=components)
    assert type(model.head) is head
    assert model.net.bias.shape == (spec.dims, outputs)


@pytest.mark.parametrize("orders", [1, 2])
def test_a_mixture_of_logistics_is_the_chain_rule_and_draws_from_it(orders):
    """Two pixels of four levels by hand: differences of the logistic function, its tails to the ends."""
    model, x, num = made(PAIR, components=1, orders=orders), everything(PAIR), 20_000
    nats = torch.zeros(len(model.orders), 16, dtype=torch.float64)
    for k, order in enumerate(model.orders.tolist()):
        for position, element in enumerate(order):
            seen = torch.where(torch.tensor([i in order[:position] for i in range(2)]), x.flatten(1), 0)
            params = model.net(model.head.embed(seen, torch.float64), torch.full((16,), k))[:, element]
            mean, scale = params[:, 1], 0.1 / 3 + torch.nn.functional.softplus(params[:, 2])
            edges = torch.tensor([-math.inf, -2 / 3, 0.0, 2 / 3, math.inf], dtype=torch.float64)
            p = torch.sigmoid((edges - mean[:, None]) / scale[:, None]).diff(dim=1)
            nats[k] += p.gather(1, x.flatten(1)[:, element : element + 1].long()).squeeze(1).log()
    found = model.log_prob(x).nats
    torch.testing.assert_close(found, nats.exp().mean(0).log(), rtol=1e-8, atol=1e-8)  # the sums over tails differ by rounding
    drawn = model.sample(num, generator=torch.Generator().manual_seed(0))
    assert _chi_square(drawn, found.exp(), values=4) > ALARM


@pytest.mark.parametrize("label", range(3))
def test_probabilities_of_each_class_sum_to_one_and_differ(label):
    model, x = made(conditioned(LEVELS)), everything(LEVELS)
    p = [model.log_prob(x, c).nats.exp() for c in (label, (label + 1) % 3)]
    assert float(p[0].sum()) == pytest.approx(1.0, abs=1e-12)
    assert float((p[0] - p[1]).abs().sum()) > 0.1


def smooth(**options):
    """A model of the plane with scales of at least half a standard deviation, which a coarse lattice resolves."""
    model = MADE(PLANE, **{"components": 2, "width": 12, "orders": 2} | options)
    model.prepare(Split(torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 0.2]) + 5))
    scrambled(model, scale=0.2)
    raw = model.net.bias.data.unflatten(1, (3, -1))[:, 2]
    raw.add_(2.0)
    model.net.last.data.unflatten(1, (3, -1))[:, 2].mul_(0.1)
    model.net.direct.data.unflatten(1, (3, -1))[:, 2].mul_(0.1)
    return model


def lattice(model, *, reach=20.0, spacing=0.2):
    """Points of the plane in the units of the data, and the area of each."""
    u = torch.arange(-reach, reach, spacing, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2)
    return model.elements.codec.decode(grid), float(spacing**2 * model.elements.codec.parts[0].std.prod())


def test_density_in_the_plane_integrates_to_one_in_the_units_of_the_data():
    model = smooth()
    points, area = lattice(model)
    # The trapezoidal rule on smooth functions at two and a half points a scale errs by less than 1e-6.
    assert float(model.log_prob(points).nats.exp().sum()) * area == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("spec", [BINARY, TOKENS, DataSpec((4,), Support("real"))], ids=str)
def test_likelihood_is_the_mean_over_orders_of_the_chain_rule(spec):
    """Brute force: one element at a time, with everything behind it replaced by other values."""
    model, generator = made(spec), torch.Generator().manual_seed(2)
    x, other = (_random(spec, 20, generator) for _ in range(2))
    total = []
    for order in model.net.orders:
        nats = torch.zeros(20, dtype=torch.float64)
        for p, element in enumerate(order.tolist()):
            known = torch.zeros(spec.dims, dtype=torch.bool)
            known[order[:p]] = True
            k = torch.full((20,), len(total))
            params = model.net(model.head.embed(torch.where(known, x, other), torch.float64), k)
            nats += model.head.log_prob(params, x)[:, element]
        total.append(nats)
    expected = torch.stack(total).exp().mean(0).log()
    torch.testing.assert_close(model.log_prob(x).nats, expected, rtol=1e-10, atol=1e-10)


def _random(spec, num, generator):
    if spec.support.kind == "real":
        return torch.randn(num, *spec.shape, generator=generator, dtype=torch.float64)
    return torch.randint(0, spec.support.count, (num, *spec.shape), generator=generator).to(spec.dtype)


@pytest.mark.parametrize("spec", [BINARY, PLANE], ids=str)
def test_loss_of_random_orders_bounds_the_mixture(spec):
    model = made(spec)
    x = _random(spec, 8, torch.Generator().manual_seed(2))
    truth = -model.log_prob(x).nats
    batch = Batch(x, Draws(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    torch.testing.assert_close(model.criterion(batch), truth)
    # Over many draws the loss averages the orders' own, which Jensen's inequality puts above the mixture.
    many = Batch(x.repeat_interleave(4000, 0), Draws(32_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    losses = model.loss(many, "model").loss.reshape(8, 4000)
    assert bool((losses.mean(1) >= truth).all())
    each = -torch.stack([model._log_prob(x, torch.full((8,), k), None) for k in range(len(model.net.orders))])
    error = losses.std(1) / math.sqrt(4000)
    assert bool(((losses.mean(1) - each.mean(0)).abs() < 4.5 * error).all())  # eight normal tests: 6e-5 in all


def test_loss_of_one_order_is_the_likelihood():
    model = made(LEVELS, orders=1)
    x = everything(LEVELS)
    batch = Batch(x, Draws(len(x), dtype=torch.float64))
    torch.testing.assert_close(model.loss(batch, "model").loss, -model.log_prob(x).nats)


@pytest.mark.parametrize("cond", [None, 1])
def test_samples_have_the_stated_probabilities(cond):
    spec = conditioned(LEVELS) if cond is not None else LEVELS
    model, x, num = made(spec), everything(LEVELS), 20_000
    drawn = model.sample(num, cond=cond, generator=torch.Generator().manual_seed(0))
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (num, 1, 2, 2))
    assert _chi_square(drawn, model.log_prob(x, cond).nats.exp()) > ALARM


def _chi_square(drawn, p, *, values=3):
    """P-value of draws of some levels against all data's probabilities (rare ones taken together); 0 for an impossible draw."""
    code = (drawn.flatten(1).long() * values ** torch.arange(drawn[0].numel() - 1, -1, -1)).sum(1)
    counts, expected = code.bincount(minlength=len(p)).double(), p * len(drawn)
    if bool(counts[p == 0].any()):
        return 0.0
    group = torch.where(expected < 5, 0, torch.arange(1, len(p) + 1))
    totals = [torch.zeros(len(p) + 1, dtype=torch.float64).index_add(0, group, v) for v in (counts, expected)]
    counts, expected = (v[totals[1] > 0].numpy() for v in totals)
    return stats.chisquare(counts, expected).pvalue


def test_real_samples_have_the_stated_density():
    model, num = smooth(), 20_000
    points, area = lattice(model, spacing=0.05)
    p = torch.cat([model.log_prob(part).nats for part in points.split(100_000)]).exp() * area
    mass = torch.zeros(8, dtype=torch.float64).index_add(0, _cell(model, points), p)
    counts = _cell(model, model.sample(num, generator=torch.Generator().manual_seed(0))).bincount(minlength=8)
    assert stats.chisquare(counts.numpy(), num * (mass / mass.sum()).numpy()).pvalue > ALARM


def _cell(model, x):
    """Which of eight parts of the plane; their edges run midway between points of the lattice."""
    u = model.elements.codec.parts[0].encode(x.double(), Draws(len(x)))[0] - 0.025
    return (u[:, 0] > 0.0).long() + 2 * (u[:, 1] > 0.2).long() + 4 * (u[:, 0].square() > 1.0).long()


def test_samples_do_not_touch_the_global_generator_and_repeat():
    model, before = made(LEVELS), torch.random.get_rng_state()
    one, two = (model.sample(50, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(before, torch.random.get_rng_state())


def test_low_temperature_gives_likelier_samples():
    model = made(LEVELS)
    nats = [
        model.log_prob(model.sample(2000, generator=torch.Generator().manual_seed(0), temperature=t)).nats for t in (0.2, 1.0)
    ]
    assert nats[0].mean() > nats[1].mean() + 0.5


def test_completion_is_exact_where_the_known_come_first_in_every_order():
    spec = DataSpec((3,), Support("levels", 3))
    model, num = made(spec), 20_000
    model.net.orders.copy_(torch.tensor([[0, 1, 2], [0, 2, 1], [0, 1, 2], [0, 2, 1]]))
    x, known = torch.tensor([[1, 0, 0]], dtype=torch.uint8), torch.tensor([True, False, False])
    filled = model.fill(x.expand(num, -1), known, generator=torch.Generator().manual_seed(0))
    assert filled.exact
    assert _chi_square(filled.x, _conditional(model, x[0], known)) > ALARM


def test_completion_comes_close_to_the_conditional_elsewhere_and_says_so():
    model, num = made(LEVELS, orders=3), 1000
    x, known = torch.tensor([[[[1, 2], [0, 1]]]], dtype=torch.uint8), torch.tensor([[[False, True], [False, True]]])
    filled = model.fill(x.expand(num, -1, -1, -1), known, tries=100, generator=torch.Generator().manual_seed(0))
    assert not filled.exact
    # Resampling from 300 proposals is biased by about 1/300, a tenth of what 1000 draws could show.
    assert _chi_square(filled.x, _conditional(model, x[0], known)) > ALARM


def _conditional(model, x, known):
    """Probability of every datum given the known elements, by enumeration."""
    every = everything(model.spec)
    fits = (every == x).flatten(1)[:, known.flatten()].all(1)
    p = model.log_prob(every).nats.exp() * fits
    return p / p.sum()


def test_completion_keeps_what_is_known_to_the_bit():
    model = MADE(PLANE, width=8)
    model.prepare(Split(torch.randn(100, 2) * 7 + 3))
    x, known = torch.randn(50, 2), torch.rand(50, 2) < 0.5
    filled = model.fill(x, known, generator=torch.Generator().manual_seed(0)).x
    assert torch.equal(filled[known], x[known])
    assert bool((filled[~known] != x[~known]).all())


@pytest.mark.parametrize("known", [torch.zeros(2), torch.zeros(3, dtype=torch.bool)])
def test_completion_refuses_what_is_no_mask(known):
    with pytest.raises(BadInput, match="known must be bool"):
        MADE(PLANE, width=8).fill(torch.zeros(4, 2), known)


def test_before_training_it_is_the_independent_distribution():
    x = torch.randint(0, 3, (3000, 1, 2, 2), generator=torch.Generator().manual_seed(0)).clamp_max(1).to(torch.uint8)
    model = MADE(LEVELS)
    model.prepare(Split(x))
    share = torch.stack([(x == v).double().mean(0) for v in range(3)])
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    nll = -model.log_prob(x).nats.double().mean()
    assert float(nll) == pytest.approx(float(entropy), abs=2e-3)  # half a count of the absent value for each element


def test_bits_per_dimension_without_knowledge_is_the_number_of_bits():
    log_p = MADE(DataSpec((5,), Support("levels", 16))).log_prob(torch.zeros(3, 5, dtype=torch.uint8))
    torch.testing.assert_close(log_p.bits_per_dim(), torch.full((3,), 4.0))


@pytest.mark.parametrize(("dims", "asked", "got"), [(1, 8, 1), (2, 8, 2), (3, 8, 6), (3, 4, 4), (64, 8, 8)])
def test_orders_are_distinct_permutations_and_the_first_is_natural(dims, asked, got):
    orders = permutations(dims, asked)
    assert len(orders.unique(dim=0)) == got == len(orders)
    assert torch.equal(orders.sort(1).values, torch.arange(dims).expand(got, dims))
    assert torch.equal(orders[0], torch.arange(dims))


def test_log_prob_in_parts_is_the_same(monkeypatch):
    model = made(conditioned(LEVELS))
    x, c = everything(LEVELS), torch.arange(81) % 3
    whole = model.log_prob(x, c).nats
    monkeypatch.setattr(model, "rows", 7)
    torch.testing.assert_close(model.log_prob(x, c).nats, whole, rtol=1e-12, atol=1e-12)


def test_preset_of_one_order():
    assert len(build("autoregressive/made:one", LEVELS).net.orders) == 1
