"""Grey values as probabilities of black and white.

    b ~ Bernoulli(x / (k - 1))    for x in 0 .. k - 1

Dynamic: drawn anew for every batch, which is data without end and guards against overfitting. Static: drawn once, the same for
everybody who uses the seed. Likelihoods of the two are not of the same data.

Source:  static: On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008), Section 6.
         dynamic: Importance weighted autoencoders (Burda, Grosse & Salakhutdinov, 2016), arXiv:1509.00519, Section 5.
Differs: static binarisation follows a seed of our own, not the file that Larochelle and Murray distribute.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sixfold.core.draws import Draws

ROWS = 4096  # binarised at once, which bounds the memory of the random numbers


def binarise(x: Tensor, draws: Draws, *, levels: int) -> Tensor:
    """Zeros and ones, (B, *shape) in uint8, drawn with the grey values as probabilities.

    Args:
        x: grey values in 0 .. levels - 1, (B, *shape).
        draws: randomness of the batch.
        levels: number of grey values; the highest is always one, zero is always zero.
    """
    return (draws.uniform(*x.shape[1:]) * (levels - 1) < x).to(torch.uint8)


def binarise_once(x: Tensor, *, levels: int, seed: int) -> Tensor:
    """All rows binarised with the randomness of ``seed``, whatever their number."""
    generator = torch.Generator().manual_seed(seed)
    parts = [binarise(part, Draws(len(part), generator=generator), levels=levels) for part in torch.split(x, ROWS)]
    return torch.cat(parts)
