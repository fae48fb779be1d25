"""Checkpoints: whole or refused, and a run that goes on from one ends bitwise where it would have ended."""

import errno
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tiny import PLANE, Blob, plane

from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import GenerativeModel
from sixfold.core.registry import build, entry, names
from sixfold.data import load
from sixfold.train import checkpoint, journal
from sixfold.train.checkpoint import load_model, read, save_model
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe
from sixfold.train.stop import Interrupted, locked

CHILD = Path(__file__).with_name("train_child.py")
OFTEN = {"batch": 32, "lr": 1e-2, "ema": 0.95, "validate_every": 0.03, "save_every": 1e-9}
"""Saves at every rest, once in 100 rounds."""


def fresh(name: str, **options):
    torch.manual_seed(0)
    return build(name, PLANE, **options)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Bitwise equality of every parameter and buffer."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, fresh("tiny:Blob", width=4).eval())
    return path


# Models.


@pytest.mark.parametrize("name", ["tiny:Blob", "tiny:Duel"])
def test_a_loaded_model_is_the_trained_one(name, tmp_path):
    model = fresh(name, width=5)
    fit_model(model, plane(), Recipe(steps=30, **OFTEN), folder=tmp_path)
    loaded = load_model(tmp_path)
    assert same(loaded, model)
    assert (loaded.name, loaded.options, loaded.spec, loaded.training) == (name, model.options, PLANE, False)
    g = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert torch.equal(loaded.sample(8, generator=g[0]), model.sample(8, generator=g[1]))


@pytest.mark.parametrize(
    ("recipe", "chosen"), [({}, "best"), ({"validate_every": 0.0}, "ema"), ({"validate_every": 0.0, "ema": 0.0}, "model")]
)
def test_what_is_chosen_is_what_is_loaded(recipe, chosen, tmp_path):
    model = fresh("tiny:Blob")
    fit_model(model, plane(), Recipe(steps=30, **{**OFTEN, **recipe}), folder=tmp_path)
    assert read(tmp_path).header["chosen"] == chosen
    assert same(load_model(tmp_path), model)


def test_float64_comes_back_as_float64(tmp_path):
    model = fresh("tiny:Blob")
    fit_model(model, plane(), Recipe(steps=5, batch=32, precision="float64"), folder=tmp_path)
    assert load_model(tmp_path).dtype == torch.float64


def test_a_saved_model_holds_nothing_else(saved):
    assert {name.partition("/")[0] for name in read(saved).tensors} == {"model"}
    assert load_model(saved).options == {"width": 4, "dropout": 0.0, "poison": 0, "until": 10**9}


def test_a_model_built_by_hand_is_not_saved_for_others(tmp_path):
    with pytest.raises(BadInput, match="not built by name"):
        save_model(tmp_path / "x.safetensors", Blob(PLANE))
    fit_model(Blob(PLANE), plane(), Recipe(steps=2), folder=tmp_path)
    with pytest.raises(BadInput, match="not built by name"):
        load_model(tmp_path)


def test_code_that_has_changed_is_named(saved):
    found = read(saved)
    found.header["model"]["options"]["width"] = 6
    checkpoint.write(saved, found.tensors, found.header)
    with pytest.raises(BadInput, match=r"net\.0\.bias is \(4,\), model tiny:Blob has \(6,\)"):
        load_model(saved)
    checkpoint.write(saved, {**found.tensors, "model/more": torch.ones(1)}, found.header)
    with pytest.raises(BadInput, match="'more' is not in both"):
        load_model(saved)


# Damage.


def damaged(path: Path, how: str) -> None:
    """Do one kind of harm to a checkpoint."""
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    if how.startswith("cut"):
        path.write_bytes(whole[: int(how.split()[1]) % len(whole)])
    elif how == "header of terabytes":
        path.write_bytes(struct.pack("<Q", 2**42) + whole[8:])
    elif how == "tensor of terabytes":
        first = next(name for name in header if name.startswith("model/"))
        header[first] |= {"shape": [2**40], "data_offsets": [0, 2**42]}
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    elif how == "foreign":
        safetensors.torch.save_file({"x": torch.ones(2)}, path)
    elif how == "foreign with metadata":
        safetensors.torch.save_file({"x": torch.ones(2)}, path, {"format": "pt"})
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"x": 1}))
    elif how == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", b"x")
    elif how == "text":
        path.write_text("<!doctype html><title>Not found</title>" * 9)


