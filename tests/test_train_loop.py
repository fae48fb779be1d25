"""The loop against a loop written out by hand, and everything that it must survive or refuse."""

import io
import json
import math
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from rich.console import Console
from tiny import PLANE, Blob, Duel, plane
from torch import nn

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput, Diverged, Unsupported
from sixfold.core.model import Batch, GenerativeModel, Player, Terms
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.train.feed import Feed, mixed
from sixfold.train.loop import fit_model
from sixfold.train.mover import Mover, height
from sixfold.train.progress import Bar, Progress
from sixfold.train.recipe import Recipe

QUIET = {"validate_every": 0.0, "warmup": 0.0, "ema": 0.0, "clip": 0.0, "lr_schedule": "constant"}


def feed(split: Split, batch: int = 32, seed: int = 0, shard: tuple[int, int] = (0, 1)) -> Feed:
    return Feed(split, batch=batch, seed=seed, device=torch.device("cpu"), dtype=torch.float32, conditional=False, shard=shard)


# Batches.


def test_mixed_is_a_bijection_of_numbers():
    """Two batches of a run never share their noise: 200,000 numbers, 200,000 seeds; a random hash would collide 4.6 times."""
    assert len({mixed(7, n) for n in range(200_000)}) == 200_000


def test_an_epoch_meets_every_row_once_and_each_epoch_in_its_own_order():
    given = feed(Split(torch.arange(96.0)[:, None]))
    epochs = [torch.cat([given(3 * e + i, 0.0).x[:, 0] for i in range(3)]) for e in range(2)]
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(96))
    assert not torch.equal(*epochs)


@pytest.mark.parametrize(("rows", "batch", "size", "per_epoch"), [(99, 32, 32, 3), (20, 32, 20, 1), (1, 32, 1, 1)])
def test_every_batch_is_full_and_small_data_shrink_it(rows, batch, size, per_epoch):
    given = feed(Split(torch.randn(rows, 2)), batch)
    assert given.per_epoch == per_epoch
    assert {len(given(n, 0.0).x) for n in range(7)} == {size}


