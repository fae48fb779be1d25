"""Graphs of comparisons: what is drawn is what was given, at its place, in its colour."""

from __future__ import annotations

from itertools import combinations, pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.transforms import Bbox
from outcomes import tensor_of

from sixfold.plot.curves import level_limits, mean_curve, seeded
from sixfold.plot.forest import Line, forest
from sixfold.plot.latent import class_colours, latent_map
from sixfold.plot.marginals import marginal
from sixfold.plot.pareto import Mark, front, pareto
from sixfold.plot.plane import Window, density_map, error_map
from sixfold.plot.scale import Scale, Span, is_wide
from sixfold.plot.style import QUIET, figure, save, style

SIDES = ("lower", "higher")


@pytest.fixture
def axes():
    with style():
        yield figure(3.9, 3.4).subplots()


def span(value: float, half: float = 0.0) -> Span:
    return Span(value, value - half, value + half)


def beaten(p, q, sides) -> bool:
    """Whether q is at least as good as p in both and better in one, said in another way than the library says it."""
    gains = [(q[i] - p[i]) * (1 if side == "higher" else -1) for i, side in enumerate(sides)]
    return min(gains) >= 0 and max(gains) > 0


@pytest.mark.parametrize("a", SIDES)
@pytest.mark.parametrize("b", SIDES)
def test_the_front_is_what_no_other_point_beats(a, b):
    # Few distinct values, so that ties in one score and equal points occur.
    points = [tuple(p) for p in np.random.default_rng(0).integers(0, 8, (40, 2)).astype(float)]
    expected = {i for i, p in enumerate(points) if not any(beaten(p, q, (a, b)) for q in points)}
    found = front(points, (a, b))
    assert set(found) == expected
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


@pytest.mark.parametrize("x", SIDES)
@pytest.mark.parametrize("y", SIDES)
def test_the_front_is_drawn_in_steps_that_every_model_lies_behind(axes, x, y):
    values = np.random.default_rng(1).random((12, 2))
    marks = [Mark(str(i), span(p), span(q), "#000000") for i, (p, q) in enumerate(values)]
    best = pareto(axes, marks, Scale("a", x), Scale("b", y))
    assert best == front([tuple(v) for v in values], (x, y))
    steps = next(line for line in axes.lines if line.get_color() == QUIET).get_xydata()
    assert {tuple(values[i]) for i in best} <= {tuple(s) for s in steps}
    assert all((a == b).sum() == 1 for a, b in pairwise(steps)), "a step is neither level nor upright"
    # A corner of the edge is reached by a model, so it is never better than a model in both scores.
    assert all(any(tuple(v) == tuple(s) or beaten(tuple(s), tuple(v), (x, y)) for v in values) for s in steps)


def test_references_and_scores_without_a_better_side_make_no_front(axes):
    marks = [Mark("model", span(2.0), span(2.0), "#000000"), Mark("real", span(1.0), span(1.0), "#777777", quiet=True)]
    assert pareto(axes, marks, Scale("a", "lower"), Scale("b", "lower")) == [0]
    assert pareto(figure(3, 3).subplots(), marks, Scale("a", "none"), Scale("b", "lower")) == []
    assert pareto(figure(3, 3).subplots(), marks, Scale("a", "lower"), Scale("b", "lower"), with_front=False) == []


