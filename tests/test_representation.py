"""Readers of codes against scikit-learn, brute force and the best accuracy there is; what few labels cost and say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

import sixfold
from sixfold.core.errors import BadInput
from sixfold.core.spec import DataSpec, Support
from sixfold.evaluate.representation import (
    STRENGTHS,
    Encoded,
    active_units,
    codes,
    encode_parts,
    linear_probe,
    nearest_neighbours_accuracy,
    pca_encoder,
    probe,
    raw,
    stratified,
)
from sixfold.evaluate.score import PARTS, difference, fold, share_score

FALSE_ALARM = 1e-4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(num: int, *, apart: float = 2.0, dims: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two normal classes ``apart`` on the first axis: no reader is right more often than Phi(apart / 2)."""
    g = generator(seed)
    y = torch.randint(2, (num,), generator=g)
    z = torch.randn(num, dims, generator=g)
    z[:, 0] += apart * (y - 0.5)
    return z, y


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    return x[:1200].float(), y[:1200].long(), x[1200:].float(), y[1200:].long()


@pytest.fixture(scope="module")
def task():
    return digits()


def neighbours(*args, seed=0, **options):
    return nearest_neighbours_accuracy(*args, seed=seed, **options)


def linear(*args, seed=0, **options):
    return linear_probe(*args, seed=seed, **options)


readers = pytest.mark.parametrize("reader", [linear, neighbours])


def test_probe_on_all_labels_is_scikit_learns_best_on_validation(task):
    z, y, test_z, test_y = task
    fit, held = (z[:900], y[:900]), (z[900:], y[900:])
    mean, std = fit[0].mean(0), fit[0].std(0)
    std[std == 0] = 1
    a, b, c = (((part - mean) / std).double().numpy() for part in (fit[0], held[0], test_z))
    models = [LogisticRegression(C=s, max_iter=1000).fit(a, fit[1]) for s in STRENGTHS]
    likelihood = [m.predict_log_proba(b)[np.arange(len(b)), held[1]].mean() for m in models]
    best = models[int(np.argmax(likelihood))]
    assert 0 < int(np.argmax(likelihood)) < len(STRENGTHS) - 1
    # Single precision and an earlier stop may move a datum that lies on a boundary.
    assert linear(*fit, test_z, test_y, valid=held).value == pytest.approx(best.score(c, test_y), abs=2 / len(c))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_agree_with_scikit_learn(k, metric):
    # Two classes and an odd k: no vote is tied, so that both must say the same.
    (z, y), (test_z, test_y) = blobs(300), blobs(200, seed=1)
    theirs = KNeighborsClassifier(k, algorithm="brute", metric=metric).fit(z.double().numpy(), y).score(test_z.double(), test_y)
    assert neighbours(z, y, test_z, test_y, k=k, metric=metric).value == pytest.approx(theirs, abs=1e-12)


def test_tied_votes_go_to_the_class_of_the_nearest():
    # Seen from 0: classes 2, 1, 1, 2, 0 at distances 1 to 5; 1 and 2 tie among the five and 2 is nearer.
    line = torch.tensor([1.0, 2, 3, 4, 5])[:, None]
    z, y = torch.cat([line, torch.full((20, 1), 99.0)]), torch.tensor([2, 1, 1, 2, 0] + 20 * [3])
    asked = torch.zeros(20, 1)
    for truth, right in ((2, 1.0), (1, 0.0)):
        assert neighbours(z, y, asked, torch.full((20,), truth), k=5).value == right


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_probe_reaches_the_best_accuracy_of_two_normals_and_chance_without_a_difference(apart):
    best = stats.norm.cdf(apart / 2)
    found = linear(*blobs(4000, apart=apart), *blobs(4000, apart=apart, seed=1))
    # Fitting three directions on 4,000 costs less than the interval, which is widened to the false-alarm rate.
    width = stats.norm.isf(FALSE_ALARM / 2) / stats.norm.isf(0.025)
    assert abs(found.value - best) < width * found.half


@readers
def test_accuracy_is_the_share_of_right_answers_and_test_labels_move_no_answer(reader):
    (z, y), (test_z, test_y) = blobs(200), blobs(150, seed=1)
    assert reader(z, y, test_z, 1 - test_y).value == pytest.approx(1 - reader(z, y, test_z, test_y).value, abs=1e-12)
    few = {"labels": 40, "draws": 4}
    assert reader(z, y, test_z, 1 - test_y, **few).value == pytest.approx(
        1 - reader(z, y, test_z, test_y, **few).value, abs=1e-12
    )