def test_shards_make_up_the_joint_batch_with_its_noise():
    split = Split(torch.randn(100, 2))
    joint, *parts = (feed(split, shard=shard)(5, 0.0) for shard in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(joint.x, torch.cat([p.x for p in parts]))
    assert torch.equal(joint.draws.normal(3), torch.cat([p.draws.normal(3) for p in parts]))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(BadInput, match="cannot be shared by 2"):
        feed(Split(torch.randn(100, 2)), 33, shard=(0, 2))


# The loop against one written by hand.


def by_hand(model: GenerativeModel, data: Dataset, steps: int, *, lr: float, decay: float, clip: float):
    """AdamW, cosine, clipping and averaging in the plainest words, for a model with players."""
    model.prepare(data.train)
    given, number = feed(data.train), 0
    movers = {name: (list(p.parameters), p) for name, p in model.players().items()}
    rules = {name: torch.optim.AdamW(own, lr=lr, weight_decay=0.0, fused=True) for name, (own, _) in movers.items()}
    means = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(steps):
        for name, (own, player) in movers.items():
            for _ in range(player.steps):
                model.zero_grad()
                model.loss(given(number, step / steps), name).loss.mean().backward()
                number += 1
                torch.nn.utils.clip_grad_norm_(own, clip)
                rules[name].param_groups[0]["lr"] = lr * player.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
                rules[name].step()
                model.after_step(name)
        d = min(decay, (2 + step) / (11 + step))
        for name, p in model.named_parameters():
            means[name] += (1 - d) * (p.detach() - means[name])
    return means


@pytest.mark.parametrize("cls", [Blob, Duel])
def test_loop_equals_one_written_by_hand(cls):
    """Players, steps, factors on lr, schedule, clipping, averaging; to float32 rounding, which 40 steps of Adam amplify."""
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(cls(PLANE))
    recipe = Recipe(steps=40, batch=32, lr=1e-2, warmup=0, ema=0.9, clip=0.5, validate_every=0)
    fit_model(models[0], plane(), recipe)
    means = by_hand(models[1], plane(), 40, lr=1e-2, decay=0.9, clip=0.5)
    for name, parameter in models[0].named_parameters():
        torch.testing.assert_close(parameter.detach(), means[name], atol=2e-5, rtol=2e-5)
    for name, buffer in models[0].named_buffers():
        assert name == "prepared" or torch.equal(buffer, dict(models[1].named_buffers())[name])


class Watched(Duel):
    """Notes after each update whose parameters have a gradient and whose have moved; each loss reaches both players."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.moved: list[tuple[str, set[str], set[str]]] = []
        self.last = {name: p.detach().clone() for name, p in self.named_parameters()}

    def after_step(self, player: str) -> None:
        now = {name: p.detach().clone() for name, p in self.named_parameters()}
        sloped = {name.partition(".")[0] for name, p in self.named_parameters() if p.grad is not None}
        moved = {name.partition(".")[0] for name in now if not torch.equal(now[name], self.last[name])}
        self.moved.append((player, sloped, moved))
        self.last = now
        self.zero_grad()


def test_a_players_loss_moves_no_other_parameters():
    model = Watched(PLANE)
    fit_model(model, plane(), Recipe(steps=5, batch=32, **QUIET))
    own = {player: (player, {player}, {player}) for player in ("critic", "generator")}
    assert model.moved == [own["critic"], own["critic"], own["generator"]] * 5


class Stages(Duel):
    """Two players in disjoint windows, as a two-stage model has them."""

    def players(self):
        critic, generator = super().players().values()
        return {"critic": replace(critic, window=(0.0, 0.25)), "generator": replace(generator, window=(0.25, 1.0))}


def test_windows_and_their_schedules():
    """Of 20 rounds the first quarter is the critic's, two updates each; every player's cosine runs over its own window."""
    model = Stages(PLANE)
    fit_model(model, plane(), Recipe(steps=20, batch=32, **QUIET))
    assert model.turns.tolist() == [10.0, 15.0]
    mover = Mover("generator", model.players()["generator"], Recipe(lr=1.0, warmup=0, steps=20), 20)
    assert [round(mover.rate(p), 6) for p in (0.25, 0.625, 1.0)] == [0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("warmup", "rounds", "expected"), [(4, 100, [0.25, 0.5, 0.75, 1.0, 1.0]), (0.02, 100, [0.5, 1.0, 1.0]), (0, 100, [1.0])]
)
def test_warmup_counts_updates_or_a_share(warmup, rounds, expected):
    mover = Mover("model", Player([nn.Parameter(torch.zeros(1))]), Recipe(lr=1.0, warmup=warmup, lr_schedule="constant"), rounds)
    for rate in expected:
        assert mover.rate(0.0) == pytest.approx(rate)
        mover.updates += 1


@pytest.mark.parametrize(("schedule", "middle", "end"), [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1.0, 1.0)])
def test_schedules_fall_to_their_floor(schedule, middle, end):
    recipe = Recipe(lr_schedule=schedule, floor=0.1)
    assert [height(recipe, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, middle, end])


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "nesterov", "rmsprop", "adamax", "adagrad", "nadam", "radam"])
def test_every_optimiser_finds_the_minimum(name):
    """A parabola's minimum at 3, where the gradient vanishes: every rule gets within 0.05 from 1.5 away."""
    where = nn.Parameter(torch.tensor([1.5]))
    lr = {"adagrad": 0.5, "sgd": 0.02, "nesterov": 0.02}.get(name, 0.05)
    mover = Mover("model", Player([where]), Recipe(optimiser=name, lr=lr, warmup=0, weight_decay=0), 400)
    for step in range(400):
        mover.differentiate((where - 3.0).square().sum())
        mover.apply([where.grad], 0.0, mover.rate(step / 400))
    assert where.item() == pytest.approx(3.0, abs=0.05)


def test_epochs_count_passes_over_the_data():
    """200 rows in batches of 32, three batches a round for the duel: 12 epochs are 75 batches, 25 rounds."""
    model = Duel(PLANE)
    assert fit_model(model, plane(), Recipe(epochs=12.0, batch=32, **QUIET)).steps == 25
    assert model.turns.tolist() == [50.0, 25.0]


def test_minutes_end_the_run_and_lead_its_progress():
    fit = fit_model(Blob(PLANE), plane(), Recipe(minutes=0.005, batch=32, log_every=1, **QUIET))
    rises = [record["players"]["model"]["rise"] for record in fit.history]
    assert 0.3 <= fit.seconds < 3.0
    assert rises == sorted(rises)
    assert rises[0] < 0.05
    assert 0.9 < rises[-1] <= 1.0


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precision(precision):
    """bfloat16, with 8 bits, stays within a few percent of the loss; float64 draws other noise from the same seed."""
    torch.manual_seed(0)
    model = Blob(PLANE)
    losses = fit_model(model, plane(), Recipe(steps=20, batch=200, lr=1e-2, precision=precision, **QUIET)).history
    assert model.dtype == {"bfloat16": torch.float32, "float64": torch.float64}[precision]
    torch.manual_seed(0)
    reference = fit_model(Blob(PLANE), plane(), Recipe(steps=20, batch=200, lr=1e-2, **QUIET)).history
    # The mean of 400 squares of a normal has a standard deviation of 7 percent: 0.25 is more than three and a half.
    tolerance = {"bfloat16": 0.02, "float64": 0.25}[precision]
    assert losses[-1]["players"]["model"]["loss"] == pytest.approx(reference[-1]["players"]["model"]["loss"], rel=tolerance)


def test_global_generator_is_given_back_and_decides_nothing():
    """Dropout draws from the global generator: the same run whatever its state, which is the same afterwards."""
    results = []
    for seed in (1, 2):
        torch.manual_seed(0)
        model = Blob(PLANE, dropout=0.5)
        before = torch.manual_seed(seed).get_state()
        fit_model(model, plane(), Recipe(steps=10, batch=32, **QUIET))
        assert torch.equal(torch.get_rng_state(), before)
        results.append(model.net[0].weight.detach().clone())
    assert torch.equal(*results)


def test_model_is_left_in_evaluation_mode_without_gradients():
    model = Blob(PLANE)
    fit_model(model, plane(), Recipe(steps=3, batch=32))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert bool(model.prepared)


def test_prepare_is_called_once():
    model, data = Blob(PLANE), plane()
    fit_model(model, data, Recipe(steps=2))
    torch.testing.assert_close(model.mean, data.train.x.mean(0))
    fit_model(model, plane(seed=1), Recipe(steps=2))
    torch.testing.assert_close(model.mean, data.train.x.mean(0))


def test_compiled_networks_are_plain_again_afterwards(monkeypatch):
    """Compilation itself is PyTorch's; that it is asked for, once for each network, and undone is ours."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda call: asked.append(call) or call)
    model = Duel(PLANE)
    fit_model(model, plane(), Recipe(steps=1, compile=True))
    assert len(asked) == 2
    assert model.critic._compiled_call_impl is None


class Hungry(Blob):
    def loss(self, batch: Batch, player: str) -> Terms:
        return Terms(torch.empty(2**60))


def test_out_of_memory_names_the_batch():
    with pytest.raises(BadInput, match="out of memory with a batch of 32"):
        fit_model(Hungry(PLANE), plane(), Recipe(steps=1, batch=32))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_run_is_the_plain_one_and_refuses_a_double_backward():
    from torch._dynamo.utils import counters

    runs = []
    for compiled in (False, True):
        counters.clear()
        torch.manual_seed(0)
        model = Blob(PLANE)
        fit_model(model, plane(), Recipe(steps=20, batch=32, compile=compiled))
        assert (counters["stats"]["unique_graphs"] > 0) == compiled
        runs.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)  # float32 sums in another order, through 20 steps of Adam
    with pytest.raises(Unsupported, match="a gradient of a gradient"):
        fit_model(Duel(PLANE), plane(), Recipe(steps=1, batch=32, compile=True))


# Validation.


class Seesaw(Blob):
    """Its criterion is least in the middle of a run, and a buffer says when that was."""

    def criterion(self, batch: Batch) -> torch.Tensor:
        assert (torch.is_grad_enabled(), self.training, batch.progress) == (False, False, 1.0)
        self.register_buffer("noise", batch.draws.normal(2), persistent=False)
        return (self.steps.float() - 22).abs().expand(len(batch.x))


def test_the_best_validation_is_kept():
    model = Seesaw(PLANE)
    fit = fit_model(model, plane(), Recipe(steps=100, batch=32, validate_every=0.1))
    assert fit.best == 2.0
    assert int(model.steps) == 20
    assert [r["step"] for r in fit.history if "valid" in r] == list(range(10, 101, 10))


def test_the_end_is_always_validated():
    fit = fit_model(Seesaw(PLANE), plane(), Recipe(steps=20, batch=32, validate_every=0.3))
    assert [r["step"] for r in fit.history if "valid" in r] == [6, 12, 18, 20]


def test_the_last_is_kept_on_request_and_patience_ends_a_run():
    model = Seesaw(PLANE)
    assert fit_model(model, plane(), Recipe(steps=100, batch=32, validate_every=0.1, keep_best=False)).best == 2.0
    assert int(model.steps) == 100
    assert fit_model(Seesaw(PLANE), plane(), Recipe(steps=100, batch=32, validate_every=0.1, patience=3)).steps == 50


def test_slow_validation_takes_little_of_a_budget_of_time():
    class Slow(Seesaw):
        def criterion(self, batch):
            time.sleep(0.1)
            return super().criterion(batch)

    recipe = Recipe(minutes=0.03, batch=32, validate_every=0.01, validate_rows=64)
    fit = fit_model(Slow(PLANE), plane(), recipe)
    found = [r["seconds"] for r in fit.history if "valid" in r]
    assert 2 <= len(found) <= 4  # of 1.8 s: one at 0.02 s, which takes 0.1 s or more, then one a second at most, and the end
    assert all(after - before >= 1.0 for before, after in pairwise(found[:-1]))


def test_validation_has_the_same_noise_every_time_and_another_seed():
    noises = []
    for seed in (0, 1):
        model = Seesaw(PLANE)
        fit_model(model, plane(), Recipe(steps=20, batch=50, seed=seed, validate_every=0.5))
        noises.append(model.noise)
    assert torch.equal(*noises)


def test_validation_is_of_the_mean_parameters_over_the_rows_asked_for():
    """The criterion of the chosen model, computed afresh on the same rows and noise, is the one that was reported."""
    torch.manual_seed(0)
    model = Blob(PLANE)
    recipe = Recipe(steps=50, batch=20, ema=0.95, validate_rows=100, validate_every=1.0)
    fit = fit_model(model, plane(), recipe)
    from sixfold.train.feed import in_order

    batches = in_order(
        plane().valid, rows=100, batch=64, device=torch.device("cpu"), dtype=torch.float32, conditional=False, shard=(0, 1)
    )
    each = torch.cat([model.criterion(batch) for batch in batches])
    assert len(each) == 100
    assert fit.best == pytest.approx(each.double().mean().item(), rel=1e-12)
    torch.manual_seed(0)
    unjudged = Blob(PLANE)
    fit_model(unjudged, plane(), replace(recipe, validate_every=0.0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), unjudged.parameters(), strict=True))


def test_a_game_has_no_criterion_and_keeps_its_mean():
    fit = fit_model(Duel(PLANE), plane(), Recipe(steps=40, batch=32))
    assert fit.best is None
    assert not [r for r in fit.history if "valid" in r]


class Forbidden(Split):
    def batch(self, *_):
        raise AssertionError("the test split was read")

    @property
    def x(self):
        raise AssertionError("the test split was read")


def test_the_test_split_is_never_read():
    data = plane()
    sealed = object.__new__(Forbidden)
    fit_model(Blob(PLANE), replace(data, test=sealed), Recipe(steps=3, batch=32))


# What it must survive or refuse.


def test_a_passing_nan_rolls_back_with_half_the_learning_rate():
    """NaN in updates 151 and 152: back to step 100 twice, and on from there to the end."""
    model = Blob(PLANE, poison=150, until=152)
    with pytest.warns(RuntimeWarning) as caught:
        fit = fit_model(model, plane(), Recipe(steps=200, batch=32, validate_every=0.0, ema=0.0))
    assert [str(w.message)[:62] for w in caught] == [
        f"went back to step 100 with half the learning rate ({n} of 3); player"[:62] for n in (1, 2)
    ]
    assert fit.roll_backs == 2
    assert fit.steps == 200
    assert int(model.steps) == 100 + 48
    assert [r["scale"] for r in fit.history if "roll_back" in r] == [0.5, 0.25]
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.filterwarnings("ignore:went back")
def test_a_lasting_nan_diverges_and_names_player_step_and_terms():
    model = Blob(PLANE, poison=5)
    with pytest.raises(Diverged, match=r"'model' at step 9: loss nan, noise \d.*, rise 0\.08.*gradient norm nan.*smaller lr"):
        fit_model(model, plane(), Recipe(steps=100, batch=32, validate_every=0.0))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


class Jumpy(Blob):
    """A gradient that is 10,000 times as large in some updates."""

    jumps = range(60, 61)

    def loss(self, batch: Batch, player: str) -> Terms:
        terms = super().loss(batch, player)
        return Terms(terms.loss * (1e4 if self.seen in self.jumps else 1.0))


@pytest.mark.filterwarnings("ignore:went back")
@pytest.mark.parametrize(("clip", "series", "expected"), [(0.0, 1, 1), (1.0, 1, 0), (1.0, 9, 0), (1.0, 10, 1)])
def test_an_exploding_gradient_rolls_back(clip, series, expected):
    """Unclipped, one throws the parameters away; clipped, it takes a series."""
    model = Jumpy(PLANE)
    model.jumps = range(60, 60 + series)
    assert fit_model(model, plane(), Recipe(steps=100, batch=32, clip=clip, validate_every=0.0)).roll_backs == expected


class Leaky(Blob):
    """Breaks a parameter behind the loss' back."""

    def after_step(self, player: str) -> None:
        super().after_step(player)
        if self.seen == 150:
            self.spare.data.fill_(math.inf)

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.spare = nn.Parameter(torch.zeros(3))


def test_a_parameter_that_is_not_finite_is_found_at_the_next_rest():
    model = Leaky(PLANE)
    with pytest.warns(RuntimeWarning, match="parameter spare is not finite after step 200"):
        fit_model(model, plane(), Recipe(steps=250, batch=32, validate_every=0.0))
    assert bool(model.spare.isfinite().all())


def broken(**changes) -> Dataset:
    return replace(plane(), **changes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (broken(train=Split(torch.tensor([[0.0, 1.0], [math.nan, 0.0]]))), r"plane \(train\) holds NaN .* first in row 1"),
        (broken(valid=Split(torch.tensor([[math.inf, 1.0]]))), r"plane \(valid\) holds NaN .* first in row 0"),
        (broken(train=Split(torch.zeros(0, 2))), "plane has no rows to train on"),
        (broken(spec=DataSpec((3,), Support("real"))), "the model is built for"),
    ],
)
def test_data_that_cannot_be_learnt_from_are_refused(data, said):
    with pytest.raises(BadInput, match=said):
        fit_model(Blob(PLANE), data, Recipe(steps=2))


