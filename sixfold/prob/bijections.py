"""Bijections of R^D with their log-determinants: the steps of a normalizing flow.

    z = f_n( ... f_1(x)),   log p(x) = log p_base(z) + sum_i log |det df_i/dx|

Every bijection maps batches both ways, of vectors, (B, D), or of images, (B, C, H, W), as it says, and returns log |det| in
nats, (B,), of the way it went, so that the two directions of one batch sum to zero. A condition is a batch of float features,
(B, F), or ``None``. Under autocast networks are of low precision, while what they move, and every log-determinant, is not: a
code of eight bits would be another datum's.

Source:  affine and additive coupling, squeeze, factoring out: Density estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio,
         2017), arXiv:1605.08803, Sections 3.2 and 3.6, Eq. 7-8; NICE (Dinh, Krueger & Bengio, 2015), arXiv:1410.8516.
         actnorm, LU mixing, invertible 1x1 convolution: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, Sections 3.1-3.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

MixingName = Literal["lu", "rotation", "permutation"]


class Bijection(nn.Module, ABC):
    """An invertible map of R^D that knows how it changes volume."""

    bends: bool = True
    """Whether it does more than turn, stretch, shift and reorder: an affine map bends nothing."""

    @abstractmethod
    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From data to code: z, (B, D) or (B, C, H, W), and log |det dz/dx| in nats, (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From code to data: x, (B, D) or (B, C, H, W), and log |det dx/dz| in nats, (B,)."""

    def start(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Take a data-dependent start from what this step will see. Whoever owns the bijection calls it once."""


def _full_precision(x: Tensor) -> torch.autocast:
    """Keeps a product of what the flow moves out of autocast's low precision."""
    return torch.autocast(x.device.type, enabled=False)


class Compose(Bijection):
    """Bijections one after the other, the first one next to the data; log-determinants add up."""

    def __init__(self, *parts: Bijection) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def _parts(self) -> Iterator[Bijection]:
        return cast("Iterator[Bijection]", iter(self.parts))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for part in self._parts():
            x, logdet = part(x, cond)
            total = total + logdet
        return x, total

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(len(z))
        for part in reversed(list(self._parts())):
            z, logdet = part.inverse(z, cond)
            total = total + logdet
        return z, total

    @torch.no_grad()
    def start(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Each part sees what the started parts before it make of the data."""
        for part in self._parts():
            part.start(x, cond)
            x, _ = part(x, cond)


class ActNorm(Bijection):
    """z = exp(log_scale) * (x - shift) for each element: batch statistics once, ordinary parameters ever after.

    Args:
        dims: D.
    """

    bends = False

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dims))
        self.log_scale = nn.Parameter(torch.zeros(dims))

    @torch.no_grad()
    def start(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Zero mean and unit variance for each element of ``x``; constant elements keep scale 1."""
        var, mean = torch.var_mean(x.double(), dim=0, correction=0)
        self.shift.copy_(mean)
        self.log_scale.copy_(torch.where(var > 1e-12, -0.5 * var.clamp_min(1e-12).log(), 0.0))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * (-self.log_scale).exp() + self.shift, -self.log_scale.sum().expand(len(z))


class Permutation(Bijection):
    """z_i = x_order(i), log-determinant 0.

    Args:
        order: permutation of 0..D-1, (D,).
    """

    bends = False

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z[:, self.order.argsort()], z.new_zeros(len(z))


class LU(Bijection):
    """z = P L U x, L unit lower triangular, U upper triangular: log |det| is a sum over U's diagonal (Glow, Eq. 10-11).

    The permutation P and the signs of the diagonal are fixed at the start and live in buffers; triangular solves invert it.

    Args:
        start: invertible matrix to start from, (D, D): the identity, a permutation, a rotation.
    """

    bends = False

    order: Tensor
    sign: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(start)
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("sign", upper.diagonal().sign())
        self.register_buffer("order", permutation.argmax(1))

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L and U, (D, D) each; the parameters' other halves are ignored."""
        lower = self.lower.tril(-1) + torch.eye(len(self.sign), dtype=self.sign.dtype, device=self.sign.device)
        return lower, self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        with _full_precision(x):
            z = functional.linear(x, (lower @ upper)[self.order])
        return z, self.log_diagonal.sum().expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        columns = z[:, self.order.argsort()].T
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, columns, upper=True).T, -self.log_diagonal.sum().expand(len(z))


class Rotation(Bijection):
    """z = exp(A - A^T) x, orthogonal whatever A is: log-determinant 0 and an inverse that loses no digits.

    Args:
        start: A to start from, (D, D); zeros are the identity, independent normal numbers a random rotation.
    """

    bends = False

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.angles = nn.Parameter(start)

    def _matrix(self) -> Tensor:
        matrix: Tensor = torch.linalg.matrix_exp(self.angles - self.angles.T)
        return matrix

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with _full_precision(x):
            return x @ self._matrix().T, x.new_zeros(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with _full_precision(z):
            return z @ self._matrix(), z.new_zeros(len(z))


def mixing_for(name: MixingName, dims: int) -> Bijection:
    """A linear map of ``dims`` elements that starts as a random rotation or permutation, so that halves meet at once.

    Args:
        name: lu, any invertible matrix; rotation, any orthogonal one; permutation, a fixed one.
        dims: D.
    """
    if name == "permutation":
        return Permutation(torch.randperm(dims))
    start = torch.randn(dims, dims)
    return Rotation(start) if name == "rotation" else LU(torch.linalg.qr(start)[0])


class AffineCoupling(Bijection):
    """One half stays, the other is scaled and shifted by functions of it: z_b = x_b exp(s(x_a)) + t(x_a), z_a = x_a.

    log |det| = sum s. The log-scale is bounded smoothly, s = bound * tanh(raw / bound): it is the raw output near 0, has a
    gradient everywhere (unlike a clamp, behind which learning stops), and no step of the inverse can stretch by more than
    exp(bound). Unbounded scales are how deep affine flows overflow, first far out where the net extrapolates.

    Args:
        dims: elements of a vector or channels of an image, at least 2; an odd number gives the second half the extra one.
        conditioner: makes the network from the sizes (kept, 2 * moved), or (kept, moved) of an additive coupling; it is called
            as ``net(kept, cond)``.
        flip: keep the second half and move the first.
        bound: largest log-scale of one step; more sharpens in fewer steps and is less stable.
        additive: shift only, s = 0: the step keeps volume.
    """

    def __init__(
        self,
        dims: int,
        conditioner: Callable[[int, int], nn.Module],
        *,
        flip: bool = False,
        bound: float = 2.0,
        additive: bool = False,
    ) -> None:
        super().__init__()
        assert dims >= 2, "a coupling has two halves"
        self.cut, self.flip, self.bound, self.additive = dims // 2, flip, bound, additive
        kept = dims - self.cut if flip else self.cut
        self.net = conditioner(kept, (1 if additive else 2) * (dims - kept))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x[:, : self.cut], x[:, self.cut :]
        return (second, first) if self.flip else (first, second)

    def _join(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat((moved, kept) if self.flip else (kept, moved), dim=1)

    def _log_scale_shift(self, kept: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        out = self.net(kept, cond).to(kept.dtype)  # before anything is added up: the network may be of low precision
        return (torch.zeros_like(out), out) if self.additive else _bounded(out, self.bound)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = self._split(x)
        log_scale, shift = self._log_scale_shift(kept, cond)
        return self._join(kept, moved * log_scale.exp() + shift), log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = self._split(z)
        log_scale, shift = self._log_scale_shift(kept, cond)
        return self._join(kept, (moved - shift) * (-log_scale).exp()), -log_scale.flatten(1).sum(1)


def _bounded(out: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Log-scale and shift of a network's output: halves of its second axis, the first bounded smoothly."""
    raw, shift = out.chunk(2, dim=1)
    return bound * torch.tanh(raw / bound), shift


class Conditional(Bijection):
    """z = x exp(s(cond)) + t(cond) for each element, s and t linear: each condition has a normal of its own. Starts as z = x.

    Args:
        dims: D.
        cond: features of the condition, F.
        bound: largest log-scale.
    """

    bends = False

    def __init__(self, dims: int, cond: int, *, bound: float = 2.0) -> None:
        super().__init__()
        self.bound = bound
        self.weight = nn.Parameter(torch.zeros(2 * dims, cond))

    def _log_scale_shift(self, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        assert cond is not None, "a conditional step needs its condition"
        with _full_precision(cond):
            return _bounded(functional.linear(cond, self.weight), self.bound)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale_shift(cond)
        return x * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale_shift(cond)
        return (z - shift) * (-log_scale).exp(), -log_scale.sum(1)


class Reshape(Bijection):
    """The same elements in another shape, log-determinant 0: (B, *before) to (B, *after).

    Args:
        before, after: shapes without the batch.
    """

    bends = False

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.reshape(len(x), *self.after), x.new_zeros(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.reshape(len(z), *self.before), z.new_zeros(len(z))


class Squeeze(Bijection):
    """Each 2 x 2 block of pixels becomes four channels of one, log-determinant 0: (B, C, H, W) to (B, 4 C, H / 2, W / 2)."""

    bends = False

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # PyTorch's pixel_unshuffle gives a batch of no images another shape.
        num, channels, height, width = x.shape
        blocks = x.reshape(num, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return blocks.reshape(num, 4 * channels, height // 2, width // 2), x.new_zeros(num)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        num, channels, height, width = z.shape
        blocks = z.reshape(num, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(num, channels // 4, 2 * height, 2 * width), z.new_zeros(num)


class PerPixel(Bijection):
    """One bijection of C elements for the channels of every pixel: with :class:`LU`, the invertible 1x1 convolution.

    Log-determinants add up over pixels: H W log |det| (Glow, Eq. 9). With :class:`ActNorm` the start pools all pixels.

    Args:
        channels: the bijection, of vectors of C elements; it sees no condition.
    """

    def __init__(self, channels: Bijection) -> None:
        super().__init__()
        self.channels, self.bends = channels, channels.bends

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return _at_each_pixel(self.channels, x)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return _at_each_pixel(self.channels.inverse, z)

    def start(self, x: Tensor, cond: Tensor | None = None) -> None:
        self.channels.start(x.movedim(1, -1).flatten(0, 2))


def _at_each_pixel(way: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
    """Channels of each pixel go one way of a bijection, (B, C, H, W); log-determinants, (B,)."""
    num, channels, height, width = x.shape
    rows, logdet = way(x.movedim(1, -1).flatten(0, 2))
    return rows.reshape(num, height, width, channels).movedim(-1, 1), logdet.reshape(num, height * width).sum(1)


class FactorOut(Bijection):
    """The second half of the channels is code already, the first half goes on: z = (rest(x_a), x_b), (B, C, H, W) to (B, D).

    After a coupling that keeps x_a the code's second part is x_b seen through its normal given x_a, the split's learned prior.

    Args:
        shape: of an image, (C, H, W); an odd C gives the second half the extra channel.
        rest: of images of the first half to vectors.
    """

    def __init__(self, shape: tuple[int, int, int], rest: Bijection) -> None:
        super().__init__()
        channels, height, width = shape
        self.cut, self.done, self.rest = channels // 2, (channels - channels // 2, height, width), rest

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, logdet = self.rest(x[:, : self.cut], cond)
        return torch.cat([z, x[:, self.cut :].flatten(1)], dim=1), logdet

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        channels, height, width = self.done
        rest, done = z.tensor_split([z.shape[1] - channels * height * width], dim=1)
        x, logdet = self.rest.inverse(rest, cond)
        return torch.cat([x, done.reshape(len(z), *self.done)], dim=1), logdet

    def start(self, x: Tensor, cond: Tensor | None = None) -> None:
        self.rest.start(x[:, : self.cut], cond)
