"""The page of a run: what it was, how it went, what it draws."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from sixfold.core.dataset import Dataset
from sixfold.core.model import GenerativeModel
from sixfold.core.registry import entry
from sixfold.plot.curves import curves
from sixfold.plot.page import picture, render
from sixfold.plot.style import family_colour, figure, save, style
from sixfold.run.folder import RunFolder, write_text
from sixfold.run.pictures import DPI, draw, sample_picture
from sixfold.run.samples import write_samples
from sixfold.run.show.sections import sections
from sixfold.run.show.subject import Section, Subject

_TEMPLATE = Path(__file__).parent / "templates" / "run.html"
PICTURED = 2000

Curve: TypeAlias = tuple[list[float], list[float]]


def training_picture(rows: Sequence[Mapping[str, Any]], path: Path) -> Path | None:
    """Losses of every player with the validation, and the parts of the losses; ``None`` when nothing was logged."""
    losses: dict[str, Curve] = {}
    parts: dict[str, Curve] = {}
    for row in rows:
        for player, terms in row.get("players", {}).items():
            for name, value in terms.items():
                if value is not None and name != "norm":
                    _point(losses if name == "loss" else parts, f"{player} {name}", row["step"], value)
        if row.get("valid") is not None:
            _point(losses, "validation", row["step"], row["valid"])
    if not losses:
        return None
    with style():
        made = figure(10.5 if parts else 5.4, 3.2)
        shown = [(losses, "loss"), *([(parts, "parts of the loss")] if parts else [])]
        for axes, (chosen, label) in zip(made.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            curves(axes, chosen, xlabel="step", ylabel=label)
        return save(made, path, dpi=DPI)


def _point(curves_of: dict[str, Curve], name: str, step: int, value: float) -> None:
    x, y = curves_of.setdefault(name, ([], []))
    x.append(step)
    y.append(value)


def _shown(path: Path, caption: str, alt: str) -> dict[str, Any]:
    """What the template needs of a picture."""
    with Image.open(path) as image:
        width, height = (round(100 * side / DPI) for side in image.size)
    return {"src": picture(path), "caption": caption, "alt": alt, "width": width, "height": height}


def _part(title: str, pictures: Sequence[Mapping[str, Any]], note: str = "") -> dict[str, Any]:
    """What the template needs of a section."""
    return {"title": title, "pictures": pictures, "note": note}


def _drawn(section: Section, folder: Path) -> dict[str, Any]:
    """The same of a section whose pictures are written now."""
    paths = [save(d.made, folder / f"{d.name}.png", dpi=DPI) for d in section.drawings]
    shown = [_shown(path, d.caption, d.alt) for path, d in zip(paths, section.drawings, strict=True)]
    return _part(section.title, shown, section.note)


def command_of(config: Mapping[str, Any]) -> str:
    """The command that trains the same run again."""
    settings = dict(config["settings"])
    words = ["sixfold", "fit", settings.pop("model"), "--data", str(settings.pop("data"))]
    if settings.pop("conditional"):
        words.append("--conditional")
    for name, value in settings.items():
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return shlex.join(words)


def write_page(folder: RunFolder, model: GenerativeModel, dataset: Dataset, facts: Mapping[str, Any]) -> Path:
    """Draw samples and curves into the run's folder and write ``index.html`` around them.

    Args:
        folder: of the run.
        model: trained.
        dataset: that it was trained on; pictures show its validation part.
        facts: what to say at the top, as seconds of training and the best validation.
    """
    samples = draw(model, PICTURED if not dataset.spec.is_image else 100)
    write_samples([samples], len(samples), dataset.spec, folder.path / "samples", columns=dataset.columns)
    look = sample_picture(model, dataset, samples, folder.path / "look.png")
    parts = [_part("Samples", [_shown(look, "Samples beside validation data on the same axes.", "Samples beside data.")])]
    with style():
        parts += [_drawn(section, folder.path) for section in sections(Subject(model, dataset, folder.metrics()))]
    trained = training_picture(folder.metrics(), folder.path / "training.png")
    if trained is not None:
        caption = "Faint: logged values; solid: their moving average."
        parts.append(_part("Training", [_shown(trained, caption, "Losses and their parts over training.")]))
    config = folder.config()
    recipe_names = [k for k in config["settings"] if k not in {"model", "data", "conditional", *config["options"]}]
    page = render(
        _TEMPLATE,
        title=f"{model.name} on {dataset.name}",
        colour=family_colour(model.name),
        summary=entry(model.name).summary,
        facts={"parameters": f"{sum(p.numel() for p in model.parameters()):,}", **facts},
        parts=parts,
        options=config["options"],
        recipe={k: config["settings"][k] for k in recipe_names},
        command=command_of(config),
    )
    return write_text(folder.page_path, page)
