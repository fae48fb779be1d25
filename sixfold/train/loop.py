"""The one loop: every model is a game of one or more players, and a round is one turn of each.

    for each active player, for each of its steps:  minimise the mean of loss(batch, player) over that player's parameters

Gradients are taken with respect to that player's parameters alone, so that a player's loss moves no others by construction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from sixfold.core.dataset import Dataset
from sixfold.core.model import GenerativeModel, Terms
from sixfold.train.average import Average
from sixfold.train.feed import Feed
from sixfold.train.mover import Mover, size
from sixfold.train.recipe import Recipe


@dataclass(frozen=True)
class Fit:
    """What a training run leaves beside the model.

    Args:
        steps: rounds that were played.
        seconds: of training.
        history: what was logged, as in ``metrics.jsonl``.
        best: the least validation criterion per datum, where the model has one.
    """

    steps: int
    seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None


def fit_model(model: GenerativeModel, data: Dataset, recipe: Recipe) -> Fit:
    """Train a model in place and leave it with the chosen parameters, in evaluation mode."""
    started = time.monotonic()
    train, valid = data.train, data.valid
    if not bool(model.prepared):
        model.prepare(train)
        model.prepared.fill_(True)
    model.train()
    feed = Feed(train, batch=recipe.batch, seed=recipe.seed, device=model.device, dtype=model.dtype,
                conditional=model.spec.cond.kind != "none")
    players = model.players()
    per_round = sum(p.steps * (p.window[1] - p.window[0]) for p in players.values())
    total = recipe.steps
    if recipe.epochs is not None:
        total = max(1, round(recipe.epochs * len(train) / feed.joint / per_round))
    movers = [Mover(name, p, recipe, None if total is None else round(total * p.steps * (p.window[1] - p.window[0])))
              for name, p in players.items()]
    average = Average(model, recipe.ema)
    valid_feed = None
    if recipe.validate_every and len(valid):
        rows = min(len(valid), recipe.validate_rows)
        valid_feed = Feed(valid, batch=rows, seed=12345, device=model.device, dtype=model.dtype,
                          conditional=model.spec.cond.kind != "none")
    history: list[dict[str, Any]] = []
    best, kept = None, None
    done = count = 0
    next_valid = recipe.validate_every
    while movers:
        progress = done / total if total else (time.monotonic() - started) / (60 * recipe.minutes)
        if progress >= 1:
            break
        for mover in movers:
            if not mover.player.active(progress):
                continue
            for _ in range(mover.player.steps):
                terms: Terms = model.loss(feed(count, progress), mover.name)
                count += 1
                loss = terms.loss.mean()
                gradients = mover.gradients(loss)
                norm = size(gradients)
                mover.apply(gradients, norm, mover.rate(progress))
                model.after_step(mover.name)
            if done % recipe.log_every == 0:
                history.append({"step": done, "player": mover.name, "loss": float(loss), "norm": norm,
                                **{k: float(v.float().mean()) for k, v in terms.parts.items()}})
        done += 1
        average.update(done)
        if valid_feed and (progress + 1 / (total or 1e9) >= next_valid):
            next_valid += recipe.validate_every
            model.eval()
            with average.inside(), torch.no_grad():
                score = model.criterion(valid_feed(0, 1.0))
                if score is not None:
                    value = float(score.mean())
                    history.append({"step": done, "valid": value})
                    if recipe.keep_best and (best is None or value < best):
                        best, kept = value, {k: v.clone() for k, v in model.state_dict().items()}
            model.train()
    if recipe.ema:
        average.swap()
    if kept:
        model.load_state_dict(kept)
    model.zero_grad(set_to_none=True)
    model.eval()
    return Fit(done, time.monotonic() - started, history, best)