@readers
def test_names_of_classes_do_not_matter(reader, task):
    z, y, test_z, test_y = task
    name = torch.tensor([7, -3, 100, 5, 0, 12, 9, 55, 6, 1])
    options = {} if reader is neighbours else {"labels": 200, "draws": 2}
    # Classes in another order are dealt in another order, so that few labels are others: chance moves, by its own interval.
    one, two = reader(z, y, test_z, test_y, **options), reader(z, name[y], test_z, name[test_y], **options)
    assert two.value == pytest.approx(one.value, abs=0.0 if reader is neighbours else 2 * one.half)


def test_probe_does_not_depend_on_units_of_the_code(task):
    z, y, test_z, test_y = task
    scale, shift = torch.logspace(-3, 3, 64), torch.linspace(-5, 5, 64)
    one = linear(z, y, test_z, test_y, labels=300, draws=2)
    two = linear(z * scale + shift * scale, y, test_z * scale + shift * scale, test_y, labels=300, draws=2)
    assert two.value == pytest.approx(one.value, abs=2 / len(test_y))  # rounding of single precision


def test_more_labels_read_more(task):
    found = [linear(*task, labels=n).value for n in (30, 100, 600)] + [linear(*task).value]
    assert found == sorted(found)
    assert found[-1] > 0.9


@readers
def test_a_class_without_labels_is_never_answered(reader, task):
    z, y, test_z, test_y = task
    known = y != 3
    found = reader(z[known], y[known], test_z, test_y)
    assert 0.8 < found.value <= 1 - float((test_y == 3).double().mean())


@readers
def test_constant_codes_answer_with_the_commonest_class(reader):
    y = torch.tensor([0] * 30 + [1] * 10)
    found = reader(
        torch.ones(40, 2), y, torch.ones(50, 2), torch.tensor([0] * 20 + [1] * 30), **({"k": 39} if reader is neighbours else {})
    )
    assert found.value == pytest.approx(0.4)


@readers
def test_a_few_labels_of_one_class_answer_with_it(reader):
    z, y = torch.randn(900, 2, generator=generator()), torch.tensor([0] * 898 + [1] * 2)
    found = reader(z, y, z[:100], y[-100:], labels=20, draws=1)
    assert found.value == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("sizes", "count"), [((50, 30, 20), 10), ((50, 30, 20), 99), ((500, 3, 1), 40), ((7, 7, 7), 20), ((30,), 30)]
)
def test_stratified_rows_keep_the_shares_of_classes(sizes, count):
    y = torch.cat([torch.full((n,), 3 * c) for c, n in enumerate(sizes)])[torch.randperm(sum(sizes), generator=generator())]
    rows = stratified(y, count, generator(1))
    assert len(rows.unique()) == count
    for c, n in enumerate(sizes):
        assert abs(int((y[rows] == 3 * c).sum()) - count * n / sum(sizes)) <= 1


def test_stratified_rows_are_drawn_evenly():
    # Each of 40 rows of its class is among 10 with probability 1/4: a chi-squared over rows at the false-alarm rate.
    y, repeats = torch.arange(80) % 2, 500
    counts = sum(torch.bincount(stratified(y, 20, generator(s)), minlength=80) for s in range(repeats)).double()
    z2 = ((counts - repeats / 4).square() / (repeats * 3 / 16)).sum()
    # Rows of a class are drawn without replacement: 40/39 of the variance is in 39 directions each.
    assert float(z2) * 39 / 40 < stats.chi2.isf(FALSE_ALARM, 78)


@pytest.mark.parametrize(("tested", "draws"), [(60, 10), (1000, 4)], ids=["few test data", "few draws"])
def test_interval_covers_the_draw_of_labels_and_of_test_data(tested, draws):
    # Both are drawn anew each time; the truth is their mean, fourteen times as sure as each of them.
    repeats, (z, y) = 200, blobs(1000, apart=1.5, dims=8)
    asked = [blobs(tested, apart=1.5, dims=8, seed=10 + i) for i in range(repeats)]
    found = [neighbours(z, y, *asked[i], k=1, labels=20, draws=draws, seed=i) for i in range(repeats)]
    truth = float(np.mean([s.value for s in found]))
    covered = sum(s.low <= truth <= s.high for s in found)
    assert stats.binom.cdf(covered, repeats, 0.95) > FALSE_ALARM
    alone = sum(abs(s.value - truth) < share_score(torch.arange(tested) < s.value * tested).half for s in found)
    assert tested < 1000 or alone < 160  # the interval of the test data alone does not hold the draw


