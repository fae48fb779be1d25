"""Anomaly detection against brute force, scikit-learn and closed forms; scores and outliers against what they are said to be."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from scipy.integrate import quad
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor, nn

from sixfold.core.dataset import Split
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Exact, LogProb, Measure, Unnormalised
from sixfold.core.model import GenerativeModel, Latent, Terms
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.evaluate.anomaly import (
    anomaly,
    anomaly_scores,
    auroc,
    average_precision,
    compressed_bits,
    detection,
    fpr_at_tpr,
    outliers,
)
from sixfold.evaluate.score import PARTS, difference, fold

PLANE = DataSpec((2,), Support("real"))
REPEATS = 200
FALSE_ALARM = 1e-4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def scores(m: int, n: int, *, ties: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of inliers and of outliers, which lie one higher; with ties in steps of one half."""
    both = normal(m, seed=seed), normal(n, seed=seed + 1) + 1
    return tuple((2 * s).round() / 2 for s in both) if ties else both


def joined(a: Tensor, b: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Truth (1 for outliers) and score, as scikit-learn takes them."""
    return np.r_[np.zeros(len(a)), np.ones(len(b))], torch.cat([a, b]).numpy()


CASES = [(40, 60, False), (40, 60, True), (20, 20, True), (501, 37, True), (1000, 1000, False)]


@pytest.mark.parametrize(("m", "n", "ties"), CASES)
def test_area_agrees_with_brute_force_and_scikit_learn(m, n, ties):
    a, b = scores(m, n, ties=ties)
    pairs = (b[:, None] > a).double() + 0.5 * (b[:, None] == a)
    assert auroc(a, b).value == pytest.approx(float(pairs.mean()), abs=1e-12)
    assert auroc(a, b).value == pytest.approx(roc_auc_score(*joined(a, b)), abs=1e-12)


@pytest.mark.parametrize(("m", "n", "ties"), CASES)
def test_interval_of_the_area_agrees_with_delongs_components_by_brute_force(m, n, ties):
    a, b = scores(m, n, ties=ties)
    pairs = (b[:, None] > a).double() + 0.5 * (b[:, None] == a)
    area, variance = float(pairs.mean()), float(pairs.mean(1).var() / n + pairs.mean(0).var() / m)
    half = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    found = auroc(a, b)
    assert math.log(found.low / (1 - found.low)) == pytest.approx(math.log(area / (1 - area)) - half, abs=1e-9)
    assert math.log(found.high / (1 - found.high)) == pytest.approx(math.log(area / (1 - area)) + half, abs=1e-9)


@pytest.mark.parametrize(("m", "n", "ties"), CASES)
def test_average_precision_agrees_with_scikit_learn_both_ways(m, n, ties):
    a, b = scores(m, n, ties=ties)
    truth, score = joined(a, b)
    expected = {"outliers": average_precision_score(truth, score), "inliers": average_precision_score(1 - truth, -score)}
    assert {c: average_precision(a, b, positive=c).value for c in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("tpr", [0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize(("m", "n", "ties"), CASES)
def test_false_positive_rate_is_the_first_on_the_curve_that_reaches_the_true_positive_rate(m, n, ties, tpr):
    a, b = scores(m, n, ties=ties)
    truth, score = joined(a, b)
    false, true, _ = roc_curve(1 - truth, -score, drop_intermediate=False)  # inliers are the positive class
    assert fpr_at_tpr(a, b, tpr=tpr).value == pytest.approx(false[true >= tpr - 1e-12][0], abs=1e-12)


MEASURES = {
    "area": auroc,
    "outliers' precision": average_precision,
    "inliers' precision": lambda a, b: average_precision(a, b, positive="inliers"),
    "false positives": fpr_at_tpr,
}
measures = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


@measures
@pytest.mark.parametrize("ties", [False, True])
def test_parts_are_pseudo_values_of_the_measure_without_each_part_of_both_samples(measure, ties):
    a, b = scores(410, 463, ties=ties)
    whole = measure(a, b)
    left = [measure(a[fold(410) != g], b[fold(463) != g]).value for g in range(PARTS)]
    assert whole.parts == pytest.approx([PARTS * whole.value - (PARTS - 1) * v for v in left], abs=1e-9)


@measures
def test_only_the_order_of_scores_counts(measure):
    a, b = scores(60, 80, ties=True)
    assert measure(a, b) == measure(torch.exp(a), torch.exp(b))


@measures
def test_infinite_scores_rank_beyond_all_others(measure):
    a, b = scores(60, 80, ties=False)
    low, top = a.topk(5, largest=False).indices, b.topk(5).indices
    endless, huge = ((a.index_fill(0, low, -v), b.index_fill(0, top, v)) for v in (torch.inf, 1e9))
    assert measure(*endless) == measure(*huge)


def test_turning_scores_over_turns_the_area_over():
    a, b = scores(60, 80, ties=True)
    found, turned = auroc(a, b), auroc(-a, -b)
    assert (turned.value, turned.low, turned.high) == pytest.approx((1 - found.value, 1 - found.high, 1 - found.low))
    assert auroc(b, a).value < 0.5  # strange inliers are reported as such, never turned


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        (torch.zeros(30), torch.ones(50), 1.0),
        (torch.ones(30), torch.zeros(50), 0.0),
        (torch.ones(30), torch.ones(50), 0.5),
    ],
    ids=["apart", "apart the wrong way", "all equal"],
)
def test_area_without_variance_has_wilsons_interval_of_the_smaller_sample(a, b, value):
    found, exact = auroc(a, b), stats.binomtest(round(30 * value), 30).proportion_ci(0.95, "wilson")
    assert found.value == value
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert "Wilson" in found.method


@pytest.mark.parametrize(("apart", "tells"), [(5.0, 1.0), (-5.0, 0.0)])
def test_measures_of_separated_scores_keep_an_interval(apart, tells):
    a = torch.linspace(0, 1, 40)
    found = detection(a, a + apart)
    assert found["AUROC"].value == tells
    assert found["FPR at 95% TPR"].value == 1 - tells
    assert (found["AP outliers"].value == 1.0) == (tells == 1.0)
    assert all(0 <= s.low <= s.value <= s.high <= 1 and s.half > 0 for s in found.values())


def passes(hits: int, repeats: int = REPEATS, level: float = 0.95) -> bool:
    """Whether a coverage of at least ``level`` is compatible with ``hits``, at a false-alarm rate of FALSE_ALARM."""
    return stats.binom.cdf(hits, repeats, level) > FALSE_ALARM


@pytest.mark.parametrize(("shift", "m", "n"), [(0.0, 50, 80), (1.0, 80, 50), (2.5, 100, 100)])
def test_interval_of_the_area_covers_that_of_two_normals(shift, m, n):
    truth = stats.norm.cdf(shift / math.sqrt(2))
    found = [auroc(normal(m, seed=2 * i), normal(n, seed=2 * i + 1) + shift) for i in range(REPEATS)]
    assert passes(sum(s.low <= truth <= s.high for s in found))
    # Nor is it much too wide: the spread of the areas is what the intervals say to a quarter, five standard errors of 200.
    spread = np.std([s.value for s in found])
    assert np.mean([s.half for s in found]) / 1.96 == pytest.approx(spread, rel=0.25)


def of_two_normals(name: str, shift: float) -> float:
    """A measure of infinitely many N(0, 1) against as many N(shift, 1), by quadrature over the threshold."""
    if name == "FPR at 95% TPR":
        return float(stats.norm.cdf(stats.norm.ppf(0.95) - shift))

    def slope(t: float) -> float:
        true, false = stats.norm.sf(t - shift), stats.norm.sf(t)
        return float(true / (true + false) * stats.norm.pdf(t - shift))

    return float(quad(slope, -9, 9, epsabs=1e-10)[0])  # by symmetry the same for either positive class


@pytest.mark.parametrize("name", ["AP outliers", "AP inliers", "FPR at 95% TPR"])
def test_intervals_cover_the_values_of_two_normals(name):
    truth = of_two_normals(name, 1.5)
    found = [detection(normal(200, seed=2 * i), normal(200, seed=2 * i + 1) + 1.5)[name] for i in range(REPEATS)]
    assert passes(sum(s.low <= truth <= s.high for s in found), level=0.94)  # 500 repeats gave 93 to 95%
    assert np.mean([s.half for s in found]) / 1.96 == pytest.approx(np.std([s.value for s in found]), rel=0.25)


def test_paired_difference_of_two_equal_scores_of_the_same_data():
    # Two noisy views of one signal have one area; the shared signal makes each interval wider than that of the difference.
    hits, ratio = 0, []
    for i in range(REPEATS):
        g = generator(i)
        signal = torch.cat([torch.randn(100, generator=g), torch.randn(100, generator=g) + 1])
        one, two = (auroc(v[:100], v[100:]) for v in (signal + 0.3 * torch.randn(200, generator=g) for _ in range(2)))
        gap = difference(one, two)
        hits, ratio = hits + (gap.low <= 0 <= gap.high), [*ratio, gap.half / math.hypot(one.half, two.half)]
    assert passes(hits, level=0.93)
    assert np.mean(ratio) < 0.6


@measures
@pytest.mark.parametrize(
    ("a", "says"),
    [
        (torch.zeros(19), "N >= 20"),
        (torch.zeros(30, 1), "shape"),
        (torch.full((30,), torch.nan), "NaN, first in row 0"),
    ],
    ids=["few", "matrix", "nan"],
)
def test_scores_that_cannot_be_ranked(measure, a, says):
    for pair in ((a, torch.zeros(30)), (torch.zeros(30), a)):
        with pytest.raises(BadInput, match=says) as error:
            measure(*pair)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("tpr", [0.0, 1.5, -1])
def test_share_of_inliers_must_be_one(tpr):
    with pytest.raises(BadInput, match="share"):
        fpr_at_tpr(torch.zeros(30), torch.zeros(30), tpr=tpr)


class Normal(GenerativeModel):
    """N(0, S) over data of any real shape, with S = R R^T; its log-density can be differentiated."""

    def __init__(self, spec: DataSpec, *, root: Tensor | None = None) -> None:
        super().__init__(spec)
        self.root = nn.Parameter(torch.eye(spec.dims, dtype=torch.float64) if root is None else root)

    def loss(self, batch, player):
        return Terms(-self.log_prob(batch.x).nats)

    def sample(self, num, *, cond=None, generator=None):
        u = torch.randn(num, self.spec.dims, generator=generator, dtype=self.dtype)
        return (u @ self.root.detach().T).reshape(num, *self.spec.shape)

    def log_prob(self, x, cond=None, *, effort=1, generator=None):
        u = torch.linalg.solve(self.root, self.take(x).flatten(1).T).T
        nats = -0.5 * u.square().sum(1) - self.root.det().abs().log() - 0.5 * self.spec.dims * math.log(2 * math.pi)
        return LogProb(nats, Exact, "closed form", self.spec.dims)


class Scored(Normal):
    def score(self, x, t=None):
        return -3.0 * self.take(x)


class Energetic(GenerativeModel):
    """E(x) = |x|^2."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def loss(self, batch, player):
        return Terms(self.energy(batch.x))

    def sample(self, num, *, cond=None, generator=None):
        return torch.zeros(num, *self.spec.shape)

    def energy(self, x):
        return self.scale * self.take(x).flatten(1).square().sum(1)


class Undifferentiable(Energetic):
    @torch.no_grad()
    def energy(self, x):
        return super().energy(x)


class Coded(Energetic):
    """Keeps the first element as the code; decodes it with zeros behind."""

    energy = None

    def encode(self, x, cond=None, *, generator=None):
        data = self.take(x).flatten(1)
        return Latent(torch.randn(len(data), 1, generator=generator), data[:, :1].double())

    def decode(self, z, cond=None):
        x = torch.zeros(len(z), self.spec.dims, dtype=self.spec.dtype)
        x[:, :1] = z
        return x.reshape(len(z), *self.spec.shape)


class Bijective(Coded):
    def encode(self, x, cond=None, *, generator=None):
        return Latent(self.take(x).flatten(1))

    def decode(self, z, cond=None):
        return z.reshape(len(z), *self.spec.shape)


class Levels(Energetic):
    """Uniform over discrete data; says how many nats that is."""

    energy = None

    def log_prob(self, x, cond=None, *, effort=1, generator=None):
        levels, data = self.spec.support.count, self.take(x)
        nats = torch.full((len(data),), -self.spec.dims * math.log(levels), dtype=torch.float64)
        return LogProb(nats, Exact, "uniform", self.spec.dims, Measure(levels))


def plane(num: int, seed: int = 0) -> Tensor:
    return normal(num, 2, seed=seed).float()


def test_likelihood_and_typicality_of_a_known_density():
    model, x, train = Normal(PLANE), plane(50), plane(700, 1)
    found, nll = anomaly_scores(model, x, reference=Split(train)), 0.5 * x.double().square().sum(1) + math.log(2 * math.pi)
    usual = (0.5 * train.double().square().sum(1)).mean() + math.log(2 * math.pi)
    assert found["-log p"].detach().numpy() == pytest.approx(nll.numpy(), rel=1e-6)  # float32 data
    assert found["typicality"].numpy() == pytest.approx((nll - usual).abs().numpy(), abs=1e-5)


def test_area_of_likelihood_for_a_wider_normal_has_its_closed_form():
    # Inliers N(0, 1), outliers N(0, 9) on the line: P(3 |u| > |v|) = (2 / pi) arctan 3. Interval at the level of the alarm.
    line, num = DataSpec((1,), Support("real")), 20_000
    own, wide = normal(num, 1).float(), 3 * normal(num, 1, seed=1).float()
    found = anomaly(Normal(line), own, {"wide": wide}, reference=Split(own))[("wide", "-log p")]["AUROC"]
    width = stats.norm.isf(FALSE_ALARM / 2) / stats.norm.isf(0.025)
    assert abs(found.value - 2 / math.pi * math.atan(3)) < width * found.half


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Normal, {"-log p", "typicality", "gradient"}),
        (Scored, {"-log p", "typicality", "gradient"}),
        (Energetic, {"energy", "gradient"}),
        (Undifferentiable, {"energy"}),
        (Coded, {"reconstruction"}),
        (Bijective, set()),
    ],
)
def test_only_what_a_model_has_is_scored(model, names):
    assert set(anomaly_scores(model(PLANE), plane(30), reference=Split(plane(30)))) == names


