"""One data set's scores as a table: a row a model or reference, a column a metric; a number never stands without its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from sixfold.compare.judge import across, better, contrast, distrust
from sixfold.compare.meaning import MEANINGS, head, meaning, name_of, space_of
from sixfold.compare.outcome import Outcome
from sixfold.compare.record import Record
from sixfold.evaluate.score import Score

ARROWS = {"lower": "↓", "higher": "↑", "zero": "→ 0", "none": ""}

State = Literal["plain", "lead", "grey", "none"]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Args:
        text: as printed; a likelihood starts with the symbol of its kind.
        detail: interval, method and seeds in words.
        state: ``lead`` when no other model is shown to be better, ``grey`` when the metric is not to be believed here,
            ``none`` when there is no number.
    """

    text: str
    detail: str = ""
    state: State = "plain"


@dataclass(frozen=True)
class Column:
    """A metric: its key, head, what it says in words, which way is better (an arrow), and why it is greyed out, if it is."""

    key: str
    head: str
    says: str
    arrow: str
    distrust: str = ""


@dataclass(frozen=True)
class Row:
    """A model (registry name in ``model``) or a reference (empty ``model``) with its cells."""

    label: str
    model: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class View:
    """A table of one data set."""

    data: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def views(outcome: Outcome) -> tuple[View, View]:
    """The short table and the whole one of a data set.

    The short one has the main metrics in the first feature space; the whole one has all that was computed.
    """
    order = list(MEANINGS)
    keys = sorted(outcome.keys, key=lambda key: order.index(name_of(key)))  # stable: feature spaces keep their order
    return _view(outcome, [key for key in keys if in_short(outcome, key)]), _view(outcome, keys)


def in_short(outcome: Outcome, key: str) -> bool:
    """Whether a score stands in the short table: a main metric, in the first feature space if in any."""
    first = next((space_of(k) for k in outcome.keys if space_of(k) and meaning(k).main), "")
    return meaning(key).main and space_of(key) in ("", first)


def _view(outcome: Outcome, keys: Sequence[str]) -> View:
    columns = [_column(outcome, key) for key in keys]
    rows = [
        Row(label, _model_of(outcome, label), tuple(_cell(outcome, label, column) for column in columns))
        for label in [*outcome.references, *outcome.labels]
    ]
    return View(outcome.dataset.name, tuple(columns), tuple(rows))


def _model_of(outcome: Outcome, label: str) -> str:
    return next(r.model for r in outcome.records if r.label == label)


def _column(outcome: Outcome, key: str) -> Column:
    sense = meaning(key)
    unit = f", {likelihood_unit(outcome)}" if name_of(key) == "nll" else ""
    return Column(key, head(key) + unit, sense.says, ARROWS[sense.better], distrust(key, outcome.references))


def likelihood_unit(outcome: Outcome) -> str:
    """Unit of the likelihood on these data: bits per dimension where data are discrete, nats where they are real."""
    return "bits/dim" if outcome.dataset.spec.support.discrete else "nats"


def nats_per_unit(outcome: Outcome) -> float:
    """Nats of one datum in one :func:`likelihood_unit`."""
    spec = outcome.dataset.spec
    return spec.dims * math.log(2) if spec.support.discrete else 1.0


def _cell(outcome: Outcome, label: str, column: Column) -> Cell:
    records = outcome.seeds(label)
    if not records:
        return Cell("diverged", "; ".join(r.failed for r in outcome.failed(label)), "none")
    scores = outcome.scores(label, column.key)
    if not scores:
        return _empty(records[0], column.key)
    shown = across(scores)
    if meaning(column.key).axis == "cost":  # seconds of one machine; their spread over seeds is in the detail
        return Cell(cost(shown.value), f"mean of {len(scores)}; {interval(shown)}")
    of_likelihood = name_of(column.key) in ("nll", "excess")
    sign = f"{records[0].likelihood.sign} " if of_likelihood and records[0].likelihood is not None else ""
    lost = len(outcome.failed(label))
    detail = f"{interval(shown)}, {shown.method}" + (f"; {lost} of {lost + len(records)} trainings diverged" if lost else "")
    state: State = "grey" if column.distrust else "lead" if _leads(outcome, label, column.key) else "plain"
    return Cell(sign + number(shown, meaning(column.key).digits), detail, state)


