"""The demonstration: one model of each family on two moons and on scikit-learn's digits."""

from __future__ import annotations

from sixfold.compare.runs import Job

MODELS = ("autoregressive/made", "vae/vae", "flow/realnvp", "gan/gan", "energy/ebm", "diffusion/ddpm")

JOBS = [Job(model, data) for data in ("moons", "digits") for model in MODELS]
