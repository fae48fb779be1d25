"""Comparisons from suite to report: tables whose numbers keep their kind and interval, notes that follow from them, and runs that
go on where they stopped.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from outcomes import outcome as made_up
from rich.console import Console

import sixfold
from sixfold.compare import note as notes
from sixfold.compare.judge import distrust
from sixfold.compare.meaning import REAL, meaning
from sixfold.compare.note import Setting, note_of
from sixfold.compare.outcome import Outcome
from sixfold.compare.pool import record_path
from sixfold.compare.record import Record, read_record, write_record
from sixfold.compare.runs import Compared, compare_runs, compare_suite
from sixfold.compare.suite import Suite, read_suite
from sixfold.compare.table import Cell, in_short, long_rows, markdown, number, terminal, views
from sixfold.core.errors import BadInput, SixfoldError
from sixfold.core.likelihood import Estimate, Exact, Kind, Lower, MeanLogProb, Measure, Numerical, Unnormalised, Upper
from sixfold.evaluate.score import PARTS, Score, known
from sixfold.train.progress import Progress

SETTING = Setting("", "a machine", 2, ("sixfold compare --suite demo",))


def score(value: float, spread: float = 0.01) -> Score:
    """A score whose parts lie symmetrically about its value."""
    parts = tuple(value + spread * (-1) ** g for g in range(PARTS))
    return Score(value, value - spread / 2, value + spread / 2, "by hand", parts)


def mean(kind: type[Kind], value: float, *, levels: int | None = None, **more: Any) -> MeanLogProb[Kind]:
    return MeanLogProb(value, 0.01, 1000, kind, "by hand", 2, Measure(levels), **more)


def record(
    label: str, nll: float | None = None, kind: type[Kind] = Exact, spread: float = 0.01, seed: int = 0, **scores: Score
) -> Record:
    """A scored model on moons."""
    likelihood = None if nll is None else mean(kind, -nll, scope=label if kind is Unnormalised else "")
    own = {} if nll is None or kind is Unnormalised else {"nll": score(nll, spread)}
    return Record(label, "moons", f"flow/{label}", seed, own | scores, likelihood)


def outcome(*records: Record) -> Outcome:
    return Outcome(sixfold.load_data("moons"), records, rows=1000, fingerprint="abc")


def cell(found: Outcome, label: str, key: str) -> Cell:
    view = views(found)[1]
    row = next(r for r in view.rows if r.label == label)
    return row.cells[[c.key for c in view.columns].index(key)]


@pytest.mark.parametrize(("kind", "symbol"), [(Exact, "="), (Lower, "<="), (Upper, ">="), (Numerical, "≈"), (Estimate, "~")])
def test_a_likelihood_shows_the_kind_of_the_negative(kind, symbol):
    assert cell(outcome(record("a", 1.0, kind)), "a", "nll").text == f"{symbol} 1.000 ± 0.005"


def test_models_without_a_number_say_why():
    found = outcome(record("a", 1.0), record("b"), record("c", 1.0, Unnormalised))
    assert [cell(found, label, "nll").text for label in "abc"] == ["= 1.000 ± 0.005", "none", "∝ only"]
    lost = outcome(record("a", 1.0), Record("b", "moons", "gan/gan", failed="the loss is not finite"))
    assert cell(lost, "b", "nll") == Cell("diverged", "the loss is not finite", "none")


def test_seeds_share_a_row():
    found = outcome(*(record("a", 1.0 + 0.1 * seed, seed=seed) for seed in range(3)))
    assert [row.label for row in views(found)[0].rows] == ["a"]
    shown = cell(found, "a", "nll")
    # The t interval of 1.0, 1.1 and 1.2: 4.303 * 0.1 / sqrt(3) = 0.248, and little of the parts.
    assert shown.text.startswith("= 1.100 ± 0.24")
    assert "3 seeds" in shown.detail


def test_bold_is_what_no_other_model_is_shown_to_beat():
    found = outcome(record("a", coverage=score(0.9)), record("b", coverage=score(0.8)), record("c", coverage=score(0.897, 0.1)))
    assert [cell(found, label, "coverage").state for label in "abc"] == ["lead", "plain", "lead"]


def test_a_distrusted_metric_is_grey_with_its_reason():
    references = [Record(name, "moons", scores={"sliced": score(0.1)}) for name in (REAL, "modes dropped", "blurred", "Gaussian")]
    found = outcome(*references, record("a", sliced=score(0.2)), record("b", sliced=score(0.3)))
    column = views(found)[0].columns[0]
    assert "modes dropped" in column.distrust
    assert {c.state for row in views(found)[0].rows for c in row.cells} == {"grey"}
    text = markdown(views(found)[0])
    assert "(0.200 ± 0.005)" in text
    assert column.distrust in text
    assert not any("has the lowest" in line for line in note_of([found], SETTING).findings["moons"])


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (("a", 1.0, Exact), ("b", 2.0, Exact), "a gives test data a higher likelihood than b (by 1 ["),
        (("a", 2.0, Exact), ("b", 1.0, Exact), "b gives test data a higher likelihood than a (by 1 ["),
        (("a", 1.0, Lower), ("b", 2.0, Exact), "a gives test data a higher likelihood than b"),
        (("a", 1.0, Exact), ("b", 1.0001, Exact, 0.02), "holds zero for a and b"),
    ],
)
def test_an_order_of_likelihoods_is_a_finding_when_implied(a, b, said):
    found = note_of([outcome(record(*a), record(*b))], SETTING)
    assert any(said in line for line in found.findings["moons"])
    assert not any("imply no order" in line for line in found.not_comparable)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (("a", 1.0, Exact), ("b", 2.0, Lower), "Exact against Lower"),
        (("a", 1.0, Lower), ("b", 2.0, Lower), "Lower against Lower"),
        (("a", 1.0, Unnormalised), ("b", 2.0, Unnormalised), "unnormalised"),
    ],
)
def test_an_order_that_is_not_implied_is_said_to_be_none(a, b, said):
    found = note_of([outcome(record(*a), record(*b))], SETTING)
    assert any("imply no order" in line and said in line for line in found.not_comparable)
    assert not any("higher likelihood" in line for line in found.findings["moons"])


def test_the_pair_decides_where_separate_intervals_would_not():
    # Both scores share the scatter of their parts, as scores on the same data do; apart, 1.00 and 1.01 are within their errors.
    a, b = record("a", 1.00), record("b", 1.01)
    assert a.scores["nll"].high > b.scores["nll"].low - 0.01
    assert any("a gives test data a higher" in line for line in note_of([outcome(a, b)], SETTING).findings["moons"])


def test_findings_name_the_best_and_who_is_not_shown_to_differ():
    real = Record(REAL, "moons", scores={"coverage": score(0.95)})
    found = outcome(
        real, record("a", coverage=score(0.9)), record("b", coverage=score(0.5)), record("c", coverage=score(0.899, 0.1))
    )
    (line,) = [line for line in note_of([found], SETTING).findings["moons"] if line.startswith("coverage")]
    assert "a has the highest value, 0.9 [" in line
    assert "not shown to differ from it: c" in line
    assert "shown to be worse: b (-0.4 [" in line
    assert "real data are better (-0.05 [" in line


@pytest.mark.parametrize(("spread", "shown"), [(0.01, True), (0.5, False)])
def test_a_dependence_on_the_seed_is_a_finding_when_it_is_shown(spread, shown):
    # Parts of the two seeds scatter in opposite ways: half the interval of their difference is 0.94 spreads.
    seeds = [record("a", seed=0, sliced=score(0.1, spread)), record("a", seed=1, sliced=score(0.2, -spread))]
    found = note_of([outcome(*seeds, record("b", sliced=score(0.1)))], SETTING).findings["moons"]
    assert any("a depends most on its seed" in line and "0.1 to 0.2 (+0.1 [" in line for line in found) == shown


def test_threats_count_seeds_and_comparisons():
    one = note_of([outcome(record("a", 1.0), record("b", 2.0))], SETTING).threats
    assert any(line.startswith("One seed") for line in one)
    assert any(line.startswith("1 pairs") for line in one)
    two = note_of([outcome(*(record(m, 1.0, seed=s) for m in "ab" for s in range(2)))], SETTING).threats
    assert any(line.startswith("2 seeds") for line in two)


def test_a_note_is_markdown_with_its_commands():
    text = notes.markdown(note_of([outcome(record("a", 1.0))], SETTING), title="A title")
    assert text.startswith("# A title\n")
    assert "sixfold compare --suite demo" in text
    assert all(heading in text for heading in ("## Setting", "## Findings", "## Not comparable", "## Threats"))


def test_tables_of_every_form_hold_every_row():
    found = made_up("moons")
    short, whole = views(found)
    assert len(whole.columns) >= len(short.columns)
    assert all(in_short(found, c.key) for c in short.columns)
    console = Console(width=300, record=True, file=StringIO())
    console.print(terminal(short))
    printed = console.export_text()
    for row in short.rows:
        assert row.label in printed
        assert row.label in markdown(short)
    rows = list(long_rows(found))
    assert {r[1] for r in rows} == {row.label for row in short.rows}
    assert all(bool(r[-2]) == bool(distrust(f"{r[4]}@{r[5]}" if r[5] else r[4], found.references)) for r in rows if r[4])


@pytest.mark.parametrize(("value", "digits", "text"), [(score(0.12345), 3, "0.123 ± 0.005"), (known(12345), 0, "12,345")])
def test_numbers(value, digits, text):
    assert number(value, digits) == text


def test_a_record_is_what_was_written(tmp_path):
    kept = record("a", 1.0, Numerical, sliced=score(0.2))
    write_record(kept, tmp_path / "r.json", protocol={"rows": 10, "metrics": ("a",)})
    assert read_record(tmp_path / "r.json", protocol={"rows": 10, "metrics": ("a",)}) == kept
    assert read_record(tmp_path / "r.json", protocol={"rows": 11, "metrics": ("a",)}) is None
    assert read_record(tmp_path / "none.json", protocol={}) is None
    (tmp_path / "r.json").write_text('{"protocol": {}, "record": 3}')
    with pytest.raises(BadInput, match="Remove it"):
        read_record(tmp_path / "r.json", protocol={})


TINY = """
title: Tiny
data: [moons]
seeds: 2
rows: 60
budget: {steps: 10}
metrics: [likelihood, samples, novelty, cost]
models:
  flow: {model: flow/realnvp, settings: {width: 8, couplings: 2}}
  bad: {model: gan/gan, settings: {width: 8, lr: 1.0e+30}}
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(TINY)
    return read_suite(path)