def test_missing_labels_are_refused():
    spec = DataSpec((2,), Support("real"), Conditioning("classes", 3))
    with pytest.raises(BadInput, match="conditioned on classes"):
        fit_model(Blob(spec), plane(), Recipe(steps=2))


def test_no_gpu_and_no_second_process_are_said():
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="no GPU"):
            fit_model(Blob(PLANE), plane(), Recipe(steps=2, device="cuda"))
    with pytest.raises(BadInput, match="torchrun --nproc-per-node 2"):
        fit_model(Blob(PLANE), plane(), Recipe(steps=2, devices=2))


@pytest.mark.parametrize("rows", [1, 2])
def test_the_smallest_data_train(rows):
    data = plane(rows)
    fit = fit_model(Blob(PLANE), data, Recipe(steps=10, batch=32))
    assert fit.steps == 10
    assert math.isfinite(fit.best)


class Counter(Blob):
    """Fitted by ``prepare`` alone."""

    def players(self):
        return {}


def test_a_model_without_players_is_fitted_by_prepare():
    model, data = Counter(PLANE), plane()
    assert fit_model(model, data, Recipe(steps=10)).steps == 0
    torch.testing.assert_close(model.mean, data.train.x.mean(0))


# Progress and metrics.


def test_progress_is_reported_to_the_end():
    seen = []
    fit_model(Duel(PLANE), plane(), Recipe(steps=30, batch=32), on_step=seen.append)
    last = seen[-1]
    assert (last.step, last.total, last.share) == (30, 30, 1.0)
    assert set(last.losses) == {"critic", "generator"}
    assert set(last.parts["critic"]) == {"penalty"}
    assert last.speed > 0
    assert last.seconds_left == 0.0


