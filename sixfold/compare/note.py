"""The research note: what a comparison found, in sentences that are each derived from its numbers.

A sentence stands here only when the records behind it say so: which models differ, by how much, what the kinds of likelihood
refuse, which metrics fail on the references, and what the numbers of seeds, data and comparisons leave open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sixfold.compare.judge import across, better, contrast, distrust, excludes_zero
from sixfold.compare.meaning import REAL, head, meaning, name_of, space_of
from sixfold.compare.outcome import Outcome
from sixfold.compare.table import in_short, interval, likelihood_unit, nats_per_unit, ranked
from sixfold.core.errors import NotComparable
from sixfold.core.likelihood import Kind, MeanLogProb, Verdict, verdict
from sixfold.evaluate.score import Score

FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Setting:
    """How a comparison was made, as far as the records do not say.

    Args:
        budget: of each training in words; empty when each model's own recipe decided.
        machine: what the numbers were measured on.
        workers: trainings at once.
        commands: that make the same report again.
    """

    budget: str
    machine: str
    workers: int
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """Paragraphs and lists of the note.

    Args:
        setting: what was compared and how, in sentences.
        findings: by data set, sentences with their numbers.
        not_comparable: what the kinds of number or the data did not allow.
        threats: to validity, each with what it rests on here.
        commands: that make the same report again.
    """

    setting: tuple[str, ...]
    findings: Mapping[str, tuple[str, ...]]
    not_comparable: tuple[str, ...]
    threats: tuple[str, ...]
    commands: tuple[str, ...]


def note_of(outcomes: Sequence[Outcome], setting: Setting) -> Note:
    """The note on what was found on each data set."""
    return Note(
        tuple(_setting(outcomes, setting)),
        {o.dataset.name: tuple(_findings(o)) for o in outcomes},
        tuple(line for o in outcomes for line in _not_comparable(o)),
        tuple(_threats(outcomes, setting)),
        setting.commands,
    )


def markdown(note: Note, *, title: str) -> str:
    """The note as Markdown."""
    lines = [f"# {title}", "", "## Setting", "", *_list(note.setting), "## Findings", ""]
    for data, found in note.findings.items():
        lines += [f"### {data}", "", *_list(found)]
    for heading, said in (("Not comparable", note.not_comparable), ("Threats to validity", note.threats)):
        lines += [f"## {heading}", "", *_list(said)]
    return "\n".join([*lines, "## Again", "", "```sh", *note.commands, "```", ""])


def _list(sentences: Sequence[str]) -> list[str]:
    return [*(f"- {s}" for s in sentences), ""]


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}" + ("" if number == 1 else "s")


def _setting(outcomes: Sequence[Outcome], setting: Setting) -> Iterator[str]:
    """What was compared, on what, for how long."""
    records = [r for o in outcomes for r in o.records if not r.is_reference]
    labels, seeds = dict.fromkeys(r.label for r in records), {r.seed for r in records}
    budget = f"with a budget of {setting.budget} each" if setting.budget else "by their own recipes"
    data = _and([o.dataset.name for o in outcomes])
    yield f"{_count(len(labels), 'model')} on {data}, from {_count(len(seeds), 'seed')} each, {budget}."
    for o in outcomes:
        d = o.dataset
        yield (
            f"{d.name}: {len(d.train):,} data to train on, {len(d.valid):,} to choose the checkpoint by, {len(d.test):,} to "
            f"test on, of which {o.rows:,} are scored against as many samples of each model (split {o.fingerprint})."
        )
    yield from _durations(outcomes, setting)
    last = list(dict.fromkeys(r.label for r in records if r.facts.get("chosen") == "last"))
    if last:
        yield f"{_and(last)}: no criterion on validation data, so the last checkpoint is scored; of the others, the best."


def _durations(outcomes: Sequence[Outcome], setting: Setting) -> Iterator[str]:
    """The shortest and the longest training."""
    timed = [(r.scores["train_seconds"].value, r) for o in outcomes for r in o.records if "train_seconds" in r.scores]
    if timed:
        (least, first), (most, final) = min(timed, key=lambda t: t[0]), max(timed, key=lambda t: t[0])
        yield (
            f"Training took {least:.1f} s ({first.label} on {first.data}) to {most:.1f} s ({final.label} on {final.data}), "
            f"{_count(setting.workers, 'training')} at a time, on {setting.machine}."
        )


def _findings(outcome: Outcome) -> Iterator[str]:
    """What was found on one data set."""
    for label in outcome.labels:
        lost = outcome.failed(label)
        if lost:
            yield f"{label}: {len(lost)} of {_count(len(lost) + len(outcome.seeds(label)), 'training')} failed: {lost[0].failed}"
    yield from _likelihoods(outcome)
    for key in outcome.keys:
        if _tells(outcome, key):
            yield _standing(outcome, key)
    yield from _copies(outcome)
    yield from _spaces(outcome)
    yield from _spread(outcome)
    yield from _readouts(outcome)
    yield from _outliers(outcome)


def _tells(outcome: Outcome, key: str) -> bool:
    """Whether a sentence is due to a metric: one of the short table that ranks the references and two models at least."""
    sense = meaning(key)
    return (
        in_short(outcome, key)
        and sense.axis not in ("likelihood", "cost", "novelty")
        and not distrust(key, outcome.references)
        and len(ranked(outcome, key)) > 1
    )


def _standing(outcome: Outcome, key: str) -> str:
    """Who is best by one metric, who is not shown to be worse, who is, and how the best stands to real data."""
    sense, order = meaning(key), ranked(outcome, key)
    best = outcome.scores(order[0], key)
    gaps = {label: contrast(outcome.scores(label, key), best) for label in order[1:]}
    even = [label for label, gap in gaps.items() if better(gap, sense) == 0]
    worse = [f"{label} ({_signed(gap)})" for label, gap in gaps.items() if better(gap, sense) < 0]
    parts = [f"{head(key)}: {order[0]} has the {_best(sense.better)} value, {interval(across(best))}"]
    parts += [f"not shown to differ from it: {', '.join(even)}"] if even else []
    parts += [f"shown to be worse: {', '.join(worse)}"] if worse else []
    return "; ".join([*parts, *_against_real(outcome, key, order[0])]) + "."


def _best(sense: str) -> str:
    return "lowest" if sense == "lower" else "highest"


def _signed(gap: Score) -> str:
    return f"{gap.value:+.3g} [{gap.low:.3g}, {gap.high:.3g}]"


def _against_real(outcome: Outcome, key: str, label: str) -> Iterator[str]:
    real = outcome.references.get(REAL)
    if real is None or key not in real.scores:
        return
    gap = contrast(outcome.scores(label, key), [real.scores[key]])
    side = {0: f"{label} is not shown to differ from real data", 1: f"{label} is beyond real data", -1: "real data are better"}
    yield f"{side[better(gap, meaning(key))]} ({_signed(gap)})"


@dataclass(frozen=True)
class _Pair:
    """Two models with likelihoods: what is implied, and the difference of their stated -log p in the unit of the table."""

    a: str
    b: str
    found: Verdict
    gap: Score


def _pairs(outcome: Outcome) -> list[_Pair]:
    """Every pair of models with a likelihood; a comparison that is refused is one that implies nothing."""
    known = {label: lp for label in outcome.labels if (lp := _likelihood(outcome, label)) is not None}
    pairs = []
    for a, b in combinations(known, 2):
        gap = contrast(outcome.scores(a, "nll"), outcome.scores(b, "nll")) if _both(outcome, a, b) else Score(0, 0, 0, "")
        nats = nats_per_unit(outcome)
        try:
            found = verdict(known[a], known[b], paired=(-gap.high * nats, -gap.low * nats))
        except NotComparable as refused:
            found = Verdict("not implied", str(refused).rstrip("."))
        pairs.append(_Pair(a, b, found, gap))
    return pairs


def _both(outcome: Outcome, a: str, b: str) -> bool:
    return bool(outcome.scores(a, "nll")) and bool(outcome.scores(b, "nll"))


def _likelihood(outcome: Outcome, label: str) -> MeanLogProb[Kind] | None:
    """The row's mean log-probability over seeds, with the largest tolerance."""
    found = [r.likelihood for r in outcome.seeds(label) if r.likelihood is not None]
    if not found:
        return None
    return replace(found[0], value=sum(f.value for f in found) / len(found), tolerance=max(f.tolerance for f in found))


