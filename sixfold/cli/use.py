"""``sixfold sample RUN`` and ``sixfold score RUN --data D``: the flags are the model's own ``sample`` and ``log_prob``."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import IO, Any

import torch

from sixfold.cli.parse import flag, flags, parse
from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Kind, LogProb
from sixfold.core.model import GenerativeModel, HasDensity, Watch
from sixfold.core.signature import Count, Natural, options, validate
from sixfold.evaluate.likelihood import log_prob_of
from sixfold.run.folder import RunFolder
from sixfold.run.samples import write_samples
from sixfold.run.training import dataset_of, load_run
from sixfold.train.progress import Bar, Progress

_FORMS = {"sample": "sample RUN -n 64 [options]", "score": "score RUN --data D [options]"}


def _model_of(arguments: Sequence[str], command: str) -> tuple[GenerativeModel | None, Path]:
    """The trained model that the first argument names; ``None`` after help was printed for want of one."""
    if not arguments or arguments[0].startswith("-"):
        if arguments[:1] and arguments[0] in ("-h", "--help"):
            sys.stdout.write(f"usage: sixfold {_FORMS[command]}; `sixfold {command} RUN --help` shows its options.\n")
            return None, Path()
        raise BadInput(f"no run named. Usage: sixfold {_FORMS[command]}.")
    return load_run(arguments[0]), Path(arguments[0])


def _seeded(model: GenerativeModel, seed: int) -> torch.Generator:
    return torch.Generator(model.device).manual_seed(seed)


def sample(arguments: Sequence[str]) -> int:
    """Draw samples into a PNG grid, or .npy and .csv."""
    model, path = _model_of(arguments, "sample")
    if model is None:
        return 0
    own = options(model.sample)
    fields = [
        flag("num", Count, 64, "how many"),
        flag("out", Path | None, None, "files to write, without ending; by default `drawn` in the run's folder"),
        flag("label", Natural | None, None, "class to draw, for a class-conditional model; all in turn by default"),
        flag("seed", Natural, 0, "of the draws"),
        flag("at_once", Count | None, None, "draws in a batch, by default by the size of one; fewer take less memory"),
        flag("quiet", bool, False, "no progress bar"),
        *flags(own, {}),
    ]
    values = parse(_short(arguments[1:]), fields, prog="sixfold sample RUN", description=f"Draw from {model.name}.")
    chosen = validate(model.sample, {o.name: values[o.name] for o in own}, owner=f"sample of {model.name}")
    num, stem = values["num"], values["out"] or (path if path.is_dir() else path.parent) / "drawn"
    try:
        with Bar(model.name) as bar:
            batches = model.stream(
                num, at_once=values["at_once"], cond=_labels(model, num, values["label"]),
                generator=_seeded(model, values["seed"]), watch=None if values["quiet"] else _shown(bar, num), **chosen,
            )  # fmt: skip
            written = write_samples(batches, num, model.spec, stem, columns=_config(path).get("columns", ()))
    except OSError as error:
        raise BadInput(f"cannot write {stem}: {error.strerror}. Choose another place with --out.") from None
    sys.stdout.write("".join(f"{file}\n" for file in written))
    return 0


def _shown(bar: Bar, num: int) -> Watch:
    """What moves the bar by the share of ``num`` samples that are drawn."""
    started = time.monotonic()

    def watch(share: float) -> None:
        seconds = time.monotonic() - started
        bar(Progress(round(share * num), num, share, {}, speed=share * num / seconds, seconds_left=seconds * (1 - share) / share))

    return watch


def _short(arguments: Sequence[str]) -> list[str]:
    return ["--num" if word == "-n" else word for word in arguments]


def _labels(model: GenerativeModel, num: int, label: int | None) -> torch.Tensor | int | None:
    if model.spec.cond.kind == "vector":
        raise Unsupported(f"{model.name} is conditioned on vectors, which have no flag. In Python: model.sample(n, cond=...).")
    if label is None and model.spec.cond.kind == "classes":
        return torch.arange(num) % model.spec.cond.size
    return label


def score(arguments: Sequence[str]) -> int:
    """One row per datum: its log-probability in nats and the kind of that number."""
    model, path = _model_of(arguments, "score")
    if model is None:
        return 0
    if not isinstance(model, HasDensity):
        raise Unsupported(f"{model.name} has no log-probability to score with. Compare its samples: `sixfold compare`.")
    own = options(model.log_prob)
    fields = [
        flag("data", str, _trained_on(path), "data to score; its test split"),
        flag("split", str, "test", "train, valid, test, or all"),
        flag("out", Path | None, None, "CSV file to write; by default `scores.csv` in the run's folder, - for standard output"),
        flag("seed", Natural, 0, "of bounds and estimates that draw"),
        *flags(own, {}),
    ]
    values = parse(arguments[1:], fields, prog="sixfold score RUN", description=f"Score data with {model.name}.")
    chosen = validate(model.log_prob, {o.name: values[o.name] for o in own}, owner=f"log_prob of {model.name}")
    x, cond = _rows(dataset_of(values["data"], conditional=model.spec.cond.kind != "none"), values["split"])
    found = log_prob_of(model, x, cond, generator=_seeded(model, values["seed"]), **chosen)
    out = values["out"] or (path if path.is_dir() else path.parent) / "scores.csv"
    if str(out) == "-":
        _write_scores(sys.stdout, found)
        return 0
    try:
        with out.open("w", newline="", encoding="utf-8") as file:
            _write_scores(file, found)
    except OSError as error:
        raise BadInput(f"cannot write {out}: {error.strerror}. Choose another file with --out.") from None
    mean = found.mean()
    bits = "" if found.measure.levels is None else f", {mean.sign} {mean.bits_per_dim:.4f} bits/dim"
    sys.stdout.write(f"log p {mean}{bits}\n{out}\n")
    return 0


def _config(path: Path) -> dict[str, Any]:
    """What is known of the run that a checkpoint lies in; nothing of one that lies alone."""
    folder = RunFolder(path if path.is_dir() else path.parent)
    return folder.config() if folder.config_path.is_file() else {}


def _trained_on(path: Path) -> Any:
    settings = _config(path).get("settings")
    return MISSING if settings is None else settings["data"]


def _rows(dataset: Dataset, split: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    names = ("train", "valid", "test") if split == "all" else (split,)
    if not set(names) <= {"train", "valid", "test"}:
        raise BadInput(f"no split {split!r}; expected train, valid, test or all.")
    parts = [getattr(dataset, name) for name in names]
    labelled = all(p.cond is not None for p in parts)
    return torch.cat([p.rows() for p in parts]), torch.cat([p.cond for p in parts]) if labelled else None


def _write_scores(file: IO[str], found: LogProb[Kind]) -> None:
    rows = csv.writer(file)
    discrete = found.measure.levels is not None
    rows.writerow(["row", "log_prob_nats", "kind", "method", *(["bits_per_dim"] if discrete else [])])
    bits = found.bits_per_dim().tolist() if discrete else []
    for i, nats in enumerate(found.nats.tolist()):
        rows.writerow([i, f"{nats:.6f}", found.kind.__name__, found.method, *([f"{bits[i]:.6f}"] if discrete else [])])
