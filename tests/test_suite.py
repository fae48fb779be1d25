"""Suites: every shipped one can be run, a file of one's own is checked, and one line says what is wrong with it."""

from __future__ import annotations

import pytest

from sixfold.compare.suite import FOLDER, read_suite, shipped
from sixfold.core.errors import BadInput
from sixfold.core.registry import FAMILIES, names
from sixfold.data import catalogue

GOOD = "data: [moons]\nmodels:\n  made: autoregressive/made\n"


def test_the_shipped_suites():
    assert shipped() == ["demo", "digits", "mnist", "toys2d"]


@pytest.mark.parametrize("name", ["demo", "digits", "mnist", "toys2d"])
def test_a_shipped_suite_has_every_family_and_only_known_names(name):
    suite = read_suite(name)
    assert set(suite.data) <= set(catalogue.names())
    assert {name for near in suite.near.values() for name in near} <= set(catalogue.names())
    jobs = suite.jobs()
    assert len(jobs) == len(suite.data) * len(suite.models) * suite.seeds
    for job in jobs:
        assert job.asked().recipe.seed == job.seed
    assert {job.model for job in jobs} <= set(names(presets=True))
    trained = {job.model.partition("/")[0] for job in jobs}
    assert trained == {name.partition("/")[0] for name in names()} <= set(FAMILIES)
    assert len({job.stem for job in jobs}) == len(jobs)


def test_three_seeds_unless_said_otherwise(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    suite = read_suite(path)
    assert [job.seed for job in suite.jobs()] == [0, 1, 2]
    assert suite.name == "mine"


@pytest.mark.parametrize("name", ["demo", "mnist"])
def test_a_suite_is_the_file_that_it_writes(name, tmp_path):
    suite = read_suite(name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(suite.to_yaml())
    assert read_suite(path) == suite


def test_budget_and_settings_reach_the_recipe(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("data: [moons]\nbudget: {steps: 7}\nmodels:\n  a: {model: flow/realnvp, settings: {width: 8, lr: 0.01}}\n")
    asked = read_suite(path).jobs()[0].asked()
    assert (asked.recipe.steps, asked.recipe.lr, asked.options) == (7, 0.01, {"width": 8})


def test_a_model_may_take_part_on_some_data_only(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("data: [moons, ring8]\nseeds: 1\nmodels:\n  a: {model: {moons: gan/gan}}\n  b: vae/vae\n")
    assert [(j.row, j.data) for j in read_suite(path).jobs()] == [("a", "moons"), ("b", "moons"), ("b", "ring8")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {a: gan/gan}\n", "lacks 'data'"),
        ("data: [moons]\n", "lacks 'models'"),
        (GOOD + "seed: 3\n", "'seeds'"),
        (GOOD + "seeds: 0\n", "seeds"),
        (GOOD + "rows: many\n", "rows"),
        (GOOD + "metrics: [fidelty]\n", "metrics"),
        (GOOD + "metrics: []\n", "metrics is empty"),
        (GOOD + "budget: {minutes: 1, steps: 3}\n", "one number"),
        (GOOD + "budget: {hours: 1}\n", "budget"),
        ("data: []\nmodels: {a: gan/gan}\n", "data is empty"),
        ("data: [moons]\nmodels: [gan/gan]\n", "mapping of labels"),
        ("data: [moons]\nmodels: {a: {modle: gan/gan}}\n", "'a'"),
        ("data: [moons]\nmodels: {a: [gan/gan]}\n", "'a'"),
        ("data: [moons]\nmodels: {a: 3, a: 4}\n", "twice"),
        ("- moons\n", "names and values"),
    ],
)
def test_a_wrong_file_is_one_line(text, said, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=said) as caught:
        read_suite(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "said"), [("dmo", "Perhaps you meant 'demo'"), ("no/such.yaml", "cannot read")])
def test_an_unknown_suite_is_one_line(name, said):
    with pytest.raises(BadInput, match=said):
        read_suite(name)


def test_suites_are_shipped_with_the_package():
    assert FOLDER.name == "suites"
    assert (FOLDER / "demo.yaml").is_file()
