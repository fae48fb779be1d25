"""Transformer over patches: causal to the element, mass one, cached samples equal to naive ones, completions exact."""

import itertools

import pytest
import torch
from scipy import stats

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import Batch, Split
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.autoregressive import _family
from sixfold.models.autoregressive.transformer import Transformer
from sixfold.nn.attention import Block, dropped
from sixfold.nn.patches import PatchDecoder, layout
from sixfold.prob.heads import Bernoulli

ALARM = 1e-4  # false-alarm rate of each statistical test
CLASSES = Conditioning("classes", 3)
BINARY = DataSpec((1, 3, 3), Support("binary"))
LEVELS = DataSpec((1, 2, 2), Support("levels", 4))
COLOUR = DataSpec((3, 1, 2), Support("levels", 3))
TOKENS = DataSpec((4,), Support("tokens", 3))
POINTS = DataSpec((2,), Support("real"))
GRIDS = [((1, 3, 3), (1, 1)), ((1, 3, 3), (3, 1)), ((1, 3, 3), (1, 3)), ((1, 3, 3), (3, 3)), ((3, 2, 2), (1, 2)), ((6,), (2,))]


def scrambled(module, *, seed=0, scale=0.5):
    """The module in float64 with random parameters, so that nothing is zero by its start."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.double().parameters():
        torch.nn.init.normal_(p, std=scale, generator=generator)
    return module.eval().requires_grad_(False)


def decoder(shape, patch, **options):
    sizes = {"inputs": 1, "outputs": 1, "width": 8, "depth": 2, "heads": 2, "inner": 10}
    return scrambled(PatchDecoder(shape, patch=patch, **sizes | options))


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Layers


def test_attention_is_what_its_formula_says():
    """Softmax of scaled products, one head and one token at a time."""
    block, z = scrambled(Block(6, heads=2, hidden=8, causal=True)), noise(2, 4, 6)
    normed = block.norm1(z)
    q, k, v = (layer(normed).reshape(2, 4, 2, 3) for layer in (block.query, block.key, block.value))
    mixed = torch.zeros(2, 4, 2, 3, dtype=torch.float64)
    for b, t, h in itertools.product(range(2), range(4), range(2)):
        weight = (k[b, : t + 1, h] @ q[b, t, h] / 3**0.5).softmax(0)
        mixed[b, t, h] = weight @ v[b, : t + 1, h]
    first = z + block.scale1 * block.out(mixed.flatten(2))
    expected = first + block.scale2 * block.fc2(torch.nn.functional.gelu(block.fc1(block.norm2(first))))
    torch.testing.assert_close(block(z), expected, rtol=1e-12, atol=1e-12)


def test_steps_of_a_layer_give_what_forward_gives():
    block, z = scrambled(Block(8, heads=2, hidden=16, causal=True)), noise(3, 5, 8)
    memory = block.memory(3, 5).fill_(float("nan"))  # what is not known yet must not matter
    steps = [block.step(z[:, t : t + 1], memory, t) for t in range(5)]
    torch.testing.assert_close(torch.cat(steps, 1), block(z), rtol=1e-12, atol=1e-12)


def test_memory_of_a_layer_is_keys_and_values_of_each_token():
    block = Block(8, heads=2, hidden=16, causal=True)
    assert block.memory(3, 5).numel() == 2 * 3 * 5 * 8


def test_a_layer_sees_all_tokens_unless_it_is_causal():
    z = noise(1, 4, 6)
    for causal in (True, False):
        block = scrambled(Block(6, heads=2, hidden=8, causal=causal))
        reach = torch.autograd.functional.jacobian(block, z)[0, :, :, 0].abs().sum((1, 3)) > 0  # output token by input token
        assert torch.equal(reach, torch.ones(4, 4).tril().bool() if causal else torch.ones(4, 4).bool())


def test_dropout_leaves_out_the_share_and_keeps_the_mean():
    z = torch.ones(200, 50, 10, dtype=torch.float64)
    kept = dropped(z, 0.3, Draws(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert torch.equal(kept.unique(), torch.tensor([0.0, 1 / 0.7], dtype=torch.float64))
    # 1e5 draws: the share of zeros has standard error 0.00145; 4.5 of them, false alarm 7e-6.
    assert float((kept == 0).double().mean()) == pytest.approx(0.3, abs=4.5 * 0.00145)
    assert torch.equal(dropped(z, 0.3, None), z)


# Patches


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_patches_hold_every_element_once_and_are_boxes(shape, patch):
    order, _ = layout(shape, patch)
    count = torch.Size(shape).numel()
    assert torch.equal(order.flatten().sort().values, torch.arange(count))
    axes = shape[1:] if len(shape) > 1 else shape
    where = torch.stack(torch.meshgrid(*map(torch.arange, axes), indexing="ij")).flatten(1)
    for elements in order:
        spot = where[:, elements % where.shape[1]]
        assert tuple((spot.amax(1) - spot.amin(1) + 1).tolist()) == patch


def test_patches_run_as_text_does_and_are_told_of_neighbours_before_them():
    order, told = layout((2, 4, 6), (2, 2))
    assert order[1].tolist() == [2, 26, 3, 27, 8, 32, 9, 33]  # two channels of each place side by side
    none = 6
    assert told.tolist() == [
        [none, none, none, none],
        [0, none, none, none],
        [1, none, none, none],
        [2, none, 0, 1],
        [3, 0, 1, 2],
        [4, 1, 2, none],
    ]


def test_patches_that_do_not_divide_are_refused():
    with pytest.raises(Unsupported, match="do not divide"):
        layout((1, 4, 6), (2, 4))


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("inputs", [1, 2])
def test_outputs_depend_on_all_earlier_elements_and_on_no_other(shape, patch, inputs):
    net = decoder(shape, patch, inputs=inputs, outputs=2)
    dims = net.within.order.numel()
    jacobian = torch.autograd.functional.jacobian(net, noise(1, dims, inputs))
    reach = jacobian[0, :, :, 0].abs().sum((1, 3)) > 0  # output by input
    place = net.within.order.flatten().argsort()
    assert torch.equal(reach, place[:, None] > place)


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("cond", [0, 3])
def test_walk_gives_what_forward_gives(shape, patch, cond):
    net = decoder(shape, patch, inputs=2, outputs=3, cond=cond)
    x, context = noise(4, net.within.order.numel(), 2), noise(4, cond) if cond else None
    seen, visited, expected = torch.full_like(x, 1e3), [], net(x, context)  # what is not known yet must not matter
    for element, params in net.walk(seen, context):
        torch.testing.assert_close(params, expected[:, element], rtol=1e-10, atol=1e-10)
        seen[:, element] = x[:, element]
        visited.append(element)
    assert visited == net.within.order.flatten().tolist()


@pytest.mark.parametrize(("shape", "patch"), GRIDS[:4])
@pytest.mark.parametrize("cond", [0, 3])
def test_probabilities_of_all_binary_images_of_three_by_three_sum_to_one(shape, patch, cond):
    net, head = decoder(shape, patch, cond=cond), Bernoulli()
    x = torch.tensor(list(itertools.product((0, 1), repeat=9)))
    for label in range(max(1, cond)):
        context = torch.eye(3, dtype=torch.float64)[label].expand(512, -1) if cond else None
        p = head.log_prob(net(head.embed(x, torch.float64), context), x).sum(1).exp()
        assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)  # float64, 512 terms
        assert float(p.max()) > 5 / 512  # far from the uniform distribution, which would hide a lot


def test_every_element_hears_the_condition():
    net = decoder((1, 4, 4), (2, 2), cond=3)
    x = noise(1, 16, 1)
    jacobian = torch.autograd.functional.jacobian(lambda c: net(x, c), noise(1, 3))
    assert bool((jacobian.abs().sum((0, 2, 3, 4)) > 0).all())


def test_tokens_know_their_places():
    net = decoder((1, 4, 4), (2, 2))
    torch.nn.init.zeros_(net.within.bias)
    numbers = net(torch.zeros(1, 16, 1, dtype=torch.float64))[0, net.within.order[:, 0]]  # equal but for their places
    assert len(numbers.unique()) == 4


def test_elements_start_at_their_bias():
    net = PatchDecoder((1, 4, 4), patch=(2, 2), inputs=1, outputs=3, width=8, depth=2, heads=2, inner=8)
    torch.nn.init.normal_(net.within.bias)
    assert torch.equal(net(torch.randn(5, 16, 1)), net.within.bias.expand(5, -1, -1))


# Model


def transformer(spec, *, scale=0.5, **options):
    return scrambled(
        Transformer(spec, **{"width": 8, "depth": 2, "heads": 2, "inner": 12, "components": 3} | options), scale=scale
    )


def conditioned(spec):
    return DataSpec(spec.shape, spec.support, CLASSES)


def everything(spec):
    """All possible data, (V^D, *shape)."""
    rows = itertools.product(range(spec.support.count), repeat=spec.dims)
    return torch.tensor(list(rows), dtype=spec.dtype).reshape(-1, *spec.shape)


def some(spec, num, *, seed=2):
    generator = torch.Generator().manual_seed(seed)
    if spec.support.kind == "real":
        return torch.randn(num, *spec.shape, generator=generator, dtype=torch.float64)
    return torch.randint(0, spec.support.count, (num, *spec.shape), generator=generator).to(spec.dtype)


@pytest.mark.parametrize("components", [0, 3])
@pytest.mark.parametrize(
    ("spec", "patch"), [(BINARY, 1), (BINARY, 3), (LEVELS, 1), (LEVELS, 2), (COLOUR, 1), (COLOUR, 2), (TOKENS, 1), (TOKENS, 2)]
)
def test_probabilities_of_all_data_sum_to_one(spec, patch, components):
    log_p = transformer(spec, patch=patch, components=components).log_prob(everything(spec))
    assert float(log_p.nats.exp().sum()) == pytest.approx(1.0, abs=1e-12)  # float64, up to 729 terms
    assert (log_p.measure.levels, log_p.dims) == (spec.support.count, spec.dims)


@pytest.mark.parametrize("patch", [1, 2])
def test_probabilities_of_each_class_sum_to_one_and_differ_from_the_first_patch_on(patch):
    model, x = transformer(conditioned(LEVELS), patch=patch), everything(LEVELS)
    p = torch.stack([model.log_prob(x, label).nats.exp() for label in range(3)])
    assert p.sum(1).tolist() == pytest.approx([1.0] * 3, abs=1e-12)
    first = torch.stack([p[:, x[:, 0, 0, 0] == value].sum(1) for value in range(4)], 1)  # marginal of the first element
    last = torch.stack([p[:, x[:, 0, 1, 1] == value].sum(1) for value in range(4)], 1)
    for marginal in (first, last):
        assert all(float((a - b).abs().sum()) > 0.01 for a, b in itertools.combinations(marginal, 2))


def test_density_in_the_plane_integrates_to_one():
    model = Transformer(POINTS, width=8, heads=2, inner=12, components=2)
    model.prepare(Split(torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 0.2]) + 5))
    scrambled(model, scale=0.2)
    model.net.within.bias.data.unflatten(1, (3, -1))[:, 2].add_(2.0)  # scales that the lattice resolves
    axis = torch.arange(-20, 20, 0.2, dtype=torch.float64)
    points = model.elements.decode(torch.cartesian_prod(axis, axis))
    area = 0.04 * float(model.elements.codec.parts[0].std.prod())
    # The trapezoidal rule on smooth functions at several points a scale errs by less than 1e-6.
    assert float(model.log_prob(points).nats.exp().sum()) * area == pytest.approx(1.0, abs=1e-5)


def test_likelihood_is_the_chain_rule():
    """Brute force: one element at a time, with everything behind it replaced by other values."""
    spec = DataSpec((1, 4, 4), Support("levels", 4))
    model, x, other = transformer(spec, patch=2), some(spec, 9), some(spec, 9, seed=3)
    nats, known = torch.zeros(9, dtype=torch.float64), torch.zeros(16, dtype=torch.bool)
    for element in model.net.within.order.flatten().tolist():
        mixed = torch.where(known, x.flatten(1), other.flatten(1)).long()
        params = model.net(model.head.embed(mixed, torch.float64))[:, element]
        nats += model.head.log_prob(params, x.flatten(1)[:, element])
        known[element] = True
    torch.testing.assert_close(model.log_prob(x).nats, nats, rtol=1e-10, atol=1e-10)


TASTES = [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}, {"temperature": 1.5, "top_k": 3, "top_p": 0.9}]


@pytest.mark.parametrize("taste", TASTES, ids=str)
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_cached_and_fixed_point_samples_equal_naive_ones(taste, patch):
    spec = conditioned(DataSpec((1, 4, 4), Support("levels", 4)))
    model, labels = transformer(spec, patch=patch), torch.arange(24) % 3
    drawn = [
        model.sample(24, cond=labels, generator=torch.Generator().manual_seed(5), sampler=sampler, **taste)
        for sampler in ("naive", "cached", "fixed-point")
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert len(drawn[0].flatten(1).unique(dim=0)) > 12  # neither constant nor the same for all


@pytest.mark.parametrize("spec", [TOKENS, BINARY, POINTS], ids=str)
def test_cached_samples_equal_naive_ones_for_other_data(spec):
    model = transformer(spec, scale=0.3)
    naive, cached = (
        model.sample(50, generator=torch.Generator().manual_seed(5), sampler=sampler) for sampler in ("naive", "cached")
    )
    torch.testing.assert_close(cached, naive, rtol=1e-9, atol=1e-9)  # discrete ones to the bit
    assert len(naive.unique(dim=0)) > 10


@pytest.mark.parametrize("patch", [1, 2])
def test_cached_completions_equal_naive_ones_and_keep_what_is_known(patch):
    spec = DataSpec((1, 4, 4), Support("levels", 4))
    model, x, known = transformer(spec, patch=patch), some(spec, 12), some(DataSpec((1, 4, 4), Support("binary")), 12).bool()
    naive, cached = (
        model.fill(x, known, tries=2, generator=torch.Generator().manual_seed(5), sampler=sampler).x
        for sampler in ("naive", "cached")
    )
    assert torch.equal(cached, naive)
    assert torch.equal(cached[known], x[known])


@pytest.mark.parametrize("cond", [None, 1])
def test_samples_have_the_stated_probabilities(cond):
    model, num = transformer(conditioned(LEVELS) if cond is not None else LEVELS, patch=2), 20_000
    drawn = model.sample(num, cond=cond, generator=torch.Generator().manual_seed(0))
    assert chi_square(drawn, model.log_prob(everything(LEVELS), cond).nats.exp()) > ALARM


def chi_square(drawn, p):
    """P-value of draws of four levels against all data's probabilities, rare ones taken together; 0 for an impossible draw."""
    code = (drawn.flatten(1).long() * 4 ** torch.arange(drawn[0].numel() - 1, -1, -1)).sum(1)
    counts, expected = code.bincount(minlength=len(p)).double(), p * len(drawn)
    if bool(counts[p == 0].any()):
        return 0.0
    group = torch.where(expected < 5, 0, torch.arange(1, len(p) + 1))
    totals = [torch.zeros(len(p) + 1, dtype=torch.float64).index_add(0, group, v) for v in (counts, expected)]
    counts, expected = (v[totals[1] > 0].numpy() for v in totals)
    return stats.chisquare(counts, expected).pvalue