CUTS = ["cut 0", "cut 1", "cut 7", "cut 8", "cut 9", "cut 300", "cut -1"]
HARM = {
    **dict.fromkeys(CUTS, "damaged or no checkpoint"),
    "header of terabytes": "claims 4398046511104 bytes",
    "tensor of terabytes": "damaged or no checkpoint",
    "foreign": "damaged or no checkpoint",
    "foreign with metadata": "written by another program",
    "pickle": "pickle or zip archive, which is never loaded",
    "zip": "pickle or zip archive, which is never loaded",
    "text": "damaged or no checkpoint",
}


@pytest.mark.parametrize(("how", "said"), HARM.items())
def test_a_damaged_file_is_one_clear_line(saved, how, said):
    damaged(saved, how)
    with pytest.raises(BadInput, match=said) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_no_flipped_bit_passes(saved):
    """Every 7th byte of the file in turn, one bit of it: header, metadata, and tensors."""
    whole = bytearray(saved.read_bytes())
    for place in range(0, len(whole), 7):
        whole[place] ^= 1 << place % 8
        saved.write_bytes(whole)
        with pytest.raises(BadInput):
            read(saved)
        whole[place] ^= 1 << place % 8
    saved.write_bytes(whole)
    read(saved)


def test_missing_and_later_files_are_named(saved, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="No such file"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"checkpoint\.safetensors: no checkpoint can be read"):
        load_model(tmp_path)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save_model(saved, fresh("tiny:Blob"))
    monkeypatch.undo()
    with pytest.raises(BadInput, match="later version"):
        load_model(saved)


# Writing.


class Full:
    """A disk that takes no more than a number of bytes."""

    def __init__(self, monkeypatch, number: int) -> None:
        self.error = OSError(number, os.strerror(number))
        monkeypatch.setattr(os, "fsync", self.refuse)

    def refuse(self, _descriptor: int) -> None:
        raise self.error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_never_costs_the_old_file(saved, monkeypatch, number):
    before = saved.read_bytes()
    Full(monkeypatch, number)
    with pytest.raises(BadInput, match=f"not saved, {os.strerror(number)}"):
        save_model(saved, fresh("tiny:Blob", width=9))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_disk_that_is_full_in_the_middle_warns_and_at_the_end_says_not_saved(tmp_path, monkeypatch):
    Full(monkeypatch, errno.ENOSPC)
    model = fresh("tiny:Blob")
    with pytest.warns(RuntimeWarning, match="not saved, No space"), pytest.raises(BadInput, match="not saved, No space"):
        fit_model(model, plane(), Recipe(steps=150, **OFTEN), folder=tmp_path)
    assert not model.training
    assert not (tmp_path / checkpoint.FILE).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' full device")
def test_a_full_disk_does_not_end_a_run_for_its_metrics(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_opened", lambda path, records: Path("/dev/full").open("a"))  # noqa: SIM115
    with pytest.warns(RuntimeWarning, match="metrics are no longer written: No space left"):
        fit = fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=50, batch=32), folder=tmp_path)
    assert fit.steps == 50


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match="cannot hold a run"):
        fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=2), folder=tmp_path / "run")


def test_tied_parameters_and_buffers_sized_by_data_come_back(tmp_path):
    model = fresh("tiny:Memory")
    fit_model(model, plane(), Recipe(steps=3, batch=32), folder=tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.rows.shape == (200, 2)
    assert loaded.tied.weight is loaded.net.weight
    assert same(loaded, model)


# Folders.


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(BadInput, match="another process is training here"):
        fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=2), folder=tmp_path)
    fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=2), folder=tmp_path)
    with pytest.raises(BadInput, match="holds a run already"):
        fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=2), folder=tmp_path)
    with pytest.raises(BadInput, match="needs the folder"):
        fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=2), resume=True)