@pytest.mark.parametrize(("terminal", "always", "drawn"), [(True, False, True), (False, False, False), (False, True, True)])
def test_the_bar_shows_model_losses_speed_and_time_left_on_a_terminal(terminal, always, drawn):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with Bar("gan/gan", console=console, always=always) as bar:
        bar(Progress(50, 200, 0.25, {"critic": 0.12345, "generator": 2.0}, speed=42.0, seconds_left=83.0, valid=1.5))
    text = console.file.getvalue()
    for part in ("gan/gan", "25%", "critic 0.1235, generator 2, valid 1.5, 42/s, 1:23 left"):
        assert (part in text) == drawn


def test_metrics_are_one_object_a_line(tmp_path):
    fit = fit_model(Blob(PLANE), plane(), Recipe(steps=60, batch=32, validate_every=0.5), folder=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == fit.history
    assert [line["step"] for line in lines if "players" in line] == [1, 20, 40, 60]
    assert [line["step"] for line in lines if "valid" in line] == [30, 60]
    assert set(lines[0]["players"]["model"]) == {"loss", "noise", "rise", "norm"}


def test_tensorboard_holds_the_losses(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit = fit_model(Blob(PLANE), plane(), Recipe(steps=40, batch=32, tensorboard=True), folder=tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("players/model/loss")
    expected = [record["players"]["model"]["loss"] for record in fit.history if "players" in record]
    assert [e.value for e in events] == pytest.approx(expected, rel=1e-6)


class Runaway(Blob):
    """Its loss itself finds, now and then, that something ran off."""

    def __init__(self, spec: DataSpec, *, bad: tuple[int, int] = (5, 6)) -> None:
        super().__init__(spec)
        self.bad = bad

    def loss(self, batch, player):
        terms = super().loss(batch, player)
        if self.training and self.bad[0] <= self.seen < self.bad[1]:
            raise Diverged("a chain left the finite numbers")
        return terms


@pytest.mark.filterwarnings("ignore:went back")
def test_a_loss_that_says_diverged_is_rolled_back_too():
    fit = fit_model(Runaway(PLANE), plane(), Recipe(steps=20, batch=32, validate_every=0.0))
    assert fit.roll_backs == 1
    with pytest.raises(Diverged, match=r"after 3 roll-backs.*a chain left the finite numbers"):
        fit_model(Runaway(PLANE, bad=(5, 10**9)), plane(), Recipe(steps=20, batch=32, validate_every=0.0))
