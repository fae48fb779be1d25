"""The algebra of kinds: what a sum, a difference and a comparison of log-probabilities are, and what is refused."""

import itertools
import math
import operator

import pytest
import torch

from sixfold.core.errors import BadInput, NotComparable, Unsupported
from sixfold.core.likelihood import (
    LEBESGUE,
    Estimate,
    Exact,
    LogProb,
    Lower,
    MeanLogProb,
    Measure,
    Numerical,
    Unnormalised,
    Upper,
    verdict,
)

KINDS = (Exact, Lower, Upper, Numerical, Estimate, Unnormalised)


def lp(kind, nats=(-1.0, -2.0, -4.0), **fields):
    """Log-probabilities of that kind; the bias and scope that a kind needs are filled in."""
    fields = {"bias": "unknown" if kind is Estimate else "none", "scope": "m" if kind is Unnormalised else "", **fields}
    return LogProb(torch.tensor(nats), kind, kind.__name__.lower(), fields.pop("dims", 2), **fields)


# Rows and columns: Exact, Lower, Upper, Numerical, eStimate, unnormalised (Z); a dash is refused.
SUM = """
    E L U N S Z
    L L - S S -
    U - U S S -
    N S S N S Z
    S S S S S -
    Z - - Z - Z"""
# Subtracting turns a bound round; log Z cancels only against itself.
DIFFERENCE = """
    E U L N S -
    L - L S S -
    U U - S S -
    N S S N S -
    S S S S S -
    - - - - - E"""
LETTERS = dict(zip("ELUNSZ-", (*KINDS, None), strict=True))
OPERATIONS = {"sum": operator.add, "difference": operator.sub}
CASES = [
    (name, a, b, LETTERS[letter])
    for name, table in (("sum", SUM), ("difference", DIFFERENCE))
    for (a, b), letter in zip(itertools.product(KINDS, KINDS), table.split(), strict=True)
]


def named(case):
    return case.__name__ if isinstance(case, type) else str(case)


@pytest.mark.parametrize(("name", "a", "b", "kind"), CASES, ids=named)
def test_kind_of_sums_and_differences(name, a, b, kind):
    p, q = lp(a), lp(b, nats=(-1.0, -1.0, -1.0))
    if kind is None:
        with pytest.raises(NotComparable):
            OPERATIONS[name](p, q)
        return
    result = OPERATIONS[name](p, q)
    assert result.kind is kind
    assert result.nats.tolist() == ([-2.0, -3.0, -5.0] if name == "sum" else [0.0, -1.0, -3.0])
    assert result.dims == (4 if name == "sum" else 2)  # a sum joins two parts of a datum, a difference compares on one
    assert bool(result.scope) is (kind is Unnormalised)


SLACK = {Exact: 0.0, Lower: -1.0, Upper: 1.0}


@pytest.mark.parametrize(
    ("name", "a", "b", "kind"), [c for c in CASES if c[1] in SLACK and c[2] in SLACK and c[3] is not None], ids=named
)
def test_what_claims_to_bound_the_truth_bounds_it(name, a, b, kind):
    """Whatever the truths and slacks. No statistics: it holds always, up to float32 rounding of numbers of order one."""
    p, q, loose_p, loose_q = torch.rand(4, 1000, generator=torch.Generator().manual_seed(0)).unbind()
    got = OPERATIONS[name](lp(a, (p + SLACK[a] * loose_p).tolist()), lp(b, (q + SLACK[b] * loose_q).tolist()))
    gap = got.nats - OPERATIONS[name](p, q)
    if issubclass(kind, Lower):
        assert float(gap.max()) <= 1e-6
    if issubclass(kind, Upper):
        assert float(gap.min()) >= -1e-6


@pytest.mark.parametrize(
    ("a", "b", "total", "difference"),
    [
        ("none", "none", "none", "none"),
        ("none", "low", "low", "high"),
        ("low", "none", "low", "low"),
        ("low", "low", "low", "unknown"),
        ("low", "high", "unknown", "low"),
        ("high", "high", "high", "unknown"),
        ("unknown", "none", "unknown", "unknown"),
    ],
)
def test_bias_of_estimates(a, b, total, difference):
    p, q = lp(Estimate, bias=a), lp(Estimate, bias=b)
    assert (p + q).bias == total
    assert (p - q).bias == difference


@pytest.mark.parametrize(
    ("kind", "total", "difference"),
    [(Exact, "none", "none"), (Numerical, "none", "none"), (Lower, "low", "high"), (Upper, "high", "low")],
)
def test_a_bound_biases_the_estimate_it_joins(kind, total, difference):
    unbiased = lp(Estimate, bias="none")
    assert (unbiased + lp(kind)).bias == total
    assert (lp(kind) + unbiased).bias == total
    assert (unbiased - lp(kind)).bias == difference


