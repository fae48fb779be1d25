"""Outcomes of comparisons that nobody trained for: plausible numbers and pictures from simple distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import sixfold
from sixfold.compare.exhibit import SIDE, Exhibit
from sixfold.compare.meaning import BLURRED, COPIES, DROPPED, GAUSSIAN, REAL
from sixfold.compare.note import Note
from sixfold.compare.outcome import Outcome
from sixfold.compare.record import Record
from sixfold.core.dataset import Dataset
from sixfold.core.likelihood import Exact, Lower, MeanLogProb, Measure
from sixfold.evaluate.score import PARTS, Score, jackknife, known
from sixfold.plot.plane import Window

KDE = "KDE"
MODELS = {
    "made": "autoregressive/made", "vae": "vae/vae", "realnvp": "flow/realnvp", "gan": "gan/gan", "ebm": "energy/ebm",
    "ddpm": "diffusion/ddpm",
}  # fmt: skip
KINDS = {"made": Exact, "vae": Lower, "realnvp": Exact, "ddpm": Lower}
FAULTS = {"made": 0.15, "vae": 0.5, "realnvp": 0.3, "gan": 0.7, "ebm": 0.4, "ddpm": 0.1}
"""How bad a model is, 0 for perfect: what its scores, samples and density are made of."""

BROKEN = {REAL: 0.0, COPIES: 0.0, DROPPED: 0.8, BLURRED: 0.9, GAUSSIAN: 1.5, KDE: 0.25}
SEED_LOST = ("gan", 1)
REASON = "the loss of player critic is not finite in step 812 <nan>. Lower lr."


def noisy(value: float, spread: float, seed: int) -> Score:
    """A score with parts, so that pairs can be compared."""
    draws = torch.randn(PARTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    without = value + (draws - draws.mean()) * spread / PARTS
    return jackknife(value, without)


def scores(label: str, fault: float, seed: int, *, plane: bool, copied: bool = False) -> dict[str, Score]:
    """Every score of a row, by how bad it is."""
    f = fault * (1 + 0.05 * seed)
    space = "points" if plane else "cnn"
    found = {
        "sliced": noisy(0.02 + 0.2 * f, 0.01, seed + 1),
        f"frechet_limit@{space}": noisy(0.01 + 30 * f**2, 0.3 * (0.1 + f), seed + 2),
        f"rbf@{space}": noisy(0.0002 + 0.02 * f, 0.001, seed + 3),
        f"two_sample@{space}": noisy(0.5 + 0.3 * math.tanh(f), 0.02, seed + 4),
        f"density@{space}": noisy(1.0 - 0.5 * f, 0.03, seed + 5),
        f"coverage@{space}": noisy(0.97 - 0.4 * math.tanh(f), 0.02, seed + 6),
        f"precision@{space}": noisy(0.95 - 0.4 * math.tanh(f), 0.02, seed + 7),
        # Blind to all faults, so that its column is grey.
        f"class_shift@{space}": noisy(0.05, 0.02, seed + 8),
        f"distance_ratio@{space}": noisy(0.0 if copied else 1.0 + 0.3 * f, 0.02, seed + 9),
        f"authenticity@{space}": noisy(0.02 if copied else 0.5 + 0.1 * f, 0.02, seed + 10),
    }
    if not plane:
        found |= {key.replace("@cnn", "@pca"): score for key, score in found.items() if "@" in key}
    if label in KINDS or label in (GAUSSIAN, KDE):
        found["nll"] = noisy((0.4 if plane else 2.2) + 0.5 * f, 0.02, seed + 11)
    if plane and "nll" in found:
        found["excess"] = noisy(0.02 + 0.5 * f, 0.02, seed + 12)
    return found


def record(data: str, label: str, seed: int, *, plane: bool, levels: int | None) -> Record:
    """One scored training, or the one that was lost."""
    model, fault = MODELS[label], FAULTS[label]
    if (label, seed) == SEED_LOST:
        return Record(label, data, model, seed, failed=REASON)
    cost = {
        "parameters": known(12_345),
        "train_seconds": known(20 + 40 * fault + seed),
        "sample_seconds": known(0.004 if label in ("gan", "vae", "realnvp") else 0.3 if label == "made" else 2.5),
    }
    found = scores(label, fault, seed, plane=plane) | cost
    known_as = KINDS.get(label)
    likelihood = None
    if known_as is not None:
        likelihood = MeanLogProb(-found["nll"].value, 0.01, 1000, known_as, "by hand", 2 if plane else 64, Measure(levels))
    return Record(label, data, model, seed, found, likelihood)


def references(data: str, *, plane: bool) -> list[Record]:
    """Scores of the references, in which the faults of the broken ones show."""
    found = {label: scores(label, fault, 0, plane=plane, copied=label == COPIES) for label, fault in BROKEN.items()}
    return [Record(label, data, scores=of) for label, of in found.items()]


def plane_exhibits(dataset: Dataset, *, generator: torch.Generator) -> dict[str, Exhibit]:
    """Samples of the truth with noise, and the truth's density tempered and moved, by how bad a model is."""
    assert dataset.truth is not None
    grid = Window.around(dataset.test.rows()).grid(SIDE)
    made = {}
    for label, fault in {**FAULTS, **BROKEN}.items():
        x = dataset.truth.sample(1500, generator=generator)
        x = x + 0.25 * fault * torch.randn(x.shape, generator=generator)
        nats = dataset.truth.log_prob(grid - 0.15 * fault) if label in KINDS else None
        codes = torch.randn(300, 2, generator=generator) if label in ("vae", "realnvp") else None
        made[label] = Exhibit(x, nats, codes)
    return made


