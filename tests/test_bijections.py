"""Bijections: inverses, log-determinants against autograd, starts, closed forms, and low precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from flows import generator, log_det, normal, shaken
from torch import Tensor
from torch.nn import functional

from sixfold.nn.convolution import ConvMLP
from sixfold.nn.mlp import MLP
from sixfold.prob.bijections import (
    LU,
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    Conditional,
    FactorOut,
    Permutation,
    PerPixel,
    Reshape,
    Rotation,
    Squeeze,
)

COND = 3


def rotation(dims: int) -> Tensor:
    return torch.linalg.qr(normal(dims, dims, seed=9))[0]


def coupling(dims: int, *, flip: bool = False, cond: int = 0, additive: bool = False) -> AffineCoupling:
    def network(inputs: int, outputs: int) -> MLP:
        return MLP(inputs, outputs, width=8, depth=1, cond=cond, act="tanh")

    return AffineCoupling(dims, network, flip=flip, bound=1.5, additive=additive)


def conv_coupling(channels: int, *, flip: bool = False, cond: int = 0, additive: bool = False) -> AffineCoupling:
    def network(inputs: int, outputs: int) -> ConvMLP:
        return ConvMLP(inputs, outputs, width=6, depth=2, cond=cond, act="tanh")

    return AffineCoupling(channels, network, flip=flip, bound=1.5, additive=additive)


def scales() -> Bijection:
    """Two scales of images of 1 x 4 x 4, of which the second is 2 channels of 2 x 2 squeezed to 8 of 1 x 1."""
    rest = Compose(Squeeze(), PerPixel(LU(rotation(8))), conv_coupling(8), Reshape((8, 1, 1), (8,)), ActNorm(8))
    return Compose(Squeeze(), PerPixel(ActNorm(4)), conv_coupling(4), FactorOut((4, 2, 2), rest))


VECTORS: dict[str, Callable[[int], Bijection]] = {
    "actnorm": ActNorm,
    "permutation": lambda dims: Permutation(torch.randperm(dims, generator=generator(1))),
    "lu": lambda dims: LU(rotation(dims)),
    "lu from a reflection": lambda dims: LU(torch.eye(dims, dtype=torch.float64).flip(0)),
    "rotation": lambda dims: Rotation(normal(dims, dims)),
    "coupling": coupling,
    "coupling flipped": lambda dims: coupling(dims, flip=True),
    "coupling with a condition": lambda dims: coupling(dims, cond=COND),
    "coupling additive": lambda dims: coupling(dims, additive=True),
    "condition alone": lambda dims: Conditional(dims, COND, bound=1.5),
    "compose": lambda dims: Compose(ActNorm(dims), LU(rotation(dims)), coupling(dims), coupling(dims, flip=True)),
}
IMAGES: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    "squeeze": (Squeeze, (3, 4, 2)),
    "reshape": (lambda: Reshape((2, 2, 3), (12,)), (2, 2, 3)),
    "channels' actnorm": (lambda: PerPixel(ActNorm(3)), (3, 2, 2)),
    "1x1 convolution": (lambda: PerPixel(LU(rotation(4))), (4, 2, 3)),
    "1x1 rotation": (lambda: PerPixel(Rotation(normal(4, 4))), (4, 2, 3)),
    "convolutional coupling": (lambda: conv_coupling(4), (4, 2, 3)),
    "convolutional coupling, odd, flipped, with a condition": (lambda: conv_coupling(3, flip=True, cond=COND), (3, 2, 3)),
    "convolutional coupling, additive": (lambda: conv_coupling(3, additive=True), (3, 3, 2)),
    "factor out": (lambda: FactorOut((3, 2, 2), Compose(Reshape((1, 2, 2), (4,)), coupling(4))), (3, 2, 2)),
    "scales": (scales, (1, 4, 4)),
}
CASES: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    f"{name} {dims}": (lambda make=make, dims=dims: make(dims), (dims,)) for name, make in VECTORS.items() for dims in (2, 3, 6)
} | IMAGES


def condition(name: str, rows: int) -> Tensor | None:
    return normal(rows, COND, seed=5) if "condition" in name else None


@pytest.mark.parametrize("name", CASES)
def test_inverse_undoes_forward_and_log_dets_cancel(name: str) -> None:
    make, shape = CASES[name]
    bijection, x, cond = shaken(make()), 2 * normal(50, *shape), condition(name, 50)
    z, forward = bijection(x, cond)
    back, backward = bijection.inverse(z, cond)
    assert forward.shape == backward.shape == (50,)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)  # float64: 1e-16 times condition numbers up to about 1e4
    torch.testing.assert_close(forward + backward, torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", CASES)
def test_log_det_is_that_of_the_autograd_jacobian(name: str, direction: str) -> None:
    make, shape = CASES[name]
    bijection, x, cond = shaken(make()), normal(8, *shape), condition(name, 8)
    way = getattr(bijection, direction)
    x = x if direction == "forward" else bijection(x, cond)[0].detach()  # a code's shape is not always the data's
    torch.testing.assert_close(way(x, cond)[1], log_det(lambda u: way(u, cond)[0], x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_no_data_go_both_ways(name: str) -> None:
    make, shape = CASES[name]
    bijection, cond = make().double(), condition(name, 0)
    z, logdet = bijection(torch.zeros(0, *shape, dtype=torch.float64), cond)
    assert logdet.shape == (0,)
    assert bijection.inverse(z, cond)[0].shape == (0, *shape)


def test_rotation_stays_orthogonal() -> None:
    turned, _ = Rotation(normal(5, 5))(torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(turned @ turned.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-13)


def test_lu_starts_as_the_matrix_it_was_given() -> None:
    start = normal(4, 4)
    z, logdet = LU(start)(torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(z, start.T, rtol=0, atol=1e-13)
    assert logdet[0].item() == pytest.approx(torch.linalg.slogdet(start)[1].item(), abs=1e-13)


def test_lu_at_each_pixel_is_a_1x1_convolution() -> None:
    lu, x = shaken(LU(rotation(4))), normal(2, 4, 3, 5)
    weight = lu(torch.eye(4, dtype=torch.float64))[0].T
    z, logdet = PerPixel(lu)(x)
    torch.testing.assert_close(z, functional.conv2d(x, weight[:, :, None, None]), rtol=0, atol=1e-12)
    torch.testing.assert_close(logdet, 15 * torch.linalg.slogdet(weight)[1].expand(2), rtol=0, atol=1e-12)


def test_the_permutation_of_an_lu_is_state_that_no_optimiser_moves() -> None:
    # A trained permutation, with a log-determinant that knows nothing of it, is how a public Glow gets its likelihood wrong.
    lu = LU(rotation(4))
    assert {name for name, _ in lu.named_parameters()} == {"lower", "upper", "log_diagonal"}
    other = LU(torch.eye(4)).double()
    other.load_state_dict(lu.state_dict())
    torch.testing.assert_close(other.double()(normal(3, 4))[0], lu(normal(3, 4))[0], rtol=0, atol=0)


def test_squeeze_makes_channels_of_blocks() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    squeezed = Squeeze()(image)[0]
    assert squeezed.shape == (1, 4, 2, 2)
    assert squeezed[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert squeezed[0, :, 1, 1].tolist() == [10, 11, 14, 15]


def test_factored_channels_are_the_end_of_the_code_untouched() -> None:
    x = normal(2, 4, 2, 2)
    z, logdet = FactorOut((4, 2, 2), Reshape((2, 2, 2), (8,)))(x)
    torch.testing.assert_close(z, x.flatten(1), rtol=0, atol=0)
    assert logdet.tolist() == [0, 0]


def test_channels_start_with_mean_zero_and_variance_one_over_images_and_pixels() -> None:
    norm, x = PerPixel(ActNorm(3)).double(), 5 + normal(64, 3, 4, 4) * torch.tensor([0.1, 2.0, 30.0])[:, None, None]
    norm.start(x)
    z, _ = norm(x)
    var, mean = torch.var_mean(z, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(var, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_every_scale_starts_from_what_reaches_it() -> None:
    bijection, x = shaken(scales()), 3 * normal(200, 1, 4, 4) + 7
    bijection.start(x)
    top = bijection(x)[0][:, :8]  # the last scale ends in actnorm, and is the beginning of the code
    torch.testing.assert_close(top.mean(0), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(top.var(0, correction=0), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-12)


def test_an_additive_coupling_keeps_volume() -> None:
    step = shaken(conv_coupling(4, additive=True))
    z, logdet = step(normal(3, 4, 2, 2))
    assert logdet.tolist() == [0, 0, 0]
    assert not torch.equal(z, normal(3, 4, 2, 2))


@pytest.mark.parametrize("name", CASES)
def test_low_precision_stays_in_the_networks(name: str) -> None:
    make, shape = CASES[name]
    bijection, x, cond = shaken(make()).float(), normal(16, *shape).float(), condition(name, 16)
    cond = None if cond is None else cond.float()
    with torch.no_grad():
        exact = bijection(x, cond)
        with torch.autocast("cpu", torch.bfloat16):
            z, logdet = bijection(x, cond)
    assert z.dtype == logdet.dtype == torch.float32
    if "coupling" not in name and name.split()[0] not in ("compose", "factor", "scales"):
        torch.testing.assert_close(z, exact[0], rtol=0, atol=0)  # no network, nothing to lose
        torch.testing.assert_close(logdet, exact[1], rtol=0, atol=0)
    # Networks lose 2^-8 of outputs of about 1, in at most two steps of at most 8 log-scales each.
    torch.testing.assert_close(logdet, exact[1], rtol=0, atol=16 * 3 / 256)


def test_log_dets_of_low_precision_add_up_in_full() -> None:
    # 3,000 log-scales of 0.01 each: in bfloat16 a sum of more than 2 to 4 does not grow any more.
    step = AffineCoupling(2, lambda i, o: ConvMLP(i, o, width=2, depth=1, zero=True), bound=1.0)
    with torch.no_grad():
        step.net.rest[-1].bias.fill_(0.01)
        with torch.autocast("cpu", torch.bfloat16):
            _, logdet = step(normal(2, 2, 50, 60).float())
    rounded = math.tanh(float(torch.tensor(0.01).bfloat16()))
    torch.testing.assert_close(logdet, torch.full((2,), 3000 * rounded), rtol=1e-4, atol=0)