def _likelihoods(outcome: Outcome) -> Iterator[str]:
    """Who gives test data a higher likelihood than whom, where the kinds imply it; and what stays open."""
    unit, open_pairs = likelihood_unit(outcome), []
    above: dict[str, list[str]] = {}
    for p in _pairs(outcome):
        if p.found.relation in ("higher", "lower"):
            winner, loser = (p.a, p.b) if p.found.relation == "higher" else (p.b, p.a)
            above.setdefault(winner, []).append(f"{loser} (by {_margin(p.gap)} {unit})")
        elif p.found.relation == "undecided":
            open_pairs.append(f"{p.a} and {p.b} ({_signed(p.gap)} {unit})")
    for winner, losers in above.items():
        yield f"{winner} gives test data a higher likelihood than {_and(losers)}."
    if open_pairs:
        yield f"Likelihood: the interval of the difference, widened by numerical tolerances, holds zero for {_and(open_pairs)}."
    yield from _truth(outcome)


def _margin(gap: Score) -> str:
    """Size of a difference, with its interval."""
    low, high = sorted((abs(gap.low), abs(gap.high)))
    return f"{abs(gap.value):.3g} [{low:.3g}, {high:.3g}]"


def _truth(outcome: Outcome) -> Iterator[str]:
    """How near the best comes to a density that is known."""
    order = ranked(outcome, "excess")
    if order:
        best = across(outcome.scores(order[0], "excess"))
        reached = "" if excludes_zero(best) else ", which is not shown to differ from the truth"
        yield f"The true density is known: {order[0]} states the nearest number, {interval(best)} nats above it{reached}."


