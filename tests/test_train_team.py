"""Two processes that share each batch are one process with the joint batch; and none waits for a lost one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import PLANE, Blob, plane

from sixfold.core.errors import Unsupported
from sixfold.core.registry import build
from sixfold.train import start
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe
from sixfold.train.team import Team

CHILD = Path(__file__).with_name("train_child.py")
RECIPE = {"steps": 30, "batch": 32, "lr": 1e-3, "ema": 0.9, "log_every": 1, "validate_every": 0.2, "validate_rows": 100}
MODELS = ("tiny:Blob", "tiny:Duel")
LAUNCH = "import sys; from sixfold.train.team import launch; launch(2, sys.argv[1:])"


def two(*orders: dict) -> subprocess.CompletedProcess:
    """Two gloo processes on the loopback, as ``--devices 2`` starts them."""
    path = os.pathsep.join([str(CHILD.parent), str(CHILD.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LAUNCH, str(CHILD), *map(json.dumps, orders)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def there() -> dict[str, dict]:
    """What came of both models in two processes."""
    done = two(*({"model": name, "recipe": {**RECIPE, "devices": 2}} for name in MODELS))
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(MODELS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_are_one_with_the_joint_batch(name, there):
    """Every loss, part, norm, validation and parameter of 30 rounds, to 1e-6 relative or absolute.

    The mean over a batch is summed in another order, which is one float32 rounding (6e-8) a sum; at this learning rate 30
    updates amplify it less than tenfold.
    """
    torch.manual_seed(0)
    model = build(name, PLANE)
    fit = fit_model(model, plane(), Recipe(**RECIPE))
    here = [record["players"] for record in fit.history if "players" in record]
    assert len(here) == 30
    assert numbers(here) == pytest.approx(numbers(there[name]["players"]), rel=1e-6, abs=1e-6)
    assert [r["valid"] for r in fit.history if "valid" in r] == pytest.approx(there[name]["valid"], rel=1e-6)
    for key, tensor in model.state_dict().items():
        expected = torch.tensor(there[name]["state"][key], dtype=tensor.dtype)
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-6)


def numbers(history: list[dict[str, dict[str, float]]]) -> list[float]:
    """Every number of a history in a row."""
    return [value for record in history for player in record.values() for value in player.values()]


def test_a_lost_process_ends_the_others():
    """The second process dies in mid-run: the launcher ends well within the time that the first would wait for it."""
    done = two({"model": "tiny:Blob", "recipe": {**RECIPE, "devices": 2, "steps": 10**6}, "die_in_rank": 1})
    assert done.returncode != 0


def test_a_loss_that_couples_the_batch_is_not_shared(monkeypatch):
    model = Blob(PLANE)
    model.couples_batch = True
    with pytest.raises(Unsupported, match="couples the batch; got 2 processes"):
        start.check(model, plane(), Team(0, 2))
    start.check(model, plane(), Team())
