"""The command line as a user meets it: in process where that suffices, as a process where start-up and exit codes matter."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sixfold
from sixfold.cli.main import COMMANDS, main
from sixfold.core.errors import BadInput
from sixfold.core.registry import BUDGETS, names
from sixfold.models.flow.realnvp import RealNVP
from sixfold.run.training import Settings

QUICK = ["--steps", "6", "--width", "8", "--couplings", "2", "--quiet"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    words = [sys.executable, "-m", "sixfold", *arguments]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "flow"
    assert main(["fit", "flow/realnvp", "--data", "moons", "--out", str(folder), *QUICK]) == 0
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["fit", "vae/vae", "--data", "digits", "--out", str(folder), "--steps", "4", "--width", "8", "--quiet"]) == 0
    return folder


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("list",)])
def test_light_commands_import_nothing_heavy(arguments):
    # Seconds are measured in benchmarks/startup.py; what makes them few is what is not imported.
    heavy = "torch", "numpy", "matplotlib", "pydantic", "tyro", "rich", "scipy", "sklearn"
    code = f"import sys; from sixfold.cli.main import main; main({list(arguments)!r}); print([m for m in {heavy!r}"
    code += " if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_list_names_every_model_and_preset(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in names(presets=True):
        model, _, preset = name.partition(":")
        assert model in printed
        assert f":{preset}" in printed or not preset


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {command} " in printed for command in COMMANDS)


@pytest.mark.parametrize("name", names())
def test_options_of_model_and_recipe_share_no_name(name):
    assert Settings.of(name, "moons", settings={}).model == name


def test_an_option_that_is_also_the_recipes_is_refused(monkeypatch):
    class Clashing:
        def __init__(self, spec, *, lr: float = 1.0) -> None: ...

    monkeypatch.setattr("sixfold.run.training.model_class", lambda _: Clashing)
    with pytest.raises(BadInput, match="'lr'"):
        Settings.of("gan/gan", "moons", settings={})


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command, capsys):
    with suppress(SystemExit):  # tyro's own help exits
        assert main([command, "--help"]) == 0
    assert "usage" in capsys.readouterr().out.lower()


def test_show_has_options_presets_and_source(capsys):
    assert main(["show", "flow/realnvp"]) == 0
    printed = capsys.readouterr().out
    assert "couplings" in printed
    assert "deep" in printed
    assert "1605.08803" in printed


def test_fit_leaves_a_whole_run(trained):
    present = {path.name for path in trained.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoint.safetensors", "samples.npy", "samples.csv", "index.html"} <= present
    config = json.loads((trained / "config.json").read_text())
    assert config["settings"]["model"] == "flow/realnvp"
    assert config["options"]["width"] == 8
    page = (trained / "index.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_page_repeats_the_run(trained, tmp_path):
    config = json.loads((trained / "config.json").read_text())
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(config["settings"]))
    assert main(["fit", "--config", str(file), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    assert (tmp_path / "again" / "checkpoint.safetensors").exists()
    assert np.array_equal(np.load(tmp_path / "again" / "samples.npy"), np.load(trained / "samples.npy"))


def test_a_second_fit_does_not_overwrite(trained, capsys):
    assert main(["fit", "flow/realnvp", "--data", "moons", "--out", str(trained), *QUICK]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_resume_goes_further(tmp_path):
    out = ["--out", str(tmp_path / "run")]
    assert main(["fit", "flow/realnvp", "--data", "moons", *out, *QUICK]) == 0
    further = [word if word != "6" else "9" for word in QUICK]
    assert main(["fit", "flow/realnvp", "--data", "moons", *out, *further, "--resume"]) == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 9


def test_print_config_is_a_config(capsys, tmp_path):
    assert main(["fit", "flow/realnvp:deep", "--data", "moons", "--lr", "0.004", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["model"] == "flow/realnvp:deep"
    assert values["lr"] == 0.004
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(values))
    assert main(["fit", "--config", str(file), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == values


def test_a_flag_wins_over_the_file(tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text("model: flow/realnvp\ndata: moons\nwidth: 16\nminutes: 2.0\n")
    assert main(["fit", "--config", str(file), "--width", "24", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["width"] == 24
    assert values["minutes"] == 2.0
    assert "steps" not in values


BASE = Settings.of("flow/realnvp", "moons", settings={}).recipe.steps


@pytest.mark.parametrize(
    ("file", "flags", "said"),
    [
        ("", [], {"steps": BASE}),
        ("", ["--minutes", "2"], {"minutes": 2.0}),
        ("", [f"--steps={BASE}"], {"steps": BASE}),
        ("minutes: 5", [], {"minutes": 5.0}),
        ("minutes: 5", ["--minutes", "2"], {"minutes": 2.0}),
        ("minutes: 5", ["--steps", "7"], {"steps": 7}),
        ("minutes: 5", ["--steps", str(BASE)], {"steps": BASE}),  # said last, though it is the recipe's own
        ("epochs: 3", ["--minutes", "2"], {"minutes": 2.0}),
        ("steps: 7", ["--epochs", "3"], {"epochs": 3.0}),
        (f"steps: {BASE}", ["--minutes", "2"], {"minutes": 2.0}),
        ("minutes: 5", ["--width", "24"], {"minutes": 5.0}),
    ],
)
def test_the_budget_that_is_said_last_wins(file, flags, said, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(f"model: flow/realnvp\ndata: moons\n{file}\n")
    assert main(["fit", "--config", str(tmp_path / "c.yaml"), *flags, "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert {name: values[name] for name in BUDGETS if name in values} == said


@pytest.mark.parametrize(("file", "flags"), [("minutes: 5\nsteps: 7", []), ("", ["--steps", str(BASE), "--minutes", "2"])])
def test_two_budgets_in_one_place_are_refused(file, flags, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(f"model: flow/realnvp\ndata: moons\n{file}\n")
    assert main(["fit", "--config", str(tmp_path / "c.yaml"), *flags, "--print-config"]) == 2
    assert "one budget; got steps and minutes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: flow/realnvp\ndata: moons\nwidht: 16\n", "width"),
        ("model: flow/realnvp\nmodel: gan/gan\ndata: moons\n", "stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
        ("- 1\n", "names and values"),
        ("a: [\n", "no YAML"),
    ],
)
def test_bad_config_files_are_one_line(text, said, tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert main(["fit", "--config", str(file)]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lisst"], "'list'"),
        (["show", "flow/realnpv"], "'flow/realnvp'"),
        (["show"], "show NAME"),
        (["fit", "realnvp", "--data", "moons"], "'flow/realnvp'"),
        (["fit", "flow/realnvp:deeep", "--data", "moons"], "'deep'"),
        (["fit", "flow/realnvp", "--data", "mooons"], "'moons'"),
        (["fit", "flow/realnvp", "--data", "moons", "--width", "0"], "width"),
        (["fit", "flow/realnvp", "--data", "moons", "--steps", "5", "--minutes", "1"], "one budget"),
        (["fit", "flow/realnvp", "--data", "nowhere/none.csv"], "none.csv"),
        (["sample", "no/such/run"], "no/such/run"),
        (["score", "no/such/run", "--data", "moons"], "no/such/run"),
        (["compare", "no/such/run"], "no/such/run"),
        (["fit", "their.module:Model", "--data", "moons"], "their.module"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.startswith("sixfold: ")
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


def test_misspelt_flag_suggests_and_exits_2():
    done = run("fit", "flow/realnvp", "--data", "moons", "--widht", "8")
    assert done.returncode == 2
    assert "--width" in done.stderr + done.stdout


def test_sample_writes_arrays(trained, tmp_path, capsys):
    assert main(["sample", str(trained), "-n", "7", "--out", str(tmp_path / "s")]) == 0
    drawn = np.load(tmp_path / "s.npy")
    assert drawn.shape == (7, 2)
    rows = list(csv.reader((tmp_path / "s.csv").read_text().splitlines()))
    assert rows[0] == ["x0", "x1"]
    assert np.allclose(np.array(rows[1:], float), drawn, atol=1e-6)
    assert capsys.readouterr().out.split() == [str(tmp_path / "s.npy"), str(tmp_path / "s.csv")]


def test_sample_is_fixed_by_its_seed(trained, tmp_path):
    for stem, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["sample", str(trained), "-n", "5", "--seed", seed, "--out", str(tmp_path / stem)]) == 0
    a, b, c = (np.load(tmp_path / f"{stem}.npy") for stem in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_sample_of_images_is_a_grid(images, tmp_path):
    assert main(["sample", str(images), "-n", "9", "--out", str(tmp_path / "s")]) == 0
    with Image.open(tmp_path / "s.png") as grid:
        assert grid.size == (8 * (3 * 9 + 1), 8 * (3 * 9 + 1))  # 3x3 images of 8 pixels with gaps of one, enlarged eightfold
    assert np.load(tmp_path / "s.npy").shape == (9, 1, 8, 8)


def test_score_has_a_row_and_a_kind_for_each_datum(images, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert main(["score", str(images), "--data", "digits", "--effort", "2", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["kind"] for row in rows} == {"Lower"}
    nats, bits = float(rows[0]["log_prob_nats"]), float(rows[0]["bits_per_dim"])
    assert bits == pytest.approx(-nats / (64 * np.log(2)), abs=1e-5)
    printed = capsys.readouterr().out
    assert ">=" in printed
    assert "<=" in printed, "a lower bound of log p is an upper bound of the bits"


def test_scoring_other_data_is_refused(images, capsys):
    assert main(["score", str(images), "--data", "moons"]) == 2
    assert "shape" in capsys.readouterr().err


def test_a_gan_has_no_scores(tmp_path, capsys):
    quick = ["--steps", "2", "--width", "8", "--quiet"]
    assert main(["fit", "gan/gan", "--data", "moons", "--out", str(tmp_path / "g"), *quick]) == 0
    assert main(["score", str(tmp_path / "g"), "--data", "moons"]) == 2
    assert "no log-probability" in capsys.readouterr().err


def test_compare_writes_one_report(trained, tmp_path, capsys):
    assert main(["compare", str(trained), str(trained), "--out", str(tmp_path / "c"), "--rows", "300"]) == 0
    printed = capsys.readouterr().out
    assert "flow/realnvp" in printed
    rows = json.loads((tmp_path / "c" / "report.json").read_text())
    assert [row["likelihood"]["kind"] for row in rows if row["model"]] == ["Exact"]
    page = (tmp_path / "c" / "report.html").read_text()
    assert "http" not in page
    assert list((tmp_path / "c" / "pictures").glob("*.png"))


def test_unwritable_folder_is_one_line(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["fit", "flow/realnvp", "--data", "moons", "--out", str(blocked / "run"), *QUICK]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_saves_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    words = ["fit", "flow/realnvp", "--data", "moons", "--out", str(out), "--steps", "100000", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "sixfold", *words], stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(2)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said
    assert (out / "checkpoint.safetensors").exists()


def test_a_table_keeps_the_names_of_its_columns(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = "\n".join(f"{a:.6f},{b:.6f}" for a, b in rng.normal(size=(200, 2)))
    (tmp_path / "t.csv").write_text(f"height,weight\n{rows}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "flow/realnvp", "--data", "t.csv", "--out", "run", *QUICK]) == 0
    assert main(["sample", "run", "-n", "3", "--out", "drawn"]) == 0
    for file in ("run/samples.csv", "drawn.csv"):
        assert (tmp_path / file).read_text().splitlines()[0] == "height,weight"


def test_a_refused_resume_leaves_the_configuration(trained, capsys):
    before = (trained / "config.json").read_text()
    other = [word if word != "8" else "16" for word in QUICK]
    assert main(["fit", "flow/realnvp", "--data", "moons", "--out", str(trained), *other, "--resume"]) == 2
    assert "width" in capsys.readouterr().err
    assert (trained / "config.json").read_text() == before


def test_two_devices_share_a_run(tmp_path):
    words = ["fit", "flow/realnvp", "--data", "moons", "--devices", "2", *QUICK]
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("index.html") == 1
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["moons-flow-realnvp"]
    refused = run(*words, "--out", "runs/moons-flow-realnvp", cwd=tmp_path)
    assert refused.returncode != 0
    assert "already holds a run" in refused.stderr


def test_samples_are_written_batch_by_batch(trained, tmp_path):
    for stem, extra in (("a", []), ("b", ["--at-once", "100"]), ("c", ["--at-once", "40", "--quiet"])):
        assert main(["sample", str(trained), "-n", "100", "--out", str(tmp_path / stem), *extra]) == 0
    a, b, c = (np.load(tmp_path / f"{stem}.npy") for stem in "abc")
    assert np.array_equal(a, b)
    model = sixfold.load(trained)
    drawn = model.stream(100, at_once=40, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(c, torch.cat(list(drawn)).numpy())
    assert np.allclose(np.loadtxt(tmp_path / "c.csv", delimiter=",", skiprows=1), c, atol=1e-6)


def test_the_grid_has_the_first_images_of_all_batches(images, tmp_path):
    assert main(["sample", str(images), "-n", "300", "--at-once", "50", "--out", str(tmp_path / "s")]) == 0
    with Image.open(tmp_path / "s.png") as grid:
        assert grid.size == (8 * (16 * 9 + 1), 8 * (16 * 9 + 1))  # 16 x 16 images of 8 pixels with gaps of one
    assert np.load(tmp_path / "s.npy").shape == (300, 1, 8, 8)


def test_stopped_sampling_leaves_what_was_there(trained, tmp_path, monkeypatch, capsys):
    assert main(["sample", str(trained), "-n", "5", "--out", str(tmp_path / "s")]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    drawn = RealNVP.sample

    def sample(self, num, **options):
        if num < 40:
            raise KeyboardInterrupt
        return drawn(self, num, **options)

    monkeypatch.setattr(RealNVP, "sample", sample)
    capsys.readouterr()
    assert main(["sample", str(trained), "-n", "100", "--at-once", "40", "--out", str(tmp_path / "s")]) == 130
    assert capsys.readouterr().err == "sixfold: interrupted\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
