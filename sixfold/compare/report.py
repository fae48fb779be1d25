"""A comparison as one picture and one self-contained page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from sixfold.compare.record import RunRecord
from sixfold.compare.table import columns, implied, methods, models
from sixfold.core.dataset import Dataset
from sixfold.core.model import GenerativeModel
from sixfold.plot.images import tile, to_pixels
from sixfold.plot.page import picture, render
from sixfold.plot.plane import Window, density, points
from sixfold.plot.style import FAMILY_COLOURS, bare, family_colour, figure, save, style
from sixfold.run.folder import write_text
from sixfold.run.pictures import draw, log_density_of

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"


@dataclass(frozen=True)
class Compared:
    """One trained model of a comparison with its data, its score and, where it has one, its folder."""

    model: GenerativeModel
    dataset: Dataset
    record: RunRecord
    folder: Path | None = None


def _plane_rows(made: list[list[Axes]], group: Sequence[Compared]) -> None:
    """Densities above, samples below; the data in the first column."""
    dataset = group[0].dataset
    data = dataset.test.rows(2000)
    window, truth = Window.around(data), dataset.truth
    top = None if truth is None else float(truth.log_prob(window.grid(120)).max().exp())
    if truth is not None:
        density(made[0][0], truth.log_prob, window, top=top, title=f"{dataset.name}: truth")
    else:
        bare(made[0][0])
    points(made[1][0], data, window, colour=FAMILY_COLOURS["data"], title="data")
    for above, below, one in zip(made[0][1:], made[1][1:], group, strict=False):
        shown = log_density_of(one.model)
        if shown is None:
            bare(above, one.model.name).text(0.5, 0.5, "no density", ha="center", va="center", transform=above.transAxes)
        else:
            density(above, shown, window, top=top, title=one.model.name)
        above.title.set_color(family_colour(one.model.name))
        points(below, draw(one.model, 2000), window, colour=family_colour(one.model.name))


def _sheet(axes: Axes, x: Tensor, dataset: Dataset, title: str, colour: str) -> None:
    pixels = tile(to_pixels(x, dataset.spec), columns=6)
    bare(axes, title).imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    axes.title.set_color(colour)


def _image_row(made: list[list[Axes]], group: Sequence[Compared]) -> None:
    dataset = group[0].dataset
    _sheet(made[0][0], dataset.test.rows(36), dataset, f"{dataset.name}: data", FAMILY_COLOURS["data"])
    for axes, one in zip(made[0][1:], group, strict=False):
        _sheet(axes, draw(one.model, 36), dataset, one.model.name, family_colour(one.model.name))


def overview(compared: Sequence[Compared], path: Path) -> Path:
    """One PNG: a column a model, rows of densities and samples for the plane, of samples for images."""
    names = list(dict.fromkeys(c.dataset.name for c in compared))
    groups = [[c for c in compared if c.dataset.name == n] for n in names]
    shown = [g for g in groups if g[0].dataset.spec.shape == (2,) or g[0].dataset.spec.is_image]
    heights = [2 if g[0].dataset.spec.shape == (2,) else 1 for g in shown]
    width = 1 + max((len(g) for g in shown), default=0)
    with style():
        made = figure(2.05 * width, 2.15 * max(1, sum(heights)))
        axes = made.subplots(max(1, sum(heights)), width, squeeze=False).tolist()
        for row in axes:
            for one in row:
                one.set_axis_off()
        top = 0
        for group, height in zip(shown, heights, strict=True):
            rows = axes[top : top + height]
            for row in rows:
                for one in row[: 1 + len(group)]:
                    one.set_axis_on()
            (_plane_rows if height == 2 else _image_row)(rows, group)
            top += height
        return save(made, path)


def machine() -> str:
    """What the numbers were measured on."""
    threads = torch.get_num_threads()
    return f"{os.cpu_count()} cores, {threads} threads, torch {torch.__version__}, Python {platform.python_version()}"


def write_report(compared: Sequence[Compared], folder: Path, *, title: str, subtitle: str, command: str) -> Path:
    """``report.png`` and ``report.html`` in ``folder``; the page holds its pictures and needs no network.

    Args:
        compared: scored models.
        folder: an existing folder.
        title, subtitle: of the page.
        command: that makes the same report again.
    """
    records = [c.record for c in compared]
    image = overview(compared, folder / "report.png")
    runs = [
        (f"{c.model.name} on {c.dataset.name}", Path(os.path.relpath(c.folder / "index.html", folder)).as_posix())
        for c in compared
        if c.folder is not None
    ]
    page = render(
        _TEMPLATE,
        title=title,
        subtitle=subtitle,
        picture=picture(image),
        caption="A column for each model. Densities share one colour scale with the truth; samples are drawn, not chosen.",
        columns=columns(records),
        models=models(records),
        colours={m: family_colour(m) for m in models(records)},
        methods=methods(records),
        implied=implied(records),
        runs=runs,
        command=command,
        machine=machine(),
    )
    return write_text(folder / "report.html", page)
