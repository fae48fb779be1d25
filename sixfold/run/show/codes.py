"""Codes of data and what decoding them shows: manifold, map, traversals, interpolation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sixfold.core.model import HasLatent, HasPrior
from sixfold.plot.clouds import Panel, coordinates, panels, place_colours
from sixfold.plot.latent import class_legend, latent_map
from sixfold.plot.plane import Window
from sixfold.plot.sheets import HALF, sheet
from sixfold.plot.style import figure
from sixfold.run.show.subject import Drawing, Section, Subject
from sixfold.solve.sphere import slerp

CODED = 1500  # data that are mapped
SIDE = 13  # images along a side of the manifold
DIMS = 6  # elements of the code that are traversed
STOPS = 9  # images in a row
SMALL = 16  # pixels a side below which images need a gap to be told apart
LINE = 60  # points along a line
TAIL = 0.01  # share of the prior that lies beyond each end of a traversal
PAIRS = 6
SPHERE = 8  # elements of a code from which a walk follows the sphere that normal codes lie near
ACTIVE = 0.01  # variance of the posterior's mean over data from which an element of the code counts as used


def codes(s: Subject) -> Section | None:
    """What a model with a normal prior and an encoder knows of images or points."""
    if not (isinstance(s.model, HasPrior) and isinstance(s.model, HasLatent) and (s.is_image or s.is_plane)):
        return None
    mean = _means(s.model, s)
    return Section("Latent space", [*(_of_images(s.model, s, mean) if s.is_image else _of_points(s.model, s, mean))])


def quantiles(count: int, *, tail: float) -> Tensor:
    """Values that cut the normal prior into shares of equal size, (count,), with ``tail`` beyond each end."""
    found: Tensor = torch.special.ndtri(torch.linspace(tail, 1 - tail, count, dtype=torch.float64))
    return found.float()


def lattice(side: int) -> Tensor:
    """Codes over a prior of two elements, (side * side, 2), in reading order: the second element falls row by row."""
    at = quantiles(side, tail=0.5 / side)
    down, across = torch.meshgrid(at.flip(0), at, indexing="ij")
    return torch.stack([across.flatten(), down.flatten()], 1)


def traversals(base: Tensor, dims: Tensor, at: Tensor) -> Tensor:
    """Codes that differ from one in a single element, (len(dims) * len(at), Z), one element after the other.

    Args:
        base: the code, (Z,).
        dims: which elements are moved.
        at: values that each takes.
    """
    found = base.repeat(len(dims), len(at), 1)
    found[torch.arange(len(dims)), :, dims] = at.to(base)
    return found.flatten(0, 1)


def _means(model: HasLatent, s: Subject) -> Tensor:
    latent = model.encode(s.data(CODED), s.cond(CODED), generator=s.generator())
    return (latent.z if latent.mean is None else latent.mean).detach().cpu()


def _decode(model: HasPrior, z: Tensor, cond: Tensor | None) -> Tensor:
    """Data of codes under the first row's condition, (B, *shape)."""
    return model.decode(z, None if cond is None else cond[:1].expand(len(z), *cond.shape[1:])).cpu()


def _active(mean: Tensor) -> tuple[Tensor, str]:
    """Elements of the code, the most active first, and how many of them are used."""
    spread = mean.var(0, correction=0)
    return spread.argsort(descending=True), f"{int((spread > ACTIVE).sum())} of {len(spread)} elements of the code are used."


def _class_of(s: Subject) -> str:
    """The class that pictures of a conditional model are of, as part of a sentence."""
    if s.cond(1) is None:
        return ""
    label = s.labels(1)
    return " under the first datum's condition" if label is None else f" of class {s.dataset.classes[int(label[0])]}"


def _of_images(model: HasPrior, s: Subject, mean: Tensor) -> Iterator[Drawing]:
    if model.latent == 2:
        pixels = s.pixels(_decode(model, lattice(SIDE), s.cond(1)))
        drawn = sheet(pixels, SIDE, gap=int(pixels.shape[1] < SMALL), foot="z₁ →    (z₂ grows upwards)")
        caption = f"Manifold: images{_class_of(s)} of codes on a grid; each cell holds 1/{SIDE**2} of the prior."
        yield Drawing("manifold", drawn, caption, f"{SIDE} by {SIDE} decoded images.")
        yield _map(s, mean)
    yield _traversals(model, s, mean)
    walked, name, (first, second) = _walked(model, s, mean, STOPS - 2)
    if len(first):
        x = s.data(CODED)
        rows = torch.cat([x[first, None], walked.transpose(0, 1), x[second, None]], 1).flatten(0, 1)
        drawn = sheet(s.pixels(rows), STOPS, heads=["data", *["·"] * (STOPS - 2), "data"])
        caption = f"Interpolation: {name}, between the posterior means of two validation data; these stand at both ends."
        yield Drawing("interpolation", drawn, caption, f"{len(first)} rows from datum to datum.")


def _map(s: Subject, mean: Tensor) -> Drawing:
    labels, names = s.labels(len(mean)), s.dataset.classes
    made = figure(HALF, HALF * 0.82)
    ratios = [4.6, 0.8] if labels is not None else [1.0]
    axes = made.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    latent_map(axes[0], mean, labels, classes=len(names), colour=s.colour, size=5 if len(mean) > 500 else 14)
    coordinates(axes[0], "z")
    if labels is not None:
        class_legend(axes[1], names)
    classes = ", coloured by class, which the model was not told" if labels is not None and s.cond(1) is None else ""
    return Drawing("map", made, f"Posterior means of {len(mean):,} validation data{classes}.", "Map of codes.")


