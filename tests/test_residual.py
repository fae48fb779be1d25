"""Residual convolutions: shapes for every size, an identity at the start, pixels where they belong."""

import math

import pytest
import torch

from sixfold.nn.residual import ConvDecoder, ConvEncoder, Residual

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 7, 13), (1, 1, 5), (1, 2, 2)]


def scrambled(net):
    for i, p in enumerate(net.double().parameters()):
        torch.nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(i))
    return net


@pytest.mark.parametrize("cond", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sizes_go_down_and_come_back(shape, cond):
    encoder = ConvEncoder(shape, 2, 6, width=4, depth=1, cond=cond)
    decoder = ConvDecoder(shape, 6, 5, width=4, depth=1, cond=cond)
    given = torch.randn(3, cond) if cond else None
    z = encoder(torch.randn(3, 2 * math.prod(shape)), given)
    assert z.shape == (3, 6)
    out = decoder(z, given)
    assert out.shape == (3, 5 * math.prod(shape))
    assert decoder.bias.shape == out.shape[1:]
    assert decoder.widest >= out[0].numel()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_pixel_counts_and_is_drawn(shape):
    """Each number of the image moves the code, and the code moves each number of the image."""
    encoder, decoder = (
        scrambled(net) for net in (ConvEncoder(shape, 2, 6, width=4, depth=1), ConvDecoder(shape, 6, 5, width=4, depth=1))
    )
    x = torch.randn(1, 2 * math.prod(shape), dtype=torch.float64, requires_grad=True)
    (seen,) = torch.autograd.grad(encoder(x).square().sum(), x)
    assert bool((seen != 0).all())
    z = torch.randn(6, dtype=torch.float64)
    drawn = torch.func.jacfwd(lambda code: decoder(code[None])[0])(z)
    assert bool((drawn != 0).any(1).all())


def test_numbers_of_an_element_are_neighbours_and_patches_are_in_place():
    """A decoder whose last layer alone is not zero: output e of sub-pixel (i, j) of channel c is where the layout says."""
    shape, outputs = (2, 5, 6), 3
    decoder = ConvDecoder(shape, 4, outputs, width=4, depth=0).double()
    torch.nn.init.zeros_(decoder.grow.weight)
    torch.nn.init.constant_(decoder.grow.bias, 1.0)
    numbers = torch.arange(4.0 * 2 * outputs, dtype=torch.float64)  # of (c, e, i, j), the last fastest
    decoder.patches.weight.data.copy_(numbers[:, None, None, None].expand(-1, 4, 1, 1) / 4 / torch.ones(1).sigmoid())
    out = decoder(torch.zeros(1, 4, dtype=torch.float64)).reshape(2, 5, 6, outputs)
    for c, row, column, e in ((0, 0, 0, 0), (1, 4, 5, 2), (1, 2, 3, 1), (0, 3, 2, 2)):
        expected = ((c * outputs + e) * 2 + row % 2) * 2 + column % 2
        assert float(out[c, row, column, e].detach()) == pytest.approx(expected, abs=1e-5)  # silu(1) in float32


def test_a_residual_block_starts_as_the_identity_and_leaves_it():
    block, h = Residual(3), torch.randn(2, 3, 5, 5)
    assert torch.equal(block(h), h)
    loss = (block(h) - torch.randn(2, 3, 5, 5)).square().sum()
    (gradient,) = torch.autograd.grad(loss, block.second.weight)
    assert bool((gradient != 0).all())


def test_images_do_not_see_each_other():
    encoder = scrambled(ConvEncoder((1, 8, 8), 1, 4, width=4, depth=2))
    x = torch.randn(5, 64, dtype=torch.float64)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), rtol=1e-10, atol=1e-10)
