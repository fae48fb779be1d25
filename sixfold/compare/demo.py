"""The demonstration: one model of each family on two moons and on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence

from sixfold.compare.pool import Job

MODELS = ("autoregressive/made", "vae/vae", "flow/realnvp", "gan/gan", "energy/ebm", "diffusion/ddpm")
DATA = ("moons", "digits")
PRESETS = {("vae/vae", "moons"): "points", ("flow/realnvp", "digits"): "images", ("diffusion/ddpm", "digits"): "pixels"}


def jobs(data: Sequence[str] = DATA) -> list[Job]:
    """One training of each family on each data set, by the model's own recipe."""
    return [Job(_preset(model, name), name) for name in data for model in MODELS]


def _preset(model: str, data: str) -> str:
    preset = PRESETS.get((model, data))
    return f"{model}:{preset}" if preset else model
