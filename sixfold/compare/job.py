"""What is to be trained or scored, as plain values that travel to another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sixfold.run.training import Settings


@dataclass(frozen=True)
class Job:
    """One training: a model, its data, what differs from its recipe, and the row of the table that it belongs to."""

    model: str
    data: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.settings.get("seed", 0))

    @property
    def row(self) -> str:
        """Label of its row: the model's name unless it has one of its own."""
        return self.label or self.model

    @property
    def title(self) -> str:
        """As the progress bar calls it."""
        return f"{self.row} on {self.data}, seed {self.seed}"

    @property
    def stem(self) -> str:
        """Name of its folder and files."""
        return Settings.stem_of(self.data, f"{self.row}-seed{self.seed}")

    def asked(self) -> Settings:
        """What the run is to be.

        Raises:
            BadInput: for an unknown model or option.
        """
        return Settings.of(self.model, self.data, settings=self.settings)


@dataclass(frozen=True)
class Task:
    """What one process does at a time: train a job if there is one, and score a run, or else the references of a data set.

    Args:
        data: name of the data.
        title: as the progress bar calls it.
        place: of the record and of the exhibit, without ending; of references the folder of theirs.
        folder: of the run; ``None`` for references.
        job: to train first; ``None`` for a run that is trained already.
        label: row of the run.
    """

    data: str
    title: str
    place: Path
    folder: Path | None = None
    job: Job | None = None
    label: str = ""