@pytest.mark.parametrize(
    ("patch", "known", "exact"),
    [
        (1, [[True, True], [False, False]], True),  # the top half, pixel by pixel
        (2, [[True, True], [False, False]], True),  # the first two of one patch
        (1, [[True, False], [True, False]], False),  # the left half is split by the order
    ],
)
def test_completion_follows_the_conditional_where_the_known_come_first(patch, known, exact):
    model, num = transformer(LEVELS, patch=patch), 20_000
    x, known = torch.tensor([[[[1, 2], [0, 1]]]], dtype=torch.uint8), torch.tensor([known])
    filled = model.fill(x.expand(num, -1, -1, -1), known, tries=1, generator=torch.Generator().manual_seed(0))
    assert filled.exact == exact
    every = everything(LEVELS)
    fits = (every == x).flatten(1)[:, known.flatten()].all(1)
    p = model.log_prob(every).nats.exp() * fits
    assert (chi_square(filled.x, p / p.sum()) > ALARM) == exact  # one try elsewhere ignores what the later known say


def test_the_order_of_patches_decides_what_comes_first():
    spec = DataSpec((1, 4, 4), Support("binary"))
    top = (torch.arange(4) < 2)[:, None].expand(1, 4, 4)
    exact = [transformer(spec, patch=patch).fill(some(spec, 2), top).exact for patch in (1, 2, 4)]
    assert exact == [True, True, True]
    row = (torch.arange(4) < 1)[:, None].expand(1, 4, 4)
    assert [transformer(spec, patch=patch).fill(some(spec, 2), row).exact for patch in (1, 2, 4)] == [True, False, True]