@pytest.mark.parametrize(
    ("options", "data", "recipe", "said"),
    [
        ({"width": 9}, plane(), {}, "model options was .*'width': 8.* now"),
        ({}, plane(seed=1), {}, "data crc32 was"),
        ({}, plane(), {"lr": 0.5}, r"recipe lr was 0\.01, now it is 0\.5"),
    ],
)
def test_another_model_other_data_or_another_recipe_cannot_resume(options, data, recipe, said, tmp_path):
    fit_model(fresh("tiny:Blob"), plane(), Recipe(steps=2, **OFTEN), folder=tmp_path)
    with pytest.raises(BadInput, match=said):
        fit_model(fresh("tiny:Blob", **options), data, Recipe(steps=2, **{**OFTEN, **recipe}), folder=tmp_path, resume=True)


# Going on.


def test_metrics_go_on_after_the_checkpoint_without_a_torn_line(tmp_path):
    """A killed process has logged more than it has saved, and its last line is half written."""
    path = tmp_path / journal.FILE
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 20, 40, 60)) + '{"step": 8')
    kept = journal.Journal(tmp_path, after=40)
    kept.add({"step": 60, "valid": float("nan")})
    kept.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == kept.records == [{"step": 1}, {"step": 20}, {"step": 40}, {"step": 60, "valid": None}]


def whole_run(name: str, recipe: Recipe, folder: Path | None = None, **options):
    """Model and result of a run that nothing disturbs."""
    model = fresh(name, **options)
    return model, fit_model(model, plane(), recipe, folder=folder)


@pytest.mark.parametrize(("name", "options"), [("tiny:Blob", {"dropout": 0.3}), ("tiny:Duel", {})])
@pytest.mark.parametrize("stop", [1, 37, 100, 149])
def test_a_stopped_run_goes_on_bitwise(name, options, stop, tmp_path):
    """A signal at any step, at a rest and between: weights, mean, best, counters and metrics are those of one run."""
    recipe = Recipe(steps=150, **OFTEN)
    expected, fit = whole_run(name, recipe, **options)
    model = fresh(name, **options)
    after = model.after_step

    def signalled(player: str) -> None:
        after(player)
        counted = int(model.steps) if name == "tiny:Blob" else int(model.turns[1])
        if counted == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    model.after_step = signalled
    with pytest.raises(Interrupted, match=f"stopped after step {stop}, saved in .*--resume") as caught:
        fit_model(model, plane(), recipe, folder=tmp_path)
    assert caught.value.exit_code == 143
    model = fresh(name, **options)
    resumed = fit_model(model, plane(), recipe, folder=tmp_path, resume=True)
    assert same(model, expected)
    assert (resumed.steps, resumed.best, resumed.roll_backs) == (fit.steps, fit.best, fit.roll_backs)
    timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in f.history] for f in (fit, resumed)]
    assert timeless[0] == timeless[1]


def built(name: str) -> tuple[Dataset, GenerativeModel]:
    """The model with its defaults, on the first data that it takes: points, images or binary images."""
    for data in (plane(), load("digits").unconditional(), load("digits:binary").unconditional()):
        torch.manual_seed(0)
        with suppress(Unsupported):
            return data, build(name, data.spec)
    raise AssertionError(f"no data for {name}")


@pytest.mark.parametrize("name", names())
def test_every_model_goes_on_bitwise(name, tmp_path):
    """The library's own models, each stopped after 3 of 6 rounds with its own optimiser and averaging."""
    recipe = Recipe.of(entry(name).recipe, {"steps": 6, "batch": 32, "validate_rows": 32, "validate_every": 1.0})
    data, expected = built(name)
    fit_model(expected, data, recipe)
    _, model = built(name)

    after, turns = model.after_step, []

    def signalled(player: str) -> None:
        after(player)
        turns.append(player)
        if len(turns) == 3 * sum(p.steps for p in model.players().values()):
            os.kill(os.getpid(), signal.SIGTERM)

    model.after_step = signalled
    with pytest.raises(Interrupted):
        fit_model(model, data, recipe, folder=tmp_path)
    assert read(tmp_path).header["counters"]["rounds"] == 3
    _, model = built(name)
    fit_model(model, data, recipe, folder=tmp_path, resume=True)
    assert same(model, expected)
    assert same(load_model(tmp_path), expected)


