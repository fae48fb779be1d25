"""Where runs are scored: each data set and its floor are made once and shared by all."""

from __future__ import annotations

from sixfold.compare.record import Floor, RunRecord, floor_of, score_run
from sixfold.core.dataset import Dataset
from sixfold.run.folder import RunFolder
from sixfold.run.training import dataset_of, load_run

SCORED = 10_000


class Bench:
    """Scores runs on the test split of their own data.

    Args:
        rows: test data whose likelihood is averaged, and samples whose distance is taken, at most.
    """

    def __init__(self, *, rows: int = SCORED) -> None:
        self.rows = rows
        self._made: dict[tuple[str, bool], tuple[Dataset, Floor]] = {}

    def data(self, name: str, *, conditional: bool) -> tuple[Dataset, Floor]:
        """The data set and what a perfect model would reach on it."""
        key = (name, conditional)
        if key not in self._made:
            dataset = dataset_of(name, conditional=conditional)
            self._made[key] = dataset, floor_of(dataset, count=min(self.rows, len(dataset.test)))
        return self._made[key]

    def data_of(self, folder: RunFolder) -> tuple[Dataset, Floor]:
        """What a run was trained on, and the floor."""
        settings = folder.config()["settings"]
        return self.data(settings["data"], conditional=settings["conditional"])

    def score(self, folder: RunFolder) -> RunRecord:
        """The record of a trained run."""
        dataset, floor = self.data_of(folder)
        seconds = next((row["seconds"] for row in reversed(folder.metrics()) if "seconds" in row), float("nan"))
        return score_run(load_run(folder.path), dataset, seconds=seconds, floor=floor, rows=self.rows)
