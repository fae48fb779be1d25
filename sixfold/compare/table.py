"""Records as one table: a row a model, a group of columns a data set; a number never stands without its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rich.table import Table

from sixfold.compare.record import RunRecord
from sixfold.core.errors import NotComparable
from sixfold.core.likelihood import Kind, MeanLogProb, Unnormalised, Verdict, verdict
from sixfold.core.registry import split_name


def likelihood_cell(likelihood: MeanLogProb[Kind] | None) -> str:
    """Negative log-likelihood with the symbol of its kind: bits/dim for discrete data, nats for real ones."""
    if likelihood is None:
        return "none"
    if likelihood.kind is Unnormalised:
        return "∝ only"
    if likelihood.measure.levels is None:
        return f"{likelihood.sign} {likelihood.nll:.3f} ± {likelihood.stderr:.3f}"
    return f"{likelihood.sign} {likelihood.bits_per_dim:.3f} ± {likelihood.bits_stderr:.3f}"


def unit(records: Sequence[RunRecord]) -> str:
    """Unit of the likelihood column of one data set."""
    known = [r.likelihood for r in records if r.likelihood is not None]
    return "bits/dim" if known and known[0].measure.levels is not None else "nats"


@dataclass(frozen=True)
class Column:
    """A column of one data set: its head and a cell for each model."""

    data: str
    head: str
    cells: dict[str, str]


def label(record: RunRecord, records: Sequence[RunRecord]) -> str:
    """Row of a record: its model, without the preset unless two presets of one model meet on the same data."""
    base = split_name(record.model)[0]
    rivals = {(r.model, r.data) for r in records if split_name(r.model)[0] == base}
    return base if len({data for _, data in rivals}) == len(rivals) else record.model


def columns(records: Sequence[RunRecord]) -> list[Column]:
    """Columns of every data set, in the order in which the data sets appear."""
    made = []
    for data in dict.fromkeys(r.data for r in records):
        rows = {label(r, records): r for r in records if r.data == data}
        made.append(
            Column(data, f"-log p, {unit(list(rows.values()))}", {m: likelihood_cell(r.likelihood) for m, r in rows.items()})
        )
        if any(r.excess is not None for r in rows.values()):
            made.append(Column(data, "above best", {m: _excess_cell(r) for m, r in rows.items()}))
        made.append(Column(data, "SW / real", {m: f"{r.sliced_ratio:.2f}" for m, r in rows.items()}))
        made.append(Column(data, "train s", {m: f"{r.seconds:.1f}" for m, r in rows.items()}))
        made.append(Column(data, "s / 1k samples", {m: f"{r.sampling:.2f}" for m, r in rows.items()}))
    return made


def _excess_cell(record: RunRecord) -> str:
    return "" if record.excess is None or record.likelihood is None else f"{record.likelihood.sign} {record.excess:+.3f}"


def models(records: Sequence[RunRecord]) -> list[str]:
    """Rows of the table: models in order of appearance."""
    return list(dict.fromkeys(label(r, records) for r in records))


def terminal_table(records: Sequence[RunRecord]) -> Table:
    """The table for a terminal."""
    table = Table(title=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    made = columns(records)
    for column in made:
        table.add_column(f"{column.data}\n{column.head}", justify="right", no_wrap=True)
    for model in models(records):
        table.add_row(model, *(column.cells.get(model, "") for column in made))
    return table


def markdown_table(records: Sequence[RunRecord]) -> str:
    """The table as Markdown."""
    made = columns(records)
    head = ["model", *(f"{c.data}: {c.head}" for c in made)]
    lines = [head, ["---", *["---:"] * len(made)], *([m, *(c.cells.get(m, "") for c in made)] for m in models(records))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def methods(records: Sequence[RunRecord]) -> list[tuple[str, str, str]]:
    """How each likelihood was computed: model, data, and the kind in words with its method."""
    said = []
    for r in records:
        if r.likelihood is None:
            said.append((r.model, r.data, "has no likelihood; only its samples are scored"))
        else:
            said.append((r.model, r.data, f"{r.likelihood.kind.__name__}: {r.likelihood.method}"))
    return said


def implied(records: Sequence[RunRecord]) -> list[str]:
    """What the likelihoods imply about pairs of models on the same data, in words; what they do not imply is said too."""
    lines = []
    for data in dict.fromkeys(r.data for r in records):
        rest: dict[str, list[str]] = {}
        for a, b in combinations([r for r in records if r.data == data and r.likelihood is not None], 2):
            found = _verdict(a, b)
            pair = f"{label(a, records)} and {label(b, records)}"
            if found.relation in ("higher", "lower"):
                better, worse = (a, b) if found.relation == "higher" else (b, a)
                lines.append(f"{data}: {label(better, records)} {HIGHER} {label(worse, records)}.")
            else:
                rest.setdefault(f"{found.relation}, {found.reason}", []).append(pair)
        lines += [f"{data}: {'; '.join(pairs)}: {why}." for why, pairs in rest.items()]
    return lines


HIGHER = "gives test data a higher likelihood than"


def _verdict(a: RunRecord, b: RunRecord) -> Verdict:
    """The verdict on two records; a comparison that is refused is one that implies nothing."""
    assert a.likelihood is not None
    assert b.likelihood is not None
    try:
        return verdict(a.likelihood, b.likelihood)
    except NotComparable as refused:
        return Verdict("not implied", str(refused).rstrip("."))
