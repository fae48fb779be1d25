"""Loss: one number per datum, a function of the batch and its draws; each player moves its own parameters and no others."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from sixfold.core.model import Batch, GenerativeModel, Terms
from sixfold.testing.checks import SkippedError, check, expect, same, steady, untouched
from sixfold.testing.subject import Subject


def _loss(model: GenerativeModel, batch: Batch, player: str) -> Terms:
    """The loss of a copy, since a loss may move buffers (chains, running means)."""
    twin: GenerativeModel = copy.deepcopy(model).train()
    return twin.loss(batch, player)


def players(model: GenerativeModel) -> Iterator[str]:
    """Names of the players; a check of them is skipped where there are none."""
    if not model.players():
        raise SkippedError("no player: the model is fitted by prepare alone")
    yield from model.players()


@check("loss")
def loss_is_finite_for_each_datum(s: Subject) -> None:
    """(B,), floating and finite for each player, at the start, middle and end of the run; parts are (B,) or scalars."""
    model = s.fresh()
    for player, progress in itertools.product(players(model), (0.0, 0.5, 1.0)):
        terms = _loss(model, s.batch(16, progress=progress), player)
        for name, value in {"loss": terms.loss, **terms.parts}.items():
            where = f"{name} of player {player!r} at progress {progress}"
            fits = value.shape == (16,) or (name != "loss" and value.ndim == 0)
            expect(fits and value.is_floating_point(), f"{where} as {value.dtype} {tuple(value.shape)}", "floats of shape (16,)")
            expect(bool(torch.isfinite(value).all()), f"{where} that is not finite", "finite numbers")


@check("loss")
def criterion_is_finite_for_each_datum(s: Subject) -> None:
    """What validation minimises is (B,) and finite, without gradient."""
    value = s.fresh().eval().criterion(s.batch(16, progress=1.0))
    if value is None:
        raise SkippedError("the model has no criterion")
    expect(value.shape == (16,), tuple(value.shape), (16,))
    expect(not value.requires_grad, "a gradient", "none, it is for validation")
    expect(bool(torch.isfinite(value).all()), value, "finite numbers")


@check("loss")
def loss_repeats_for_the_same_draws(s: Subject) -> None:
    """The same batch with the same draws gives the same loss, bit for bit."""
    model = s.fresh()
    for player in players(model):
        first, second = (steady(partial(_loss, model, s.batch(16), player)).loss for _ in range(2))
        same(first, second, f"the loss of {player!r} taken twice")


@check("loss")
def loss_leaves_the_global_generator_alone(s: Subject) -> None:
    """A loss draws from its batch; then it does not depend on how many processes share the batch or on what ran before."""
    model = s.fresh()
    for player in players(model):
        untouched(partial(_loss, model, s.batch(16), player), f"the loss of {player!r}")


@check("loss")
def loss_is_the_same_in_shares(s: Subject) -> None:
    """Two halves, each with its share of the joint draws, give the losses of the joint batch, to 1e-4 (float32, other shapes)."""
    model = s.fresh()
    if model.couples_batch:
        raise SkippedError("the loss couples the batch, as the model declares")
    for player in players(model):
        whole, *parts = s.batch(16), s.batch(8, shard=(0, 2)), s.batch(8, shard=(1, 2))
        joint, *halves = (steady(partial(_loss, model, batch, player)).loss for batch in (whole, *parts))
        same(
            torch.cat(halves),
            joint,
            f"the loss of {player!r} in two shares (a loss that couples its data says couples_batch)",
            to=1e-4,
        )


@check("loss")
def every_parameter_learns(s: Subject) -> None:
    """After a short training each parameter has a gradient of a player that owns it, in one of three batches."""
    model = s.trained().train()
    names = {p: n for n, p in model.named_parameters() if p.requires_grad and n not in s.unused}
    for player, seed in itertools.product(players(model), (1, 2, 3)):
        own = [p for p in model.players()[player].parameters if p.requires_grad]
        start, stop = model.players()[player].window
        loss = model.loss(s.batch(64, seed=seed, start=64 * seed, progress=(start + stop) / 2), player).loss
        gradients = torch.autograd.grad(loss.mean(), own, allow_unused=True)
        for p, gradient in zip(own, gradients, strict=True):
            if gradient is not None and bool((gradient != 0).any()):
                names.pop(p, None)
    expect(not names, f"no gradient for {', '.join(names.values())}", "one for every parameter (or requires_grad=False)")


@check("loss")
def each_player_moves_its_own_parameters_alone(s: Subject) -> None:
    """A loss moves nothing; a step and ``after_step`` of one player leave the parameters of the others as they were."""
    for player in players(s.fresh()):
        model = s.fresh().train()
        own = {id(p) for p in model.players()[player].parameters}
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        loss = model.loss(s.batch(16), player).loss
        moved = _moved(model, before)
        expect(not moved, f"the loss of {player!r} moving {', '.join(moved)}", "a loss that moves no parameter")
        step(model, player, loss)
        moved = [n for n in _moved(model, before) if n in _theirs(model, own)]
        expect(not moved, f"{player!r} moving {', '.join(moved)}", "parameters of its own")


def _moved(model: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    return [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]


def _theirs(model: GenerativeModel, own: set[int]) -> set[str]:
    """Names of the parameters that other players move and this one does not."""
    others = {id(p) for player in model.players().values() for p in player.parameters} - own
    return {n for n, p in model.named_parameters() if id(p) in others}


def step(model: GenerativeModel, player: str, loss: Tensor) -> None:
    """One small step of plain gradient descent, and what follows it."""
    own = [p for p in model.players()[player].parameters if p.requires_grad]
    gradients = torch.autograd.grad(loss.mean(), own, allow_unused=True)
    with torch.no_grad():
        for p, gradient in zip(own, gradients, strict=True):
            if gradient is not None:
                p.sub_(gradient, alpha=1e-3)
    model.after_step(player)


@check("loss")
def batch_stays_as_it_was(s: Subject) -> None:
    """A loss does not write into the data or conditions that it is given."""
    model = s.fresh()
    for player in players(model):
        batch = s.batch(16)
        _loss(model, batch, player)
        for now, was in zip((batch.x, batch.cond), s.rows(16), strict=True):
            if now is not None and was is not None:
                same(now, was, f"a batch that {player!r} has seen")
