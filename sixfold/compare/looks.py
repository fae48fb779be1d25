"""What models and references make, side by side: densities, samples, errors and codes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from sixfold.compare.drawing import Drawing, listed, sentence
from sixfold.compare.exhibit import SIDE
from sixfold.compare.meaning import REAL
from sixfold.compare.outcome import Outcome
from sixfold.plot.images import tile, to_pixels
from sixfold.plot.latent import class_legend, latent_map
from sixfold.plot.marginals import marginal
from sixfold.plot.plane import Window, density_map, error_map, points
from sixfold.plot.style import FAMILY_COLOURS, QUIET, bare, family_colour, figure

WIDTH = 12.0
"""Inches across the page."""

POINTS = 2000
ELEMENTS = 6


def looks(outcome: Outcome) -> Iterator[Drawing]:
    """Every picture of what was made on one data set."""
    spec = outcome.dataset.spec
    yield _plane(outcome) if spec.shape == (2,) else _images(outcome) if spec.is_image else _marginals(outcome)
    yield from _references(outcome)
    yield from _codes(outcome)


def colour_of(outcome: Outcome, label: str) -> str:
    """Colour of a row's family."""
    model = next((r.model for r in outcome.records if r.label == label), "")
    return family_colour(model) if model else QUIET


def _name(label: str) -> str:
    """A label that fits over a narrow picture."""
    return label.replace("/", "/\n", 1) if len(label) > 16 else label


def _grid(rows: int, columns: int, *, cell: float | None = None, room: float = 0.45) -> tuple[Figure, list[list[Axes]]]:
    """Square cells, as wide as the page allows."""
    side = cell or min(2.4, max(1.5, WIDTH / columns))
    made = figure(side * columns, side * rows + room)
    return made, made.subplots(rows, columns, squeeze=False).tolist()


def _marked(axes: Axes, colour: str) -> None:
    """A frame in the family's colour."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1.6)


def _word(axes: Axes, text: str) -> None:
    """A word where there is nothing to draw."""
    axes.set_box_aspect(1)
    bare(axes, axes.get_title()).text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET, wrap=True)


def _missing(outcome: Outcome, label: str) -> str:
    return "failed" if outcome.failed(label) and not outcome.seeds(label) else "not kept"


def _test(outcome: Outcome) -> Tensor:
    """Test data as they were scored."""
    return outcome.dataset.test.rows(outcome.rows or None)


def _plane(outcome: Outcome) -> Drawing:
    """Densities, samples and errors: a column a model, truth and data in the first."""
    data, truth = _test(outcome), outcome.dataset.truth
    window = Window.around(data)
    real = None if truth is None else truth.log_prob(window.grid(SIDE))
    nats = {label: e.log_density for label in outcome.labels if (e := outcome.exhibits.get(label)) and e.log_density is not None}
    made, rows = _grid(2 if real is None else 3, 1 + len(outcome.labels))
    _densities(rows[0], outcome, nats, real, window)
    _dots(rows[1][0], data, window, FAMILY_COLOURS["data"])
    rows[1][0].set_ylabel("test data | samples")
    for axes, label in zip(rows[1][1:], outcome.labels, strict=True):
        _samples(axes, outcome, label, window)
    if real is not None:
        _errors(rows[2], outcome, nats, real, window)
    caption = "Densities share one colour scale; samples are drawn, not chosen."
    errors = "Error: the model's density less the true one, red where it is too large, blue where too small, on one scale."
    what = "Densities, samples and errors" if real is not None else "Densities and samples"
    alt = f"{what} of {listed(outcome.labels)} on {outcome.dataset.name}, beside the data."
    return Drawing("overview", "overview", made, sentence(caption, errors if real is not None else ""), alt)


def _densities(row: list[Axes], outcome: Outcome, nats: Mapping[str, Tensor], real: Tensor | None, window: Window) -> None:
    top = _top(nats, real)
    if real is not None:
        density_map(row[0], real, window, top=top, title="truth")
        row[0].set_ylabel("density")
    else:
        bare(row[0], outcome.dataset.name)
    for axes, label in zip(row[1:], outcome.labels, strict=True):
        axes.set_title(_name(label))
        if label in nats:
            density_map(axes, nats[label], window, top=top, title=_name(label))
        else:
            _word(axes, "no density" if label in outcome.exhibits else _missing(outcome, label))
        _marked(axes, colour_of(outcome, label))


def _top(nats: Mapping[str, Tensor], real: Tensor | None) -> float | None:
    """Density drawn brightest: the truth's largest; without the truth, what nearly all of each model stays below."""
    if real is not None:
        return float(real.max().exp())
    return max((float(v.exp().quantile(0.995)) for v in nats.values()), default=None)


def _samples(axes: Axes, outcome: Outcome, label: str, window: Window) -> None:
    exhibit, colour = outcome.exhibits.get(label), colour_of(outcome, label)
    if exhibit is None:
        _word(axes, _missing(outcome, label))
    else:
        _dots(axes, exhibit.samples, window, colour)
    _marked(axes, colour)


def _dots(axes: Axes, x: Tensor, window: Window, colour: str, *, title: str = "") -> None:
    """Points, larger where they are few."""
    size = 1.3 * math.sqrt(POINTS / max(100, min(POINTS, len(x))))
    points(axes, x[:POINTS], window, colour=colour, title=title, size=size)