def _traversals(model: HasPrior, s: Subject, mean: Tensor) -> Drawing:
    order, used = _active(mean)
    dims, at = order[:DIMS], quantiles(STOPS, tail=TAIL)
    x = _decode(model, traversals(mean[0], dims, at), s.cond(1))
    rows = [f"z{int(k) + 1}" for k in dims]
    drawn = sheet(s.pixels(x), STOPS, rows=rows, heads=[f"{float(v):+.1f}" for v in at])
    caption = (
        f"Traversals{_class_of(s)}: a row moves one element of the code of the first validation datum through the prior, from its"
        f" {TAIL:.0%} to its {1 - TAIL:.0%} quantile; the most active elements first. {used}"
    )
    return Drawing("traversals", drawn, caption, f"Images along {len(dims)} elements of the code.")


def _pairs(s: Subject, num: int) -> tuple[Tensor, Tensor]:
    """Places of pairs of data, (P,) each, of one class for a model that is told it."""
    cond = s.cond(CODED)
    if cond is None or cond.is_floating_point():
        places = torch.arange(num - num % 2).reshape(-1, 2)
        return places[:PAIRS, 0], places[:PAIRS, 1]
    alike = (cond[:, None] == cond).triu(1)
    first = alike.any(1).nonzero().flatten()[:PAIRS]
    return first, alike[first].int().argmax(1)


def between(a: Tensor, b: Tensor, shares: Tensor) -> tuple[Tensor, str]:
    """Codes on the way from ``a`` to ``b``, (T, B, Z), and the way's name: in few dimensions codes do not lie on a sphere."""
    if a.shape[1] < SPHERE:
        return a + shares[:, None, None] * (b - a), "straight"
    return slerp(a, b, shares), "spherical"


def _walked(model: HasPrior, s: Subject, mean: Tensor, stops: int) -> tuple[Tensor, str, tuple[Tensor, Tensor]]:
    """What decoding makes of ways between the codes of pairs, (T, P, *shape), the ways' name, and the pairs' places."""
    first, second = _pairs(s, len(mean))
    way, name = between(mean[first], mean[second], torch.linspace(0, 1, stops))
    cond = s.cond(CODED)
    own = None if cond is None else cond[first].repeat(stops, *[1] * (cond.ndim - 1))
    x = model.decode(way.flatten(0, 1), own).cpu()
    return x.reshape(stops, len(first), *s.model.spec.shape), name, (first, second)


def _of_points(model: HasPrior, s: Subject, mean: Tensor) -> Iterator[Drawing]:
    x, window = s.data(CODED), Window.around(s.data(CODED))
    (order, used), colours = _active(mean), place_colours(x)
    chosen = order[:2].sort().values
    two = mean[:, chosen] if len(chosen) == 2 else torch.cat([mean, torch.zeros_like(mean)], 1)
    names = " and ".join(f"z{int(k) + 1}" for k in chosen)
    maps = [Panel("validation data", x, colours, window=window), Panel(f"posterior means, {names}", two, colours)]
    caption = f"Data, and the means of their posteriors in the colours of the data. {used}"
    yield Drawing("map", panels(maps, columns=2), caption, "Data and codes, coloured by place.")
    if model.latent == 2:
        name, codes = "manifold", _net()
        caption = f"Manifold: a net of the prior's quantiles, decoded{_class_of(s)}: all that the model can make without noise."
    else:
        name, line = "traversals", quantiles(LINE, tail=TAIL)
        codes = traversals(mean[0], order[:DIMS], line).reshape(-1, LINE, model.latent).transpose(0, 1)
        caption = f"Traversals{_class_of(s)}: the code of the first validation datum, its most active elements moved one by one"
        caption += f" from the prior's {TAIL:.0%} to its {1 - TAIL:.0%} quantile, decoded."
    lines = _decode(model, codes.flatten(0, 1), s.cond(1)).reshape(LINE, -1, 2)
    yield _over_data(s, name, lines, window, caption)
    walked, how, (first, _) = _walked(model, s, mean, LINE)
    if len(first):
        caption = f"Interpolation: {how}, between the posterior means of pairs of validation data, decoded."
        yield _over_data(s, "interpolation", walked, window, caption)


def _net() -> Tensor:
    """Lines through a prior of two elements, one way and the other, (LINE, 2 STOPS, 2)."""
    line, at = quantiles(LINE, tail=TAIL), quantiles(STOPS, tail=TAIL)
    across = torch.stack([line[:, None].expand(-1, STOPS), at.expand(LINE, -1)], 2)
    return torch.cat([across, across.flip(2)], 1)


def _over_data(s: Subject, name: str, lines: Tensor, window: Window, caption: str) -> Drawing:
    """Decoded lines, (T, B, 2), over the data."""
    panel = Panel("", lines=lines, line_colours=s.colour, backdrop=s.data(CODED), window=window)
    return Drawing(name, panels([panel]), f"{caption} Grey: data.", f"Lines of the {name} over the data.")
