"""Spectral normalisation: every linear and convolutional layer of a network divided by its largest singular value.

    W_used = W / sigma(W),     sigma(W) = u' W v,     u and v by one step of power iteration in each forward pass of training

A network of such layers and of activations with a slope of at most one changes by at most as much as its input, times what
convolutions gain from overlapping patches.

Source:  Spectral normalization for generative adversarial networks (Miyato, Kataoka, Koyama & Yoshida, 2018),
         arXiv:1802.05957, Algorithm 1.
Differs: none; a convolution's matrix is its kernel as (outputs, inputs * height * width), as there.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

Network = TypeVar("Network", bound=nn.Module)


def spectral(network: Network) -> Network:
    """The same network with normalised weights; its parameters are the weights before, its buffers u and v."""
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            spectral_norm(module)
    return network