def test_the_tolerance_of_a_mean_is_the_mean_of_the_tolerances():
    found = lp(Numerical, tolerance=torch.tensor([0.1, 0.2, 0.6]))
    assert found.tolerances.tolist() == pytest.approx([0.1, 0.2, 0.6])
    assert found.mean().tolerance == pytest.approx(0.3)
    assert (found - lp(Numerical, tolerance=0.1)).tolerances.tolist() == pytest.approx([0.2, 0.3, 0.7])


def test_errors_add_in_squares_and_tolerances_in_full():
    p = lp(Estimate, stderr=torch.tensor([3.0, 0.0, 1.0]))
    q = lp(Estimate, stderr=torch.tensor([4.0, 2.0, 0.0]))
    assert (p + q).stderr.tolist() == [5.0, 2.0, 1.0]
    assert (p - q).stderr.tolist() == [5.0, 2.0, 1.0]
    assert (p + lp(Exact)).stderr.tolist() == [3.0, 0.0, 1.0]
    assert (lp(Numerical, tolerance=0.25) - lp(Numerical, tolerance=0.5)).tolerance == 0.75


def test_log_z_cancels_within_one_model_alone():
    assert (lp(Unnormalised) - lp(Unnormalised)).kind is Exact
    assert (lp(Unnormalised, tolerance=0.1) - lp(Unnormalised)).kind is Numerical
    for a, b in (
        (lp(Unnormalised, scope="a"), lp(Unnormalised, scope="b")),
        (lp(Unnormalised, scope=""), lp(Unnormalised, scope="")),
    ):
        with pytest.raises(NotComparable, match="within one model"):
            a - b
    joint = lp(Unnormalised, scope="a", dims=1) + lp(Unnormalised, scope="b", dims=1)
    with pytest.raises(NotComparable):
        joint - lp(Unnormalised, scope="a")  # log Z of b would be left over
    assert (joint - joint).kind is Exact


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"dims": 3}, "2 dims, Lebesgue against 3 dims"), ({"measure": Measure(4)}, "counting over 4 levels")],
)
def test_numbers_of_different_data_are_not_subtracted(fields, says):
    with pytest.raises(NotComparable, match=says):
        lp(Exact) - lp(Exact, **fields)
    with pytest.raises(NotComparable, match=says):
        verdict(lp(Exact).mean(), lp(Exact, **fields).mean())


def test_parts_with_different_measures_have_no_sum():
    with pytest.raises(NotComparable, match="Lebesgue and counting over 4 levels"):
        lp(Exact) + lp(Exact, measure=Measure(4))


def test_different_numbers_of_data_do_not_combine():
    with pytest.raises(BadInput, match="of 3 and 1 data"):
        lp(Exact) + lp(Exact, (-1.0,))


def test_log_probabilities_are_one_per_datum():
    with pytest.raises(BadInput, match=r"got \(3, 1\)"):
        LogProb(torch.zeros(3, 1), Exact, "m", 2)


# --- means and bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_means_carry_kind_and_standard_error(kind):
    mean = lp(kind, tolerance=0.5).mean()
    values = [-1.0, -2.0, -4.0]
    centre = sum(values) / 3
    spread = math.sqrt(sum((v - centre) ** 2 for v in values) / 2) / math.sqrt(3)
    assert mean.value == pytest.approx(centre, rel=1e-12)
    assert mean.stderr == pytest.approx(spread, rel=1e-12)
    assert (mean.count, mean.kind, mean.tolerance, mean.nll) == (3, kind, 0.5, -mean.value)
    assert mean.interval(2.0) == pytest.approx((centre - 2 * spread - 0.5, centre + 2 * spread + 0.5))


def test_the_mean_of_many_floats_does_not_drift():
    # Naive float32 accumulation of 2^20 numbers near 1000 loses digits; the mean of equal numbers is that number.
    assert lp(Exact, (-1000.1,) * 2**20).mean().value == pytest.approx(float(torch.tensor(-1000.1)), rel=1e-12)


def test_one_datum_has_no_standard_error_and_decides_nothing():
    one, other = lp(Exact, (-1.0,)).mean(), lp(Exact, (-9.0,)).mean()
    assert math.isnan(one.stderr)
    assert one.interval() == (-math.inf, math.inf)
    assert verdict(one, other).relation == "undecided"