@pytest.mark.parametrize(("model", "factor"), [(Normal, 1.0), (Scored, 3.0), (Energetic, 2.0)])
def test_gradient_is_the_length_of_the_slope(model, factor):
    x = plane(30)
    found = anomaly_scores(model(PLANE), x, reference=Split(x), batch=7)["gradient"]
    assert found.numpy() == pytest.approx(factor * x.norm(dim=1).numpy(), rel=1e-6)


def test_reconstruction_is_from_the_posteriors_mean_and_not_a_draw():
    x = plane(30)
    found = anomaly_scores(Coded(PLANE), x, reference=Split(x), batch=7)["reconstruction"]
    assert found.numpy() == pytest.approx(x[:, 1].square().numpy(), rel=1e-6)


@pytest.mark.parametrize("kind", ["levels", "tokens"])
def test_reconstruction_of_tokens_counts_those_that_differ(kind):
    spec, x = DataSpec((3,), Support(kind, 300)), torch.tensor([[9, 0, 5], [9, 0, 0], [9, 250, 1]])
    found = anomaly_scores(Coded(spec), x, reference=Split(x))["reconstruction"]
    assert found.tolist() == ([1, 0, 2] if kind == "tokens" else [25, 0, 250**2 + 1])


def test_scores_do_not_depend_on_the_batch():
    x, train = plane(50), Split(plane(30, 1))
    whole, cut = (anomaly_scores(Normal(PLANE), x, reference=train, batch=b) for b in (50, 7))
    for name, score in whole.items():
        assert cut[name].detach().numpy() == pytest.approx(score.detach().numpy(), rel=1e-9)


