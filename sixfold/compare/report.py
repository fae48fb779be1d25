"""The report of a comparison: one self-contained page, and its pictures as PNG files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sixfold.compare.meaning import meaning
from sixfold.compare.note import Note
from sixfold.compare.outcome import Outcome
from sixfold.compare.pictures import Picture, write_pictures
from sixfold.compare.table import Cell, Column, Row, View
from sixfold.plot.page import picture, render
from sixfold.plot.style import family_colour
from sixfold.run.folder import write_text

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"


@dataclass(frozen=True)
class Head:
    """A column with the number of the footnote that says why it is not to be believed; 0 without one."""

    column: Column
    mark: int


@dataclass(frozen=True)
class Line:
    """A metric of the whole table, where metrics are rows: its column, and the cell of every model and reference."""

    column: Column
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """Everything that the page says of one data set.

    Args:
        anchor: of its heading.
        outcome: what was found.
        view: the short table, models and references apart.
        heads: of the short table's columns.
        groups: rows of the short table by what they are.
        topics: metrics of the whole table by the quality that they are about.
        findings: sentences.
        pictures: by topic, in order.
    """

    anchor: str
    outcome: Outcome
    view: View
    heads: tuple[Head, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    whole: View
    topics: tuple[tuple[str, tuple[Line, ...]], ...]
    findings: tuple[str, ...]
    pictures: tuple[Picture, ...]

    def about(self, topic: str) -> list[Picture]:
        """Pictures of one topic."""
        return [p for p in self.pictures if p.topic == topic]

    @property
    def lost(self) -> list[str]:
        """Trainings that have no scores, with the reason of each."""
        return [f"{r.label}, seed {r.seed}: {r.failed}" for label in self.outcome.labels for r in self.outcome.failed(label)]


def write_report(
    outcomes: Sequence[Outcome],
    views: Sequence[View],
    full: Sequence[View],
    note: Note,
    folder: Path,
    *,
    title: str,
) -> Path:
    """``report.html`` in ``folder``, which opens without a network, and its pictures in ``folder/pictures``.

    Args:
        outcomes: of every data set.
        views: their short tables, in the same order.
        full: their whole tables.
        note: what was found, in sentences.
        folder: an existing folder.
        title: of the page.
    """
    images = folder / "pictures"
    images.mkdir(exist_ok=True)
    sections = [
        _section(i, outcome, view, whole, note, images)
        for i, (outcome, view, whole) in enumerate(zip(outcomes, views, full, strict=True))
    ]
    page = render(
        _TEMPLATE, title=title, note=note, sections=sections, columns=_columns(views), data_of=picture, colour=family_colour
    )
    return write_text(folder / "report.html", page)


def _section(number: int, outcome: Outcome, view: View, whole: View, note: Note, images: Path) -> Section:
    return Section(
        anchor=f"data-{number}",
        outcome=outcome,
        view=view,
        heads=_heads(view),
        groups=_groups(view),
        whole=whole,
        topics=_topics(whole),
        findings=tuple(note.findings.get(outcome.dataset.name, ())),
        pictures=tuple(write_pictures(outcome, images)),
    )


def _columns(views: Sequence[View]) -> dict[str, Column]:
    """Columns of all short tables, each once, as the legend explains them."""
    return {c.head: c for view in views for c in view.columns}


def _heads(view: View) -> tuple[Head, ...]:
    greyed = [c.key for c in view.columns if c.distrust]
    return tuple(Head(c, greyed.index(c.key) + 1 if c.distrust else 0) for c in view.columns)


def _groups(view: View) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    """References above, models beneath."""
    known = {"references": tuple(r for r in view.rows if not r.model), "models": tuple(r for r in view.rows if r.model)}
    return tuple((name, rows) for name, rows in known.items() if rows)


def _topics(view: View) -> tuple[tuple[str, tuple[Line, ...]], ...]:
    """The whole table turned round, for it has more metrics than a page has room beside each other."""
    lines = [Line(c, tuple(row.cells[i] for row in view.rows)) for i, c in enumerate(view.columns)]
    return tuple((axis, tuple(group)) for axis, group in groupby(lines, key=lambda line: meaning(line.column.key).axis))
