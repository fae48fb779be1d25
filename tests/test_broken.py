"""The checks themselves: right models pass them all, and each wrong one is caught by the check that is named for its fault."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
from broken import BROKEN, POINTS, RIGHT, Affine, Broken, DeadParameter, Gaussian, Right

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.spec import DataSpec, Support
from sixfold.testing import CHECKS, CheckFailed, check_model

QUICK = {"lr": 0.05, "batch": 64, "steps": 100, "ema": 0.9}


@pytest.mark.parametrize("right", RIGHT, ids=lambda r: f"{r.model.__name__}-{r.spec.cond.kind}")
def test_right_models_pass(right: Right):
    report = check_model(right.model, right.spec, recipe=QUICK)
    assert set(report.skipped) == right.skips, report.skipped
    assert {*report.passed, *report.skipped} == set(CHECKS)


@pytest.mark.parametrize("wrong", BROKEN, ids=str)
def test_wrong_models_are_caught_by_the_check_that_is_named_for_the_fault(wrong: Broken):
    with pytest.raises(CheckFailed) as error:
        check_model(wrong.model, wrong.spec, recipe=QUICK)
    assert set(error.value.failures) == {wrong.caught} | wrong.also, error.value
    assert wrong.caught in str(error.value)
    assert "expected" in error.value.failures[wrong.caught].lower()


def test_every_check_catches_a_wrong_model():
    assert {wrong.caught for wrong in BROKEN} == set(CHECKS)


def test_every_check_says_what_it_checks():
    assert all(function.__doc__ for _, function in CHECKS.values())


# --- the function that third parties call ----------------------------------------------------------------------------------


def test_nothing_is_printed_and_the_global_generator_is_given_back():
    out, before = io.StringIO(), torch.get_rng_state()
    with redirect_stdout(out), redirect_stderr(out):
        check_model("broken:Gaussian", POINTS, recipe=QUICK)
    assert out.getvalue() == ""
    assert torch.equal(before, torch.get_rng_state())


def test_groups_and_single_checks_can_be_chosen():
    chosen = check_model(Gaussian, POINTS, groups=["refuse", "presets_build"])
    assert {*chosen.passed, *chosen.skipped} == {"presets_build", "wrong_data_are_refused", "wrong_conditions_are_refused"}
    assert chosen.skipped == {"presets_build": "the file has no presets"}
    with pytest.raises(BadInput, match="no check or group is called 'losses'"):
        check_model(Gaussian, POINTS, groups=["losses"])


def test_data_may_be_a_name_a_data_set_or_a_specification():
    assert check_model(Affine, groups=["sample"]).passed
    assert check_model(Affine, "ring8", groups=["sample"], recipe=QUICK).passed
    assert check_model(
        Affine, DataSpec((3,), Support("levels", 5)), groups=["samples_fit_the_specification"], recipe=QUICK
    ).passed


def test_parameters_may_be_declared_unused():
    assert check_model(DeadParameter, POINTS, groups=["loss"], recipe=QUICK, unused=["forgotten"]).passed


def test_a_model_that_does_not_support_the_data_says_so_at_once():
    with pytest.raises(Unsupported, match="tokens"):
        check_model(Affine, DataSpec((3,), Support("tokens", 5)))


@pytest.mark.parametrize("name", ["flow/nonsense", "nowhere:Model"])
def test_unknown_models_are_refused(name):
    with pytest.raises(BadInput):
        check_model(name)
