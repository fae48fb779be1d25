"""Processes that share every batch, under torchrun.

Gradients are averaged by one all-reduce of one flat vector for each update of a player. PyTorch's own wrapper
(DistributedDataParallel) hooks into the backward pass of one module with one loss: it cannot tell one player's gradients from
another's, and its hooks do not fire in the second backward pass of a gradient penalty. A vector after the fact does both, and
carries loss, clock and a wish to stop along, so that all processes decide alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from sixfold.core.errors import BadInput, SixfoldError

PATIENCE = timedelta(minutes=5)
"""How long a process waits for the others before it gives the run up."""


class LostError(SixfoldError, RuntimeError):
    """Another process of the run has ended or does not answer."""


@dataclass(frozen=True)
class Team:
    """This process among those that share the batches; alone by default."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.world > 1:
            with _together():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Return when every process has come this far."""
        if self.world > 1:
            with _together():
                dist.barrier()

    def total(self, *values: float) -> list[float]:
        """Sum of each number over the processes."""
        if self.world == 1:
            return list(values)
        vector = torch.tensor(values, dtype=torch.float64, device=_device())
        with _together():
            dist.all_reduce(vector)
        return vector.tolist()

    def average(self, parameters: Sequence[Tensor], extras: Tensor) -> Tensor:
        """Mean over the processes of the parameters' gradients, in place, and of a few numbers, in one exchange.

        Args:
            parameters: with the gradients of this process' share; ``None`` where its loss does not reach.
            extras: numbers to average along, (E,).
        """
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        reached = extras.new_tensor([float(p.grad is not None) for p in parameters])
        flat = torch.cat([*(piece.flatten() for piece in pieces), reached, extras])
        with _together():
            dist.all_reduce(flat)
        flat /= self.world
        *pieces, reached, extras = torch.split(flat, [*(p.numel() for p in parameters), len(parameters), len(extras)])
        for parameter, piece, known in zip(parameters, pieces, (reached > 0).tolist(), strict=True):
            parameter.grad = piece.view_as(parameter) if known else None
        return extras


@contextmanager
def _together() -> Iterator[None]:
    """An exchange between processes, which fails when one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise LostError(f"another process of this run was lost ({why}). Go on from the last checkpoint with --resume.") from error


def _device() -> torch.device:
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def join(devices: int, *, cuda: bool) -> Team:
    """Meet the other processes that torchrun has started; alone without it.

    Args:
        devices: how many processes the recipe asks for.
        cuda: whether tensors live on GPUs, one for each process.

    Raises:
        BadInput: when the recipe asks for several processes and there are not as many.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if devices > 1 and devices != world:
        raise BadInput(f"devices={devices} but {world} runs. Use --devices {devices}, or torchrun --nproc-per-node {devices}.")
    if world == 1:
        return Team()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    return Team(dist.get_rank(), dist.get_world_size())


def leave(code: int = 0) -> NoReturn:
    """End a process of a team, after ``fit_model``, which has waited for the others.

    A gloo process that ends by Python's own way aborts now and then, after all work is done.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def launch(devices: int, command: Sequence[str]) -> NoReturn:
    """Replace this process by torchrun with that many processes on this machine.

    Args:
        devices: number of processes.
        command: what each of them runs, behind ``python``: ``["-m", "sixfold.cli.main", "fit", ...]`` or a script.
    """
    torchrun = ["-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={devices}", "--rdzv-backend=c10d",
                "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", "--no-python"]  # fmt: skip
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *torchrun, sys.executable, *command])  # noqa: S606 - this very interpreter, no shell
