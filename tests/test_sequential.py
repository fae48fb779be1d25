"""Samplers of autoregressive models: equal under the same noise, cut as asked, exact where they say so."""

import itertools

import pytest
import torch
from scipy import stats

from sixfold.core.errors import BadInput
from sixfold.core.registry import build
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.prob.heads import Categorical, Gaussian, Taste
from sixfold.prob.sequential import WAYS, cached, fixed_point, naive

ALARM = 1e-4  # false-alarm rate of each statistical test
CLASSES = Conditioning("classes", 3)

IMAGES = {
    "binary": DataSpec((1, 4, 4), Support("binary")),
    "levels": DataSpec((1, 4, 4), Support("levels", 5), CLASSES),
    "colours": DataSpec((3, 2, 4), Support("levels", 4)),
    "real": DataSpec((1, 4, 4), Support("real")),
}
MODELS = {
    "made": ("autoregressive/made", {"width": 24, "orders": 2}),
    "pixelcnn": ("autoregressive/pixelcnn", {"width": 6, "depth": 2, "inner": 8}),
    "patches": ("autoregressive/pixelcnn", {"width": 6, "depth": 2, "inner": 8, "patch": 2, "dilate": 1}),
    "logistics": ("autoregressive/pixelcnn", {"width": 6, "depth": 1, "inner": 8, "components": 3}),
    "transformer": ("autoregressive/transformer", {"width": 8, "depth": 1, "heads": 2, "inner": 8, "patch": 2}),
}
TASTES = [{}, {"temperature": 0.6}, {"top_k": 2}, {"top_p": 0.7, "temperature": 1.3}]


def scrambled(name, spec, *, seed=0, scale=0.4, **options):
    """A model in float64 with random parameters, so that nothing is zero by its start."""
    registered, chosen = MODELS[name]
    model = build(registered, spec, **chosen | options).double()
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=scale, generator=generator)
    return model.eval()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def labels(spec, num):
    return None if spec.cond.kind == "none" else torch.arange(num) % spec.cond.size


def everything(spec):
    """All possible data, (V^D, *shape)."""
    rows = itertools.product(range(spec.support.count), repeat=spec.dims)
    return torch.tensor(list(rows), dtype=spec.dtype).reshape(-1, *spec.shape)


def case(name, kind, taste):
    """Whether values can be cut as asked; only lists of values can."""
    return pytest.param(name, kind, taste, id=f"{name}-{kind}-{taste}")


CASES = [
    case(name, kind, taste)
    for name, kind, taste in itertools.product(MODELS, IMAGES, TASTES)
    if kind != "real" or not taste.keys() & {"top_k", "top_p"}
]


@pytest.mark.parametrize(("name", "kind", "taste"), CASES)
def test_all_samplers_draw_the_same_from_the_same_noise(name, kind, taste):
    spec = IMAGES[kind]
    model, cond = scrambled(name, spec), labels(spec, 12)
    drawn = {s: model.sample(12, cond=cond, generator=seeded(1), sampler=s, **taste) for s in WAYS}
    # Discrete draws differ where a uniform falls between two roundings of an edge: odds of 1e-13 in float64.
    for each in ("cached", "fixed-point"):
        torch.testing.assert_close(drawn[each], drawn["naive"], rtol=0, atol=1e-10 if kind == "real" else 0)
    assert len(drawn["naive"].flatten(1).unique(dim=0)) > 6


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["levels", "real"])
def test_all_samplers_complete_alike(name, kind):
    spec = IMAGES[kind]
    model, cond = scrambled(name, spec), labels(spec, 9)
    x, known = model.sample(9, cond=cond, generator=seeded(1)), torch.rand(9, *spec.shape, generator=seeded(2)) < 0.5
    filled = {s: model.fill(x, known, cond=cond, generator=seeded(3), tries=2, sampler=s) for s in WAYS}
    for each in WAYS:
        assert torch.equal(filled[each].x[known], x[known])
        assert not filled[each].exact
        torch.testing.assert_close(filled[each].x, filled["naive"].x, rtol=0, atol=1e-10 if kind == "real" else 0)
    assert bool((filled["naive"].x != x).any())


