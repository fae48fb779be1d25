"""What scores say about each other: intervals over seeds that hold what they say, and metrics that are tried on references."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from sixfold.compare.judge import across, better, contrast, distrust, excludes_zero
from sixfold.compare.meaning import BLURRED, COPIES, DROPPED, GAUSSIAN, MEANINGS, REAL, meaning
from sixfold.compare.record import Record
from sixfold.evaluate.score import PARTS, Score, difference, known, mean_score


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scored(mean: float, seed: int, *, num: int = 400, shared: torch.Tensor | None = None) -> Score:
    """Mean of noisy data; what is ``shared`` between models is added to each datum."""
    own = torch.randn(num, generator=generator(seed), dtype=torch.float64) + mean
    return mean_score(own if shared is None else own + shared)


def test_one_seed_is_its_own_score_and_a_plain_paired_difference():
    a, b = scored(0.0, 1), scored(0.0, 2)
    assert across([a]) is a
    pair, plain = contrast([a], [b]), difference(a, b)
    assert (pair.value, pair.low, pair.high) == pytest.approx((plain.value, plain.low, plain.high), rel=1e-12)


def test_what_models_share_cancels():
    shared = 50 * torch.randn(400, generator=generator(0), dtype=torch.float64)
    a, b = scored(0.5, 1, shared=shared), scored(0.0, 2, shared=shared)
    gap = contrast([a], [b])
    assert a.half > 1.0 > 3 * gap.half  # either alone is uncertain by the shared 50 / sqrt(400)
    assert excludes_zero(gap)
    assert gap.value == pytest.approx(0.5, abs=5 * math.sqrt(2 / 400))


def test_the_variance_between_seeds_is_student_and_welch():
    a = [Score(v, v, v, "by hand", (v,) * PARTS) for v in (1.0, 1.2, 1.4)]
    b = [Score(v, v, v, "by hand", (v,) * PARTS) for v in (0.5, 0.6)]
    expected = stats.ttest_ind([1.0, 1.2, 1.4], [0.5, 0.6], equal_var=False).confidence_interval(0.95)
    gap = contrast(a, b)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    alone = across(a)
    low, high = stats.t.interval(0.95, 2, loc=1.2, scale=0.2 / math.sqrt(3))
    assert (alone.low, alone.high) == pytest.approx((low, high), rel=1e-9)


def test_equal_models_are_called_different_no_more_often_than_said():
    # Models of three seeds whose means scatter by 0.1 around the same truth; 5% of 400 pairs are 20, five deviations more 42.
    alarms = 0
    for trial in range(400):
        shift = 0.1 * torch.randn(6, generator=generator(trial), dtype=torch.float64)
        rows = [scored(float(m), 10_000 + 6 * trial + i, num=100) for i, m in enumerate(shift)]
        alarms += excludes_zero(contrast(rows[:3], rows[3:]))
    assert alarms <= 42


def test_seeds_of_numbers_without_parts_are_compared_by_their_intervals():
    a, b = [Score(0.9, 0.88, 0.92, "Wilson")], [Score(0.5, 0.48, 0.52, "Wilson")]
    gap = contrast(a, b)
    assert gap.method.startswith("independent")
    assert gap.half == pytest.approx(0.02 * math.sqrt(2), rel=0.1)  # Student's t of 19 to 38 degrees in place of the normal
    assert across([known(3.0), known(3.0)]).half == 0.0


def test_a_share_of_zero_over_seeds_keeps_an_interval():
    found = across([Score(0.0, 0.0, 0.02, "Wilson", (0.0,) * PARTS)] * 3)
    assert found.half > 0


@pytest.mark.parametrize(("key", "value", "side"), [("coverage@cnn", 0.2, 1), ("sliced", 0.2, -1), ("sliced", -0.2, 1)])
def test_which_way_is_better(key, value, side):
    assert better(Score(value, value - 0.1, value + 0.1, ""), meaning(key)) == side
    assert better(Score(value, value - 0.3, value + 0.3, ""), meaning(key)) == 0
    assert better(Score(value, value - 0.1, value + 0.1, ""), meaning("parameters")) == 0


def references(**values: float) -> dict[str, Record]:
    """Records that have one score, ``coverage`` or ``sliced``, with half-width 0.1."""
    names = {"real": REAL, "dropped": DROPPED, "blurred": BLURRED, "gaussian": GAUSSIAN, "copies": COPIES}
    made = {}
    for name, value in values.items():
        score = Score(value, value - 0.1, value + 0.1, "by hand")
        made[names[name]] = Record(names[name], "d", scores={"coverage": score, "sliced": score, "distance_ratio": score})
    return made


@pytest.mark.parametrize(
    ("key", "values", "missed"),
    [
        ("coverage", {"real": 0.9, "dropped": 0.5}, []),
        ("coverage", {"real": 0.9, "dropped": 0.89}, [DROPPED]),
        ("coverage", {"real": 0.5, "dropped": 0.9}, [DROPPED]),
        ("coverage", {"real": 0.9, "dropped": 0.5, "blurred": 0.9}, []),  # coverage does not claim to see blur
        ("sliced", {"real": 0.1, "dropped": 0.9, "blurred": 0.1, "gaussian": 0.0}, [BLURRED, GAUSSIAN]),
        ("distance_ratio", {"real": 1.0, "copies": 0.0}, []),
        ("distance_ratio", {"real": 1.0, "copies": 1.0}, [COPIES]),
        ("coverage", {"dropped": 0.5}, []),  # nothing to rank
    ],
)
def test_a_metric_is_distrusted_when_it_misses_what_it_claims_to_see(key, values, missed):
    why = distrust(key, references(**values))
    assert bool(why) == bool(missed)
    assert all(name in why for name in missed)


def test_meanings_are_whole():
    for name, sense in MEANINGS.items():
        assert sense.head, name
        assert not sense.says.endswith("."), name
        assert set(sense.sees) <= {DROPPED, BLURRED, GAUSSIAN, COPIES}
