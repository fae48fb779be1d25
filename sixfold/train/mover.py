"""What moves one player: gradients of that player's parameters alone, watched, clipped and applied."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.model import Player
from sixfold.train.recipe import Recipe

MEMORY = 100
"""Gradient norms that the running median looks back on."""

ENOUGH = 20
"""Norms that must be known before one can be called exploding, and updates between two medians."""

EXPLODING = 1000.0
"""An exploding gradient's norm is more than this many times the running median."""

IN_A_ROW = 10
"""Exploding gradients in a row that make a divergence where they are clipped; unclipped, one is enough."""


def optimiser(parameters: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's rule over these parameters, in the fused implementation where PyTorch has one."""
    betas, (momentum, smoothing) = recipe.betas, recipe.betas
    rules: dict[str, tuple[Any, dict[str, Any]]] = {
        "adamw": (torch.optim.AdamW, {"betas": betas, "fused": True}),
        "adam": (torch.optim.Adam, {"betas": betas, "fused": True}),
        "adamax": (torch.optim.Adamax, {"betas": betas}),
        "nadam": (torch.optim.NAdam, {"betas": betas}),
        "radam": (torch.optim.RAdam, {"betas": betas}),
        "adagrad": (torch.optim.Adagrad, {}),
        "rmsprop": (torch.optim.RMSprop, {"alpha": smoothing, "momentum": momentum}),
        "sgd": (torch.optim.SGD, {"momentum": momentum, "fused": True}),
        "nesterov": (torch.optim.SGD, {"momentum": momentum, "nesterov": momentum > 0.0, "fused": True}),
    }
    rule, keywords = rules[recipe.optimiser]
    made: torch.optim.Optimizer = rule(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, **keywords)
    return made


def height(recipe: Recipe, progress: float) -> float:
    """Learning rate as a share of its peak at a point of a player's window, without warm-up."""
    if recipe.lr_schedule == "constant":
        return 1.0
    fall = 1.0 - progress if recipe.lr_schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return recipe.floor + (1.0 - recipe.floor) * fall


def size(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, ()."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm


class Mover:
    """What moves one player.

    Args:
        name: of the player.
        player: its parameters, updates a round, factor on lr, and window.
        recipe: of the run.
        rounds: of the whole run, for a warm-up that is a share of them; ``None`` where only the clock knows.

    Set ``alone`` when the model has no other parameters: the backward pass need not look for its way, 3% of a small step.

    Raises:
        BadInput: for a player without parameters to move.
    """

    def __init__(self, name: str, player: Player, recipe: Recipe, rounds: int | None) -> None:
        self.name, self.player, self.recipe = name, player, recipe
        self.parameters = list(dict.fromkeys(p for p in player.parameters if p.requires_grad))
        if not self.parameters:
            raise BadInput(f"player {name!r} has no parameters to move. Leave it out of players().")
        self.optimiser = optimiser(self.parameters, recipe)
        self.alone = False
        self.updates = 0
        self.norms: deque[float] = deque(maxlen=MEMORY)
        self.usual = 0.0
        self.loud = 0
        start, stop = player.window
        self._share = recipe.warmup < 1.0 and rounds is None
        expected = (rounds or 1) * player.steps * (stop - start)
        self._warm = recipe.warmup if recipe.warmup >= 1.0 or rounds is None else recipe.warmup * expected

    def rate(self, progress: float) -> float:
        """Learning rate of the next update; schedule and warm-up run over the player's own window."""
        start, stop = self.player.window
        local = (progress - start) / (stop - start)
        risen = local if self._share else self.updates + 1
        warm = 1.0 if risen >= self._warm else risen / self._warm
        return self.recipe.lr * self.player.lr * warm * height(self.recipe, local)

    def differentiate(self, loss: Tensor) -> None:
        """Leave the loss' gradient with this player's parameters and no others; ``None`` where it does not reach."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward(inputs=None if self.alone else self.parameters)  # type: ignore[no-untyped-call]

    def apply(self, gradients: list[Tensor], norm: float, lr: float) -> None:
        """Clip the parameters' gradients, whose norm is given, and take one step of size ``lr``."""
        if 0.0 < self.recipe.clip < norm:
            torch._foreach_mul_(gradients, self.recipe.clip / norm)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.updates += 1

    def explodes(self, norm: float) -> bool:
        """Take note of a gradient's norm; true when it means divergence.

        Without clipping a single outlier throws the parameters far away. A clipped one is harmless, so only a series counts.
        """
        if self.updates % ENOUGH == 0 and len(self.norms) >= ENOUGH:
            self.usual = median(self.norms)
        self.norms.append(norm)
        self.loud = self.loud + 1 if norm > EXPLODING * self.usual > 0.0 else 0
        return self.loud >= (IN_A_ROW if self.recipe.clip else 1)

    def counters(self) -> dict[str, Any]:
        """What a resumed run needs beside the optimiser's tensors."""
        return {"updates": self.updates, "norms": list(self.norms), "usual": self.usual, "loud": self.loud}

    def recount(self, counters: dict[str, Any]) -> None:
        """Inverse of :meth:`counters`."""
        self.updates, self.usual, self.loud = counters["updates"], counters["usual"], counters["loud"]
        self.norms = deque(counters["norms"], maxlen=MEMORY)

    def tensors(self) -> dict[str, Tensor]:
        """State of the optimiser as it stands, ``0/exp_avg`` by parameter and name."""
        states = self.optimiser.state
        return {
            f"{i}/{key}": value
            for i, parameter in enumerate(self.parameters)
            for key, value in states.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def adopt(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`tensors`; copies what it is given."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor.clone()
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})
