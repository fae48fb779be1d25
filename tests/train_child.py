"""One training run in a process of its own: ``python train_child.py '{"model": "tiny:Blob", ...}'`` prints what came of it."""

import json
import os
import signal
import sys
import zlib

import torch
from tiny import PLANE, plane

from sixfold.core.errors import SixfoldError
from sixfold.core.registry import build
from sixfold.train import team
from sixfold.train.checkpoint import raw_bytes
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe
from sixfold.train.stop import Interrupted


def digest(model) -> int:
    """Checksum of every parameter and buffer."""
    total = 0
    for tensor in model.state_dict().values():
        total = zlib.crc32(raw_bytes(tensor), total)
    return total


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


def main() -> None:
    torch.set_num_threads(1)
    order = json.loads(sys.argv[1])
    if "die_at" in order:
        die_at(order["die_at"])
    torch.manual_seed(0)
    model = build(order["model"], PLANE, **order.get("options", {}))
    rank = int(os.environ.get("RANK", "0"))

    def on_step(progress) -> None:
        print(f"step {progress.step}", flush=True)

    try:
        fit = fit_model(
            model, plane(), Recipe(**order["recipe"]), folder=order.get("folder"), resume=order.get("resume", False),
            on_step=on_step if order.get("talk") else None,
        )  # fmt: skip
    except Interrupted as stopped:
        print(stopped, flush=True)
        sys.exit(stopped.exit_code)
    except SixfoldError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        if "RANK" in os.environ:
            team.leave(2)
        sys.exit(2)
    if rank == 0:
        players = [record["players"] for record in fit.history if "players" in record]
        valid = [record["valid"] for record in fit.history if "valid" in record]
        state = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
        print(json.dumps({"digest": digest(model), "players": players, "valid": valid, "state": state}), flush=True)
    if "RANK" in os.environ:
        team.leave()


if __name__ == "__main__":
    main()