def _copies(outcome: Outcome) -> Iterator[str]:
    """Whose samples lie nearer to the training data than new data do."""
    key = next((k for k in outcome.keys if name_of(k) == "near_duplicates"), "")
    real = outcome.references.get(REAL)
    if not key or real is None or key not in real.scores or distrust(key, outcome.references):
        return
    gaps = {label: contrast(s, [real.scores[key]]) for label in outcome.labels if (s := outcome.scores(label, key))}
    near = [f"{label} ({_signed(gap)})" for label, gap in gaps.items() if gap.low > 0]
    if near:
        yield f"Copy indicator: more samples lie very near training data than new real data do, of {_and(near)}."
    elif gaps:
        usual = interval(real.scores[key])
        yield f"Copy indicator: no model has more samples very near training data than new real data have ({usual})."


def _spaces(outcome: Outcome) -> Iterator[str]:
    """Whether the feature spaces name the same model as best."""
    names = dict.fromkeys(name_of(k) for k in outcome.keys if space_of(k) and meaning(k).main and meaning(k).axis != "novelty")
    for name in names:
        keys = [
            k for k in outcome.keys if name_of(k) == name and not distrust(k, outcome.references) and len(ranked(outcome, k)) > 1
        ]
        first = {space_of(k): ranked(outcome, k)[0] for k in keys}
        if len(first) > 1:
            agree = len(set(first.values())) == 1
            said = f"agree that {next(iter(first.values()))} is best" if agree else "disagree on the best"
            named = "" if agree else ": " + ", ".join(f"{label} by {space}" for space, label in first.items())
            yield f"{meaning(keys[0]).head}: the feature spaces {_and(list(first))} {said}{named}."


def _spread(outcome: Outcome) -> Iterator[str]:
    """Which model depends most on its seed, of those whose seeds are shown to differ by more than a draw of samples does."""
    shown = []
    for label in outcome.labels:
        scores = sorted(outcome.scores(label, "sliced"), key=lambda s: s.value)
        gap = contrast(scores[-1:], scores[:1]) if len(scores) > 1 else None
        if gap is not None and excludes_zero(gap):
            shown.append((scores[-1].value / scores[0].value, label, scores, gap))
    if shown:
        _, label, scores, gap = max(shown, key=lambda found: found[0])
        runs = f"from {scores[0].value:.3g} to {scores[-1].value:.3g} ({_signed(gap)})"
        yield f"{label} depends most on its seed: its sliced Wasserstein distance runs {runs}."