IMAGES = DataSpec((1, 8, 8), Support("levels", 256))


def test_complexity_is_likelihood_in_bits_less_the_compressed_length():
    x = torch.randint(256, (20, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    x[:10] = 7
    sizes = []
    for image in x[:, 0].numpy():
        store = io.BytesIO()
        Image.fromarray(image).save(store, "PNG", compress_level=9)
        sizes.append(8 * len(store.getvalue()))
    found = anomaly_scores(Levels(IMAGES), x, reference=Split(x))
    assert found["complexity"].numpy() == pytest.approx(64 * 8 - np.array(sizes), abs=1e-9)
    assert found["complexity"][:10].min() > found["complexity"][10:].max()  # the simple ones should have been likelier


@pytest.mark.parametrize(("levels", "width"), [(17, np.uint8), (1000, np.uint16)])
def test_compressed_length_of_what_is_no_image_is_zlibs(levels, width):
    x = torch.randint(levels, (20, 100), generator=generator())
    found = compressed_bits(x, DataSpec((100,), Support("tokens", levels)))
    assert found.tolist() == [8 * len(zlib.compress(row.astype(width).tobytes(), 9)) for row in x.numpy()]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_compressed_length_takes_every_kind_of_image(channels):
    spec, g = DataSpec((channels, 16, 16), Support("levels", 256)), generator()
    noise = torch.randint(256, (20, channels, 16, 16), generator=g, dtype=torch.uint8)
    bits = compressed_bits(torch.cat([noise, noise // 255]), spec)
    assert bool((bits[:20] >= 8 * noise[0].numel()).all())  # noise has no shorter code
    assert float(bits[20:].max()) < float(bits[:20].min())


def test_real_data_have_no_compressed_length():
    with pytest.raises(Unsupported, match="no compressed length"):
        compressed_bits(plane(20), PLANE)


def test_likelihood_takes_constant_images_for_data_and_typicality_does_not():
    # A smooth Gaussian: neighbouring pixels correlate, so that a constant image is likelier than nearly every draw (Nalisnick et
    # al., 2019), while no draw is as likely as it: both areas are at their ends.
    spec = DataSpec((1, 8, 8), Support("real"))
    place = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
    cover = (-torch.cdist(place, place).square() / 18).exp() + 1e-3 * torch.eye(64, dtype=torch.float64)
    model = Normal(spec, root=torch.linalg.cholesky(cover)).double()
    train, test = (model.sample(500, generator=generator(s)) for s in (1, 2))
    flat = 0.5 * normal(100, 1, 1, 1).expand(100, 1, 8, 8)
    found = anomaly(model, test, {"constant": flat}, reference=Split(train))
    assert found[("constant", "-log p")]["AUROC"].value < 0.01
    assert found[("constant", "typicality")]["AUROC"].value > 0.99


def test_table_agrees_with_scores_of_each_set_alone():
    model, own, train = Normal(PLANE), plane(50), Split(plane(300, 1))
    sets = outliers(own, PLANE, near={"other": plane(33, 5) + 1})
    table = anomaly(model, own, sets, reference=train)
    assert {kind for kind, _ in table} == set(sets)
    for (kind, name), found in table.items():
        a, b = (anomaly_scores(model, x, reference=train)[name] for x in (own, sets[kind]))
        assert found["AUROC"].value == pytest.approx(auroc(a, b).value, abs=1e-9)
    assert table[("far blob", "-log p")]["AUROC"].value == 1.0


def test_scores_without_rank_are_left_out():
    class Breaks(Normal):
        def log_prob(self, x, cond=None, *, effort=1, generator=None):
            found = super().log_prob(x)
            return replace(found, nats=torch.where(self.take(x)[:, 0] > 100, torch.nan, found.nats), kind=Unnormalised)

    own = plane(50)
    table = anomaly(Breaks(PLANE), own, {"broken": own + 200, "fine": own + 3}, reference=Split(own))
    assert set(table) == {("broken", "gradient"), ("fine", "-log p"), ("fine", "typicality"), ("fine", "gradient")}


def test_outliers_of_a_conditional_model_have_no_condition():
    model = Energetic(DataSpec((2,), Support("real"), Conditioning("classes", 3)))
    with pytest.raises(Unsupported, match="conditions, which outliers do not have"):
        anomaly(model, plane(30), {}, reference=Split(plane(30)))


def test_conditions_reach_likelihood_and_reference():
    class Shifted(Normal):
        def log_prob(self, x, cond=None, *, effort=1, generator=None):
            return super().log_prob(self.take(x) - cond[:, None].double())

    spec, y = DataSpec((2,), Support("real"), Conditioning("classes", 9)), torch.arange(40) % 9
    x = plane(40) + y[:, None]
    found = anomaly_scores(Shifted(spec), x, cond=y, reference=Split(x, y))
    plain = anomaly_scores(Normal(PLANE), plane(40), reference=Split(plane(40)))
    assert set(found) == {"-log p", "typicality"}
    for name, score in found.items():
        assert score.detach().numpy() == pytest.approx(plain[name].detach().numpy(), abs=1e-5)  # float32 data up to 9


SPECS = {
    "points": PLANE,
    "table": DataSpec((5,), Support("real")),
    "line": DataSpec((1,), Support("real")),
    "grey": IMAGES,
    "digits": DataSpec((1, 8, 8), Support("levels", 17)),
    "binary": DataSpec((1, 8, 8), Support("binary")),
    "colour": DataSpec((3, 8, 8), Support("levels", 256)),
    "real images": DataSpec((1, 8, 8), Support("real")),
    "text": DataSpec((30,), Support("tokens", 300)),
}


def data(spec: DataSpec, num: int = 60) -> Tensor:
    if not spec.support.discrete:
        return normal(num, *spec.shape).float()
    return torch.randint(spec.support.count, (num, *spec.shape), generator=generator()).to(spec.dtype)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_outliers_are_data_of_the_same_kind_that_the_seed_fixes(spec):
    x = data(spec)
    found, again = outliers(x, spec, seed=3), outliers(x, spec, seed=3)
    assert found.keys() == again.keys()
    for name, rows in found.items():
        assert rows.dtype == x.dtype
        assert rows.shape == x.shape
        assert torch.equal(rows, again[name])
        assert not torch.equal(rows, x)
    assert any(not torch.equal(rows, found[name]) for name, rows in outliers(x, spec, seed=4).items())


def test_which_outliers_there_are():
    image = {"uniform noise", "constant", "permuted", "upside down", "inverted"}
    point = {"uniform, wide box", "far blob", "rotated"}
    assert {name: set(outliers(data(spec), spec)) for name, spec in SPECS.items()} == {
        "points": point,
        "table": point,
        "line": point - {"rotated"},
        **dict.fromkeys(("grey", "digits", "binary", "colour", "real images"), image),
        "text": {"uniform noise", "constant", "permuted"},
    }


def test_outliers_of_images_are_what_they_are_called():
    x = data(IMAGES)
    found = outliers(x, IMAGES)
    assert torch.equal(found["upside down"], torch.from_numpy(x.numpy()[:, :, ::-1].copy()))
    assert torch.equal(found["inverted"], (255 - x.long()).byte())
    assert torch.equal(found["permuted"].flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    one = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(20, 1, 8, 8)
    assert len(outliers(one, IMAGES)["permuted"].unique(dim=0)) == 1  # one order for all
    assert bool((found["constant"].flatten(1) == found["constant"].flatten(1)[:, :1]).all())
    assert len(found["constant"].flatten(1)[:, 0].unique()) > 30


def test_outliers_of_points_are_what_they_are_called():
    x = plane(4000) * torch.tensor([2.0, 1.0]) + torch.tensor([5.0, 0.0])
    found = outliers(x, PLANE)
    low, high = x.amin(0), x.amax(0)
    box = found["uniform, wide box"]
    # 4,000 uniform draws leave the outer thousandth of a side empty with probability (1 - 1e-3)^4000 = 2%; a hundredth, 1e-17.
    assert torch.allclose(box.amin(0), low - (high - low), atol=0.03 * float((high - low).max()))
    assert torch.allclose(box.amax(0), high + (high - low), atol=0.03 * float((high - low).max()))
    away = (found["far blob"].mean(0) - x.mean(0)) / x.std(0)
    assert float(away.norm()) == pytest.approx(10, abs=0.2)  # standard error of a mean of 4,000: 0.016
    u, v = ((p - x.mean(0)) / x.std(0) for p in (x, found["rotated"]))
    assert torch.allclose(v, torch.stack([-u[:, 1], u[:, 0]], 1), atol=1e-5)


def test_near_outliers_are_checked_and_kept():
    x = data(IMAGES)
    assert torch.equal(outliers(x, IMAGES, near={"others": x[:5]})["others"], x[:5])
    with pytest.raises(BadInput, match=r"others must have shape .* got"):
        outliers(x, IMAGES, near={"others": x[:, :, :4]})


def test_outliers_need_data():
    with pytest.raises(BadInput, match="at least 20"):
        outliers(data(IMAGES, 19), IMAGES)


def test_rounding_of_the_share_of_inliers_costs_none():
    # 0.07 * 100 is 7.000000000000001 in floating point; the threshold is the seventh inlier all the same.
    a = torch.arange(100.0)
    assert fpr_at_tpr(a, a + 0.5, tpr=0.07).value == pytest.approx(0.06)
