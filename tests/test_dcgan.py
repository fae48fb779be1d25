"""Convolutional generators and critics: sizes, independence of data, conditions; singular values against a decomposition."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from sixfold.nn.dcgan import Critic, Generator, PixelNorm, grids
from sixfold.nn.mlp import MLP
from sixfold.nn.spectral import spectral

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 2, 3), (3, 15, 31)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def generator_of(shape, *, cond: int = 0, up: str = "transposed", bounded: bool = False) -> Generator:
    torch.manual_seed(0)
    return Generator(5, shape, width=4, cond=cond, up=up, bounded=bounded).double()


def critic_of(shape, *, cond: int = 0) -> Critic:
    torch.manual_seed(0)
    return Critic(shape, width=4, cond=cond).double()


def stirred(network: nn.Module) -> nn.Module:
    """The network with every parameter moved, so that those that start at zero or one count."""
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p += 0.3 * noise(*p.shape, seed=i)
    return network


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((28, 28), [(28, 28), (14, 14), (7, 7)]),
        ((32, 32), [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((8, 8), [(8, 8), (4, 4)]),
        ((15, 31), [(15, 31), (7, 15)]),
        ((2, 3), [(2, 3)]),
    ],
)
def test_grids_halve_until_a_side_is_below_eight(size, wanted):
    assert grids(*size) == wanted


@pytest.mark.parametrize("up", ["transposed", "bilinear"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_generators_give_images_and_critics_take_them(shape, up):
    x = generator_of(shape, up=up)(noise(3, 5))
    assert x.shape == (3, *shape)
    assert critic_of(shape)(x).shape == (3, 1)
    assert generator_of(shape, up=up)(noise(0, 5)).shape == (0, *shape)


def test_channels_double_to_eight_times_and_dense_layers_follow():
    wide = Generator(5, (3, 128, 128), width=4, cond=0, up="transposed", bounded=False)
    assert [rise.conv.in_channels for rise in wide.rises] == [32, 32, 16, 8, 4]
    assert wide.coarse == (32, 4, 4)
    assert [conv.out_channels for conv in Critic((3, 128, 128), width=4, cond=0).convs] == [4, 8, 16, 32, 32]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_element_reaches_the_score_and_is_reached_by_the_noise(shape):
    x = noise(1, *shape).requires_grad_()
    (slope,) = torch.autograd.grad(critic_of(shape)(x).sum(), x)
    assert (slope != 0).all()
    generator = generator_of(shape)
    jacobian = torch.autograd.functional.jacobian(lambda z: generator(z)[0], noise(1, 5))
    assert (jacobian != 0).any(-1).all()


@pytest.mark.parametrize("up", ["transposed", "bilinear"])
def test_no_datum_depends_on_the_others_of_its_batch(up):
    shape, cond = (1, 8, 8), torch.eye(3, dtype=torch.float64)
    generator, critic = stirred(generator_of(shape, cond=3, up=up)), stirred(critic_of(shape, cond=3))
    z = noise(3, 5)
    x = generator(z, cond)
    for i in range(3):
        part = slice(i, i + 1)
        # another order of summation in the convolutions
        torch.testing.assert_close(generator(z[part], cond[part]), x[part], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(critic(x[part], cond[part]), critic(x, cond)[part], rtol=1e-10, atol=1e-12)


def test_a_bounded_generator_is_the_tanh_of_the_free_one():
    bounded, free = (stirred(generator_of((1, 8, 8), bounded=b)) for b in (True, False))
    z = 10 * noise(4, 5)
    assert torch.equal(bounded(z), free(z).tanh())


@pytest.mark.parametrize("ends", [(), (3, 2)], ids=["vectors", "images"])
def test_normalisation_is_of_each_pixel_and_the_condition_sets_gain_and_shift(ends):
    norm, cond = stirred(PixelNorm(6, cond=2).double()), noise(5, 2, seed=1)
    h = 7 * noise(5, 6, *ends)
    gain, shift = (norm.style + cond @ norm.by.weight.T).reshape(5, 12, *[1] * len(ends)).chunk(2, 1)
    wanted = gain * h / h.square().mean(1, keepdim=True).sqrt() + shift
    torch.testing.assert_close(norm(h, cond), wanted, rtol=1e-5, atol=1e-5)  # the guard adds 1e-6 to squares of about 49
    plain = PixelNorm(6, cond=0).double()(h, None)
    torch.testing.assert_close(plain.square().mean(1), torch.ones(5, *ends, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_class_enters_the_score_as_an_inner_product_with_the_features():
    """D(x, c) - D(x, c') = (V_c - V_c')' phi(x), and phi is what the unconditional part of the score is linear in."""
    critic = stirred(critic_of((1, 8, 8), cond=3))
    x, label = noise(4, 1, 8, 8), torch.eye(3, dtype=torch.float64)
    seen = []
    critic.score.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    by_class = torch.stack([critic(x, label[c].expand(4, 3))[:, 0] for c in range(3)], 1)
    phi = seen[0]
    assert all(torch.equal(phi, other) for other in seen)
    table = critic.match.weight.T
    for c in range(3):
        torch.testing.assert_close(by_class[:, c] - by_class[:, 0], phi @ (table[c] - table[0]), rtol=1e-10, atol=1e-10)