@pytest.mark.parametrize("name", ["pixelcnn", "transformer"])
def test_passes_of_the_network_are_as_few_as_stated(name):
    """One, one for each element, and as many as the data need: no more than elements, one more than they depend on in a row."""
    model = scrambled(name, IMAGES["binary"])
    noise = torch.rand(5, 16, 1, generator=seeded(1), dtype=torch.float64)

    def run(sampler):
        u = torch.zeros(5, 16, dtype=torch.long)
        return sampler(model.chain(0, None), u, lambda p, i: model.head.pick(p, noise[:, i]))

    counts = {sampler: run(sampler)[1] for sampler in (naive, cached, fixed_point)}
    assert (counts[naive], counts[cached]) == (16, 1)
    assert 1 < counts[fixed_point] <= 16
    for p in model.net.parameters():  # nothing depends on anything: the second pass finds nothing to change
        torch.nn.init.zeros_(p)
    assert run(fixed_point)[1] == 2


@pytest.mark.parametrize("name", ["patches", "transformer"])
def test_samples_have_the_stated_probabilities(name):
    spec, num = DataSpec((1, 2, 4), Support("binary")), 3000
    model = scrambled(name, spec)
    code = 2 ** torch.arange(7, -1, -1)
    for sampler in WAYS:
        drawn = model.sample(num, generator=seeded(4), sampler=sampler).flatten(1).long()
        p = model.log_prob(everything(spec)).nats.exp()
        counts, often = (drawn * code).sum(1).bincount(minlength=256).double(), p * num >= 5
        pooled = [torch.cat([v[often], v[~often].sum()[None]]).numpy() for v in (counts, p * num)]
        assert stats.chisquare(*pooled).pvalue > ALARM / 3


@pytest.mark.parametrize("name", ["pixelcnn", "patches", "transformer"])
def test_a_completion_is_exact_where_the_known_come_first(name):
    spec = DataSpec((1, 4, 2), Support("binary"))
    model, num = scrambled(name, spec), 5000
    x = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0], dtype=torch.uint8).reshape(1, 4, 2)
    known = torch.arange(8).reshape(1, 4, 2) < 4  # two rows: of patches, the first
    filled = model.fill(x.expand(num, 1, 4, 2), known, generator=seeded(5))
    assert filled.exact
    every = everything(spec)
    p = model.log_prob(every).nats.exp() * (every == x).flatten(1)[:, :4].all(1)
    counts = (filled.x.flatten(1).long() * 2 ** torch.arange(7, -1, -1)).sum(1).bincount(minlength=256)
    assert not bool(counts[p == 0].any())
    expected = (num * p / p.sum())[p > 0]
    assert float(expected.min()) > 5
    assert stats.chisquare(counts[p > 0].numpy(), expected.numpy()).pvalue > ALARM


@pytest.mark.parametrize(
    ("known", "taste", "exact"),
    [
        (torch.arange(16) < 8, {}, True),
        (torch.arange(16) < 5, {}, True),  # in the midst of a row
        (torch.arange(16) >= 8, {}, False),
        (torch.arange(16) % 4 < 2, {}, False),
        (torch.arange(16) < 8, {"top_p": 0.9}, False),
        (torch.arange(16) < 8, {"temperature": 0.5}, False),
        (torch.ones(16, dtype=torch.bool), {}, True),
    ],
)
def test_a_completion_says_whether_it_is_exact(known, taste, exact):
    model = scrambled("pixelcnn", IMAGES["binary"])
    x = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    assert model.fill(x, known.reshape(1, 4, 4), tries=2, generator=seeded(), **taste).exact is exact


@pytest.mark.parametrize("name", ["pixelcnn", "transformer"])
def test_more_tries_come_closer_to_the_conditional(name):
    spec, num = DataSpec((1, 2, 4), Support("binary")), 600
    model = scrambled(name, spec)
    x, known = torch.ones(num, 1, 2, 4, dtype=torch.uint8), torch.arange(8).reshape(1, 2, 4) >= 4
    every = everything(spec)
    p = model.log_prob(every).nats.exp() * (every == 1).flatten(1)[:, 4:].all(1)
    away = []
    for tries in (1, 32):
        filled = model.fill(x, known, tries=tries, generator=seeded(6)).x.flatten(1).long()
        share = (filled * 2 ** torch.arange(7, -1, -1)).sum(1).bincount(minlength=256) / num
        away.append(float((share - p / p.sum()).abs().sum() / 2))
    assert away[1] < 0.1 < away[0]  # 16 cells and 600 draws: chance alone keeps them 0.05 apart


