"""Names of the data at hand, readable without importing anything heavy."""

from __future__ import annotations

SETS: dict[str, str] = {
    "moons": "two noisy half circles in the plane, density known",
    "spirals": "two noisy spiral arms in the plane, density known",
    "rings": "four noisy circles in the plane, density known",
    "ring8": "8 narrow Gaussians on the unit circle, density known",
    "grid25": "25 narrow Gaussians on a grid in the plane, density known",
    "checkerboard": "8 squares of a board in the plane, density known",
    "pinwheel": "five twisted arms in the plane, density known",
    "mixture1d": "three Gaussians on the line, density known",
}


def names() -> dict[str, str]:
    """Every named set and what it is, in one line each."""
    return dict(SETS)