@pytest.fixture(scope="module")
def compared(suite, tmp_path_factory) -> tuple[Compared, Path, list[str]]:
    out, heard = tmp_path_factory.mktemp("compared"), []

    def watch(title: str, progress: Progress) -> None:
        heard.append(title)

    return compare_suite(suite, out=out, workers=2, watch=watch, command="sixfold compare --suite tiny.yaml"), out, heard


def test_a_suite_trains_scores_and_reports(compared):
    found, out, heard = compared
    assert {"flow on moons, seed 0", "scoring flow on moons, seed 1", "references on moons"} <= set(heard)
    assert {p.name for p in out.iterdir()} == {
        "suite.yaml", "runs", "scores", "pictures", "report.html", "report.md", "report.csv", "report.json", "note.md",
    }  # fmt: skip
    assert len(found.outcomes[0].seeds("flow")) == 2
    assert {r.label for r in found.outcomes[0].records if r.is_reference} >= {REAL, "training copies", "Gaussian", "KDE"}
    rows = list(csv.DictReader(StringIO((out / "report.csv").read_text())))
    assert {r["row"] for r in rows} >= {"flow", "bad", REAL}
    stored = [Record.from_json(r) for r in json.loads((out / "report.json").read_text())]
    assert stored == list(found.outcomes[0].records)