@pytest.mark.filterwarnings("ignore:went back")
def test_a_roll_back_after_resuming_is_that_of_the_whole_run(tmp_path):
    """Stopped at step 130, NaN at 145: both roll back to step 100, which the checkpoint has to hold beside the rest."""
    recipe = Recipe(steps=200, **{**OFTEN, "validate_every": 0.0})
    expected, _ = whole_run("tiny:Blob", recipe, poison=144, until=145)
    model = fresh("tiny:Blob", poison=144, until=145)
    after = model.after_step

    def signalled(player: str) -> None:
        after(player)
        if int(model.steps) == 130:
            os.kill(os.getpid(), signal.SIGINT)

    model.after_step = signalled
    with pytest.raises(Interrupted):
        fit_model(model, plane(), recipe, folder=tmp_path)
    model = fresh("tiny:Blob", poison=144, until=145)
    model.seen = 130
    assert fit_model(model, plane(), recipe, folder=tmp_path, resume=True).roll_backs == 1
    assert same(model, expected)


def test_the_second_signal_stops_at_once(tmp_path):
    model = fresh("tiny:Blob")
    model.after_step = lambda player: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit_model(model, plane(), Recipe(steps=20, **OFTEN), folder=tmp_path)
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_finished_run_resumes_to_itself_and_a_larger_budget_goes_on(tmp_path):
    model, _ = whole_run("tiny:Blob", Recipe(steps=50, **OFTEN), tmp_path)
    again = fresh("tiny:Blob")
    assert fit_model(again, plane(), Recipe(steps=50, **OFTEN), folder=tmp_path, resume=True).steps == 50
    assert same(again, model)
    assert fit_model(again, plane(), Recipe(steps=70, **OFTEN), folder=tmp_path, resume=True).steps == 70
    assert int(read(tmp_path).tensors["model/steps"]) == 70


def test_minutes_are_counted_over_both_processes(tmp_path):
    recipe = Recipe(minutes=0.02, **OFTEN)

    def stop(progress) -> None:
        if progress.share > 0.7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        fit_model(fresh("tiny:Blob"), plane(), recipe, folder=tmp_path, on_step=stop)
    spent = read(tmp_path).header["counters"]["seconds"]
    start = time.monotonic()
    fit = fit_model(fresh("tiny:Blob"), plane(), recipe, folder=tmp_path, resume=True)
    assert fit.seconds >= 1.2
    assert time.monotonic() - start < 1.2 - spent + 0.4


def child(order: dict) -> int:
    """Exit code of a run in a process of its own."""
    path = os.pathsep.join([str(CHILD.parent), str(CHILD.parent.parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, str(CHILD), json.dumps(order)], env=environment, timeout=100, check=False).returncode


@pytest.mark.parametrize(
    ("name", "die"), [("tiny:Blob", {"update": 150}), ("tiny:Duel", {"update": 451}), ("tiny:Duel", {"sync": 3})]
)
def test_a_killed_run_goes_on_bitwise(name, die, tmp_path):
    """SIGKILL in mid-run, between two updates of one round; and in mid-checkpoint, of which 100 bytes are on the disk by then."""
    recipe = {"steps": 250, **OFTEN}
    assert child({"model": name, "recipe": recipe, "folder": str(tmp_path), "die_at": die}) == -signal.SIGKILL
    assert read(tmp_path).header["counters"]["rounds"] == 100
    assert (tmp_path / f".{checkpoint.FILE}.part").exists() == ("sync" in die)
    model = fresh(name)
    fit_model(model, plane(), Recipe(**recipe), folder=tmp_path, resume=True)
    assert same(model, whole_run(name, Recipe(**recipe))[0])
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 250
