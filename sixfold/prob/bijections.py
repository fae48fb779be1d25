"""Bijections of R^D with their log-determinants: the steps of a normalizing flow.

    z = f_n( ... f_1(x)),   log p(x) = log p_base(z) + sum_i log |det df_i/dx|

Every bijection maps batches of vectors, (B, D), both ways and returns log |det| in nats, (B,), of the way it went, so that the
two directions of one batch sum to zero. A condition is a batch of float features, (B, C), or ``None``.

Source:  affine coupling: Density estimation using Real NVP (Dinh, Sohl-Dickstein & Bengio, 2017), arXiv:1605.08803, Eq. 7-8.
         actnorm and LU mixing: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, Sections 3.1-3.2, Eq. 10-11.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Bijection(nn.Module, ABC):
    """An invertible map of R^D that knows how it changes volume."""

    @abstractmethod
    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From data to code: z, (B, D), and log |det dz/dx| in nats, (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From code to data: x, (B, D), and log |det dx/dz| in nats, (B,)."""

    def start(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Take a data-dependent start from what this step will see, (B, D). Whoever owns the bijection calls it once."""


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
        z = functional.linear(functional.linear(x, upper), lower)
        return z[:, self.order], self.log_diagonal.sum().expand(len(x))

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

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.angles = nn.Parameter(start)

    def _matrix(self) -> Tensor:
        matrix: Tensor = torch.linalg.matrix_exp(self.angles - self.angles.T)
        return matrix

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x @ self._matrix().T, x.new_zeros(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z @ self._matrix(), z.new_zeros(len(z))


class AffineCoupling(Bijection):
    """One half stays, the other is scaled and shifted by functions of it: z_b = x_b exp(s(x_a)) + t(x_a), z_a = x_a.

    log |det| = sum s. The log-scale is bounded smoothly, s = bound * tanh(raw / bound): it is the raw output near 0, has a
    gradient everywhere (unlike a clamp, behind which learning stops), and no step of the inverse can stretch by more than
    exp(bound). Unbounded scales are how deep affine flows overflow, first far out where the net extrapolates.

    Args:
        dims: D, at least 2; an odd one gives the second half the extra element.
        conditioner: makes the network from the sizes (kept, 2 * moved); called as ``net(kept, cond)``.
        flip: keep the second half and move the first.
        bound: largest log-scale of one step; more sharpens in fewer steps and is less stable.
    """

    def __init__(
        self, dims: int, conditioner: Callable[[int, int], nn.Module], *, flip: bool = False, bound: float = 2.0
    ) -> None:
        super().__init__()
        assert dims >= 2, "a coupling has two halves"
        self.cut, self.flip, self.bound = dims // 2, flip, bound
        kept = dims - self.cut if flip else self.cut
        self.net = conditioner(kept, 2 * (dims - kept))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x[:, : self.cut], x[:, self.cut :]
        return (second, first) if self.flip else (first, second)

    def _join(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat((moved, kept) if self.flip else (kept, moved), dim=1)

    def _log_scale_shift(self, kept: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = self.net(kept, cond).chunk(2, dim=1)
        return self.bound * torch.tanh(raw / self.bound), shift

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = self._split(x)
        log_scale, shift = self._log_scale_shift(kept, cond)
        return self._join(kept, moved * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = self._split(z)
        log_scale, shift = self._log_scale_shift(kept, cond)
        return self._join(kept, (moved - shift) * (-log_scale).exp()), -log_scale.sum(1)