def test_a_model_that_diverges_is_reported_and_the_rest_goes_on(compared):
    found, out, _ = compared
    lost = found.outcomes[0].failed("bad")
    assert [r.seed for r in lost] == [0, 1]
    assert all("finite" in r.failed or "diverged" in r.failed for r in lost)
    assert any("bad: 2 of 2 trainings failed" in line for line in found.note.findings["moons"])
    assert "diverged" in (out / "report.md").read_text()


@pytest.mark.filterwarnings("ignore:went back")
def test_what_is_done_is_not_done_again_and_one_worker_finds_what_several_do(compared, suite):
    found, out, _ = compared
    place = record_path(out / "scores" / "moons-flow-seed1")
    before = {p: p.stat().st_mtime_ns for p in out.glob("scores/**/*.json")}
    place.unlink()  # as if it had been stopped here
    again = compare_suite(suite, out=out, workers=1, watch=lambda *said: None, command="sixfold compare --suite tiny.yaml")

    def lasting(c: Compared) -> list[Record]:  # times differ; everything else is the same numbers
        return [
            replace(r, scores={k: s for k, s in r.scores.items() if meaning(k).axis != "cost"}) for r in c.outcomes[0].records
        ]

    assert lasting(again) == lasting(found)
    changed = {p for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert changed == {place}


def test_another_suite_is_kept_out_of_the_folder(compared, suite):
    _, out, _ = compared
    with pytest.raises(BadInput, match="another suite"):
        compare_suite(replace(suite, rows=suite.rows + 1), out=out, workers=1, watch=lambda *said: None)


@pytest.mark.filterwarnings("ignore:went back")
def test_fewer_seeds_take_from_the_folder_what_is_there(compared, suite, tmp_path):
    _, out, _ = compared
    shutil.copytree(out, tmp_path / "fewer")
    heard = []
    found = compare_suite(
        replace(suite, seeds=1), out=tmp_path / "fewer", workers=1, watch=lambda title, progress: heard.append(title)
    )
    assert len(found.outcomes[0].seeds("flow")) == 1
    assert not [title for title in heard if "flow" in title], heard


def test_runs_that_differ_by_seed_alone_are_one_row(compared, tmp_path):
    _, out, _ = compared
    runs = [out / "runs" / f"moons-flow-seed{seed}" for seed in (0, 1)]
    sixfold.fit("flow/realnvp", "moons", steps=2, width=4, couplings=2, folder=tmp_path / "other")
    found = compare_runs(
        [*runs, tmp_path / "other", runs[0]],
        out=tmp_path / "c",
        workers=1,
        watch=lambda *said: None,
        rows=40,
        metrics=["likelihood"],
    )
    assert [len(found.outcomes[0].seeds(label)) for label in found.outcomes[0].labels] == [2, 1]
    assert found.outcomes[0].labels == ["flow/realnvp", "flow/realnvp (2)"]


@pytest.mark.filterwarnings("ignore:went back")
def test_a_comparison_of_nothing_but_failures_is_an_error(suite, tmp_path):
    bad = replace(suite, models=suite.models[1:], seeds=1)
    with pytest.raises(SixfoldError, match=r"finite|diverged"):
        compare_suite(bad, out=tmp_path, workers=1, watch=lambda *said: None)


def test_wrong_names_are_found_before_anything_is_trained(suite, tmp_path):
    entry = replace(suite.models[0], settings={"widht": 3})
    with pytest.raises(BadInput, match="Perhaps you meant 'width'"):
        compare_suite(replace(suite, models=(entry,)), out=tmp_path / "o", workers=1, watch=lambda *said: None)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("changed", "features", "said"),
    [
        ({"data": ("mons",)}, (), "moons"),
        ({}, ("resnet",), "unknown features 'resnet'"),
        ({}, ("dinov2=no/such/file",), "are of images"),
        ({"near": {"moons": ("digits",)}}, (), "digits cannot be outliers of moons"),
    ],
)
def test_what_cannot_be_read_is_known_before_anything_is_trained(suite, changed, features, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        compare_suite(replace(suite, **changed), out=tmp_path / "o", workers=1, watch=lambda *said: None, features=features)
    assert not (tmp_path / "o").exists()


def test_no_process_outlives_the_comparison(suite, tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(replace(suite, budget={"minutes": 5}, seeds=1).to_yaml())
    command = [sys.executable, "-m", "sixfold", "compare", "--suite", str(path), "--out", str(tmp_path / "o"), "--workers", "2"]
    root = Path(__file__).parent.parent
    parent = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "o").glob("runs/*/metrics.jsonl")):  # until a child has begun to train
        assert time.monotonic() < deadline
        time.sleep(0.2)
    parent.kill()
    parent.communicate(timeout=30)  # ends only when every process that holds the pipe has


