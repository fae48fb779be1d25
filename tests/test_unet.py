"""The U-Net: shapes of any size, where it starts, what its output depends on, and its derivatives."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sixfold.nn.unet import Attention, Residual, UNet

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 7, 7), (3, 9, 14), (1, 5, 2), (1, 1, 1)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(shape: tuple[int, ...] = (1, 12, 12), *, shaken: bool = True, **options: object) -> UNet:
    """A small network in float64; shaken, away from its start, where its output is zero whatever it sees."""
    settings = {"cond": 4, "width": 8, "depth": 1, "stages": 3, "patch": 2, "attention": True} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(shape, **settings).double()  # type: ignore[arg-type]
    if shaken:
        for i, parameter in enumerate(net.parameters()):
            parameter.data += 0.3 * normal(*parameter.shape, seed=i)
    return net


def seen(net: UNet, num: int = 3, shape: tuple[int, ...] = (1, 12, 12)) -> tuple[Tensor, Tensor, Tensor]:
    return normal(num, *shape), torch.linspace(-3, 3, num, dtype=torch.float64), normal(num, 4, seed=1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_shape_is_kept_and_the_output_starts_at_zero(shape: tuple[int, ...], patch: int, stages: int) -> None:
    net = made(shape, shaken=False, patch=patch, stages=stages)
    out = net(*seen(net, 2, shape))
    assert out.shape == (2, *shape)
    assert not out.any()


def test_halvings_round_up_and_nothing_is_padded() -> None:
    """28x28 in patches of 2 is 14x14, 7x7, 4x4."""
    net, sizes = made((1, 28, 28)), []
    for stage in net.down:
        stage[0].register_forward_hook(lambda _, args, out: sizes.append(tuple(out.shape[1:])))  # type: ignore[index]
    net(*seen(net, 1, (1, 28, 28)))
    assert sizes == [(8, 14, 14), (16, 7, 7), (24, 4, 4)]


def test_attention_and_blocks_start_as_the_identity() -> None:
    h, told = normal(2, 8, 5, 3).float(), normal(2, 6).float()
    assert torch.equal(Attention(8, heads=2)(h), h)
    assert torch.equal(Residual(8, 6)(h, told), h)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_scaled_dot_product_attention(heads: int) -> None:
    layer, h = Attention(8, heads=heads).double(), normal(2, 8, 5, 3)
    for i, parameter in enumerate(layer.parameters()):
        parameter.data = normal(*parameter.shape, seed=i)
    maps = layer.maps(layer.norm(h)).flatten(2).transpose(1, 2)  # (B, T, 3 C)
    query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in maps.chunk(3, dim=2))
    mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(h), h + layer.out(mixed.transpose(1, 2).reshape(h.shape)))


@pytest.mark.parametrize("attention", [True, False])
def test_every_pixel_bears_on_every_other(attention: bool) -> None:
    """By attention, or by the reach of the coarsest convolutions and the normalisation."""
    net = made(attention=attention)
    z, level, cond = seen(net, 1)
    jacobian = torch.autograd.functional.jacobian(lambda z: net(z, level, cond)[0], z)
    assert bool((jacobian.reshape(144, 144) != 0).all())


def test_level_and_condition_matter_and_the_hidden_condition_is_another_class() -> None:
    net = made()
    z, level, _ = seen(net, 1)
    classes = torch.cat([torch.eye(3), torch.ones(3, 1)], 1).double()  # one-hot features and the flag that they are shown
    outs = [net(z, level, cond[None]) for cond in [*classes, torch.zeros(4, dtype=torch.float64)]]
    outs.append(net(z, level + 1, classes[:1]))
    for i, a in enumerate(outs):
        assert all(float((a - b).detach().abs().max()) > 1e-3 for b in outs[:i])


def test_rows_do_not_mix() -> None:
    net = made()
    z, level, cond = seen(net)
    alone = torch.cat([net(z[i : i + 1], level[i : i + 1], cond[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(net(z, level, cond), alone)


def test_derivatives_forward_and_backward_agree() -> None:
    """w . (J v) = v . (J^T w): the divergence of a flow takes the first, training the second."""
    net = made((1, 7, 7))
    z, level, cond = seen(net, 2, (1, 7, 7))
    v, w = normal(2, 1, 7, 7, seed=3), normal(2, 1, 7, 7, seed=4)
    _, forward = torch.func.jvp(lambda z: net(z, level, cond), (z,), (v,))
    _, pull = torch.func.vjp(lambda z: net(z, level, cond), z)
    torch.testing.assert_close((w * forward).sum(), (v * pull(w)[0]).sum())


def test_every_parameter_is_learned() -> None:
    net = made()
    net(*seen(net)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_memory_format_and_bfloat16_change_rounding_alone() -> None:
    net = made((1, 14, 14)).float()
    z, level, cond = (part.float() for part in seen(net, 2, (1, 14, 14)))
    with torch.no_grad():
        out = net(z, level, cond)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(z, level, cond)
        other = net.to(memory_format=torch.channels_last)(z.contiguous(memory_format=torch.channels_last), level, cond)
    scale = float(out.std())
    torch.testing.assert_close(other, out, rtol=0, atol=1e-4 * scale)  # float32 sums in another order
    assert float((rounded - out).square().mean().sqrt()) < 0.05 * scale  # some 20 layers of 8 bits each


def test_the_mean_image_of_a_class_is_learned_from_its_label_alone() -> None:
    """Where the state is nothing but noise, what is expected of the datum is drawn place by place and class by class."""
    pictures = normal(2, 1, 8, 8, seed=5).float()
    net = made((1, 8, 8), shaken=False, cond=2, stages=2).float()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    cond, level = torch.eye(2), torch.full((2,), -8.0)
    for step in range(60):
        loss = (net(normal(2, 1, 8, 8, seed=step).float(), level, cond) - pictures).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    out = net(normal(2, 1, 8, 8, seed=100).float(), level, cond).detach()
    assert float((out - pictures).square().mean()) < 0.2 * float(pictures.var())