@pytest.mark.parametrize("sampler", WAYS)
def test_sampling_in_parts_keeps_rows_with_their_conditions(sampler, monkeypatch):
    spec = IMAGES["levels"]
    model, cond = scrambled("pixelcnn", spec), labels(spec, 10)
    monkeypatch.setattr(model, "walked", 3)
    monkeypatch.setattr(model, "rows", 2)
    joint, generator = model.sample(10, cond=cond, generator=seeded(7), sampler=sampler), seeded(7)
    model.draws(10, generator).integers(1)  # the order of each datum is drawn first
    parts = []
    for rows in torch.split(torch.arange(10), 3):
        noise = model.head.noise(model.draws(len(rows), generator), 16)
        u = torch.zeros(len(rows), 16, dtype=torch.long)
        chain = model.chain(0, spec.cond.features(cond[rows], noise))
        parts.append(naive(chain, u, lambda p, i, noise=noise: model.head.pick(p, noise[:, i]))[0])
    assert torch.equal(joint.flatten(1).long(), torch.cat(parts))


def test_completing_in_parts_keeps_rows_with_their_conditions(monkeypatch):
    """Completions are likelier under the conditions that they were drawn under than under others."""
    spec = IMAGES["levels"]
    model, cond = scrambled("pixelcnn", spec, scale=1.0), labels(spec, 30)
    x = model.sample(30, cond=cond, generator=seeded(8))
    monkeypatch.setattr(model, "walked", 8)
    monkeypatch.setattr(model, "rows", 5)
    known = torch.rand(30, *spec.shape, generator=seeded(1)) < 0.5
    filled = model.fill(x, known, cond=cond, tries=4, generator=seeded(9)).x
    assert torch.equal(filled[known], x[known])
    own, other = (model.log_prob(filled, c).nats.mean() for c in (cond, (cond + 1) % 3))
    assert own > other + 1


def logits():
    return torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("taste", "kept"),
    [
        (Taste(), [0, 1, 2, 3, 4]),
        (Taste(top_k=1), [1]),
        (Taste(top_k=3), [1, 3, 4]),
        (Taste(top_k=9), [0, 1, 2, 3, 4]),
        (Taste(top_p=0.0), [1]),
        (Taste(top_p=0.39), [1]),
        (Taste(top_p=0.41), [1, 3]),
        (Taste(top_p=0.84), [1, 3, 4]),
        (Taste(top_p=0.86), [0, 1, 3, 4]),
        (Taste(top_k=2, top_p=0.5), [1]),  # of two values that hold 4/7 and 3/7
        (Taste(temperature=0.1, top_p=0.9), [1]),  # 0.4^10 holds 0.95 after cooling
        (Taste(temperature=0.1, top_p=0.96), [1, 3]),
    ],
)
def test_cuts_keep_the_likeliest_values(taste, kept):
    left = taste.logits(logits())
    assert left.isfinite().nonzero().flatten().tolist() == kept
    # What is left keeps its ratios at the temperature.
    expected = (logits()[kept] / taste.temperature).softmax(0)
    torch.testing.assert_close(left.softmax(0)[kept], expected, rtol=1e-12, atol=0)


def test_of_equal_values_as_many_are_kept_as_asked():
    assert Taste(top_k=2).logits(torch.zeros(3, 5)).isfinite().sum(-1).tolist() == [2, 2, 2]
    assert Taste(top_p=0.5).logits(torch.zeros(3, 4)).isfinite().sum(-1).tolist() == [2, 2, 2]


def test_cuts_act_on_each_row_alone():
    p = torch.rand(50, 7, generator=seeded(1), dtype=torch.float64).log()
    for taste in (Taste(top_k=3), Taste(top_p=0.6)):
        torch.testing.assert_close(taste.logits(p), torch.stack([taste.logits(row) for row in p]), rtol=0, atol=0)


def test_cut_values_are_never_drawn():
    head = Categorical(5, ordered=True)
    noise = torch.linspace(0, 1 - 1e-12, 1001, dtype=torch.float64)[:, None]
    drawn = head.pick(logits().expand(1001, 5), noise, Taste(top_k=2))
    share = drawn.bincount(minlength=5).double() / 1001
    torch.testing.assert_close(share, torch.tensor([0, 4 / 7, 0, 3 / 7, 0], dtype=torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("taste", [{"top_k": 2}, {"top_p": 0.5}])
def test_real_data_cannot_be_cut(taste):
    with pytest.raises(BadInput, match=r"no list of values to cut.*Use temperature"):
        scrambled("pixelcnn", IMAGES["real"]).sample(2, **taste)
    with pytest.raises(BadInput, match="no list of values"):
        Gaussian().pick(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1), Taste(**taste))
