"""One player's optimiser: gradients of that player's parameters alone, clipped, watched and applied."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor

from sixfold.core.model import Player
from sixfold.train.recipe import Recipe

MEMORY = 100
"""Gradient norms that the running median looks back on."""

ENOUGH = 20
"""Norms that must be known before one can be called exploding."""

EXPLODING = 1000.0
"""An exploding gradient's norm is more than this many times the running median."""

IN_A_ROW = 10
"""Exploding gradients in a row that make a divergence when they are clipped; unclipped, one is enough."""


def optimiser(parameters: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's rule over these parameters, the fused implementation where PyTorch has one."""
    lr, betas, decay, (momentum, smoothing) = recipe.lr, recipe.betas, recipe.weight_decay, recipe.betas
    optim: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
        "adamw": (torch.optim.AdamW, {"betas": betas, "fused": True}),
        "adam": (torch.optim.Adam, {"betas": betas, "fused": True}),
        "adamax": (torch.optim.Adamax, {"betas": betas, "foreach": True}),
        "nadam": (torch.optim.NAdam, {"betas": betas, "foreach": True}),
        "radam": (torch.optim.RAdam, {"betas": betas, "foreach": True}),
        "adagrad": (torch.optim.Adagrad, {"fused": parameters[0].device.type == "cpu"}),
        "rmsprop": (torch.optim.RMSprop, {"alpha": smoothing, "momentum": momentum, "foreach": True}),
        "sgd": (torch.optim.SGD, {"momentum": momentum, "fused": True}),
        "nesterov": (torch.optim.SGD, {"momentum": momentum, "nesterov": momentum > 0, "fused": True}),
    }
    rule, keywords = optim[recipe.optimiser]
    return rule(parameters, lr=lr, weight_decay=decay, **keywords)  # type: ignore[call-arg]


def height(recipe: Recipe, progress: float) -> float:
    """Share of the peak learning rate at a point of a player's window, without warm-up."""
    falls = {"constant": 1.0, "linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress))}
    return recipe.floor + (1.0 - recipe.floor) * falls[recipe.schedule]


class Mover:
    """What moves one player.

    Args:
        name: of the player.
        player: its parameters, updates a round, factor on lr, and window.
        recipe: of the run.
        updates: how many the whole run is expected to hold, for a warm-up that is a share of them; ``None`` when unknown.
    """

    def __init__(self, name: str, player: Player, recipe: Recipe, updates: int | None) -> None:
        self.name, self.player, self.recipe = name, player, recipe
        self.parameters = list(dict.fromkeys(p for p in player.parameters if p.requires_grad))
        self.optimiser = optimiser(self.parameters, recipe)
        self.updates = 0
        self.norms: deque[float] = deque(maxlen=MEMORY)
        self.loud = 0
        self._warm = recipe.warmup if recipe.warmup >= 1 or updates is None else recipe.warmup * updates
        self._usual = math.inf

    def rate(self, progress: float) -> float:
        """Learning rate of the next update at a point of the run: schedule and warm-up run over the player's own window."""
        start, stop = self.player.window
        local = min(max((progress - start) / (stop - start), 0.0), 1.0)
        known = self._warm >= 1 or self._warm == 0
        risen = (self.updates + 1) / self._warm if self._warm >= 1 else 1.0 if known else local / self._warm
        return self.recipe.lr * self.player.lr * min(1.0, risen) * height(self.recipe, local)

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Gradient of each of this player's parameters and of no others'; ``None`` where the loss does not reach."""
        return list(torch.autograd.grad(loss, self.parameters, allow_unused=True))

    def apply(self, gradients: list[Tensor | None], norm: float, lr: float) -> None:
        """Clip to the recipe's norm and take one step of size ``lr``."""
        reached = [g for g in gradients if g is not None]
        if 0.0 < self.recipe.clip < norm:
            torch._foreach_mul_(reached, self.recipe.clip / norm)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.updates += 1

    def explodes(self, norm: float) -> bool:
        """Take note of a gradient's norm; true when it is a divergence rather than an outlier."""
        if self.updates % ENOUGH == 0 and len(self.norms) >= ENOUGH:
            self._usual = median(self.norms)
        self.norms.append(norm)
        self.loud = self.loud + 1 if norm > EXPLODING * self._usual > 0.0 else 0
        return self.loud >= (IN_A_ROW if self.recipe.clip else 1)


def size(gradients: list[Tensor | None]) -> float:
    """Euclidean norm of all gradients together."""
    reached = [g for g in gradients if g is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(reached)))) if reached else 0.0