def image_exhibits(dataset: Dataset, *, generator: torch.Generator) -> dict[str, Exhibit]:
    """Real images with noise, by how bad a model is."""
    real, labels = dataset.test.rows(), dataset.test.cond
    assert labels is not None
    top = dataset.spec.support.count - 1
    made = {}
    for label, fault in {**FAULTS, **BROKEN}.items():
        rows = torch.randperm(len(real), generator=generator)[:100]
        x = real[rows].double() + 6 * fault * torch.randn(real[rows].shape, generator=generator)
        codes = None
        if label in ("vae", "realnvp"):
            turn = 2 * math.pi * labels / 10
            codes = torch.stack([turn.cos(), turn.sin()], 1) + 0.2 * torch.randn(len(real), 2, generator=generator)
        made[label] = Exhibit(x.round().clamp(0, top).to(real.dtype), None, codes, None if codes is None else labels)
    return made


def training(label: str, seed: int, *, generator: torch.Generator) -> list[dict[str, Any]]:
    """Logged steps of a training; a GAN has no validation criterion."""
    rows: list[dict[str, Any]] = []
    for i in range(1, 201):
        seconds, level = i * (0.1 + FAULTS[label] / 5), math.exp(-i / 30) + 0.1 * seed
        shake = 0.1 * float(torch.randn(1, generator=generator))
        players = ("generator", "critic") if label == "gan" else ("model",)
        rows.append({"step": i, "seconds": seconds, "players": {p: {"loss": level + shake, "norm": 1.0} for p in players}})
        if label != "gan" and i % 10 == 0:
            rows.append({"step": i, "seconds": seconds, "valid": level + 0.02 * shake, "best": True})
    return rows


def outcome(data: str = "moons", *, seeds: int = 2, labels: Sequence[str] = tuple(MODELS)) -> Outcome:
    """Everything that is found on one data set, of points or images.

    Args:
        data: name of the data.
        seeds: trainings of each model; the GAN's second one diverged.
        labels: rows.
    """
    dataset = sixfold.load_data(data)
    generator = torch.Generator().manual_seed(0)
    plane = dataset.spec.shape == (2,)
    levels = dataset.spec.support.count if dataset.spec.support.discrete else None
    exhibits: Mapping[str, Exhibit] = (plane_exhibits if plane else image_exhibits)(dataset, generator=generator)
    records = [record(data, label, seed, plane=plane, levels=levels) for label in labels for seed in range(seeds)]
    return Outcome(
        dataset,
        [*references(data, plane=plane), *records],
        {label: e for label, e in exhibits.items() if label in labels or label in BROKEN},
        {label: [training(label, seed, generator=generator) for seed in range(seeds)] for label in labels},
        len(dataset.test),
        "0123456789ab",
    )


def note(*names: str) -> Note:
    """Sentences with signs that HTML takes for its own."""
    return Note(
        (
            "6 models on moons & digits, from 2 seeds each, by their own recipes.",
            "moons: 10,000 data to train on, 2,000 to test on.",
        ),
        {
            name: (
                f"On {name}, coverage of ddpm (0.95 [0.94, 0.96]) is higher than that of vae: +0.12 [0.08, 0.16], p < 0.001.",
                f"Likelihood: made gives test data of {name} a higher one than realnvp; vae <= 0.65 & ddpm <= 0.45 are bounds.",
                "No difference is shown between made and ddpm in sliced W2: +0.01 [-0.02, 0.04].",
            )
            for name in names
        },
        ("vae and ddpm are both bounds: neither is implied to be higher.", "gan has no likelihood."),
        ("Two seeds leave the spread between trainings uncertain.", "Budgets are equal in seconds, not in <steps>."),
        ("sixfold compare --suite demo --seeds 2",),
    )


def tensor_of(path: str) -> Tensor:
    """Pixels of a picture as numbers, (H, W, channels)."""
    import numpy as np
    from PIL import Image

    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy())
