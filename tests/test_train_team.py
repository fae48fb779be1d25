"""Two processes that share each batch are one process with the joint batch; and none waits for a lost one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import PLANE, Blob, plane

from sixfold.core.errors import Unsupported
from sixfold.core.registry import build
from sixfold.train import start
from sixfold.train.checkpoint import read
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe
from sixfold.train.team import Team

CHILD = Path(__file__).with_name("train_child.py")
RECIPE = {"steps": 30, "batch": 32, "lr": 1e-3, "ema": 0.9, "log_every": 1, "validate_every": 0.2, "validate_rows": 200}
TINY, REAL = ("tiny:Blob", "tiny:Duel"), ("flow/realnvp", "gan/gan", "diffusion/ddpm", "vae/vae", "autoregressive/made")
MODELS = {name: {**RECIPE, "precision": "float64"} if "/" in name else RECIPE for name in (*TINY, *REAL)}
LAUNCH = "import sys; from sixfold.train.team import launch; launch(2, sys.argv[1:])"


def started(*orders: dict) -> subprocess.Popen:
    """Two gloo processes on the loopback, as ``--devices 2`` starts them, in a process group as a terminal has it."""
    path = os.pathsep.join([str(CHILD.parent), str(CHILD.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LAUNCH, str(CHILD), *map(json.dumps, orders)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def two(*orders: dict) -> tuple[int, str, str]:
    """Exit code and output of two processes that are left to themselves."""
    with started(*orders) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def there() -> dict[str, dict]:
    """What came of both models in two processes."""
    code, out, err = two(*({"model": name, "recipe": {**recipe, "devices": 2}} for name, recipe in MODELS.items()))
    assert code == 0, out + err
    return dict(zip(MODELS, map(json.loads, out.splitlines()), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_are_one_with_the_joint_batch(name, there):
    """Every loss, part, norm, validation and parameter of 30 rounds, to 1e-6 relative or absolute.

    The mean over a batch is summed in another order, which is one float32 rounding (6e-8) a sum; at this learning rate 30
    updates amplify it less than tenfold. The networks of real models, in which Adam turns the rounding of a vanishing gradient
    into a whole step, are compared in float64.
    """
    torch.manual_seed(0)
    model = build(name, PLANE)
    fit = fit_model(model, plane(), Recipe(**MODELS[name]))
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
    recipe = {**RECIPE, "devices": 2, "steps": 10**6}
    code, _, err = two({"model": "tiny:Blob", "recipe": recipe, "die_at": {"update": 3, "rank": 1}})
    assert code != 0
    assert "Signal 9 (SIGKILL)" in err


def test_ctrl_c_saves_a_shared_run_which_one_process_can_go_on_with(tmp_path):
    """A terminal sends SIGINT to every process of the group, and the launcher passes it on once more."""
    recipe = {**RECIPE, "steps": 10**6, "log_every": 20, "validate_every": 0.0}
    with started({"model": "tiny:Duel", "recipe": {**recipe, "devices": 2}, "folder": str(tmp_path), "talk": True}) as process:
        while process.stdout.readline() and not (tmp_path / "metrics.jsonl").exists():
            pass
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"saved in {tmp_path}. Go on with --resume" in out
    reached = read(tmp_path).header["counters"]["rounds"]
    model = build("tiny:Duel", PLANE)
    fit = fit_model(model, plane(), Recipe(**{**recipe, "steps": reached + 20}), folder=tmp_path, resume=True)
    assert fit.steps == reached + 20
    assert model.turns.tolist() == [2.0 * fit.steps, fit.steps]


def test_a_loss_that_couples_the_batch_is_not_shared(monkeypatch):
    model = Blob(PLANE)
    model.couples_batch = True
    with pytest.raises(Unsupported, match="couples the batch; got 2 processes"):
        start.check(model, plane(), Team(0, 2))
    start.check(model, plane(), Team())
