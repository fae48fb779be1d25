"""Modes and classes: against brute force, other implementations, their null distributions, and known-bad samples."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score

from sixfold.core.errors import BadInput
from sixfold.data.toys import Mixture, grid25, mixture1d, ring8
from sixfold.evaluate.modes import class_scores, conditional_accuracy, fit_classifier, mode_scores
from sixfold.evaluate.score import PARTS, difference


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(toy, num, seed=0):
    return toy.sample(num, generator=generator(seed))


def scored(toy, x, **options):
    return mode_scores(x, toy.centres, toy.std, toy.weights, **options)


# --- modes of a known mixture --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", [ring8(), grid25(), mixture1d()], ids=["ring8", "grid25", "mixture1d"])
def test_a_perfect_sampler_finds_all_modes(toy):
    num, modes = 5000, len(toy.centres)
    scores = scored(toy, drawn(toy, num))
    assert (scores["modes"].value, scores["modes"].half) == (modes, 0.0)
    # A share of 5,000 samples has a standard error below 0.0025; five of them are allowed.
    assert scores["good"].value == pytest.approx(stats.chi2.cdf(9, toy.centres.shape[1]), abs=5 * 0.0025)
    # 2 N KL is chi-square with K - 1 degrees of freedom: beyond this bound with probability 1e-5.
    assert 0 <= 2 * num * scores["mode_kl"].value < stats.chi2.isf(1e-5, modes - 1) + 0.5


def test_scores_and_their_parts_against_brute_force():
    toy = Mixture(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64), 0.3, torch.tensor([0.2, 0.3, 0.5]))
    x = torch.cat([drawn(toy, 60, 3), torch.randn(47, 2, generator=generator(4))])
    w = [0.2, 0.3, 0.5]

    def brute(points):
        counts, good = [0, 0, 0], [0, 0, 0]
        for point in points.double().tolist():
            far = [math.dist(point, c) for c in toy.centres.tolist()]
            counts[far.index(min(far))] += 1
            good[far.index(min(far))] += min(far) <= 0.9
        n = len(points)
        found = sum(g >= max(1.0, 0.2 * n * p) for g, p in zip(good, w, strict=True))
        return {
            "modes": found,
            "good": sum(good) / n,
            "mode_kl": sum(c / n * math.log(c / n / p) for c, p in zip(counts, w, strict=True) if c),
        }

    whole, scores = brute(x), scored(toy, x)
    for key, score in scores.items():
        assert score.value == pytest.approx(whole[key], rel=1e-6), key  # the weights are float32
        left = [brute(x[torch.arange(len(x)) % PARTS != g])[key] for g in range(PARTS)]
        expected = [PARTS * whole[key] - (PARTS - 1) * v for v in left]
        assert score.parts == pytest.approx(expected, rel=1e-5, abs=1e-6), key


def test_dropped_modes_are_seen_and_cost_their_share():
    toy = ring8()
    fewer = Mixture(toy.centres[:5], toy.std)
    scores = scored(toy, drawn(fewer, 4000))
    assert scores["modes"].value == 5
    assert scored(toy, drawn(fewer, 4000), share=0.0)["modes"].value == 5
    # log 8/5, and what chance adds: 2 N times it is chi-square with 4 degrees of freedom, at most 28 with probability 1e-5.
    assert 0 <= scores["mode_kl"].value - math.log(8 / 5) < 28 / 8000


def test_blurred_samples_are_not_good():
    """Twice the width: a sample in 2-D is good with probability 1 - exp(-9 / 8)."""
    toy = grid25()
    scores = scored(toy, drawn(Mixture(toy.centres, 2 * toy.std), 4000))
    assert scores["good"].value == pytest.approx(1 - math.exp(-9 / 8), abs=5 * 0.5 / math.sqrt(4000))
    assert scores["good"].high < 0.9889
    assert scores["modes"].value == 25


def test_a_stray_sample_finds_no_mode_unless_asked():
    toy = ring8()
    x = torch.cat([drawn(Mixture(toy.centres[:7], toy.std), 3999), toy.centres[7:].float()])
    assert scored(toy, x)["modes"].value == 7
    assert scored(toy, x, share=0.0)["modes"].value == 8
    assert scored(toy, x, share=1.1)["modes"].value < 7  # chance leaves some below 1.1 times what is expected of an eighth


def test_within_moves_the_border():
    toy = mixture1d()
    x = drawn(toy, 2000)
    for within in (1.0, 2.0):
        near = ((x.double()[:, None, 0] - toy.centres[:, 0]).abs().min(1).values <= within * toy.std).double().mean()
        assert scored(toy, x, within=within)["good"].value == pytest.approx(float(near), rel=1e-12)


def test_all_samples_at_one_point():
    scores = scored(ring8(), ring8().centres[:1].float().repeat(100, 1))
    assert [scores[key].value for key in ("modes", "good")] == [1.0, 1.0]
    assert scores["mode_kl"].value == pytest.approx(math.log(8), rel=1e-12)
    assert scores["mode_kl"].half == pytest.approx(0.0, abs=1e-12)


def test_fewer_samples_than_modes():
    assert 1 <= scored(grid25(), drawn(grid25(), 20))["modes"].value <= 20


def test_chance_alone_gives_the_stated_mean_of_the_kl():
    """Mean of 100 draws of chi-square(7) / 2N is known to sqrt(14 / 100) / 2N; five of them are allowed."""
    toy, num = ring8(), 1000
    found = [scored(toy, drawn(toy, num, seed))["mode_kl"].value for seed in range(100)]
    assert 2 * num * sum(found) / 100 == pytest.approx(7, abs=5 * math.sqrt(14 / 100))


def test_two_perfect_samplers_are_seldom_told_apart():
    """False alarms of the 95% interval of a difference: 7.5 of 150 are expected. More than 21 have probability 1e-5."""
    toy = ring8()
    pairs = [(scored(toy, drawn(toy, 400, 2 * s)), scored(toy, drawn(toy, 400, 2 * s + 1))) for s in range(150)]
    for key in ("good", "mode_kl"):
        gaps = [difference(a[key], b[key]) for a, b in pairs]
        assert sum(gap.low > 0 or gap.high < 0 for gap in gaps) <= 21, key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"centres": torch.zeros(3, 3)}, r"centres must have shape \(K, 2\)"),
        ({"weights": torch.tensor([0.5, 0.6])}, "sum to one"),
        ({"weights": torch.tensor([1.0, 0.0])}, "positive"),
        ({"weights": torch.ones(3) / 3}, "2 positive numbers"),
        ({"std": 0.0}, "above 0"),
        ({"x": torch.zeros(19, 2)}, "at least 20 data"),
        ({"x": torch.full((30, 2), math.nan)}, "NaN"),
    ],
)
def test_mode_scores_say_what_is_wrong(change, says):
    good = {"x": torch.zeros(30, 2), "centres": torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "std": 1.0}
    with pytest.raises(BadInput, match=says) as caught:
        mode_scores(**(good | change))
    assert "\n" not in str(caught.value)


# --- classes -------------------------------------------------------------------------------------------------------------


def labels(num, shares, seed=0):
    return torch.multinomial(torch.tensor(shares), num, replacement=True, generator=generator(seed))


def test_class_scores_and_their_parts_against_brute_force():
    x, y = labels(113, [0.1, 0.5, 0.4, 0.0]), labels(87, [0.3, 0.3, 0.3, 0.1], 1)

    def brute(a, b):
        n, m = len(a), len(b)
        p, q = ([int((z == k).sum()) for k in range(4)] for z in (a, b))
        return {
            "classes": sum(j > 0 and i >= max(1, 0.2 * n * j / m) for i, j in zip(p, q, strict=True)),
            "class_kl": sum(i / n * math.log(i / n / ((j + 0.5) / (m + 2))) for i, j in zip(p, q, strict=True) if i),
            "class_shift": sum(abs(i / n - j / m) for i, j in zip(p, q, strict=True)) / 2,
        }

    whole, scores = brute(x, y), class_scores(x, y, 4)
    for key, value in whole.items():
        assert scores[key].value == pytest.approx(value, rel=1e-10), key
        left = [brute(x[torch.arange(113) % PARTS != g], y[torch.arange(87) % PARTS != g])[key] for g in range(PARTS)]
        assert scores[key].parts == pytest.approx([PARTS * value - (PARTS - 1) * v for v in left], rel=1e-9, abs=1e-9), key


def test_chi_square_by_hand():
    x, y = torch.tensor([0] * 30 + [1] * 20), torch.tensor([0] * 20 + [1] * 30)
    # Expected counts are 25: four times 25 / 25 make 4, with one degree of freedom.
    assert class_scores(x, y, 2)["class_p"].value == pytest.approx(stats.chi2.sf(4.0, 1), rel=1e-12)
    assert class_scores(x, y, 5)["class_p"].value == pytest.approx(stats.chi2.sf(4.0, 1), rel=1e-12)  # empty classes say nothing


def test_the_p_value_is_uniform_when_shares_are_equal():
    """Kolmogorov-Smirnov over 300 draws against its threshold of false-alarm rate 1e-5; counts are discrete but many."""
    shares = [0.1, 0.2, 0.3, 0.4]
    found = [class_scores(labels(500, shares, 2 * s), labels(400, shares, 2 * s + 1), 4)["class_p"].value for s in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 1e-5


def test_two_equal_samplers_shift_alike():
    """False alarms of the 95% interval of a difference, against shared real data; more than 21 of 150 have probability 1e-5."""
    shares, wrong = [0.25] * 4, {"class_kl": 0, "class_shift": 0}
    for s in range(150):
        y = labels(400, shares, 3 * s)
        a, b = (class_scores(labels(400, shares, 3 * s + i), y, 4) for i in (1, 2))
        for key in wrong:
            gap = difference(a[key], b[key])
            wrong[key] += gap.low > 0 or gap.high < 0
    assert max(wrong.values()) <= 21, wrong


def test_a_dropped_class_is_seen_through_a_classifiers_mistakes():
    """Class 3 is dropped; the classifier still says it for 1% of the samples."""
    x, y = labels(5000, [0.33, 0.33, 0.33, 0.01]), labels(5000, [0.25] * 4, 1)
    scores = class_scores(x, y, 4)
    assert scores["classes"].value == 3
    assert class_scores(x, y, 4, share=0.0)["classes"].value == 4
    assert scores["class_shift"].value == pytest.approx(0.24, abs=5 * 0.007)  # standard error of a share below 0.007
    assert scores["class_p"].value < 1e-10


@pytest.mark.parametrize("missing", ["samples", "real data"])
def test_a_class_missing_on_either_side(missing):
    one, both = torch.zeros(100, dtype=torch.int64), torch.tensor([0, 1] * 50)
    x, y = (one, both) if missing == "samples" else (both, one)
    scores = class_scores(x, y, 2)
    assert scores["classes"].value == 1
    assert scores["class_shift"].value == 0.5
    if missing == "samples":
        assert scores["class_kl"].value == pytest.approx(math.log(101 / 50.5), rel=1e-12)
    else:
        # Half a real datum in 101 where half of the samples are.
        assert scores["class_kl"].value == pytest.approx(
            0.5 * math.log(0.5 * 101 / 100.5) + 0.5 * math.log(0.5 * 101 / 0.5), rel=1e-12
        )


def test_only_one_class_on_both_sides():
    one = torch.full((50,), 2)
    scores = class_scores(one, one, 3)
    assert [scores[k].value for k in ("classes", "class_shift", "class_p")] == [1.0, 0.0, 1.0]


def test_few_expected_counts_are_told():
    x, y = labels(40, [0.5, 0.48, 0.02]), labels(40, [0.5, 0.4, 0.1], 1)
    assert "rough" in class_scores(x, y, 3)["class_p"].method


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.tensor([0] * 30 + [4]), "lie in"),
        (torch.tensor([0] * 30 + [-1]), "lie in"),
        (torch.zeros(30), "integer"),
        (torch.zeros(30, 2, dtype=torch.int64), "integer"),
        (torch.zeros(19, dtype=torch.int64), "at least 20"),
    ],
)
def test_class_scores_say_what_is_wrong(bad, says):
    fine = torch.zeros(30, dtype=torch.int64)
    for pair in ((bad, fine), (fine, bad)):
        with pytest.raises(BadInput, match=says):
            class_scores(*pair, 4)


def test_conditional_accuracy_is_the_share_of_hits():
    wanted, said = labels(500, [0.5, 0.5]), labels(500, [0.4, 0.6], 1)
    score = conditional_accuracy(said, wanted)
    assert score.value == pytest.approx(accuracy_score(wanted, said), rel=1e-12)
    found = stats.binomtest(int((said == wanted).sum()), 500).proportion_ci(0.95, "wilson")
    assert (score.low, score.high) == pytest.approx((found.low, found.high))
    with pytest.raises(BadInput, match="of one shape"):
        conditional_accuracy(said, wanted[:-1])


# --- a classifier for any labelled data ------------------------------------------------------------------------------------


def test_the_linear_classifier_reads_digits():
    x, y = load_digits(return_X_y=True)
    predict = fit_classifier(torch.from_numpy(x[:1200]).reshape(-1, 1, 8, 8), torch.from_numpy(y[:1200]))
    said = predict(torch.from_numpy(x[1200:]).reshape(-1, 1, 8, 8))
    assert said.dtype == torch.int64
    assert float((said == torch.from_numpy(y[1200:])).double().mean()) > 0.9  # a nearest-mean classifier reaches 0.87


def test_the_linear_classifier_finds_the_bayes_rule():
    """Two normals at distance 2 d: the best accuracy is Phi(d)."""
    y = labels(20_000, [0.5, 0.5])
    x = torch.randn(20_000, 3, generator=generator(1)) + 2.0 * y[:, None] * torch.tensor([1.0, 0.0, 0.0])
    predict = fit_classifier(x[:10_000], y[:10_000])
    share = float((predict(x[10_000:]) == y[10_000:]).double().mean())
    assert share == pytest.approx(stats.norm.cdf(1.0), abs=5 * 0.0037)


def test_more_penalty_is_smoother():
    """With all the weight on the penalty every datum gets the most frequent class."""
    y = labels(200, [0.3, 0.7])
    x = torch.randn(200, 2, generator=generator(1)) + y[:, None]
    assert fit_classifier(x, y, strength=1e8)(x).unique().tolist() == [1]
    assert fit_classifier(x, y)(x).unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (torch.zeros(30, dtype=torch.int64), "two classes"),
        (torch.zeros(29, dtype=torch.int64), r"shape \(30,\)"),
        (torch.zeros(30), "integer"),
    ],
)
def test_the_linear_classifier_says_what_is_wrong(y, says):
    with pytest.raises(BadInput, match=says):
        fit_classifier(torch.zeros(30, 2), y)
