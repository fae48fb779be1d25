"""Scores and training as graphs: every row's intervals, two scores against each other, and losses over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from sixfold.compare.drawing import Drawing, listed, sentence
from sixfold.compare.judge import across, distrust
from sixfold.compare.looks import colour_of
from sixfold.compare.meaning import COPIES, MEANINGS, REAL, Axis, head, meaning, name_of
from sixfold.compare.outcome import Outcome
from sixfold.compare.table import likelihood_unit
from sixfold.core.likelihood import Exact, Lower, Numerical
from sixfold.plot.curves import Curve, level_limits, seeded
from sixfold.plot.forest import Line, forest
from sixfold.plot.pareto import Mark, pareto
from sixfold.plot.scale import Scale, Side, Span, Trait
from sixfold.plot.style import DASHES, QUIET, figure, gridded

CARD = 3.9
"""Inches across one graph; three stand beside each other on a wide page."""

_BOTH: Axis = "fidelity and coverage"
PAIRS: tuple[tuple[str, tuple[Axis, ...], tuple[Axis, ...]], ...] = (
    ("likelihood-quality", ("likelihood",), (_BOTH, "fidelity")),
    ("fidelity-coverage", ("fidelity",), ("coverage",)),
    ("cost-quality", ("cost",), (_BOTH, "fidelity")),
    ("novelty-fidelity", ("novelty",), ("fidelity", _BOTH)),
)
"""Scores that are set against each other: a name, and the kinds of score along x and y, the first that can be had."""

_MARKERS = "os^vDP"
_COST = "sample_seconds"


def graphs(outcome: Outcome) -> Iterator[Drawing]:
    """Every graph of one data set."""
    yield from paretos(outcome)
    yield from _forests(outcome)
    yield from _curves(outcome)


def _span(outcome: Outcome, label: str, key: str) -> Span | None:
    scores = outcome.scores(label, key)
    if not scores or not math.isfinite(across(scores).value):
        return None
    found = across(scores)
    return Span(found.value, found.low, found.high)


def _trait(outcome: Outcome, label: str, key: str) -> Trait:
    """What a number is: that of a likelihood may be a bound or an estimate."""
    known = next((r.likelihood for r in outcome.seeds(label) if r.likelihood is not None), None)
    if name_of(key) not in ("nll", "excess") or known is None or known.kind in (Exact, Numerical):
        return "value"
    return "bound" if known.kind is Lower else "estimate"


def _scale(outcome: Outcome, key: str) -> Scale:
    better = meaning(key).better
    side: Side = better if better in ("lower", "higher") else "none"
    unit = f", {likelihood_unit(outcome)}" if name_of(key) == "nll" else ""
    return Scale(head(key) + unit, side)


def _having(outcome: Outcome, key: str) -> list[str]:
    return [label for label in outcome.labels if _span(outcome, label, key) is not None]


def _says(key: str) -> str:
    return f"{head(key)}: {meaning(key).says}."


_TRAITS: dict[Trait, str] = {
    "value": "",
    "bound": "A small arrow marks a bound: the true value may lie where it points.",
    "estimate": "A hollow point is a stochastic estimate.",
}


def _about(traits: Sequence[Trait]) -> str:
    return sentence(*(said for trait, said in _TRAITS.items() if trait in traits))


def _chosen(outcome: Outcome, axes: Sequence[Axis]) -> str | None:
    """The score that stands for a quality: one that the references do not refute and that two models have, main ones first."""
    order = list(MEANINGS)
    keys = sorted(outcome.keys, key=lambda k: (not meaning(k).main, order.index(name_of(k))))
    for axis in axes:
        for key in keys:
            fits = name_of(key) == _COST if axis == "cost" else meaning(key).axis == axis and meaning(key).better != "zero"
            if fits and len(_having(outcome, key)) > 1 and not distrust(key, outcome.references):
                return key
    return None


def pairs(outcome: Outcome) -> dict[str, tuple[str, str]]:
    """Names of the Pareto plots with the two scores of each, those that can be drawn."""
    found = {name: (_chosen(outcome, x), _chosen(outcome, y)) for name, x, y in PAIRS}
    return {name: (x, y) for name, (x, y) in found.items() if x and y and x != y and len(_shared(outcome, x, y)) > 1}


def _shared(outcome: Outcome, x: str, y: str) -> list[str]:
    return [label for label in _having(outcome, x) if label in _having(outcome, y)]


def paretos(outcome: Outcome) -> Iterator[Drawing]:
    """Two scores of every model against each other."""
    for name, (x, y) in pairs(outcome).items():
        made = figure(CARD, 3.4)
        marks = _marks(outcome, x, y)
        traits = [m.trait for m in marks]
        best = pareto(made.subplots(), marks, _scale(outcome, x), _scale(outcome, y), with_front=set(traits) == {"value"})
        front = [marks[i].label for i in best]
        yield Drawing("pareto", f"pareto-{name}", made, _read(outcome, x, y, traits, front), _alt(outcome, x, y, front))


def _marks(outcome: Outcome, x: str, y: str) -> list[Mark]:
    """Models, and of the references those that say where the ends of the scales are."""
    rows = [
        *_shared(outcome, x, y),
        *(r for r in (REAL, *([COPIES] if meaning(x).axis == "novelty" else [])) if r in outcome.references),
    ]
    marks: list[Mark] = []
    for label in rows:
        a, b = _span(outcome, label, x), _span(outcome, label, y)
        if a is None or b is None:
            continue
        quiet, colour = label not in outcome.labels, colour_of(outcome, label)
        shape = "D" if quiet else _MARKERS[sum(m.colour == colour for m in marks) % len(_MARKERS)]
        marks.append(Mark(label, a, b, colour, shape, _trait(outcome, label, x), quiet))
    return marks


def _read(outcome: Outcome, x: str, y: str, traits: Sequence[Trait], front: Sequence[str]) -> str:
    absent = [label for label in outcome.labels if label not in _shared(outcome, x, y)]
    edge = "Dashed: the front, by the numbers as they stand." if len(front) > 1 else ""
    if len(front) == 1:
        edge = f"Best in both, by the numbers as they stand: {front[0]}."
    if not front and set(traits) != {"value"}:
        edge = "No front: bounds and estimates of a likelihood do not beat each other."
    missing = f"Without {'one of these numbers' if absent else ''}: {listed(absent)}." if absent else ""
    return sentence(_says(x), _says(y), edge, _about(traits), missing)


def _alt(outcome: Outcome, x: str, y: str, front: Sequence[str]) -> str:
    plain = f"{head(x)} against {head(y)} of {listed(_shared(outcome, x, y))} on {outcome.dataset.name}"
    return f"{plain}; on the front: {listed(list(front))}." if front else f"{plain}."


def _shown(outcome: Outcome) -> list[str]:
    """Main scores with a better side, in the first feature space, that a model has."""
    found: dict[str, str] = {}
    for key in outcome.keys:
        sense = meaning(key)
        if sense.main and sense.axis != "cost" and sense.better in ("lower", "higher") and _having(outcome, key):
            found.setdefault(name_of(key), key)
    return sorted(found.values(), key=lambda k: list(MEANINGS).index(name_of(k)))


def _forests(outcome: Outcome) -> Iterator[Drawing]:
    """Every main score with its intervals, a graph each."""
    rows = [*outcome.labels, *outcome.references]
    for key in _shown(outcome):
        lines = [_line(outcome, label, key) for label in rows]
        made = figure(CARD, 0.75 + 0.19 * len(rows))
        forest(made.subplots(), lines, _scale(outcome, key), faded=bool(distrust(key, outcome.references)))
        caption = sentence(_says(key), _about([line.trait for line in lines if line.span is not None]))
        alt = f"{head(key)} of {listed(rows)} on {outcome.dataset.name}, with intervals."
        yield Drawing("scores", f"score-{name_of(key)}", made, caption, alt)


def _line(outcome: Outcome, label: str, key: str) -> Line:
    colour, trait = colour_of(outcome, label), _trait(outcome, label, key)
    return Line(label, _span(outcome, label, key), colour, trait, label not in outcome.labels)


def _curves(outcome: Outcome) -> Iterator[Drawing]:
    """Validation over the seconds of training, or losses where a model has no criterion: a graph a model, one axis of time."""
    shown = [label for label in outcome.labels if any(outcome.curves.get(label, ()))]
    longest = max((row.get("seconds", 0.0) for label in shown for run in outcome.curves[label] for row in run), default=1.0)
    for label in shown:
        made = figure(CARD, 2.3)
        axes = made.subplots()
        said = _trained(axes, outcome, label)
        axes.set(xlabel="seconds of training", xlim=(-0.02 * longest, 1.04 * longest))
        yield Drawing(
            "curves", f"curve-{label}", made, "", f"{said} of {label} on {outcome.dataset.name} over seconds of training."
        )


def _trained(axes: Axes, outcome: Outcome, label: str) -> str:
    """Draw what one model's training says of itself; in words what it is."""
    runs, colour = outcome.curves[label], colour_of(outcome, label)
    valid = [_curve(run, lambda row: row.get("valid")) for run in runs]
    judged = any(len(x) for x, _ in valid)
    series = {"validation": valid} if judged else _losses(runs)
    for dash, (name, seeds) in zip(DASHES, series.items(), strict=False):
        window = 1 if judged else max(1, max(len(x) for x, _ in seeds) // 40)
        seeded(axes, seeds, colour=colour, dash=dash, label="" if judged else name, window=window)
    axes.set_ylim(*level_limits([curve for seeds in series.values() for curve in seeds if len(curve[0])]))
    axes.set(title=label, ylabel="validation" if judged else "loss")
    gridded(axes)
    if not judged and len(series) > 1:
        axes.legend(fontsize=7.5)
    _lost(axes, outcome, label)
    return "Validation criterion" if judged else "Loss"


def _lost(axes: Axes, outcome: Outcome, label: str) -> None:
    lost = len(outcome.failed(label))
    if lost:
        said = f"{lost} of {lost + len(outcome.seeds(label))} failed"
        axes.set_title(said, loc="right", fontsize=8, color=QUIET)


def _curve(run: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float | None]) -> Curve:
    """Finite values of a run over its seconds."""
    found = [(row["seconds"], y) for row in run if "seconds" in row and (y := value(row)) is not None and math.isfinite(y)]
    return [x for x, _ in found], [y for _, y in found]


def _losses(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[Curve]]:
    """Loss of each player, a curve a seed."""
    names = dict.fromkeys(name for run in runs for row in run for name in row.get("players", {}))
    return {name: [_curve(run, partial(_loss, name=name)) for run in runs] for name in names}


def _loss(row: Mapping[str, Any], *, name: str) -> float | None:
    found: float | None = row.get("players", {}).get(name, {}).get("loss")
    return found
