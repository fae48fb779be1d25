"""Where a run stands, and the bar that shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


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
        return ", ".join([*said, f"{self.speed:.0f}/s" if self.speed >= 10 else f"{self.speed:.1f}/s"])


class Bar:
    """A progress bar to hand to ``fit_model(on_step=...)``: model, share, losses, speed, time left.

    Args:
        name: of the model, as shown.
        console: where to draw; standard error by default.
        always: draw even where there is no terminal.

    Example:
        >>> with Bar("flow/realnvp") as bar:
        ...     bar(Progress(10, 100, 0.1, {"model": 1.5}))
    """

    def __init__(self, name: str, *, console: Console | None = None, always: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Rich

        console = console or Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"))
        self._rich = Rich(*columns, console=console, disable=not (always or console.is_terminal), transient=False)
        self._task = self._rich.add_task(name, total=1.0, said="")

    def __enter__(self) -> Bar:
        self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rich.stop()

    def __call__(self, progress: Progress) -> None:
        """Show where the run stands."""
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        self._rich.update(self._task, completed=progress.share, said=f"{progress}, {minutes}:{seconds:02d} left")
