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


def die_at(call: int) -> None:
    """SIGKILL in the middle of a checkpoint: when the disk is told to keep the part that has been written, or the renaming."""
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


def run(order: dict) -> None:
    """Train as ordered and print what came of it."""
    torch.manual_seed(0)
    model = build(order["model"], PLANE, **order.get("options", {}))
    if order.get("die_in_rank") == RANK:
        model.after_step = lambda player: os._exit(1)

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
            if "die_at" in order:
                die_at(order["die_at"])
            run(order)
    except Interrupted as stopped:
        print(stopped, flush=True)
        code = stopped.exit_code
    if "RANK" in os.environ:
        team.leave(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
