"""Pictures of noise and denoising show what they are given."""

import numpy as np
import pytest
import torch

from sixfold.plot.denoising import against_cost, arrows, density_in_time, order, signals
from sixfold.plot.style import figure


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_order_is_the_slope_of_the_last_points(power):
    count = [4, 8, 16, 32]
    errors = [99.0, *(3.0 / n**power for n in count[1:])]  # the first is before the slope is reached
    assert order((count, errors)) == pytest.approx(power)
    assert order((count, errors), last=4) != pytest.approx(power, abs=0.1)


def test_every_time_is_drawn_by_its_own_largest_density():
    axes = figure(3, 2).subplots()
    nats = torch.tensor([[0.0, 1.0, 0.0], [-9.0, -9.0, -7.0]])
    density_in_time(axes, nats, torch.zeros(2, 4), span=(1.0, 0.0), reach=(-1.0, 1.0))
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (3, 2)
    assert shown.max(0) == pytest.approx([1.0, 1.0])
    assert (shown.argmax(0) == [1, 2]).all()
    assert axes.get_xlim() == (1.0, 0.0)
    assert len(axes.lines) == 4


def test_arrows_end_where_they_are_told_to():
    axes = figure(2, 2).subplots()
    start, stop = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[1.0, 1.0], [0.0, 4.0]])
    arrows(axes, start, stop)
    drawn = axes.collections[0]
    assert np.allclose(np.stack([drawn.U, drawn.V], 1), (stop - start).numpy())
    assert np.allclose(drawn.XY, start.numpy())


def test_signals_stand_in_their_rows_and_columns():
    x = torch.arange(24.0).view(2, 3, 4) / 24
    cells = signals(x, rows=("a", "b"), heads=("one", "two", "three")).axes
    curves = [axes.lines[-1].get_ydata() for axes in cells]
    assert np.allclose(np.stack(curves).reshape(2, 3, 4), x.numpy())
    assert [axes.get_title() for axes in cells] == ["one", "two", "three", "", "", ""]
    assert [cells[i].get_ylabel() for i in (0, 3)] == ["a", "b"]


def test_costs_are_drawn_in_logarithms_with_ticks_at_powers_of_two():
    axes = figure(3, 2).subplots()
    against_cost(axes, {"a": ([8, 24, 64], [1.0, 0.1, 0.01])}, ylabel="error", floor=0.02)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xticks().tolist() == [8, 16, 32, 64]
    assert [line.get_label() for line in axes.lines] == ["real data", "a"]
