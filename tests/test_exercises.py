"""The exercises of the course: a right answer passes, a wrong one is caught by the fact that it breaks."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from sixfold.core.errors import BadInput
from sixfold.testing.exercises import EXERCISES, check_answer

STAGES = [import_module(f"answers.{p.stem}") for p in sorted((Path(__file__).parent / "answers").glob("[a-z]*.py"))]
RIGHT = {name: answer for stage in STAGES for name, answer in stage.RIGHT.items()}
WRONG = [wrong for stage in STAGES for wrong in stage.WRONG]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_right_answer_passes(exercise):
    marked = check_answer(exercise, RIGHT[exercise])
    assert marked.right, str(marked)
    assert set(marked.held) == set(EXERCISES[exercise])
    assert str(marked).startswith(f"{exercise}: right\n")


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_answer_is_caught_by_the_fact_that_it_breaks(wrong):
    marked = check_answer(wrong.exercise, wrong.answer)
    assert not marked.right
    assert set(marked.failed) == wrong.caught, str(marked)
    assert all(text in str(marked) for text in marked.failed.values())


def test_every_fact_catches_a_wrong_answer():
    assert {(w.exercise, name) for w in WRONG for name in w.caught} == {(e, n) for e, facts in EXERCISES.items() for n in facts}


def test_every_fact_is_a_sentence():
    assert all(function.__doc__ for facts in EXERCISES.values() for function in facts.values())


def test_an_unknown_exercise_is_refused():
    with pytest.raises(BadInput, match=r"no exercise is called 'langevin steps'\. Perhaps you meant 'langevin step'"):
        check_answer("langevin steps", RIGHT["langevin step"])


def test_the_global_generator_is_given_back():
    before = torch.get_rng_state()
    check_answer("langevin step", RIGHT["langevin step"])
    assert torch.equal(before, torch.get_rng_state())
