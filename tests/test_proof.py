"""Whether a comparison can be believed: it finds what is broken, and no difference where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import sixfold
from sixfold.compare.judge import better, contrast, distrust, excludes_zero
from sixfold.compare.meaning import meaning, name_of
from sixfold.compare.outcome import Outcome
from sixfold.compare.protocol import Ground, Protocol
from sixfold.compare.record import Record
from sixfold.compare.references import References
from sixfold.compare.score_model import score_model
from sixfold.compare.score_samples import score_samples
from sixfold.compare.table import in_short
from sixfold.core.errors import BadInput

POINTS = {"sliced", "two_sample", "density", "coverage", "distance_ratio", "near_duplicates"}
"""What sees every fault of points that it claims to see.

Frechet distances do not: two moments know no Gaussian from its data. Nor do kernels as wide as the median distance, where rings
or modes are blurred by less.
"""
WIDE = {"rbf"}
MODES = {"modes", "good"}
IMAGES = {"frechet_limit", "rbf", "density", "coverage", "class_shift", "distance_ratio", "near_duplicates"}
MANY = {"sliced", "two_sample"}
"""What sees faults of images too, once there are more test data than the 173 of the small digits."""

SEES = {
    "moons": POINTS | WIDE, "spirals": POINTS, "rings": POINTS, "ring8": POINTS | WIDE | MODES, "grid25": POINTS | MODES,
    "checkerboard": POINTS | WIDE, "pinwheel": POINTS | WIDE, "digits": IMAGES, "mnist": IMAGES | MANY,
    "fashion-mnist": IMAGES | MANY,
}  # fmt: skip
QUICK = {"moons", "digits"}


def referred(data: str, rows: int) -> dict[str, Record]:
    """Records of the references of a data set."""
    ground = Ground(Protocol(data, rows, ("samples", "novelty")))
    made = References(ground.dataset, ground.count).all()
    return {r.label: Record(r.label, data, scores=score_samples(ground, r.samples, train=r.train)) for r in made}


@pytest.mark.parametrize("data", [d if d in QUICK else pytest.param(d, marks=pytest.mark.slow) for d in SEES])
def test_the_references_rank(data):
    try:
        found = referred(data, 2000)
    except BadInput as missing:
        pytest.skip(str(missing))
    outcome = Outcome(sixfold.load_data(data), list(found.values()))
    short = {name_of(key): key for key in outcome.keys if in_short(outcome, key)}
    assert set(short) >= SEES[data]
    assert {name: why for name, key in short.items() if name in SEES[data] and (why := distrust(key, found))} == {}


@pytest.fixture(scope="module")
def ground() -> Ground:
    return Ground(Protocol("moons", 2000, ("likelihood", "samples")))


def trained(ground: Ground, steps: int, seeds: Sequence[int]) -> list[Record]:
    """One model from several seeds."""
    made = [sixfold.fit("autoregressive/made", ground.dataset.unconditional(), steps=steps, seed=seed) for seed in seeds]
    return [
        Record("m", "moons", "m", s, score_model(ground, m, seconds=None, seed=s).scores)
        for s, m in zip(seeds, made, strict=True)
    ]


@pytest.mark.slow
def test_seeds_of_one_model_are_not_told_apart_and_longer_training_is(ground):
    short, again, long = trained(ground, 100, range(3)), trained(ground, 100, range(3, 6)), trained(ground, 400, range(3))
    keys = [key for key in short[0].scores if meaning(key).main]

    def gap(a: list[Record], b: list[Record], key: str):
        return contrast([r.scores[key] for r in a], [r.scores[key] for r in b])

    assert [key for key in keys if excludes_zero(gap(short, again, key))] == []
    assert better(gap(long, short, "nll"), meaning("nll")) == 1
    assert better(gap(long, short, "excess"), meaning("excess")) == 1
    assert [key for key in keys if better(gap(long, short, key), meaning(key)) < 0] == []