def _errors(row: list[Axes], outcome: Outcome, nats: Mapping[str, Tensor], real: Tensor, window: Window) -> None:
    limit = error_limit(nats.values(), real)
    image: AxesImage | None = None
    for axes, label in zip(row[1:], outcome.labels, strict=True):
        if label in nats:
            image = error_map(axes, nats[label], real, window, limit=limit)
            _marked(axes, colour_of(outcome, label))
        else:
            bare(axes)
    bare(row[0])
    if image is not None:
        _scale_of_errors(row[0], image, limit)


def error_limit(nats: Iterable[Tensor], real: Tensor) -> float:
    """Error drawn darkest: what nearly all errors of the worst model stay below; at least a tenth of the truth's peak."""
    worst = [float((v.exp() - real.exp()).abs().quantile(0.998)) for v in nats]
    return max([*worst, 0.1 * float(real.max().exp())])


def _scale_of_errors(axes: Axes, image: AxesImage, limit: float) -> None:
    """The colours of errors in numbers, in a cell that has no picture."""
    axes.text(0.5, 0.62, "error:\nmodel less truth", transform=axes.transAxes, ha="center", va="bottom")
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((0.08, 0.48, 0.84, 0.08)), orientation="horizontal")
    bar.set_ticks([-limit, 0.0, limit], labels=[f"-{limit:.2g}", "0", f"+{limit:.2g}"])
    bar.outline.set_visible(False)


def _sheet(axes: Axes, x: Tensor, outcome: Outcome, title: str, *, side: int) -> None:
    """Images as they come, side by side."""
    pixels = tile(to_pixels(x[: side * side], outcome.dataset.spec), columns=side)
    shown = pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels
    bare(axes, title).imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="auto")


def _images(outcome: Outcome, *, side: int = 6) -> Drawing:
    made, (row,) = _grid(1, 1 + len(outcome.labels), room=0.15)
    _sheet(row[0], _test(outcome), outcome, "test data", side=side)
    for axes, label in zip(row[1:], outcome.labels, strict=True):
        axes.set_title(_name(label))
        if label in outcome.exhibits:
            _sheet(axes, outcome.exhibits[label].samples, outcome, _name(label), side=side)
        else:
            _word(axes, _missing(outcome, label))
        _marked(axes, colour_of(outcome, label))
    alt = f"Samples of {listed(outcome.labels)} on {outcome.dataset.name}, beside test data."
    return Drawing("overview", "overview", made, "The first samples that each model drew, none chosen.", alt)


def _marginals(outcome: Outcome) -> Drawing:
    """Histograms of the first elements, of data that are neither points of the plane nor images."""
    data = _test(outcome).flatten(1)
    shown = min(ELEMENTS, data.shape[1])
    columns = min(3, shown)
    made = figure(WIDTH, 2.3 * -(-shown // columns))
    cells = made.subplots(-(-shown // columns), columns, squeeze=False).ravel()
    for i, axes in enumerate(cells):
        if i >= shown:
            axes.set_axis_off()
            continue
        series = {"test data": (data[:, i], FAMILY_COLOURS["data"])}
        series |= {
            k: (outcome.exhibits[k].samples.flatten(1)[:, i], colour_of(outcome, k))
            for k in outcome.labels
            if k in outcome.exhibits
        }
        marginal(axes, series, title=outcome.dataset.columns[i] if outcome.dataset.columns else f"element {i}", bins=40)
    cells[0].legend(fontsize=7.5)
    alt = f"Histograms of {shown} elements of {outcome.dataset.name} and of samples of {listed(outcome.labels)}."
    return Drawing("overview", "overview", made, "Histograms of single elements, over the range of the data.", alt)


def _references(outcome: Outcome) -> Iterator[Drawing]:
    """A strip of what the references make."""
    shown = [label for label in outcome.references if label in outcome.exhibits]
    spec = outcome.dataset.spec
    if not shown or not (spec.is_image or spec.shape == (2,)):
        return
    made, (row,) = _grid(1, len(shown), cell=1.35, room=0.1)
    window = None if spec.is_image else Window.around(_test(outcome))
    for axes, label in zip(row, shown, strict=True):
        x = outcome.exhibits[label].samples
        if window is None:
            _sheet(axes, x, outcome, label, side=5)
        else:
            _dots(axes, x, window, FAMILY_COLOURS["data"], title=label)
        axes.title.set(style="italic", fontsize=9)
    caption = (
        f"References, of known quality: {REAL} is the best that a model can reach; a metric must find the faults of the others."
    )
    yield Drawing(
        "references", "references", made, caption, f"Samples of the references {listed(shown)} on {outcome.dataset.name}."
    )


def _codes(outcome: Outcome) -> Iterator[Drawing]:
    """Maps of the models that have codes."""
    shown = [label for label in outcome.labels if (e := outcome.exhibits.get(label)) and e.codes is not None]
    if not shown:
        return
    names = outcome.dataset.classes if any(outcome.exhibits[label].labels is not None for label in shown) else ()
    made = figure(2.4 * len(shown) + bool(names), 2.5)
    row = made.subplots(1, len(shown) + bool(names), squeeze=False, width_ratios=[2.4] * len(shown) + [1.0] * bool(names))[0]
    for axes, label in zip(row, shown, strict=False):
        exhibit, colour = outcome.exhibits[label], colour_of(outcome, label)
        assert exhibit.codes is not None
        labels = exhibit.labels if names else None
        latent_map(axes, exhibit.codes, labels, classes=len(names), colour=colour, title=_name(label))
        _marked(axes, colour)
    if names:
        class_legend(row[-1], names)
    caption = "Codes of test data in two dimensions, the first two principal components where a code has more."
    alt = f"Codes of test data of {outcome.dataset.name} by {listed(shown)}."
    yield Drawing("latent", "latent", made, sentence(caption, "Colours are classes." if names else ""), alt)