@readers
def test_parts_on_all_labels_are_those_of_test_data(reader):
    (z, y), (test_z, test_y) = blobs(200), blobs(143, seed=1)
    whole = reader(z, y, test_z, test_y)
    left = [reader(z, y, test_z[fold(143) != g], test_y[fold(143) != g]).value for g in range(PARTS)]
    assert whole.parts == pytest.approx([PARTS * whole.value - (PARTS - 1) * v for v in left], abs=1e-9)


def test_paired_difference_of_two_codes_is_narrower_than_of_strangers(task):
    z, y, test_z, test_y = task
    one, two = (neighbours(z[:, s], y, test_z[:, s], test_y, labels=100) for s in (slice(0, 60), slice(4, 64)))
    assert difference(one, two).half < 0.7 * math.hypot(one.half, two.half)
    assert difference(one, one).half == 0.0


def test_table_holds_both_readers_at_every_number_of_labels_that_there_are(task):
    z, y, test_z, test_y = task
    parts = (z[:1000], test_z, z[1000:])
    given = {"raw": encode_parts(raw, *parts), "PCA": encode_parts(pca_encoder(z[:1000], 10), *parts, batch=300)}
    table = probe(given, y[:1000], test_y, valid_y=y[1000:], labels=(100, 1000, 5000), draws=2)
    names = [f"{reader}, {labels} labels" for labels in ("100", "all") for reader in ("linear probe", "5 neighbours")]
    assert {name: list(row) for name, row in table.items()} == {"raw": names, "PCA": names}  # 1,000 are all, 5,000 too many
    pca = given["PCA"]
    held, alone = (pca.valid, y[1000:]), (pca.train, y[:1000], pca.test, test_y)
    assert table["PCA"]["linear probe, all labels"] == linear(*alone, valid=held)
    assert table["PCA"]["linear probe, 100 labels"] == linear(*alone, labels=100, draws=2)  # validation labels are labels too
    assert table["PCA"]["5 neighbours, 100 labels"] == neighbours(*alone, labels=100, draws=2)
    assert table["PCA"]["5 neighbours, all labels"].value > 0.8


def test_labels_used_are_stated_and_bounded(task):
    assert "500 of 1,200 labels" in neighbours(*task, rows=500).method
    assert "100 of 1,200 labels x 4 draws" in neighbours(*task, labels=100, draws=4).method
    z, y, *test = task
    chosen = stratified(y, 500, generator(7))
    assert neighbours(*task, rows=500, seed=7).value == neighbours(z[chosen], y[chosen], *test).value


@pytest.mark.parametrize("dims", [1, 10, 64, 100])
def test_principal_components_agree_with_scikit_learn(dims, task):
    z, _, test_z, _ = task
    z = z.repeat(3, 1)[:2500] + torch.arange(2500)[:, None] % 2  # more than one block of rows
    theirs = PCA(min(dims, 64), svd_solver="full").fit(z.double().numpy())
    ours, expected = pca_encoder(z, dims)(test_z).double(), torch.from_numpy(theirs.transform(test_z.double().numpy()))
    kept = theirs.explained_variance_ > 1e-9  # directions without variance are any
    expected, ours = expected[:, kept], ours[:, torch.from_numpy(kept)]
    sign = (ours * expected).sum(0).sign()
    assert torch.allclose(ours * sign, expected, atol=1e-4 * float(expected.abs().max()))  # single precision


def test_codes_of_a_model_are_its_posteriors_means():
    spec = DataSpec((1, 4, 4), Support("binary"))
    vae = sixfold.build("vae/vae", spec, latent=3, width=8)
    flow = sixfold.build("flow/realnvp", DataSpec((2,), Support("real")))
    x = torch.randint(2, (20, 1, 4, 4), generator=generator(), dtype=torch.uint8)
    u = torch.randn(20, 2, generator=generator())
    assert torch.equal(codes(vae)(x), vae.encode(x).mean)
    assert torch.equal(codes(flow)(u), flow.encode(u).z)
    assert torch.allclose(encode_parts(codes(vae), x, x[:5], batch=7).train, codes(vae)(x), atol=1e-6)  # sums by batch


