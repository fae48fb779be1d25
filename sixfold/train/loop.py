"""The one loop: every model is a game of one or more players, and a round is one turn of each.

    for each active player, for each of its steps:  minimise the mean of loss(batch, player) over that player's parameters

Gradients are taken with respect to that player's parameters alone, so that a player's loss moves no others by construction.
Batches and noise are functions of the seed and a counter, and everything else that training needs is in the checkpoint: a run
that was killed goes on to bitwise the same parameters on the CPU.

A loss, gradient or parameter that is not finite, or a gradient that explodes, takes the run back to its last good state with
half the learning rate; the batches are not seen again. After a few times the run ends as diverged.
"""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput, Diverged
from sixfold.core.model import Batch, GenerativeModel, Terms
from sixfold.train import checkpoint, start
from sixfold.train.average import Average
from sixfold.train.feed import Feed, in_order, mixed
from sixfold.train.journal import Journal
from sixfold.train.mover import EXPLODING, Mover, size
from sixfold.train.progress import Progress
from sixfold.train.recipe import Recipe
from sixfold.train.state import State
from sixfold.train.stop import Interrupted, Stop, locked
from sixfold.train.team import Team, join

REST = 100
"""Rounds between two good states: parameters are checked, remembered to roll back to, and saved when it is time."""

ROLL_BACKS = 3
"""How often a run may go back to a good state before it counts as diverged."""

LEAST = 64
"""Validation rows at a time, unless the batch is larger; the same for any number of processes, as is their noise."""

GLANCE = 0.1
"""Least seconds between two calls of ``on_step``."""

SPARE = 10
"""Of a budget of time, training gets so many times what validation takes, but for the first and the last one."""

OnStep = Callable[[Progress], None]


@dataclass(frozen=True)
class Fit:
    """What a training run leaves beside the model.

    Args:
        steps: rounds that were played.
        seconds: of training, over all processes that it took.
        history: what was logged, as in ``metrics.jsonl``.
        best: least validation criterion per datum, where the model has one.
        roll_backs: how often the run went back to a good state.
    """

    steps: int
    seconds: float
    history: list[dict[str, Any]]
    best: float | None
    roll_backs: int


@dataclass
class _Counters:
    """Where a run stands, apart from its tensors.

    Args:
        rounds: played so far.
        good: of them, those that the last good state holds.
        batches: taken so far by all players; also the number of the next batch.
        seconds: of training so far.
        validations: so far.
        validated: seconds at the last of them.
        spared: seconds before which a budget of time affords no further one.
        judged: whether the model has a criterion to validate by, as far as is known.
        best: least criterion so far.
        stale: validations since then.
        roll_backs: so far.
        scale: of the learning rate, halved by each of them.
    """

    rounds: int = 0
    good: int = 0
    batches: int = 0
    seconds: float = 0.0
    validations: int = 0
    validated: float = 0.0
    spared: float = 0.0
    judged: bool = True
    best: float | None = None
    stale: int = 0
    roll_backs: int = 0
    scale: float = 1.0


class _TroubleError(Exception):
    """A state that must not be gone on from; the message says what and where."""


def fit_model(
    model: GenerativeModel,
    data: Dataset,
    recipe: Recipe,
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    on_step: OnStep | None = None,
) -> Fit:
    """Train a model in place and leave it with the chosen parameters, in evaluation mode.

    Chosen are those of the best validation where the model has a criterion (and the recipe keeps the best), else the mean of
    the parameters, else the last ones. The test split is never read.

    Args:
        model: to train; ``prepare`` is called once if it has not been.
        data: of the model's spec.
        recipe: how.
        folder: where the run writes ``metrics.jsonl`` and its checkpoint; ``None`` writes nothing.
        resume: go on from the folder's checkpoint; from the start when nothing has been saved yet.
        on_step: called with the run's progress, at most ten times a second and at the end.

    Raises:
        BadInput: data that do not fit the model or hold NaN, a folder in use, a disk that does not take the last checkpoint.
        Unsupported: a loss that couples the batch, on several processes; a gradient's gradient, compiled.
        Diverged: after the last roll-back, naming player, step and terms.
        Interrupted: after SIGINT or SIGTERM with a folder, when the run has been saved.
    """
    folder = None if folder is None else Path(folder)
    device = start.device_of(recipe)
    team = join(recipe.devices, cuda=device.type == "cuda")
    start.check(model, data, team)
    with ExitStack() as stack:
        if folder is not None and team.leads:
            stack.enter_context(locked(folder))
        found = start.found_in(folder, resume=resume)
        # Dropout and the like draw from PyTorch's global generator: it is lent to the run and given back untouched.
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.enter_context(start.explained(recipe))
        stack.enter_context(start.compiled(model, wanted=recipe.compile))
        run = _Run(model, data, recipe, team, device, found)
        stack.callback(run.choose)
        run.journal = Journal(folder if team.leads else None, after=run.at.rounds, tensorboard=recipe.tensorboard)
        stack.callback(run.journal.close)
        stop = stack.enter_context(Stop(insist=team.world == 1)) if folder is not None else Stop()
        run.play(folder, stop, on_step if team.leads else None)
    return Fit(run.at.rounds, run.at.seconds, run.journal.records, run.at.best, run.at.roll_backs)


