"""Data completed: images from their top halves, points from their first coordinates."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from sixfold.core.model import Fills, HasDensity
from sixfold.plot.conditionals import Cut, conditionals
from sixfold.plot.plane import Window
from sixfold.plot.sheets import coloured, covered, sheet
from sixfold.run.show.subject import Drawing, Section, Subject

IMAGES = 6
TRIES = 6
CUTS = (0.15, 0.4, 0.6, 0.85)  # quantiles of the first coordinate
DRAWN = 400
FINE = 400


def completions(s: Subject) -> Section | None:
    """What the model makes of a part that is given."""
    if not isinstance(s.model, Fills):
        return None
    if s.is_image and s.model.spec.shape[1] > 1:
        return Section("Completions", [_images(s.model, s)])
    if s.is_plane and isinstance(s.model, HasDensity):
        return Section("The second coordinate given the first", [_cuts(s.model, s.model, s)])
    return None


def top_half(shape: tuple[int, ...]) -> Tensor:
    """Which elements of an image, (C, H, W), lie in its upper half."""
    known = torch.zeros(shape, dtype=torch.bool)
    known[:, : shape[1] // 2] = True
    return known


def _images(model: Fills, s: Subject) -> Drawing:
    """Images, what is given of them, and what the model makes of that."""
    x, cond, known = s.data(IMAGES), s.cond(IMAGES), top_half(s.model.spec.shape)
    many = None if cond is None else cond.repeat_interleave(TRIES, 0)
    begun = time.perf_counter()
    filled = model.fill(x.repeat_interleave(TRIES, 0), known, generator=s.generator(), **s.given(many))
    seconds = time.perf_counter() - begun
    made = s.pixels(filled.x).reshape(len(x), TRIES, *s.pixels(x).shape[1:])
    columns = [coloured(s.pixels(x)), covered(s.pixels(x), known[0].numpy(), s.colour)]
    columns += [coloured(made[:, i]) for i in range(TRIES)]
    pixels = torch.stack([torch.from_numpy(c) for c in columns], 1).flatten(0, 1).numpy()
    heads = ["data", "given", *map(str, range(1, TRIES + 1))]
    how = "draws from the model's exact conditional" if filled.exact else "approximate draws from the model's conditional"
    caption = (
        f"Validation images, their upper halves, and {TRIES} completions of each: {how}, {len(filled.x)} in {seconds:.1f} s."
    )
    return Drawing("completions", sheet(pixels, len(heads), heads=heads), caption, f"{len(x)} images completed.")


def _cuts(model: Fills, density: HasDensity[Any], s: Subject) -> Drawing:
    """The density of the second coordinate at several values of the first, and draws of it."""
    x = s.data(5000)
    window, cond = Window.around(x), s.cond(1)
    axis = torch.linspace(window.low[1], window.high[1], FINE)
    truth = None if s.dataset.truth is None or cond is not None else s.dataset.truth.log_prob

    def given(x: Tensor) -> Tensor | None:
        return None if cond is None else cond.expand(len(x), *cond.shape[1:])

    def nats(x: Tensor) -> Tensor:
        return density.log_prob(x, given(x), generator=s.generator()).nats.cpu()

    found, exact = [], True
    for at in x[:, 0].double().quantile(torch.tensor(CUTS, dtype=torch.float64)).tolist():
        line = torch.stack([torch.full_like(axis, at), axis], 1)
        start = torch.tensor([[at, float(axis.mean())]]).expand(DRAWN, 2)
        filled = model.fill(start, torch.tensor([True, False]), generator=s.generator(), **s.given(given(start)))
        exact = exact and filled.exact
        real = None if truth is None else normalised(truth(line), axis)
        found.append(Cut(at, normalised(nats(line), axis), filled.x[:, 1].cpu(), real))
    made = conditionals(nats(window.grid(120)), window, axis, found, colour=s.colour)
    dashed = " dashed: the truth;" if truth is not None else ""
    caption = (
        f"The model's density, cut at four values of the first coordinate, and the second given the first: line, from the"
        f" density;{dashed} shaded: {DRAWN} completions of each, {'exact' if exact else 'approximate'} draws."
    )
    return Drawing("conditionals", made, caption, "Conditional densities of the second coordinate.")


def normalised(nats: Tensor, axis: Tensor) -> Tensor:
    """A density along the axis from log-densities up to a constant, both (P,), by the trapezoidal rule over what is shown."""
    density = (nats.double() - nats.max()).exp()
    return density / torch.trapezoid(density, axis.double())
