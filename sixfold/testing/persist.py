"""Persist: everything that a model is, is a parameter or a buffer."""

from __future__ import annotations

import copy
import itertools
import tempfile
from functools import partial
from pathlib import Path

from sixfold.core.model import GenerativeModel, HasDensity
from sixfold.testing.checks import check, expect, same, steady
from sixfold.testing.loss import players, step
from sixfold.testing.sample import differing
from sixfold.testing.subject import Subject
from sixfold.train.checkpoint import adopt, load_model, save_model


@check("persist")
def saved_model_is_the_same(s: Subject) -> None:
    """Written to a file and loaded, the model gives the same samples and log-probabilities, bit for bit."""
    model = s.trained()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(path, model)
        loaded = load_model(path)
    before, after = (steady(partial(s.samples, m, 16)) for m in (model, loaded))
    same(after, before, "samples after loading")
    if isinstance(model, HasDensity):
        before, after = (steady(partial(s.log_prob, m, *s.rows(16))).nats for m in (model, loaded))
        same(after, before, "log_prob after loading")


@check("persist")
def resumed_training_is_the_same(s: Subject) -> None:
    """A copy made of parameters and buffers alone takes the same next steps, bit for bit."""
    model = s.fresh().train()
    _advance(s, model, range(4))
    copied = s.blank().train()
    adopt(copied, copy.deepcopy(model.state_dict()), owner="a copy")
    for each in (model, copied):
        steady(partial(_advance, s, each, range(4, 8)))
    changed = differing(model.state_dict(), copied.state_dict())
    expect(not changed, f"{', '.join(changed)} differing after the resume", "the same: all state is a parameter or a buffer")


def _advance(s: Subject, model: GenerativeModel, rounds: range) -> None:
    """Rounds of training by number."""
    for number, player in itertools.product(rounds, players(model)):
        step(model, player, model.loss(s.batch(16, seed=number, start=16 * number, progress=number / 8), player).loss)