# Spectral normalisation.


def layers(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def largest(weight: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.flatten(1).detach(), ord=2))


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_the_largest_singular_value_becomes_one(kind):
    network = stirred(critic_of((1, 8, 8), cond=3) if kind == "conv" else MLP(3, 1, width=16, depth=2).double())
    before = [largest(m.weight) for m in layers(network)]
    network = spectral(network).train()
    x, cond = (noise(2, 1, 8, 8), noise(2, 3)) if kind == "conv" else (noise(2, 3), None)
    for _ in range(300):  # power iteration: the ratio of the second singular value to the first, to the 600th
        network(x, cond)
    assert all(abs(value - 1) > 0.05 for value in before)
    # by the gap of the two largest singular values of these matrices; a single output is exact at once
    assert [largest(m.weight) for m in layers(network)] == pytest.approx([1.0] * len(before), abs=1e-6)


def test_a_normalised_network_does_not_stretch():
    """Linear layers of norm one and slopes of at most one: no two points' scores are further apart than the points."""
    torch.manual_seed(0)
    network = spectral(MLP(3, 1, width=16, depth=3, act="leaky_relu").double())
    with torch.no_grad():
        for p in network.parameters():
            p *= 5
    x, y = noise(500, 3), noise(500, 3, seed=1)
    for _ in range(300):
        network(x)
    network.eval()
    assert ((network(x) - network(y)).abs()[:, 0] <= (1 + 1e-6) * (x - y).norm(dim=1)).all()  # as above


def test_the_gradient_goes_through_the_singular_value():
    """Scaling a layer leaves what it does, so the gradient is orthogonal to the weight: <dL/dW, W> = 0."""
    network = spectral(critic_of((1, 8, 8)))
    network.eval()
    network(noise(4, 1, 8, 8)).sum().backward()
    for layer in layers(network):
        original = layer.parametrizations.weight.original
        along = (original.grad * original).sum().abs()
        assert along <= 1e-9 * original.grad.norm() * original.norm()  # float64 rounding


def test_a_copy_and_a_fixed_copy_of_the_weights_do_the_same():
    network = spectral(critic_of((1, 8, 8)))
    network.eval()
    x = noise(4, 1, 8, 8)
    fixed = {name: p.detach() for name, p in network.named_parameters()}
    assert torch.equal(copy.deepcopy(network)(x), network(x))
    out = functional_call(network, fixed, (x,))
    assert torch.equal(out, network(x))
    assert not out.requires_grad
