"""What the recipes reach on two moons: each model of the demonstration against the truth."""

from __future__ import annotations

import pytest
import torch

import sixfold
from sixfold.compare.protocol import Ground, Protocol
from sixfold.compare.score_model import score_model
from sixfold.compare.suite import read_suite
from sixfold.evaluate.sliced import sliced_floor, sliced_wasserstein

WITHIN = {"vae": 0.20, "energy": 0.10}  # nats above the truth; 0.05 for the others
TWICE = 2.0  # the distance between two real samples of 10,000


@pytest.fixture(scope="module")
def ground() -> Ground:
    return Ground(Protocol("moons", 10_000, ("likelihood",)))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def floor(ground) -> float:
    """Mean distance between independent samples of the truth."""
    return sliced_floor([ground.dataset.truth.sample(10_000, generator=generator(seed)) for seed in range(20, 26)])


@pytest.mark.slow
@pytest.mark.parametrize("name", [job.model for job in read_suite("demo").on(["moons"]).jobs()])
def test_recipes_solve_two_moons(name, ground, floor):
    model = sixfold.fit(name, ground.dataset.unconditional())
    scored = score_model(ground, model, seconds=None)
    family = name.partition("/")[0]
    assert ("excess" in scored.scores) == (family != "gan")
    assert "excess" not in scored.scores or scored.scores["excess"].value < WITHIN.get(family, 0.05)
    x = model.sample(10_000, generator=generator(0))
    assert sliced_wasserstein(x, ground.real) < TWICE * floor
