"""Pictures of the first stage: the table of models, and energies over the plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from sixfold.plot.chains import energy_map
from sixfold.plot.plane import Window
from sixfold.plot.style import family_colour, figure
from sixfold.plot.taxonomy import Row, taxonomy

ROWS = [
    Row("flow/a", "explicit", ["=", ""], [True, False, True]),
    Row("vae/b", "approximate", [">=", ">="], [False, False, False]),
    Row("vae/c", "approximate", [">=", "~"], [False, True, False]),
]


def test_a_row_shows_its_kinds_and_a_dot_for_each_thing_that_it_can_do():
    (axes,) = taxonomy(ROWS, ["points", "images"], ["x", "y", "z"]).axes
    heads = {t.get_text(): t.get_position()[0] for t in axes.texts if t.get_text() in ("points", "images", "x", "y", "z")}
    for y, row in enumerate(ROWS):
        level = [t for t in axes.texts if t.get_position()[1] == y]
        shown = {t.get_position()[0]: t.get_text() for t in level}
        assert [shown[heads[sort]] for sort in ("points", "images")] == [kind or "·" for kind in row.kinds]
        dots = axes.collections[2 * y + 1]
        on = [heads[name] for name, has in zip("xyz", row.has, strict=True) if has]
        assert np.asarray(dots.get_offsets()).tolist() == [[x, y] for x in on]
        if on:
            assert to_hex(dots.get_facecolor()[0]) == family_colour(row.name).lower()


def test_a_group_is_named_once_where_it_begins():
    (axes,) = taxonomy(ROWS, ["points", "images"], ["x", "y", "z"]).axes
    assert {t.get_text(): t.get_position()[1] for t in axes.texts if t.get_fontweight() == "bold"} == {
        "explicit": 0,
        "approximate": 1,
    }


def test_an_energy_is_shown_above_its_lowest_with_a_line_for_each_nat():
    window = Window((-4.0, -4.0), (4.0, 4.0))
    grid = window.grid(81)  # the origin is a cell's centre
    axes = figure(2, 2).subplots()
    image = energy_map(axes, 7.0 + grid.square().sum(1) / 2, window, top=4.0)
    shown = np.asarray(image.get_array())
    assert shown[40, 40] == 0.0
    assert shown.max() == 4.0
    assert shown[40, 40 + 20] == pytest.approx(float(grid[40 * 81 + 60].square().sum() / 2), abs=1e-5)
    (lines,) = axes.collections
    radii = [np.linalg.norm(path.vertices, axis=1).mean() for path in lines.get_paths()]
    assert radii == pytest.approx([(2 * nats) ** 0.5 for nats in (1, 2, 3)], abs=0.02)


def test_a_flat_energy_has_no_lines():
    axes = figure(2, 2).subplots()
    energy_map(axes, torch.zeros(100), Window((-1.0, -1.0), (1.0, 1.0)))
    assert not axes.collections
