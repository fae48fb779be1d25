"""What a trained model and its data look like, by what one datum is: points, images, numbers or tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sixfold.core.dataset import Dataset
from sixfold.core.likelihood import Unnormalised
from sixfold.core.model import GenerativeModel, HasDensity
from sixfold.plot.images import tile, to_pixels
from sixfold.plot.marginals import marginal
from sixfold.plot.plane import Window, density, points
from sixfold.plot.style import FAMILY_COLOURS, bare, family_colour, figure, save, style

DPI = 160
"""Pixels an inch; on a page an inch is 100 CSS pixels, so that pictures stay sharp on fine screens."""

LogDensity = Callable[[Tensor], Tensor]


def log_density_of(model: GenerativeModel, *, seed: int = 0) -> LogDensity | None:
    """Log-density of an unconditional model as a function of points; ``None`` when it has none that is normalised."""
    if not isinstance(model, HasDensity) or model.spec.cond.kind != "none":
        return None
    probe = model.log_prob(torch.zeros(1, *model.spec.shape))
    if probe.kind is Unnormalised:
        return None

    def log_density(x: Tensor) -> Tensor:
        generator = torch.Generator(model.device).manual_seed(seed)
        return torch.cat([model.log_prob(part, generator=generator).nats for part in torch.split(x, 5000)])

    return log_density


def draw(model: GenerativeModel, num: int, *, seed: int = 0) -> Tensor:
    """Samples for a picture; a class-conditional model gives its classes in turn."""
    cond = torch.arange(num) % model.spec.cond.size if model.spec.cond.kind == "classes" else None
    return model.sample(num, cond=cond, generator=torch.Generator(model.device).manual_seed(seed)).cpu()


def plane_row(axes: list[Axes], model: GenerativeModel, data: Tensor, samples: Tensor, truth: LogDensity | None) -> None:
    """Density, samples and data side by side on the same axes."""
    window = Window.around(data)
    shown = log_density_of(model)
    top = None if truth is None else float(truth(window.grid(120)).max().exp())
    if shown is not None:
        density(axes[0], shown, window, top=top, title="density of the model")
    else:
        bare(axes[0], "no normalised density").text(0.5, 0.5, "—", ha="center", va="center", transform=axes[0].transAxes)
    points(axes[1], samples, window, colour=family_colour(model.name), title="samples")
    points(axes[2], data, window, colour=FAMILY_COLOURS["data"], title="data")


def _plane(made: Figure, model: GenerativeModel, dataset: Dataset, samples: Tensor) -> None:
    truth = None if dataset.truth is None else dataset.truth.log_prob
    plane_row(list(made.subplots(1, 3)), model, dataset.valid.rows(len(samples)), samples, truth)


def _images(made: Figure, model: GenerativeModel, dataset: Dataset, samples: Tensor) -> None:
    rows = {"samples": samples[:100], "data": dataset.valid.rows(100)}
    for axes, (title, x) in zip(made.subplots(1, 2), rows.items(), strict=True):
        bare(axes, title).imshow(tile(to_pixels(x, model.spec), columns=10).squeeze(), cmap="gray", vmin=0, vmax=255)


def _marginals(made: Figure, model: GenerativeModel, dataset: Dataset, samples: Tensor) -> None:
    """Histograms of the first elements; on the line the densities too."""
    data = dataset.valid.rows().flatten(1).double()
    own = samples.flatten(1).double()
    shown = min(6, data.shape[1])
    for i, axes in enumerate(made.subplots(1, shown, squeeze=False)[0]):
        series = {"data": (data[:, i], FAMILY_COLOURS["data"]), "samples": (own[:, i], family_colour(model.name))}
        low, high = marginal(axes, series, title=f"element {i}")
        axes.legend(fontsize=7)
    if data.shape[1] == 1 and (log_density := log_density_of(model)) is not None:
        x = torch.linspace(low, high, 400)[:, None]
        values = log_density(x.view(-1, *model.spec.shape)).exp().cpu()
        axes.plot(x[:, 0].numpy(), values.numpy(), color=family_colour(model.name), linewidth=1)


def sample_picture(model: GenerativeModel, dataset: Dataset, samples: Tensor, path: Path) -> Path:
    """One PNG of samples beside data, with the density where the data lie in the plane."""
    with style():
        made = figure(10.5, 3.7) if not dataset.spec.is_image else figure(10.5, 5.4)
        kind = _plane if dataset.spec.shape == (2,) else _images if dataset.spec.is_image else _marginals
        kind(made, model, dataset, samples)
        return save(made, path, dpi=DPI)
