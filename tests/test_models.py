"""Every registered model and preset keeps the contract; see ``cases.py`` for the one line that each of them takes."""

import pytest
from cases import CASES, Case

from sixfold.core.likelihood import Exact, Kind, Lower, Numerical
from sixfold.core.registry import names
from sixfold.core.spec import DataSpec
from sixfold.testing import check_model

SUMMED: dict[type[Kind], set[str]] = {
    Exact: {"probability_sums_to_one", "samples_match_the_density"},
    Numerical: {"probability_sums_to_one", "samples_match_the_density"},
    Lower: {"bound_sums_to_at_most_one", "effort_does_not_loosen_the_bound", "samples_match_the_density"},
}


def test_every_registered_name_has_a_case():
    assert set(names(presets=True)) == {case.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_model_keeps_the_contract(case: Case):
    report = check_model(
        case.name,
        case.data,
        options=case.options,
        recipe={"steps": case.steps, "batch": case.batch, "lr": case.lr},
        unused=case.unused,
    )
    assert {*expected(case)} <= set(report.passed), {
        check: report.skipped[check] for check in expected(case) - set(report.passed)
    }


def expected(case: Case) -> set[str]:
    """Checks that its kind of likelihood must not skip where the space is small enough to be summed over."""
    if case.kind is None:
        return set()
    small = case.data in ("moons", "mixture1d") or (
        isinstance(case.data, DataSpec) and case.data.dims <= (6 if case.data.support.discrete else 2)
    )
    return {"log_prob_keeps_its_kind"} | (SUMMED.get(case.kind, set()) if small else set())
