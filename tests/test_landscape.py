"""A landscape: bright and starred where the function is least, whatever its sign and scale."""

from __future__ import annotations

import pytest
import torch
from matplotlib.collections import QuadMesh

from sixfold.plot.landscape import landscape
from sixfold.plot.style import figure, style


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e4, -3.0), (1e-4, 5.0)])
def test_the_star_is_at_the_least_value_and_nothing_is_brighter(scale, shift):
    x, y = torch.linspace(-1, 1, 21, dtype=torch.float64), torch.logspace(-1, 1, 31, dtype=torch.float64)
    values = scale * ((x - 0.5).square() + y.log().square()[:, None]) + shift
    with style():
        axes = figure(3, 3).subplots()
        landscape(axes, x, y, values, colour="#000000", levels=5)
    (star,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert [float(star.get_xdata()[0]), float(star.get_ydata()[0])] == pytest.approx([0.5, 1.0])
    mesh, contours = axes.collections
    assert isinstance(mesh, QuadMesh)
    assert int(mesh.get_array().argmin()) == int(values.argmin())  # the map's low end is its bright one
    assert len(contours.get_paths()) == 5
