"""What a comparison found on one data set, as the table, the note and the pictures take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sixfold.compare.exhibit import Exhibit
from sixfold.compare.record import Record
from sixfold.core.dataset import Dataset
from sixfold.evaluate.score import Score


@dataclass(frozen=True)
class Outcome:
    """Everything scored on one data set.

    Args:
        dataset: the data, with labels where the source has them.
        records: of models, all seeds, and of references.
        exhibits: by label; a model's is that of its first seed.
        curves: by label, a list a seed: the run's logged steps, as ``metrics.jsonl`` holds them.
        rows: test data that were scored.
        fingerprint: of the split, so that two reports can be told to be of the same data.
    """

    dataset: Dataset
    records: Sequence[Record]
    exhibits: Mapping[str, Exhibit] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    rows: int = 0
    fingerprint: str = ""

    @property
    def references(self) -> dict[str, Record]:
        """References by label."""
        return {r.label: r for r in self.records if r.is_reference}

    @property
    def labels(self) -> list[str]:
        """Labels of the models, in order of appearance."""
        return list(dict.fromkeys(r.label for r in self.records if not r.is_reference))

    def seeds(self, label: str) -> list[Record]:
        """Records of a row that were scored, a record a seed."""
        return [r for r in self.records if r.label == label and not r.failed]

    def failed(self, label: str) -> list[Record]:
        """Records of a row whose training diverged or could not be scored."""
        return [r for r in self.records if r.label == label and r.failed]

    def scores(self, label: str, key: str) -> list[Score]:
        """One metric of a row, a score a seed."""
        return [r.scores[key] for r in self.seeds(label) if key in r.scores]

    @property
    def keys(self) -> list[str]:
        """Every score that any record has, in order of appearance."""
        return list(dict.fromkeys(key for r in self.records for key in r.scores))
