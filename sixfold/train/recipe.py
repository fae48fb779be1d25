"""How a model is trained: budget, optimiser, schedule, averaging, validation and saving, in one flat record.

A model file's ``RECIPE`` overrides these defaults, a preset overrides the file's, the user overrides both. This module knows
nothing of torch, so that the command line can show every option at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from sixfold.core.errors import BadInput, suggest
from sixfold.core.registry import BUDGETS, layered
from sixfold.core.signature import Count, Natural, NonNegative, Positive, Share, options, validate

Optimiser: TypeAlias = Literal["adamw", "adam", "sgd", "nesterov", "rmsprop", "adamax", "adagrad", "nadam", "radam"]
Schedule: TypeAlias = Literal["cosine", "linear", "constant"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float64"]

DEFAULT_STEPS = 2000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Args:
        steps: budget in rounds; in each one every active player makes its updates. 2000 when no budget is given.
        epochs: budget in passes over the training data, in place of steps.
        minutes: budget in minutes of training, in place of steps; a slower machine gets fewer updates.
        batch: data in each update, over all devices together; more makes gradients less noisy and steps slower.
        lr: learning rate at its peak; more learns faster until it diverges.
        optimiser: rule that turns gradients into updates.
        betas: decay of the running means of the gradient (momentum) and of its square; more smooths over more updates.
        weight_decay: pull of the parameters towards zero (decoupled for adamw); more regularises.
        warmup: linear rise of lr over this share of the run, or over this many updates when at least 1; more starts gentler.
        lr_schedule: how lr falls from its peak over the run.
        floor: share of the peak that lr falls to at the end.
        clip: largest norm of one player's gradient, scaled down to it beyond; 0 never clips.
        ema: decay of the running mean of the parameters that is validated, kept and sampled; more averages longer; 0 is off.
        precision: of the arithmetic; bfloat16 runs the loss under autocast and keeps parameters in float32.
        validate_every: share of the run between two validations; 0 never validates. Of a budget of minutes they take a tenth at
            most, and come less often where they take long.
        validate_rows: validation data that are used, the first ones; more makes the choice surer and slower.
        keep_best: keep the parameters with the best validation rather than the last ones, where the model has a criterion.
        patience: validations without a new best before training stops early; 0 never stops early.
        seed: of the order of data and of all noise in training.
        save_every: minutes between two checkpoints of a run with a folder; 0 saves at the end only.
        log_every: steps between two lines of metrics.
        tensorboard: also write TensorBoard files into the run's folder.
        device: where to train; auto takes a GPU when there is one.
        devices: processes that share each batch, one device each.
        compile: compile the networks first: up to a minute of start for faster steps of large ones, slower for small ones.
    """

    steps: Count | None = None
    epochs: Positive | None = None
    minutes: Positive | None = None
    batch: Count = 256
    lr: Positive = 1e-3
    optimiser: Optimiser = "adamw"
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NonNegative = 0.0
    warmup: NonNegative = 0.02
    lr_schedule: Schedule = "cosine"
    floor: Share = 0.0
    clip: NonNegative = 1.0
    ema: Share = 0.999
    precision: Precision = "float32"
    validate_every: Share = 0.05
    validate_rows: Count = 2000
    keep_best: bool = True
    patience: Natural = 0
    seed: Natural = 0
    save_every: NonNegative = 5.0
    log_every: Count = 20
    tensorboard: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Count = 1
    compile: bool = False

    def __post_init__(self) -> None:
        for name, value in validate(Recipe.__init__, vars(self), owner="recipe").items():
            object.__setattr__(self, name, value)
        infinite = [name for name, value in vars(self).items() if isinstance(value, float) and not math.isfinite(value)]
        if infinite:
            raise BadInput(f"{infinite[0]}: expected a finite number; got {getattr(self, infinite[0])} (recipe).")
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise BadInput(f"a recipe has one budget; got {' and '.join(given)}. Keep one of them.")
        if not given:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
        if self.ema == 1.0:
            raise BadInput("ema: a decay of 1 never leaves the first parameters; expected less than 1. Try 0.999.")

    @classmethod
    def of(cls, *layers: Mapping[str, Any]) -> Recipe:
        """The recipe of several layers of overrides, later ones winning; a later budget replaces an earlier one.

        Raises:
            BadInput: for an unknown name, with the nearest known one, or a value out of range.

        Example:
            >>> Recipe.of({"steps": 500, "lr": 2e-3}, {"minutes": 1.0}).steps is None
            True
        """
        for layer in layers:
            _check_names(layer)
        return cls(**layered(*layers))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints and run folders; ``Recipe.of`` reads them back."""
        return asdict(self)


def _check_names(layer: Mapping[str, Any]) -> None:
    known = [o.name for o in options(Recipe.__init__)]
    unknown = sorted(set(layer) - set(known))
    if unknown:
        raise BadInput(f"a recipe has no {unknown[0]!r}. {suggest(unknown[0], known)}")