def test_a_copying_model_is_found(suite, tmp_path, monkeypatch):
    from sixfold.compare.protocol import Ground, Protocol
    from sixfold.compare.score_model import score_model

    ground = Ground(Protocol("moons", 200, ("novelty",)))
    model = sixfold.build("flow/realnvp", ground.dataset.unconditional().spec, width=4, couplings=2)
    own = score_model(ground, model, seconds=None).scores
    monkeypatch.setattr(model, "sample", lambda num, cond=None, generator=None: ground.train[:num])
    copied = score_model(ground, model, seconds=None).scores
    assert copied["exact_duplicates"].value == 1.0 > own["exact_duplicates"].high
    assert copied["distance_ratio"].value == 0.0 < own["distance_ratio"].value


def test_samples_that_are_not_finite_are_one_line(suite, monkeypatch):
    from sixfold.compare.protocol import Ground, Protocol
    from sixfold.compare.score_model import score_model

    ground = Ground(Protocol("moons", 40, ("samples",)))
    model = sixfold.build("flow/realnvp", ground.dataset.unconditional().spec, width=4, couplings=2)
    monkeypatch.setattr(model, "sample", lambda num, cond=None, generator=None: torch.full((num, 2), float("nan")))
    with pytest.raises(BadInput, match="NaN or infinity, first in row 0"):
        score_model(ground, model, seconds=None)


def test_too_few_test_data_are_one_line():
    from sixfold.compare.protocol import Ground, Protocol

    with pytest.raises(BadInput, match="at least 20"):
        Ground(Protocol("moons", 2))
