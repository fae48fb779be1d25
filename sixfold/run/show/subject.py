"""Who is shown, on what data, and what a section of the page is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from sixfold.core.dataset import Dataset
from sixfold.core.model import GenerativeModel
from sixfold.plot.images import Pixels, to_pixels
from sixfold.plot.style import family_colour


@dataclass(frozen=True)
class Drawing:
    """A picture that is not written yet.

    Args:
        name: of its file, without ending.
        made: the figure.
        caption: what is seen, with the numbers.
        alt: the same for those who do not see it.
    """

    name: str
    made: Figure
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, a line where one is needed, and pictures."""

    title: str
    drawings: Sequence[Drawing]
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """A trained model with what it was trained on.

    Args:
        model: in eval mode.
        dataset: that it was trained on; its validation part is shown.
        metrics: logged steps of the training.
    """

    model: GenerativeModel
    dataset: Dataset
    metrics: Sequence[Mapping[str, Any]] = ()

    @property
    def is_plane(self) -> bool:
        """Whether data are points in the plane."""
        return self.model.spec.shape == (2,) and not self.model.spec.support.discrete

    @property
    def is_image(self) -> bool:
        """Whether data are images."""
        return self.model.spec.is_image

    @property
    def colour(self) -> str:
        """Of the model's family."""
        return family_colour(self.model.name)

    def data(self, num: int) -> Tensor:
        """The first validation data, (num, *shape), fewer where there are not so many."""
        return self.dataset.valid.rows(num)

    def cond(self, num: int) -> Tensor | None:
        """What they are conditioned on, ``None`` for an unconditional model."""
        cond = self.dataset.valid.cond
        return None if cond is None or self.model.spec.cond.kind == "none" else cond[:num]

    def labels(self, num: int) -> Tensor | None:
        """Their classes where they are known, (num,)."""
        valid = self.dataset.valid
        known = valid.labels if valid.cond is None else valid.cond
        return None if known is None or known.is_floating_point() or not self.dataset.classes else known[:num]

    def given(self, cond: Tensor | None) -> dict[str, Any]:
        """The condition as a keyword, for methods that unconditional models may have without one."""
        return {} if cond is None else {"cond": cond}

    def generator(self, seed: int = 0) -> torch.Generator:
        """Randomness that is the same for every page."""
        return torch.Generator(self.model.device).manual_seed(seed)

    def pixels(self, x: Tensor) -> Pixels:
        """Images as bytes, (B, H, W, C); real ones from black to white as the data reach, so that equal values look equal."""
        spec, few = self.model.spec, self.data(1000)
        return to_pixels(x, spec, limits=None if spec.support.discrete else (float(few.min()), float(few.max())))