def test_labels_stay_inside_and_off_each_other(axes):
    # Ten points in a cluster, six point sizes apart: there is room, and a label to the right of each would overlap.
    values = [(i % 4 / 4, i // 4 / 3) for i in range(10)]
    marks = [Mark(f"model {i}", span(x), span(y), "#000000") for i, (x, y) in enumerate(values)]
    pareto(axes, marks, Scale("a"), Scale("b"))
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 10
    assert all(Bbox.intersection(a, b) is None for a, b in combinations(boxes, 2))
    bounds = axes.get_window_extent()
    assert all(bounds.x0 <= b.x0 and b.x1 <= bounds.x1 and bounds.y0 <= b.y0 and b.y1 <= bounds.y1 for b in boxes)


@pytest.mark.parametrize(("better", "arrow"), [("lower", "←"), ("higher", "→"), ("none", "")])
def test_axes_say_which_way_is_better(axes, better, arrow):
    marks = [Mark("a", span(1.0), span(1.0), "#000000"), Mark("b", span(2.0), span(2.0), "#000000")]
    pareto(axes, marks, Scale("x"), Scale("score", better))
    assert axes.get_ylabel().startswith("score")
    assert ("better" in axes.get_ylabel()) == bool(arrow)
    assert arrow in axes.get_ylabel()


@pytest.mark.parametrize(
    ("values", "wide"), [([1, 100], True), ([1, 10], False), ([0, 100], False), ([-1, 1], False), ([], False)]
)
def test_only_positive_numbers_far_apart_make_a_logarithmic_axis(values, wide):
    assert is_wide(values) == wide


def test_intervals_and_references_of_a_forest_stand_at_their_numbers(axes):
    lines = [
        Line("model", Span(1.0, 0.8, 1.3), "#ff0000"),
        Line("silent", None, "#00ff00"),
        Line("real", Span(0.5, 0.5, 0.5), "#777777", reference=True),
    ]
    forest(axes, lines, Scale("score", "lower"))
    assert [t.get_text() for t in axes.get_yticklabels()] == ["model", "silent", "real"]
    bars = [c.get_segments()[0] for c in axes.collections]
    assert any(np.allclose(bar, [[0.8, 0.0], [1.3, 0.0]]) for bar in bars)
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.5]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is not at the top"


def test_a_forest_of_numbers_far_apart_is_logarithmic_and_as_long_as_they_are(axes):
    lines = [Line("a", Span(1.0, -5.0, 7.0), "#ff0000"), Line("b", Span(1000.0, 900.0, 1100.0), "#ff0000")]
    forest(axes, lines, Scale("score", "lower"))
    assert axes.get_xscale() == "log"
    assert 0.1 < axes.get_xlim()[0] < 1.0
    assert 1000.0 < axes.get_xlim()[1] < 10_000.0
    shares = figure(3, 3).subplots()
    forest(shares, lines, Scale("share", "higher"))
    assert shares.get_xscale() == "linear"


def test_only_bounds_have_an_arrow(axes):
    lines = [Line(t, Span(1.0, 0.9, 1.1), "#ff0000", trait=t) for t in ("value", "bound", "estimate")]
    forest(axes, lines, Scale("nll", "lower"))
    (arrow,) = [t for t in axes.texts if t.arrow_patch is not None]
    assert arrow.xy == (1.0, 1)
    assert arrow.get_position()[0] < 0
    assert type(arrow.arrow_patch.get_arrowstyle()).arrow == "<|-", "the head is not at the far end"


WINDOW = Window((0.0, 0.0), (1.0, 1.0))


def pixels_inside(made, axes, path):
    """Pixels of the picture that lie well inside the axes, (N, 3)."""
    image = tensor_of(str(save(made, path)))
    box = axes.get_window_extent()
    scale = 110 / made.dpi
    left, right, low, high = (int(v * scale) for v in (box.x0, box.x1, box.y0, box.y1))
    return image[len(image) - high + 4 : len(image) - low - 4, left + 4 : right - 4].reshape(-1, 3)


def test_the_error_map_of_equal_densities_is_the_colour_of_zero(tmp_path):
    nats = torch.randn(400, generator=torch.Generator().manual_seed(0))
    with style():
        made = figure(2, 2)
        axes = made.subplots()
        error_map(axes, nats, nats.clone(), WINDOW, limit=1.0)
        centre = torch.tensor(mpl.colormaps["RdBu_r"](0.5, bytes=True)[:3])
        inside = pixels_inside(made, axes, tmp_path / "error.png")
    assert len(inside) > 10_000
    assert (inside.int() - centre.int()).abs().max() <= 1  # the centre lies between two colours of the table


def test_too_much_is_red_and_too_little_is_blue(tmp_path):
    truth = torch.zeros(100)
    with style():
        made = figure(4, 2)
        for axes, factor, (more, less) in zip(made.subplots(1, 2), (2.0, 0.5), ((0, 2), (2, 0)), strict=True):
            error_map(axes, truth + float(np.log(factor)), truth, WINDOW, limit=1.0)
            made.draw_without_rendering()
            mean = pixels_inside(made, axes, tmp_path / "error.png").double().mean(0)
            assert mean[more] > mean[less] + 30


def test_pictures_with_one_top_share_their_scale(axes):
    density_map(axes, torch.zeros(16), WINDOW, top=4.0)
    assert axes.images[0].get_clim() == (0, 4.0)
    assert np.allclose(axes.images[0].get_array(), 1.0)


def test_the_mean_over_seeds_covers_what_all_have_seen():
    x, y = mean_curve([([0.0, 10.0], [0.0, 10.0]), ([2.0, 6.0], [4.0, 8.0])], points=5)
    assert np.allclose(x, [2, 3, 4, 5, 6])
    assert np.allclose(y, (x + (x + 2)) / 2)


@pytest.mark.parametrize(("seeds", "lines"), [(0, 0), (1, 1), (3, 4)])
def test_seeds_are_faint_behind_their_mean(axes, seeds, lines):
    curves = [([0.0, 1.0], [float(i), 0.0]) for i in range(seeds)]
    seeded(axes, [*curves, ([], [])], colour="#000000")
    assert len(axes.lines) == lines
    assert [line.get_alpha() for line in axes.lines[:-1]] == [0.3] * max(0, lines - 1)


def test_limits_leave_out_the_steep_start_and_what_is_no_number():
    x = list(range(101))
    low, high = level_limits([(x, [1e6, 1e5, *([1.0] * 98), float("nan")])])
    assert low < 1.0 < high < 10.0
    assert level_limits([]) == pytest.approx((-0.06, 1.06))


@pytest.mark.parametrize("classes", [2, 10, 26])
def test_codes_have_the_colour_of_their_class(axes, classes):
    labels = torch.arange(classes)
    codes = torch.stack([labels.float(), labels.float() ** 2], 1)
    latent_map(axes, codes, labels, classes=classes)
    shades = axes.collections[0].get_facecolors()
    assert np.allclose(shades[:, :3], [c[:3] for c in class_colours(classes)])
    assert len(np.unique(shades, axis=0)) == classes
    assert np.allclose(axes.collections[0].get_offsets(), codes)


def test_codes_without_classes_have_one_colour(axes):
    latent_map(axes, torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), None, colour="#00ff00")
    assert np.allclose(axes.collections[0].get_facecolors()[:, :3], [[0, 1, 0]])


def test_histograms_have_the_range_of_the_first_series(axes):
    data = torch.linspace(-1, 2, 6000)
    series = {"data": (data, "#000000"), "samples": (data * 10, "#ff0000")}
    assert marginal(axes, series, bins=10) == (-1.0, 2.0)
    # Both are uniform, so their outlines enclose an area of one over the range of three; a bin holds 60 data or more.
    heights = [np.asarray(p.get_xy())[:, 1].max() for p in axes.patches]
    assert heights == pytest.approx([1 / 3, 1 / 3], rel=0.05)