def test_no_datum_has_no_mean():
    with pytest.raises(BadInput, match="no log-probabilities"):
        lp(Exact, ()).mean()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_guess_costs_log2_of_the_levels(levels):
    """P(x) = levels^-D costs log2(levels) bits a dimension, whatever D."""
    p = lp(Exact, (-5 * math.log(levels),) * 2, dims=5, measure=Measure(levels))
    assert p.bits_per_dim().tolist() == pytest.approx([math.log2(levels)] * 2, rel=1e-6)
    assert p.mean().bits_per_dim == pytest.approx(math.log2(levels), rel=1e-6)


def test_standard_error_of_bits_scales_like_the_bits():
    p = lp(Exact, dims=3, measure=Measure(4)).mean()
    assert p.bits_stderr / p.stderr == pytest.approx(abs(p.bits_per_dim / p.value), rel=1e-12)


@pytest.mark.parametrize(("kind", "measure"), [(Exact, LEBESGUE), (Unnormalised, Measure(4))])
def test_no_bits_of_a_density_or_an_unnormalised_number(kind, measure):
    p = lp(kind, measure=measure)
    for ask in (p.bits_per_dim, lambda: p.mean().bits_per_dim, lambda: p.mean().bits_stderr):
        with pytest.raises(Unsupported, match="bits per dimension"):
            ask()


@pytest.mark.parametrize(
    ("kind", "symbol"),
    [(Exact, "="), (Lower, ">="), (Upper, "<="), (Numerical, "≈"), (Estimate, "~"), (Unnormalised, "∝")],
    ids=named,
)
def test_printing_shows_the_kind(kind, symbol):
    text = str(lp(kind))
    assert text == str(lp(kind).mean()) == f"{symbol} -2.333 ± 0.882 nats ({kind.__name__.lower()})"


# --- verdicts ------------------------------------------------------------------------------------------------------------


def mean(kind, value, stderr=0.01, **fields):
    fields = {"bias": "unknown" if kind is Estimate else "none", "scope": "m" if kind is Unnormalised else "", **fields}
    return MeanLogProb(value, stderr, 100, kind, "m", 2, **fields)


FLIP = {"higher": "lower", "lower": "higher", "undecided": "undecided", "not implied": "not implied"}


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        (mean(Exact, -1), mean(Exact, -2), "higher"),
        (mean(Exact, -1.0), mean(Exact, -1.01), "undecided"),
        (mean(Exact, -1), mean(Upper, -2), "higher"),  # the other's ceiling lies below
        (mean(Exact, -2), mean(Upper, -1), "not implied"),
        (mean(Lower, -1), mean(Exact, -2), "higher"),
        (mean(Lower, -2), mean(Exact, -1), "not implied"),  # the truth behind the bound may be higher
        (mean(Lower, -1), mean(Lower, -2), "not implied"),
        (mean(Upper, -1), mean(Upper, -2), "not implied"),
        (mean(Lower, -1), mean(Upper, -2), "higher"),
        (mean(Lower, -2), mean(Upper, -1), "not implied"),
        (mean(Numerical, -1), mean(Numerical, -2), "higher"),
        (mean(Numerical, -1, tolerance=0.6), mean(Numerical, -2, tolerance=0.6), "undecided"),
        (mean(Numerical, -1), mean(Exact, -2), "higher"),
        (mean(Numerical, -1), mean(Lower, -2), "not implied"),
        (mean(Estimate, -1), mean(Estimate, -2), "not implied"),
        (mean(Estimate, -1, bias="none"), mean(Estimate, -2, bias="none"), "higher"),
        (mean(Estimate, -1, bias="low"), mean(Exact, -2), "higher"),
        (mean(Estimate, -1, bias="high"), mean(Exact, -2), "not implied"),
        (mean(Exact, -1), mean(Estimate, -2, bias="high"), "higher"),
        (mean(Exact, -1), mean(Estimate, -2, bias="low"), "not implied"),
        (mean(Unnormalised, -1), mean(Unnormalised, -2), "higher"),
        (mean(Exact, -1, stderr=1.0), mean(Exact, -2, stderr=1.0), "undecided"),
    ],
)
def test_verdicts_say_what_the_kinds_imply_and_mirror(a, b, relation):
    assert verdict(a, b).relation == relation
    assert verdict(b, a).relation == FLIP[relation]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (mean(Unnormalised, -1, scope="a"), mean(Unnormalised, -2, scope="b")),
        (mean(Unnormalised, -1, scope=""), mean(Unnormalised, -2, scope="")),
        (mean(Unnormalised, -1), mean(Exact, -2)),
        (mean(Lower, -1), mean(Unnormalised, -2)),
    ],
)
def test_unnormalised_numbers_of_two_models_are_refused(a, b):
    with pytest.raises(NotComparable, match="within one model"):
        verdict(a, b)
