"""Transformer over patches: causal to the element, mass one, cached samples equal to naive ones, completions exact."""

import itertools

import pytest
import torch

from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.nn.attention import Block, dropped
from sixfold.nn.patches import PatchDecoder, layout
from sixfold.prob.heads import Bernoulli

ALARM = 1e-4  # false-alarm rate of each statistical test
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
    dims = len(net.order)
    jacobian = torch.autograd.functional.jacobian(net, noise(1, dims, inputs))
    reach = jacobian[0, :, :, 0].abs().sum((1, 3)) > 0  # output by input
    place = net.order.argsort()
    assert torch.equal(reach, place[:, None] > place)


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
@pytest.mark.parametrize("cond", [0, 3])
def test_walk_gives_what_forward_gives(shape, patch, cond):
    net = decoder(shape, patch, inputs=2, outputs=3, cond=cond)
    x, context = noise(4, len(net.order), 2), noise(4, cond) if cond else None
    seen, visited, expected = torch.full_like(x, 1e3), [], net(x, context)  # what is not known yet must not matter
    for element, params in net.walk(seen, context):
        torch.testing.assert_close(params, expected[:, element], rtol=1e-10, atol=1e-10)
        seen[:, element] = x[:, element]
        visited.append(element)
    assert visited == net.order.tolist()


@pytest.mark.parametrize(("shape", "patch"), GRIDS[:4])
@pytest.mark.parametrize("cond", [0, 3])
def test_probabilities_of_all_binary_images_of_three_by_three_sum_to_one(shape, patch, cond):
    net, head = decoder(shape, patch, cond=cond), Bernoulli()
    x = torch.tensor(list(itertools.product((0, 1), repeat=9)))
    for label in range(max(1, cond)):
        context = torch.eye(3, dtype=torch.float64)[label].expand(512, -1) if cond else None
        p = head.log_prob(net(head.embed(x, torch.float64), context), x).sum(1).exp()
        assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)  # float64, 512 terms
        assert float(p.max()) > 10 / 512  # far from the uniform distribution, which would hide a lot


def test_every_element_hears_the_condition():
    net = decoder((1, 4, 4), (2, 2), cond=3)
    x = noise(1, 16, 1)
    jacobian = torch.autograd.functional.jacobian(lambda c: net(x, c), noise(1, 3))
    assert bool((jacobian.abs().sum((0, 2, 3, 4)) > 0).all())


def test_elements_start_at_their_bias():
    net = PatchDecoder((1, 4, 4), patch=(2, 2), inputs=1, outputs=3, width=8, depth=2, heads=2, inner=8)
    torch.nn.init.normal_(net.bias)
    assert torch.equal(net(torch.randn(5, 16, 1)), net.bias.expand(5, -1, -1))