def _readouts(outcome: Outcome) -> Iterator[str]:
    """What a linear reader of few labels gets from codes, against raw data and the untrained network."""
    for label in outcome.labels:
        codes = [k for k in outcome.keys if name_of(k) == "readout" and k.endswith(" | code") and outcome.scores(label, k)]
        if not codes:
            continue
        reader = space_of(codes[0]).removesuffix(" | code")
        own = outcome.scores(label, codes[0])
        rest = {name: outcome.scores(label, f"readout@{reader} | {name}") for name in ("raw", "PCA", "untrained")}
        gaps = [f"{_signed(contrast(own, other))} against {name}" for name, other in rest.items() if other]
        yield f"Codes of {label}: {reader} reaches {interval(across(own))} of test data, {', '.join(gaps)}."


def _outliers(outcome: Outcome) -> Iterator[str]:
    """Which score tells each kind of outlier best, and where a likelihood takes outliers for data."""
    keys = [k for k in outcome.keys if name_of(k) == "auroc"]
    fooled: dict[str, list[str]] = {}
    for kind in dict.fromkeys(space_of(k).partition(" | ")[0] for k in keys):
        of_kind = [(label, k) for k in keys if space_of(k).startswith(f"{kind} | ") for label in outcome.labels]
        found = {(label, k): across(s) for label, k in of_kind if (s := outcome.scores(label, k))}
        label, key = max(found, key=lambda pair: found[pair].value)
        teller = space_of(key).partition(" | ")[2]
        yield f"Outliers, {kind}: told best by {teller} of {label}, AUROC {interval(found[label, key])}."
        for (name, k), score in found.items():
            if k.endswith(" | -log p") and score.high < 0.5:
                fooled.setdefault(kind, []).append(f"{name} ({interval(score)})")
    for kind, names in fooled.items():
        yield f"Likelihood is fooled: {kind} are likelier than test data to {_and(names)} by AUROC."


def _not_comparable(outcome: Outcome) -> Iterator[str]:
    """What the kinds do not order, who has no number, and which metrics fail on the references."""
    data = outcome.dataset.name
    refused: dict[str, list[str]] = {}
    for p in _pairs(outcome):
        if p.found.relation == "not implied":
            refused.setdefault(p.found.reason, []).append(f"{p.a} and {p.b}")
    for reason, pairs in refused.items():
        yield f"{data}: the likelihoods of {_and(pairs)} imply no order: {reason}."
    mute = [label for label in outcome.labels if outcome.seeds(label) and _likelihood(outcome, label) is None]
    if mute:
        yield f"{data}: {_and(mute)} {'has' if len(mute) == 1 else 'have'} no likelihood; only samples are compared."
    grey = {key: why for key in outcome.keys if (why := distrust(key, outcome.references))}
    short = {key: why for key, why in grey.items() if in_short(outcome, key)}
    for key, why in short.items():
        yield f"{data}: {head(key)} is greyed out: it {why}."
    if len(grey) > len(short):
        judged = sum(bool(meaning(key).sees) for key in outcome.keys)
        yield f"{data}: in the whole table {len(grey)} of {judged} metrics are grey, as they miss what they claim to see."


def _threats(outcomes: Sequence[Outcome], setting: Setting) -> Iterator[str]:
    """What could mislead, with the numbers that it rests on."""
    seeds = min((len(o.seeds(label)) for o in outcomes for label in o.labels if o.seeds(label)), default=0)
    if seeds == 1:
        yield "One seed: the differences are between trained models; another seed of the same method may differ as much."
    elif seeds:
        yield f"{seeds} seeds estimate the spread between trainings coarsely; intervals use Student's t for that reason."
    made = sum(_comparisons(o) for o in outcomes)
    yield (
        f"{made:,} pairs of numbers could be told apart in the short tables; at 95% confidence about {made * FALSE_ALARMS:.0f} "
        "would be called different by chance alone if no models differed."
    )
    small = [f"{o.dataset.name} ({o.rows})" for o in outcomes if o.rows < 1000]
    if small:
        yield f"Few test data widen every interval: {_and(small)}. That no difference is shown does not mean there is none."
    if not setting.budget:
        yield "Each recipe has its own length, so that a difference may be one of training time; the cost columns show it."
    yield "References are judged on one draw each; a metric near its threshold may be greyed out, or not, by chance."


def _comparisons(outcome: Outcome) -> int:
    """Pairs of models in the columns that sentences are made of."""
    keys = [k for k in outcome.keys if _tells(outcome, k) or k == "nll"]
    return sum(n * (n - 1) // 2 for n in (len(ranked(outcome, k)) for k in keys))
