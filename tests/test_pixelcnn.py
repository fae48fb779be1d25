"""PixelCNN: every pixel hears all pixels before it and no other, mass one, a walk that gives what a pass gives."""

import itertools
import math

import pytest
import torch

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import Batch
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.autoregressive.pixelcnn import PixelCNN
from sixfold.nn.gated import GatedDecoder, GatedStack
from sixfold.prob.logistics import MixtureOfLogistics

BINARY = DataSpec((1, 3, 3), Support("binary"))
LEVELS = DataSpec((1, 2, 2), Support("levels", 5))
COLOURS = DataSpec((3, 1, 2), Support("levels", 3))
CODES = DataSpec((2, 3), Support("tokens", 3))
CLASSES = Conditioning("classes", 3)
SMALL = {"width": 6, "depth": 2, "inner": 8}


def scrambled(module, *, seed=0, scale=0.4):
    """The module in float64 with random parameters, so that nothing is zero by its start."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.double().parameters():
        torch.nn.init.normal_(p, std=scale, generator=generator)
    return module.eval()


def pixelcnn(spec, **options):
    return scrambled(PixelCNN(spec, **SMALL | options))


def everything(spec):
    """All possible data, (V^D, *shape)."""
    rows = itertools.product(range(spec.support.count), repeat=spec.dims)
    return torch.tensor(list(rows), dtype=spec.dtype).reshape(-1, *spec.shape)


SHAPES = [
    ((1, 5, 5), {"depth": 3}),
    ((1, 5, 5), {"depth": 1, "dilate": 0, "kernel": 5}),  # sees three rows above: all but the farthest
    ((1, 6, 6), {"depth": 2, "dilate": 2, "kernel": 5}),
    ((3, 3, 4), {"depth": 2}),
    ((1, 4, 6), {"depth": 1, "patch": 2}),
    ((2, 4, 4), {"depth": 2, "patch": 2}),
    ((1, 1, 6), {"depth": 4}),  # one row
    ((1, 6, 1), {"depth": 4}),  # one column
]


def decoder(shape, *, cond=0, inputs=1, outputs=2, **options):
    chosen = {"patch": 1, "inner": 8, "width": 6, "depth": 2, "kernel": 3} | options
    return scrambled(GatedDecoder(shape, inputs=inputs, outputs=outputs, cond=cond, **chosen))


def heard(net, shape):
    """Which element's numbers hear which element, (D, D), by automatic differentiation."""
    x = torch.randn(1, math.prod(shape), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v)[0], x)
    return jacobian[:, :, 0].abs().sum((1, 3)) > 0


