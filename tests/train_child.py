"""Training in a process of its own: ``python train_child.py '{"model": "tiny:Blob", ...}' ...`` prints what came of each run."""

import json
import os
import signal
import sys

import torch
from tiny import PLANE, plane

from sixfold.core.registry import build
from sixfold.train import team
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe
from sixfold.train.stop import Interrupted

RANK = int(os.environ.get("RANK", "0"))


def die_in_sync(call: int) -> None:
    """SIGKILL when the disk is told for the n-th time to keep what has been written, which is cut to 100 bytes first."""
    calls = 0
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            os.ftruncate(descriptor, 100)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = fsync


def die_in_update(model, update: int, rank: int | None = None) -> None:
    """SIGKILL after the n-th update of any player."""
    updates = 0
    after = model.after_step

    def after_step(player: str) -> None:
        nonlocal updates
        after(player)
        updates += 1
        if updates == update and rank in (None, RANK):
            os.kill(os.getpid(), signal.SIGKILL)

    model.after_step = after_step


def run(order: dict) -> None:
    """Train as ordered and print what came of it."""
    torch.manual_seed(0)
    model = build(order["model"], PLANE, **order.get("options", {}))
    die = order.get("die_at", {})
    if "update" in die:
        die_in_update(model, **die)
    if "sync" in die:
        die_in_sync(die["sync"])

    def on_step(progress) -> None:
        print(f"step {progress.step}", flush=True)

    fit = fit_model(
        model, plane(), Recipe(**order["recipe"]), folder=order.get("folder"), resume=order.get("resume", False),
        on_step=on_step if order.get("talk") else None,
    )  # fmt: skip
    if RANK == 0:
        players = [record["players"] for record in fit.history if "players" in record]
        valid = [record["valid"] for record in fit.history if "valid" in record]
        state = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
        print(json.dumps({"players": players, "valid": valid, "state": state}), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    code = 0
    try:
        for order in map(json.loads, sys.argv[1:]):
            run(order)
    except Interrupted as stopped:
        print(stopped, flush=True)
        code = stopped.exit_code
    if "RANK" in os.environ:
        team.leave(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
