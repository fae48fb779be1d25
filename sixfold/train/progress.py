"""Where a run stands, and the bar that shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


ROWS = 12
"""Rows of bars beyond which those that are done make room."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        step: rounds played.
        total: rounds of the whole run; ``None`` where the budget is a time.
        share: of the budget that is spent, in [0, 1].
        losses: latest loss of each player.
        parts: latest logged parts of each player's loss.
        speed: steps a second, over this process.
        seconds_left: until the budget is spent, at this speed.
        valid: latest validation criterion, where there is one.
    """

    step: int
    total: int | None
    share: float
    losses: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    speed: float = 0.0
    seconds_left: float = 0.0
    valid: float | None = None

    def __str__(self) -> str:
        """One line: losses, validation, speed."""
        many = len(self.losses) > 1
        said = [f"{name if many else 'loss'} {value:.4g}" for name, value in self.losses.items()]
        said += [] if self.valid is None else [f"valid {self.valid:.4g}"]
        speed = f"{self.speed:.0f}/s" if self.speed >= 10 else f"{self.speed:.1f}/s"
        return ", ".join([*said, *([speed] if self.speed else [])])


class Bars:
    """Progress bars of several runs at once, a row for each: model, share, losses, speed, time left.

    Args:
        console: where to draw; standard error by default.
        always: draw even where there is no terminal.

    Example:
        >>> with Bars() as bars:
        ...     bars("flow/realnvp", Progress(10, 100, 0.1, {"model": 1.5}))
    """

    def __init__(self, *, console: Console | None = None, always: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Rich

        console = console or Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"))
        self._rich = Rich(*columns, console=console, disable=not (always or console.is_terminal), transient=False)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rich.stop()

    def __call__(self, name: str, progress: Progress) -> None:
        """Show where the run of that name stands."""
        if name not in self._tasks:
            self._tasks[name] = self._rich.add_task(name, total=1.0, said="")
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        said = ", ".join(filter(None, [str(progress), f"{minutes}:{seconds:02d} left" if progress.speed else ""]))
        self._rich.update(self._tasks[name], completed=progress.share, said=said)
        if progress.share >= 1.0 and len(self._tasks) > ROWS:
            self._rich.update(self._tasks[name], visible=False)


class Bar:
    """The progress bar of one run, to hand to ``fit_model(on_step=...)``.

    Args:
        name: of the model, as shown.
        console: where to draw; standard error by default.
        always: draw even where there is no terminal.

    Example:
        >>> with Bar("flow/realnvp") as bar:
        ...     bar(Progress(10, 100, 0.1, {"model": 1.5}))
    """

    def __init__(self, name: str, *, console: Console | None = None, always: bool = False) -> None:
        self._name, self._bars = name, Bars(console=console, always=always)

    def __enter__(self) -> Bar:
        self._bars.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.__exit__(kind, error, trace)

    def __call__(self, progress: Progress) -> None:
        """Show where the run stands."""
        self._bars(self._name, progress)