def reading(shape, patch=1):
    """Position of each element: patches as text is read, pixels of a patch too, channels of a pixel in turn."""
    c, y, x = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
    key = torch.stack([y // patch, x // patch, y % patch, x % patch, c]).flatten(1)
    order = sorted(range(math.prod(shape)), key=lambda i: key[:, i].tolist())
    return torch.tensor(order).argsort()


@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_every_pixel_hears_all_pixels_before_it_and_no_other(shape, options):
    net, position = decoder(shape, **options), reading(shape, options.get("patch", 1))
    assert torch.equal(net.within.order.flatten().argsort(), position)
    before = position[:, None] > position
    reach = heard(net, shape)
    assert not bool((reach & ~before).any())
    if options.get("kernel") != 5 or options.get("dilate"):
        assert torch.equal(reach, before)  # there is no blind spot


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("kernel", "dilate"), [(3, 0), (5, 0), (3, 2)])
def test_sight_grows_with_depth_kernel_and_dilation_as_stated(depth, kernel, dilate):
    """Rows above and columns to each side: half a kernel and a shift of one row, and half a kernel times its dilation a layer."""
    size = 12
    reach = heard(decoder((1, size, size), depth=depth, kernel=kernel, dilate=dilate, width=4), (1, size, size))
    half = kernel // 2
    sight = half + sum(half * 2 ** (i % (dilate + 1)) for i in range(depth))
    middle = (size - 1) * size + size // 2  # in the last row, half way
    rows, columns = torch.nonzero(reach[middle].reshape(size, size), as_tuple=True)
    assert size - 1 - int(rows.min()) == min(size - 1, sight + 1)
    left = columns[rows == size - 1].min()
    assert size // 2 - int(left) == min(size // 2, sight + 1)
    assert int(columns.max()) == min(size - 1, size // 2 + sight)


@pytest.mark.parametrize("cond", [0, 2])
@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_walk_gives_what_forward_gives(shape, options, cond):
    net = decoder(shape, cond=cond, inputs=2, **options)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, math.prod(shape), 2, dtype=torch.float64, generator=generator)
    context = torch.randn(3, cond, dtype=torch.float64, generator=generator) if cond else None
    expected, visited = net(x, context), []
    seen = torch.full_like(x, 1e3)  # what is not known yet must not matter
    with torch.no_grad():
        for element, params in net.walk(seen, context):
            torch.testing.assert_close(params, expected[:, element], rtol=1e-10, atol=1e-10)
            seen[:, element] = x[:, element]
            visited.append(element)
    assert torch.equal(torch.tensor(visited).argsort(), reading(shape, options.get("patch", 1)))


def test_rows_are_computed_alone():
    net = decoder((1, 4, 4), cond=2)
    x, cond = torch.randn(5, 16, 1, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    alone = torch.cat([net(x[i : i + 1], cond[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(net(x, cond), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [0, 1])
def test_both_stacks_hear_the_condition_in_every_layer(side):
    stack = scrambled(GatedStack(1, (3, 3), width=4, depth=2, kernel=3, cond=2))
    x, cond = torch.randn(1, 1, 3, 3, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    for layer in stack.layers[: 2 - (side == 0)]:  # nothing is left to hear the vertical stack behind the last layer
        kept = layer.cond.weight.data.clone()
        before = stack(x, cond)
        layer.cond.weight.data[8 * side : 8 * (side + 1)] = 0
        assert bool((stack(x, cond) != before).any())
        layer.cond.weight.data.copy_(kept)


@pytest.mark.parametrize("cond", [None, 0, 2])
@pytest.mark.parametrize("options", [{}, {"patch": 3}, {"depth": 1}, {"kernel": 5, "dilate": 1}], ids=str)
def test_probabilities_of_all_binary_images_of_three_by_three_sum_to_one(cond, options):
    spec = BINARY if cond is None else DataSpec(BINARY.shape, BINARY.support, CLASSES)
    p = pixelcnn(spec, **options).log_prob(everything(BINARY), cond).nats.exp()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)  # float64, 512 terms
    assert float(p.max()) > 5 / 512  # not nearly uniform, which would hide much


@pytest.mark.parametrize("components", [0, 3])
@pytest.mark.parametrize("spec", [LEVELS, COLOURS, CODES], ids=str)
def test_probabilities_of_all_images_sum_to_one(spec, components):
    log_p = pixelcnn(spec, components=components).log_prob(everything(spec))
    assert float(log_p.nats.exp().sum()) == pytest.approx(1.0, abs=1e-11)  # float64, up to 729 terms
    assert log_p.measure.levels == spec.support.count


@pytest.mark.parametrize("spec", [BINARY, COLOURS, DataSpec((1, 3, 2), Support("real"))], ids=str)
def test_likelihood_is_the_chain_rule(spec):
    """Brute force: one element at a time, with everything behind it replaced by other values."""
    model, generator = pixelcnn(spec, components=2), torch.Generator().manual_seed(2)
    if spec.support.discrete:
        x, other = (torch.randint(spec.support.count, (9, *spec.shape), generator=generator).to(spec.dtype) for _ in range(2))
    else:
        x, other = (torch.randn(9, *spec.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    nats, known = torch.zeros(9, dtype=torch.float64), torch.zeros(spec.dims, dtype=torch.bool)
    for element in model.orders[0].tolist():
        mixed = torch.where(known, x.flatten(1), other.flatten(1))
        params = model.net(model.head.embed(mixed, torch.float64))[:, element]
        nats += model.head.log_prob(params, x.flatten(1)[:, element])
        known[element] = True
    torch.testing.assert_close(model.log_prob(x).nats, nats, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("components", [0, 5])
def test_before_training_it_is_the_independent_distribution(components):
    x = torch.randint(0, 9, (3000, 1, 2, 2), generator=torch.Generator().manual_seed(0)).sub(4).clamp_min(0).to(torch.uint8)
    spec = DataSpec((1, 2, 2), Support("levels", 5))
    model = PixelCNN(spec, **SMALL, components=components)
    model.prepare(Split(x))
    share = torch.stack([(x == v).double().mean(0) for v in range(5)])
    entropy = -float((share * share.log()).sum())
    # Half a count for each level; a mixture of logistics, one to each level, leaks a little into the neighbours.
    assert -float(model.log_prob(x).nats.double().mean()) == pytest.approx(entropy, abs=0.4 if components else 2e-3)


def test_loss_is_the_negative_likelihood():
    model, x = pixelcnn(COLOURS), everything(COLOURS)[::7]
    loss = model.loss(Batch(x, Draws(len(x), dtype=torch.float64)), "model").loss
    torch.testing.assert_close(loss, -model.log_prob(x).nats, rtol=1e-12, atol=1e-12)


def test_it_learns_a_dependence_across_the_image():
    """The last pixel repeats the first one, three columns and two rows away: worth log 2 over independence."""
    x = torch.randint(0, 2, (128, 1, 3, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x[:, 0, 2, 3] = x[:, 0, 0, 0]
    torch.default_generator.manual_seed(0)
    model = PixelCNN(DataSpec((1, 3, 4), Support("binary")), width=8, depth=2, inner=8)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(45):
        loss = model.loss(Batch(x, Draws(128)), "model").loss.mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        params = model.net(model.head.embed(x.flatten(1), torch.float32))[:, -1]
    assert float(model.head.log_prob(params, x.flatten(1)[:, -1]).mean()) > -0.1  # chance gives -0.69


def test_labels_change_the_probabilities():
    model, x = pixelcnn(DataSpec(BINARY.shape, BINARY.support, CLASSES)), everything(BINARY)
    one, two = (model.log_prob(x, label).nats.exp() for label in (0, 1))
    assert float((one - two).abs().sum()) > 0.1


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5)])
def test_data_without_rows_and_columns_are_refused(shape):
    with pytest.raises(Unsupported, match="reads rows of pixels"):
        PixelCNN(DataSpec(shape, Support("binary")))


@pytest.mark.parametrize("kernel", [1, 4])
def test_kernels_without_a_middle_or_sides_are_refused(kernel):
    with pytest.raises(BadInput, match="kernel must be odd"):
        PixelCNN(BINARY, kernel=kernel)


def test_patches_that_do_not_divide_are_refused():
    with pytest.raises(Unsupported, match="do not divide"):
        PixelCNN(BINARY, patch=2)


def test_the_mnist_preset_reads_patches_and_takes_logistics():
    spec = DataSpec((1, 28, 28), Support("levels", 256))
    model = build("autoregressive/pixelcnn:mnist", spec, components=4)
    assert len(model.net.within.order) == 196
    assert isinstance(model.head, MixtureOfLogistics)
