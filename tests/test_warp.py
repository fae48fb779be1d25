"""Meshes, rings and frames between states."""

from __future__ import annotations

import torch

from sixfold.plot.clouds import Panel, panels
from sixfold.plot.plane import Window
from sixfold.plot.warp import between, carried, mesh, rings, turns

WINDOW = Window((-1.0, 2.0), (3.0, 6.0))


def test_a_mesh_has_upright_and_level_lines_from_border_to_border():
    found = mesh(WINDOW, lines=5, fine=7)
    assert found.shape == (7, 10, 2)
    upright, level = found[:, :5], found[:, 5:]
    for lines, constant in ((upright, 0), (level, 1)):
        assert torch.equal(lines[..., constant], lines[:1, :, constant].expand(7, 5))
        ends = [lines[0, 0], lines[-1, -1]]
        assert torch.equal(torch.stack(ends), torch.tensor([WINDOW.low, WINDOW.high]))


def test_rings_are_closed_circles():
    found = rings([0.5, 2.0], fine=50)
    assert torch.allclose(found.norm(dim=-1), torch.tensor([0.5, 2.0]).expand(50, 2), atol=1e-6)  # rounding of float32
    assert torch.allclose(found[0], found[-1], atol=1e-5)


def test_frames_hold_all_states_when_there_are_enough_of_them():
    states = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    found = between(states, 10)
    assert found.shape == (10, 3, 2)
    assert torch.allclose(found[::3], states, atol=1e-6)
    assert torch.allclose(found[1], (2 * states[0] + states[1]) / 3, atol=1e-6)
    assert torch.equal(between(states, 2), states[[0, 3]])
    assert torch.equal(between(states[:1], 3), states[:1].expand(3, 3, 2))


def test_a_panel_draws_every_line_of_its_mesh():
    made = panels([Panel("bent", mesh=mesh(WINDOW, lines=3), window=WINDOW)])
    (collection,) = made.axes[0].collections
    assert len(collection.get_paths()) == 6
    assert made.axes[0].get_xlim() == (WINDOW.low[0], WINDOW.high[0])


def test_a_mesh_is_carried_point_by_point():
    lines = mesh(WINDOW, lines=3, fine=4)
    turned = carried(lambda x: torch.stack([x, x.flip(1)]), lines)
    assert torch.equal(turned[0], lines)
    assert torch.equal(turned[1], lines.flip(2))


def test_turns_undo_rotations_and_mirrors_and_nothing_else():
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angle = torch.tensor(2.5, dtype=torch.float64)
    rotation = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    mirror = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    states = torch.stack([x, x @ rotation, 2 * x @ rotation @ mirror])
    found = turns(states)
    assert torch.allclose(states @ found, torch.stack([x, x, 2 * x]), atol=1e-12)
    assert torch.allclose(found @ found.mT, torch.eye(2, dtype=torch.float64).expand(3, 2, 2), atol=1e-12)