@pytest.mark.parametrize("limit", [5000, 30_000, 100_000])
def test_memory_of_sampling_is_bounded_for_any_number(monkeypatch, limit):
    """What is kept of keys and values at once, over all layers, stays below the limit, and is given back."""
    monkeypatch.setattr(_family, "NUMBERS", limit)
    kept, room = [], Block.memory
    monkeypatch.setattr(Block, "memory", lambda self, *sizes: kept.append(room(self, *sizes)) or kept[-1])
    model = transformer(DataSpec((1, 4, 4), Support("levels", 4)), patch=2)
    for num in (1, 100, 1000):
        kept.clear()
        assert len(model.sample(num, generator=torch.Generator().manual_seed(0))) == num
        sizes = [m.numel() for m in kept]
        assert sizes[0] == 2 * min(num, model.walked) * 4 * 8  # keys and values, rows, tokens, width: no copy a step
        assert max(sizes) * len(model.net.blocks) <= limit
        assert len(sizes) == -(-num // model.walked) * len(model.net.blocks)
        assert (model.walked < 256) == (limit < 100_000)  # as many as fit


def test_dropout_is_of_training_alone_and_follows_the_draws():
    model, x = transformer(LEVELS, patch=1, dropout=0.3), some(LEVELS, 8)

    def loss(seed):
        return model.loss(Batch(x, Draws(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)), "model").loss

    truth = -model.log_prob(x).nats
    torch.testing.assert_close(loss(0), truth)
    model.train()
    assert torch.equal(loss(0), loss(0))
    assert bool(((loss(0) - loss(1)).abs() > 1e-6).all())
    torch.testing.assert_close(-model.log_prob(x).nats, truth)


def test_before_training_it_is_the_independent_distribution():
    x = some(DataSpec((1, 4, 4), Support("levels", 3)), 3000).clamp_max(1)
    model = Transformer(DataSpec((1, 4, 4), Support("levels", 3)), patch=2, components=0)
    model.prepare(Split(x))
    share = torch.stack([(x == v).double().mean(0) for v in range(3)])
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    nll = -model.log_prob(x).nats.double().mean()
    assert float(nll) == pytest.approx(float(entropy), abs=8e-3)  # half a count of the absent value for each of 16 elements


def test_bits_per_dimension_without_knowledge_is_the_number_of_bits():
    model = Transformer(DataSpec((1, 4, 4), Support("levels", 16)), patch=2, components=0)
    log_p = model.log_prob(torch.zeros(3, 1, 4, 4, dtype=torch.uint8))
    torch.testing.assert_close(log_p.bits_per_dim(), torch.full((3,), 4.0))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"width": 10, "heads": 4}, BadInput, "Try width=12"),
        ({"dropout": 1.0}, BadInput, "leaves nothing"),
        ({"patch": 3}, Unsupported, "do not divide"),
    ],
)
def test_what_cannot_be_built_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        Transformer(DataSpec((1, 4, 4), Support("binary")), **options)


def test_patches_are_no_longer_than_an_axis():
    assert Transformer(DataSpec((1, 2, 8), Support("binary")), patch=4).net.told.shape[0] == 2
