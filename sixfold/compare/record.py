"""What a comparison keeps of one scored model or reference: plain numbers with their intervals, as one JSON file.

Records are all that tables, findings and plots are made of, so a comparison that was interrupted goes on from them, and one
that is finished can be judged again without its models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sixfold.core import likelihood as kinds
from sixfold.core.errors import BadInput
from sixfold.core.likelihood import Kind, MeanLogProb, Measure
from sixfold.evaluate.score import Score
from sixfold.run.folder import write_text


@dataclass(frozen=True)
class Record:
    """One scored model, or one reference.

    Args:
        label: row of the table that it belongs to; seeds of one model share it.
        data: name of the data.
        model: registry name with preset; empty for a reference.
        seed: of the training, or of a reference's draws.
        scores: by key, as ``coverage@cnn``; :mod:`sixfold.compare.meaning` says what each is.
        likelihood: mean log-probability of the test data with its kind; ``None`` without one.
        failed: why there are no scores, as a divergence says it; empty when all went well.
        facts: what is said of the run beside its scores: device, steps, command.
    """

    label: str
    data: str
    model: str = ""
    seed: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    likelihood: MeanLogProb[Kind] | None = None
    failed: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_reference(self) -> bool:
        """Whether it stands for no model."""
        return not self.model

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` reads them back."""
        known = self.likelihood
        likelihood = None if known is None else vars(known) | {"kind": known.kind.__name__, "measure": known.measure.levels}
        return {**asdict(self), "likelihood": likelihood}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Record:
        """Inverse of :meth:`to_json`."""
        known = values["likelihood"]
        if known is not None:
            known = MeanLogProb(**{**known, "kind": getattr(kinds, known["kind"]), "measure": Measure(known["measure"])})
        scores = {key: Score(**{**s, "parts": tuple(s["parts"])}) for key, s in values["scores"].items()}
        return cls(**{**values, "scores": scores, "likelihood": known})


def write_record(record: Record, path: Path, *, protocol: Mapping[str, Any]) -> None:
    """Keep a record beside the protocol that it was made under."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"protocol": dict(protocol), "record": record.to_json()}, indent=1) + "\n")


def read_record(path: Path, *, protocol: Mapping[str, Any]) -> Record | None:
    """The record in a file; ``None`` when there is none, or one made under another protocol.

    Raises:
        BadInput: when the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Record.from_json(kept["record"]) if kept["protocol"] == json.loads(json.dumps(protocol)) else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is no record of a comparison: {error}. Remove it to have it made again.") from None