class _Run:
    """A run in progress."""

    def __init__(
        self,
        model: GenerativeModel,
        data: Dataset,
        recipe: Recipe,
        team: Team,
        device: torch.device,
        found: checkpoint.Checkpoint | None,
    ) -> None:
        self.model, self.data, self.recipe, self.team, self.device = model, data, recipe, team, device
        self.dtype, self.conditional = start.dtype_of(recipe), model.spec.cond.kind != "none"
        self.feed = Feed(
            data.train, batch=recipe.batch, seed=recipe.seed, device=device, dtype=self.dtype,
            conditional=self.conditional, shard=(team.rank, team.world),
        )  # fmt: skip
        self.at, self.journal, self.stopping = _Counters(), Journal(None), False
        self.best: dict[str, Tensor] = {}
        self.losses: dict[str, float] = {}
        self.norms: dict[str, float] = {}
        self.parts: dict[str, dict[str, float]] = {}
        self._place(found)
        self._cast(found)
        self.began, self.glanced = time.monotonic(), 0.0
        self.before, self.first, self.saved = self.at.seconds, self.at.rounds, self.at.seconds
        self.share = self._share()
        self.valid: float | None = None

    # Before the first step.

    def _place(self, found: checkpoint.Checkpoint | None) -> None:
        """Put the model where it trains, in the checkpoint's state or the one that ``prepare`` makes of the data."""
        self.model.to(self.device, self.dtype).train()
        self.about = start.about(self.model, self.data, self.recipe)
        if found is not None:
            start.compare({what: found.header[what] for what in self.about}, self.about)
            checkpoint.adopt(self.model, checkpoint.group(found.tensors, "model"), owner="checkpoint")
        elif not bool(self.model.prepared):
            self._seed(-1)
            self.model.prepare(self.data.train)
            self.model.prepared.fill_(True)
        self.team.spread(self.model.state_dict().values())

    def _cast(self, found: checkpoint.Checkpoint | None) -> None:
        """Set up the players and what follows from them, in the checkpoint's state if there is one."""
        players = self.model.players()
        self.total = self._rounds(sum(p.steps * (p.window[1] - p.window[0]) for p in players.values()))
        movers = [Mover(name, player, self.recipe, self.total) for name, player in players.items()]
        for mover in movers:
            mover.alone = {*mover.parameters} >= {p for p in self.model.parameters() if p.requires_grad}
        self.state = State(self.model, Average(self.model, self.recipe.ema), movers)
        older: dict[str, Tensor] = {}
        if found is not None:
            self.state.restore(found.tensors)
            self.best, older = checkpoint.group(found.tensors, "best"), checkpoint.group(found.tensors, "good")
            self.at = _Counters(**found.header["counters"])
            for mover in movers:
                mover.recount(found.header["players"][mover.name])
        self.good = older or self.state.copy()

    def _rounds(self, updates: float) -> int | None:
        """Rounds that the budget allows when each takes that many updates; ``None`` when the clock decides."""
        if not updates:
            return 0
        if self.recipe.epochs is not None:
            return max(1, round(self.recipe.epochs * len(self.data.train) / self.feed.joint / updates))
        return self.recipe.steps

    def _seed(self, number: int) -> None:
        """Seed the borrowed global generator for one batch, differently in each process."""
        cuda = self.device.type == "cuda"
        generator = torch.cuda.default_generators[torch.cuda.current_device()] if cuda else torch.default_generator
        generator.manual_seed(mixed(self.recipe.seed + 2, number * self.team.world + self.team.rank))

    # The run.

    def play(self, folder: Path | None, stop: Stop, on_step: OnStep | None) -> None:
        """Rounds until the budget is spent, validation stops getting better, or a signal asks for a stop."""
        while not self._over():
            self._round(stop)
            self._rest(folder)
            over = self._over()
            if on_step and (over or self.at.seconds - self.glanced >= GLANCE):
                self.glanced = self.at.seconds
                on_step(self._progress())
            if self.stopping and folder is not None and not over:
                self._save(folder)
                self.team.wait()
                raise Interrupted(folder, stop.asked or signal.SIGTERM, self.at.rounds)
        if folder is not None and self.saved < self.at.seconds:
            self._save(folder)
        self.team.wait()

    def _share(self) -> float:
        """Of the budget that is spent, in [0, 1]."""
        if self.total is None:
            assert self.recipe.minutes is not None
            return min(self.at.seconds / (60.0 * self.recipe.minutes), 1.0)
        return min(self.at.rounds / self.total, 1.0) if self.total else 1.0

    def _over(self) -> bool:
        return self._share() >= 1.0 or 0 < self.recipe.patience <= self.at.stale

    def _round(self, stop: Stop) -> None:
        """One turn of every player who is active."""
        share = self._share()
        self.losses, self.parts = {}, {} if self._logging(self.at.rounds + 1) else self.parts
        try:
            for mover in self.state.movers:
                if mover.player.active(share):
                    for _ in range(mover.player.steps):
                        self._update(mover, share, stop)
        except _TroubleError as trouble:
            self._roll_back(str(trouble))
        except Diverged as trouble:  # found inside a loss, as chains that ran off; other processes would not know of it
            if self.team.world > 1:
                raise
            self._roll_back(f"step {self.at.rounds + 1}: {trouble}")
        self.at.rounds += 1
        self.state.average.update(self.at.rounds)
        if self.team.world == 1:
            self.at.seconds = self._clock()
            self.stopping = stop.asked is not None

    def _clock(self) -> float:
        return self.before + time.monotonic() - self.began

    def _update(self, mover: Mover, share: float, stop: Stop) -> None:
        """One update of one player."""
        number = self.at.batches
        self.at.batches += 1
        self._seed(number)
        with self._arithmetic():
            terms = self.model.loss(self.feed(number, share), mover.name)
        loss = terms.loss.to(self.dtype).mean()
        mover.differentiate(loss)
        if self.team.world > 1:
            loss = self._agree(mover, loss, stop)
        gradients = [p.grad for p in mover.parameters if p.grad is not None]
        norm = size(gradients).item() if gradients else 0.0
        self._judge(mover, loss.item(), norm, terms)
        mover.apply(gradients, norm, self.at.scale * mover.rate(share))
        self.model.after_step(mover.name)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        """Where the loss is computed in the recipe's precision."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.precision == "bfloat16" else nullcontext()

    def _agree(self, mover: Mover, loss: Tensor, stop: Stop) -> Tensor:
        """Loss and gradients of the joint batch, the same in every process; so are the clock and the wish to stop."""
        extras = torch.stack([loss.detach(), loss.new_tensor(self._clock()), loss.new_tensor(float(stop.asked is not None))])
        loss, seconds, asked = self.team.average(mover.parameters, extras)
        self.at.seconds, self.stopping = seconds.item(), asked.item() > 0.0
        return loss

    def _judge(self, mover: Mover, loss: float, norm: float, terms: Terms) -> None:
        """Take note of an update that is about to happen, and prevent it when it would do harm."""
        self.losses[mover.name], self.norms[mover.name] = loss, norm
        if self._logging(self.at.rounds + 1):
            self.parts[mover.name] = self._means(terms)
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite and not mover.explodes(norm):
            return
        what = f"gradient norm {norm:.3g}" + (f" over {EXPLODING:.0f} times its median {mover.usual:.3g}" if finite else "")
        said = ", ".join([f"loss {loss:.4g}", *(f"{name} {value:.4g}" for name, value in self._means(terms).items()), what])
        raise _TroubleError(f"player {mover.name!r} at step {self.at.rounds + 1}: {said}")

    def _means(self, terms: Terms) -> dict[str, float]:
        """Mean of each named part over the joint batch."""
        own = [part.double().mean().item() for part in terms.parts.values()]
        return {name: value / self.team.world for name, value in zip(terms.parts, self.team.total(*own), strict=True)}

    def _roll_back(self, trouble: str) -> None:
        """Return to the last good state with half the learning rate, or end as diverged."""
        self.state.restore(self.good)
        if self.at.roll_backs == ROLL_BACKS:
            advice = f"Try a smaller lr than {self.recipe.lr:g}, more warmup, or clip"
            raise Diverged(f"diverged after {ROLL_BACKS} roll-backs, each with half the learning rate; {trouble}. {advice}.")
        self.at.roll_backs += 1
        self.at.scale /= 2.0
        for mover in self.state.movers:
            mover.loud = 0
        self.journal.add({"step": self.at.rounds + 1, "roll_back": self.at.roll_backs, "scale": self.at.scale, "why": trouble})
        if self.team.leads:
            again = f"went back to step {self.at.good} with half the learning rate ({self.at.roll_backs} of {ROLL_BACKS})"
            warnings.warn(f"{again}; {trouble}", RuntimeWarning, stacklevel=2)

    # Between rounds.

    def _rest(self, folder: Path | None) -> None:
        """Log, validate, and remember and save a good state, each when it is due."""
        over, rounds = self._over(), self.at.rounds
        if self.at.spared < self.at.validated:  # the first round since a validation, which tells what that took
            self.at.spared = self.at.validated + SPARE * (self.at.seconds - self.at.validated)
        if self._logging(rounds):
            self._log()
        validating, resting = self._validating(over=over), rounds % REST == 0 or over
        if validating or resting:
            self._heal()
        if validating:
            self._validate()
        if resting:
            self.good, self.at.good = self.state.copy(), rounds
            if folder is not None and not over and 0.0 < 60.0 * self.recipe.save_every <= self.at.seconds - self.saved:
                self._try_to_save(folder)

    def _logging(self, rounds: int) -> bool:
        return rounds % self.recipe.log_every == 0 or rounds in (1, self.total)

    def _log(self) -> None:
        players = {
            name: {"loss": loss, **self.parts.get(name, {}), "norm": self.norms[name]} for name, loss in self.losses.items()
        }
        share = self._share()
        rates = {mover.name: self.at.scale * mover.rate(share) for mover in self.state.movers}
        self.journal.add({"step": self.at.rounds, "seconds": self.at.seconds, "share": share, "lr": rates, "players": players})

    def _heal(self) -> None:
        """Roll back from parameters that are not finite."""
        sick = self.state.sick()
        if sick:
            self._roll_back(f"parameter {sick} is not finite after step {self.at.rounds}")

    def _validating(self, *, over: bool) -> bool:
        every = self.recipe.validate_every
        if not every or not self.at.judged or not len(self.data.valid):
            return False
        affordable = self.total is not None or self.at.seconds >= self.at.spared
        return over or (affordable and math.floor(self._share() / every + 1e-9) > self.at.validations)

    @torch.no_grad()
    def _validate(self) -> None:
        """Criterion of the averaged parameters on fixed rows with fixed noise; the best ones are kept."""
        self.at.validations = math.floor(self._share() / self.recipe.validate_every + 1e-9)
        self.at.validated = self.at.seconds
        self.model.eval()
        with self.state.average.inside():
            value = self._criterion()
            better = value is not None and math.isfinite(value) and (self.at.best is None or value < self.at.best)
            if better and self.recipe.keep_best:
                self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.train()
        self.at.judged = value is not None
        self.at.best, self.at.stale = (value, 0) if better else (self.at.best, self.at.stale + 1)
        if value is not None:
            self.valid = value
            self.journal.add({"step": self.at.rounds, "seconds": self.at.seconds, "valid": value, "best": better})

    def _criterion(self) -> float | None:
        """Mean over the validation rows of all processes; ``None`` without a criterion."""
        shard = self.team.rank, self.team.world
        batches = in_order(
            self.data.valid, rows=self.recipe.validate_rows, batch=max(self.feed.joint, LEAST), device=self.device,
            dtype=self.dtype, conditional=self.conditional, shard=shard,
        )  # fmt: skip
        sums = [self._judged(batch) for batch in batches]
        total, count = self.team.total(sum(s for s, _ in sums), sum(n for _, n in sums))
        return total / count if count else None

    def _judged(self, batch: Batch) -> tuple[float, int]:
        """Sum and number of the criterion in one batch."""
        with self._arithmetic():
            each = self.model.criterion(batch)
        return (0.0, 0) if each is None else (each.double().sum().item(), len(each))

    def _progress(self) -> Progress:
        share, seconds = self._share(), self.at.seconds - self.before
        gained = share - self.share
        left = seconds / gained * (1.0 - share) if gained > 0.0 else 0.0
        speed = (self.at.rounds - self.first) / seconds if seconds > 0.0 else 0.0
        return Progress(self.at.rounds, self.total, share, dict(self.losses), dict(self.parts), speed, left, self.valid)

    # Saving and ending.

    def _try_to_save(self, folder: Path) -> None:
        """A disk that is full now may have room at the next rest: a warning, and training goes on."""
        try:
            self._save(folder)
        except BadInput as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)

    def _save(self, folder: Path) -> None:
        """Write the checkpoint, from the first process."""
        if self.team.leads:
            tensors = self.state.tensors() | {f"best/{name}": tensor for name, tensor in self.best.items()}
            if self.at.good != self.at.rounds:
                tensors |= {f"good/{name}": tensor for name, tensor in self.good.items()}
            players = {mover.name: mover.counters() for mover in self.state.movers}
            chosen = "best" if self.best else "ema" if self.recipe.ema else "model"
            header = {**self.about, "counters": asdict(self.at), "players": players, "chosen": chosen}
            checkpoint.write(checkpoint.located(folder), tensors, header)
        self.saved = self.at.seconds

    def choose(self) -> None:
        """Leave the model with its chosen parameters, ready to sample."""
        if self.best:
            checkpoint.adopt(self.model, self.best, owner="best")
        elif self.recipe.ema:
            self.state.average.swap()
        self.model.zero_grad(set_to_none=True)
        self.model.eval()
