"""Comparisons: cells carry their kind, orders are claimed only when implied, and several runs go through one table."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

import sixfold
from sixfold.compare.demo import DATA, MODELS, jobs
from sixfold.compare.pool import Job
from sixfold.compare.record import Floor, RunRecord, floor_of, score_run
from sixfold.compare.runs import train_and_compare
from sixfold.compare.table import HIGHER, columns, implied, label, likelihood_cell, markdown_table, models, terminal_table
from sixfold.core.errors import BadInput
from sixfold.core.likelihood import Estimate, Exact, Lower, MeanLogProb, Measure, Numerical, Unnormalised, Upper
from sixfold.core.registry import names
from sixfold.train.progress import Progress


def mean(kind, value=-1.0, stderr=0.01, levels=None, **more) -> MeanLogProb:
    return MeanLogProb(value, stderr, 1000, kind, "by hand", 2, Measure(levels), **more)


def record(model="flow/realnvp", data="moons", likelihood=None, **more) -> RunRecord:
    values = {"parameters": 10, "seconds": 1.0, "sliced": 0.2, "floor": Floor(0.1, 0.9, 1000), "sampling": 0.5}
    return RunRecord(model, data, likelihood=likelihood, **(values | more))


@pytest.mark.parametrize(("kind", "symbol"), [(Exact, "="), (Lower, "<="), (Upper, ">="), (Numerical, "≈"), (Estimate, "~")])
def test_a_cell_shows_the_kind_of_the_negative(kind, symbol):
    assert likelihood_cell(mean(kind)) == f"{symbol} 1.000 ± 0.010"


def test_cells_of_discrete_data_are_bits_per_dimension():
    # One nat over two dimensions is 1 / (2 ln 2) bits a dimension.
    assert likelihood_cell(mean(Exact, levels=2)) == "= 0.721 ± 0.007"


def test_cells_without_a_number():
    assert likelihood_cell(None) == "none"
    assert likelihood_cell(mean(Unnormalised)) == "∝ only"


def test_excess_and_ratio():
    r = record(likelihood=mean(Exact))
    assert r.excess == pytest.approx(0.1)
    assert r.sliced_ratio == pytest.approx(2.0)
    assert replace(r, likelihood=None).excess is None
    assert replace(r, floor=Floor(0.1, None, 1000)).excess is None


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (mean(Exact, -1.0), mean(Exact, -2.0), f"a/a {HIGHER} b/b"),
        (mean(Exact, -2.0), mean(Exact, -1.0), f"b/b {HIGHER} a/a"),
        (mean(Lower, -1.0), mean(Exact, -2.0), f"a/a {HIGHER} b/b"),
        (mean(Exact, -1.0), mean(Lower, -2.0), "not implied"),
        (mean(Lower, -1.0), mean(Lower, -2.0), "not implied"),
        (mean(Exact, -1.0), mean(Exact, -1.01), "undecided"),
        (mean(Unnormalised, scope="x"), mean(Unnormalised, scope="y"), "not implied"),
    ],
)
def test_an_order_is_claimed_only_when_implied(a, b, said):
    (line,) = implied([record("a/a", likelihood=a), record("b/b", likelihood=b)])
    assert said in line
    assert (HIGHER in line) == (HIGHER in said)


def test_models_on_different_data_are_not_set_against_each_other():
    assert implied([record("a/a", likelihood=mean(Exact)), record("b/b", "digits", mean(Exact))]) == []


def test_presets_share_a_row_unless_they_meet():
    apart = [record("vae/vae:points", "moons"), record("vae/vae", "digits")]
    assert models(apart) == ["vae/vae"]
    together = [record("vae/vae:points", "moons"), record("vae/vae", "moons")]
    assert [label(r, together) for r in together] == ["vae/vae:points", "vae/vae"]


def test_tables_hold_every_model_and_column():
    records = [record("flow/realnvp", likelihood=mean(Exact)), record("gan/gan")]
    heads = [c.head for c in columns(records)]
    assert heads == ["-log p, nats", "above best", "SW / real", "train s", "s / 1k samples"]
    text = markdown_table(records)
    assert text.count("\n") == 4
    assert "| gan/gan | none |" in text
    console = Console(width=200, record=True, file=StringIO())
    console.print(terminal_table(records))
    assert "flow/realnvp" in console.export_text()


def test_the_floor_of_known_truth_and_of_real_data():
    moons = floor_of(sixfold.load_data("moons"), count=1000, samples=3)
    # Sliced W_2 of two samples of n points shrinks like 1 / sqrt(n) times the data's spread of about one.
    assert 0.01 < moons.sliced < 0.1
    assert moons.nll == pytest.approx(sixfold.load_data("moons").truth.best_nll, abs=6 * 0.7 / 1000**0.5)
    digits = floor_of(sixfold.load_data("digits").unconditional(), count=173, samples=4)
    assert digits.nll is None
    assert digits.sliced > 0


def test_too_few_data_for_a_floor_is_one_line():
    data = sixfold.load_data("digits").unconditional()
    with pytest.raises(BadInput, match="Use fewer rows"):
        floor_of(replace(data, train=replace(data.train, x=data.train.x[:5])), count=173)


def test_the_truth_scores_as_the_floor_and_a_shift_does_not():
    data = sixfold.load_data("moons").unconditional()
    model = sixfold.build("flow/realnvp", data.spec, width=8, couplings=2)
    model.sample = lambda num, cond=None, generator=None: data.truth.sample(num, generator=generator)
    floor = floor_of(data, count=2000)
    scored = score_run(model, data, seconds=0.0, floor=floor, rows=100)
    assert 0.3 < scored.sliced_ratio < 2.5  # of six floor pairs measured, the widest spread was a factor of 1.9
    model.sample = lambda num, cond=None, generator=None: data.truth.sample(num, generator=generator) + 0.3
    assert score_run(model, data, seconds=0.0, floor=floor, rows=100).sliced_ratio > 5


def test_the_demonstration_has_every_family_on_every_data_set():
    assert len(jobs()) == len(MODELS) * len(DATA)
    assert {j.model for j in jobs()} <= set(names(presets=True))
    assert {m.partition("/")[0] for m in MODELS} == {n.partition("/")[0] for n in names()}


def test_jobs_train_in_processes_of_their_own_and_go_on_where_they_stopped(tmp_path):
    tiny = {"steps": 3, "width": 8}
    work = [Job("flow/realnvp", "moons", tiny), Job("gan/gan", "moons", tiny)]
    heard: list[tuple[str, Progress]] = []
    about = {"title": "t", "subtitle": "s", "command": "c"}

    def train(resume: bool) -> list:
        return train_and_compare(
            work, out=tmp_path, workers=2, resume=resume, watch=lambda *said: heard.append(said), rows=200, **about
        )

    first = train(False)
    assert {title for title, _ in heard} == {"flow/realnvp on moons", "gan/gan on moons"}
    assert {c.record.model for c in first} == {"flow/realnvp", "gan/gan"}
    assert {p.name for p in tmp_path.iterdir()} == {
        "moons-flow-realnvp",
        "moons-gan-gan",
        "report.html",
        "report.png",
        "report.json",
        "report.md",
    }
    again = train(True)
    weights = [torch.cat([p.flatten() for p in c[0].model.parameters()]) for c in (first, again)]
    assert torch.equal(*weights)