def _empty(record: Record, key: str) -> Cell:
    """A model that has no such number: why not."""
    if name_of(key) == "nll" and record.likelihood is not None:
        return Cell("∝ only", "known up to a constant of the model", "none")
    if name_of(key) == "nll" and not record.is_reference:
        return Cell("none", "the model has no likelihood", "none")
    return Cell("", "", "none")


def number(score: Score, digits: int) -> str:
    """A value with half its interval, ``0.912 ± 0.004``; without one where nothing is random."""
    value = f"{score.value:,.{digits}f}"
    return value if score.low == score.high else f"{value} ± {score.half:.{digits}f}"


def cost(value: float) -> str:
    """A cost to two digits at least: ``0.0042``, ``12``, ``12,345``."""
    return f"{value:.2g}" if 0 < value < 10 else f"{value:,.0f}"


def interval(score: Score) -> str:
    """``0.912 [0.908, 0.917]``."""
    return f"{score.value:.3g}" if score.low == score.high else f"{score.value:.3g} [{score.low:.3g}, {score.high:.3g}]"


def ranked(outcome: Outcome, key: str) -> list[str]:
    """Models that have this score, the best value first; as they appear where no way is better."""
    have = [label for label in outcome.labels if outcome.scores(label, key)]
    sign = {"lower": 1, "higher": -1}.get(meaning(key).better, 0)
    return sorted(have, key=lambda label: sign * across(outcome.scores(label, key)).value)


def _leads(outcome: Outcome, label: str, key: str) -> bool:
    """Whether a model is among those that are not shown to be worse than the best, by the numbers as they stand."""
    order = ranked(outcome, key)
    sense = meaning(key)
    if len(order) < 2 or label not in order or sense.better not in ("lower", "higher") or sense.axis == "cost":
        return False
    mine, best = (outcome.scores(name, key) for name in (label, order[0]))
    return label == order[0] or better(contrast(best, mine), sense) == 0


def markdown(view: View) -> str:
    """A table as Markdown; greyed-out numbers stand in brackets, with their reasons beneath."""
    head = [view.data, *(f"{c.head} {c.arrow}".strip() for c in view.columns)]
    lines = [head, ["---", *["---:"] * len(view.columns)]]
    lines += [[row.label if row.model else f"*{row.label}*", *map(_marked, row.cells)] for row in view.rows]
    notes = [f"- ({c.head}): {c.distrust}." for c in view.columns if c.distrust]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return "\n".join([table, *(["", *notes] if notes else [])]) + "\n"


def _marked(cell: Cell) -> str:
    return {"lead": f"**{cell.text}**", "grey": f"({cell.text})"}.get(cell.state, cell.text)


def terminal(view: View) -> Table:
    """A table for a terminal; half-widths of intervals stand close to their values to save room."""
    table = Table(title=None, header_style="bold", pad_edge=False, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(view.data, no_wrap=True)
    for column in view.columns:
        table.add_column(f"{column.head} {column.arrow}".strip(), justify="right", style="dim" if column.distrust else "")
    for row in view.rows:
        cells = [_styled(escape(_marked(c) if c.state == "grey" else c.text).replace(" ± ", "±"), c.state) for c in row.cells]
        table.add_row(row.label if row.model else f"[italic]{row.label}[/italic]", *cells)
    return table


def _styled(text: str, state: State) -> str:
    return f"[bold]{text}[/bold]" if state == "lead" and text else text


CSV_HEAD = (
    "data", "row", "model", "seed", "metric", "space", "value", "low", "high", "interval", "better", "kind", "distrust", "failed",
)  # fmt: skip


def long_rows(outcome: Outcome) -> Iterator[tuple[object, ...]]:
    """Every number of a data set on a row of its own, seeds apart: what the CSV file holds."""
    why = {key: distrust(key, outcome.references) for key in outcome.keys}
    for r in outcome.records:
        kind = "" if r.likelihood is None else r.likelihood.kind.__name__
        first = (r.data, r.label, r.model, r.seed)
        if r.failed:
            yield (*first, "", "", "", "", "", "", "", "", "", r.failed)
        for key, s in r.scores.items():
            own = kind if name_of(key) in ("nll", "excess") else ""
            yield (*first, name_of(key), space_of(key), s.value, s.low, s.high, s.method, meaning(key).better, own, why[key], "")