def test_active_units_are_those_whose_mean_varies():
    wide = torch.tensor([1.0, 0.5, 0.11, 0.09, 0.01, 0.0])  # standard deviations; the threshold is 0.1
    means = torch.randn(100_000, 6, generator=generator()) * wide + torch.arange(6)
    found = active_units(means)
    assert (found.value, found.low, found.high) == (3, 3, 3)
    unsure = active_units(means[:50])
    assert unsure.low == 2
    assert unsure.high == 4


def test_active_units_take_their_threshold_and_population_variance():
    means = torch.tensor([[0.0], [2.0]]).repeat(10, 1).double()  # variance 1
    assert [active_units(means, threshold=t).value for t in (0.999, 1.001)] == [1, 0]


def test_interval_of_active_units_at_the_threshold_is_unsure():
    # A unit exactly at the threshold is called surely active, or surely not, in 5% of samples.
    found = [active_units(0.1 * torch.randn(300, 1, generator=generator(i))) for i in range(400)]
    sure = sum(s.low == s.high for s in found)
    assert stats.binom.sf(sure - 1, 400, 0.06) > FALSE_ALARM


GOOD = blobs(40)
BAD = {
    "shape of labels": ((GOOD[0], GOOD[1][:39], *GOOD), {}, r"shape \(40,\), one a code"),
    "labels of floats": ((GOOD[0], GOOD[1].float(), *GOOD), {}, "must be integers"),
    "codes of two sizes": ((*GOOD, GOOD[0][:, :2], GOOD[1]), {}, "one size; got 3 and 2"),
    "one class": ((GOOD[0], torch.zeros(40, dtype=torch.long), *GOOD), {}, "at least two classes; got class 0"),
    "NaN": ((GOOD[0].index_fill(0, torch.tensor([4]), torch.nan), GOOD[1], *GOOD), {}, "NaN or infinity, first in row 4"),
    "few": ((*GOOD, GOOD[0][:19], GOOD[1][:19]), {}, "at least 20 codes"),
    "too many labels": ((*GOOD, *GOOD), {"labels": 41}, r"must lie in \[20, 40\]"),
    "too few labels": ((*GOOD, *GOOD), {"labels": 5}, r"must lie in \[20, 40\]"),
    "draws": ((*GOOD, *GOOD), {"draws": 3}, "draws must divide 20"),
}


@readers
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_refused_in_one_line(reader, case):
    given, options, says = case
    with pytest.raises(BadInput, match=says) as error:
        reader(*given, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("k", [0, 41])
def test_neighbours_must_exist(k):
    with pytest.raises(BadInput, match="k must be"):
        neighbours(*GOOD, *GOOD, k=k)


def test_active_units_need_finite_data():
    with pytest.raises(BadInput, match="at least 20"):
        active_units(torch.zeros(19, 2))
    with pytest.raises(BadInput, match="NaN"):
        active_units(torch.full((30, 2), torch.nan))


def test_encoded_without_validation_chooses_on_training_labels(task):
    z, y, test_z, test_y = task
    table = probe({"raw": Encoded(z, test_z)}, y, test_y, valid_y=y[:10], labels=())
    assert table["raw"]["linear probe, all labels"] == linear(*task)


@pytest.mark.parametrize("x", [torch.zeros(1, 3), torch.full((30, 3), torch.nan)])
def test_principal_components_need_finite_data(x):
    with pytest.raises(BadInput, match="two finite data or more"):
        pca_encoder(x, 2)


@pytest.mark.parametrize("draws", [4, 10])
def test_interval_without_spread_over_test_data_is_students_of_the_draws(draws):
    # One place asked a hundred times, 60 of them class 1 in every part alike: a draw of labels is right on 40% or 60%.
    z, y = torch.randn(400, 1, generator=generator()), torch.randint(2, (400,), generator=generator(1))
    asked, truth = torch.zeros(100, 1), (torch.arange(100) // PARTS < 3).long()
    found = neighbours(z, y, asked, truth, k=1, labels=20, draws=draws, seed=3)
    ones = round((found.value - 0.4) / 0.2 * draws)
    assert 0 < ones < draws
    drawn = np.array([0.6] * ones + [0.4] * (draws - ones))
    half = stats.t.isf(0.025, draws - 1) * drawn.std(ddof=1) / math.sqrt(draws)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=1e-9)
