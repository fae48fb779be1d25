"""Stopping a run in good order: signals, and the lock that keeps a second process out of a run's folder."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sixfold.core.errors import BadInput


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and has saved itself.

    Args:
        folder: of the run, from which it can go on.
        signum: SIGINT or SIGTERM.
        step: after which it stopped.
    """

    def __init__(self, folder: Path, signum: int, step: int) -> None:
        super().__init__(f"stopped after step {step}, saved in {folder}. Go on with --resume (resume=True).")
        self.folder, self.signum = folder, signum

    @property
    def exit_code(self) -> int:
        """Of a process that ends by this signal: 130 or 143."""
        return 128 + self.signum


class Stop:
    """Within this block SIGINT and SIGTERM ask for a stop at the end of the step; the second one stops at once.

    Outside the main thread, where Python delivers no signals, it does nothing.

    Args:
        insist: whether a second signal counts. torchrun passes on what the terminal has already sent.
    """

    def __init__(self, *, insist: bool = True) -> None:
        self.asked: int | None = None
        self._insist = insist
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def _ask(self, signum: int, _frame: FrameType | None) -> None:
        if self.asked is not None and self._insist:
            raise KeyboardInterrupt
        self.asked = signum


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from training in this folder; the system releases it however this process ends.

    Raises:
        BadInput: when another process trains here, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(f"{folder}: cannot hold a run, {error.strerror}. Choose another folder.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BadInput(f"{folder}: another process is training here. Wait for it, or choose another folder.") from error
    try:
        yield
    finally:
        os.close(descriptor)
