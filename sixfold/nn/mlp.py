"""Multi-layer perceptrons: vectors in, vectors out, with an optional condition beside the input."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["silu", "relu", "leaky_relu", "tanh", "gelu"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


def activation(name: Activation) -> nn.Module:
    """The module of an activation's name; the leak of ``leaky_relu`` is 0.2, as critics use it."""
    return nn.LeakyReLU(0.2) if name == "leaky_relu" else _ACTIVATIONS[name]()


def concat(x: Tensor, cond: Tensor | None) -> Tensor:
    """``x`` with the features of its condition beside it, (B, D + C)."""
    return x if cond is None else torch.cat([x, cond], dim=-1)


class MLP(nn.Module):
    """Fully connected network, (B, inputs) and (B, cond) to (B, outputs).

    Args:
        inputs, outputs: sizes of the vectors.
        width: hidden units a layer; more fits finer shapes and costs quadratically.
        depth: hidden layers.
        cond: size of the condition's features, 0 for none.
        act: nonlinearity.
        zero: start with an output of zero (identity couplings, calm diffusion starts).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 128,
        depth: int = 3,
        cond: int = 0,
        act: Activation = "silu",
        zero: bool = False,
    ) -> None:
        super().__init__()
        sizes = [inputs + cond, *[width] * depth]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), activation(act)]
        last = nn.Linear(sizes[-1], outputs)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)
        self.widest = max(*sizes, outputs)

    @property
    def bias(self) -> nn.Parameter:
        """What the output starts from, (outputs,)."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        return last.bias

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        out: Tensor = self.layers(concat(x, cond))
        return out


class Fourier(nn.Module):
    """Sines and cosines of the input at geometric frequencies, (B, D) to (B, 2 * D * count).

    A network sees fine structure in low-dimensional inputs only through such features (Tancik et al., 2020,
    arXiv:2006.10739).

    Args:
        inputs: size D of the vector.
        count: frequencies a dimension; more reaches finer structure.
        lowest, highest: frequencies in radians per unit of the input.
    """

    frequencies: Tensor

    def __init__(self, inputs: int, *, count: int, lowest: float, highest: float) -> None:
        super().__init__()
        steps = torch.linspace(math.log(lowest), math.log(highest), count).exp()
        self.register_buffer("frequencies", steps)
        self.outputs = 2 * inputs * count

    def forward(self, x: Tensor) -> Tensor:
        angles = (x.unsqueeze(-1) * self.frequencies).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
