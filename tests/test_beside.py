"""Densities beside the truth."""

from __future__ import annotations

import math

import torch

from sixfold.plot.beside import beside
from sixfold.plot.plane import Window


def normal(spread):
    return lambda x: -0.5 * (x / spread).square().sum(1) - math.log(2 * math.pi * spread**2)


def test_all_densities_share_a_scale_and_all_errors_another():
    made = beside(normal(1.0), {"wide": normal(2.0), "same": normal(1.0)}, Window((-3.0, -3.0), (3.0, 3.0)), side=30)
    truth, wide, same, _, wide_error, same_error, *_ = made.axes
    assert [a.get_title() for a in (truth, wide, same)] == ["truth", "wide", "same"]
    top = truth.images[0].get_clim()[1]
    assert {a.images[0].get_clim() for a in (truth, wide, same)} == {(0.0, top)}
    assert {a.images[0].get_clim() for a in (wide_error, same_error)} == {(-top, top)}
    assert torch.as_tensor(same_error.images[0].get_array()).abs().max() == 0
    middle = torch.as_tensor(wide_error.images[0].get_array())[15, 15]
    assert math.isclose(float(middle), (0.25 - 1) / (2 * math.pi), rel_tol=0.02)  # the cell's centre is 0.1 from the middle
