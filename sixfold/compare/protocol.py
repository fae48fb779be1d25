"""The protocol: what is measured, on how many data, in which spaces; and a data set made ready to be scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sixfold import __version__
from sixfold.compare.suite import GROUPS, Group
from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput
from sixfold.data import load
from sixfold.evaluate.features import Features, feature_spaces
from sixfold.evaluate.modes import fit_classifier
from sixfold.evaluate.score import PARTS

FITTED = 20_000
"""Training data that a linear classifier is fitted to, at most."""


@dataclass(frozen=True)
class Protocol:
    """What is measured of every model and reference of a data set.

    Args:
        data: name of the data set.
        rows: test data and samples, at most.
        metrics: groups of scores.
        features: further feature spaces, as ``dinov2=PATH``.
        near: names of data sets that are outliers hard to tell.
    """

    data: str
    rows: int = 10_000
    metrics: tuple[Group, ...] = GROUPS
    features: tuple[str, ...] = ()
    near: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; a record made under others is made again."""
        return {**asdict(self), "version": __version__}


class Ground:
    """A data set made ready: the test data that are scored, features of them, and the training data.

    Raises:
        BadInput: when the test split has too few data for an interval, or cannot be read.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.dataset: Dataset = load(protocol.data)
        self.count = min(protocol.rows, len(self.dataset.test))
        if self.count < PARTS:
            raise BadInput(
                f"{protocol.data} has {self.count} test data to score; expected at least {PARTS}. Use more data or rows."
            )
        self.real = self.dataset.test.rows(self.count)

    @cached_property
    def train(self) -> Tensor:
        """Training data, (N, *shape)."""
        return self.dataset.train.rows()

    @cached_property
    def labels(self) -> Tensor | None:
        """Classes of the test data, (count,); ``None`` where the source has none."""
        return self._classes(self.dataset.test.cond, self.count)

    @cached_property
    def train_labels(self) -> Tensor | None:
        """Classes of the training data, (N,)."""
        return self._classes(self.dataset.train.cond, len(self.train))

    @staticmethod
    def _classes(cond: Tensor | None, count: int) -> Tensor | None:
        return None if cond is None or cond.is_floating_point() else cond[:count]

    @cached_property
    def spaces(self) -> list[Features]:
        """Feature spaces, the one of the short table first."""
        return feature_spaces(self.dataset.spec, self.protocol.data, self.train, extra=self.protocol.features)

    @cached_property
    def real_features(self) -> dict[str, Tensor]:
        """Features of the test data by space."""
        return {space.name: space(self.real) for space in self.spaces}

    @cached_property
    def near_space(self) -> Features:
        """Where nearest neighbours are looked for: principal components keep pixels' distances at a tenth of the time."""
        return next((s for s in self.spaces if s.name == "pca"), self.spaces[0])

    @cached_property
    def train_features(self) -> Tensor:
        """Training data where nearest neighbours are looked for."""
        return self.near_space(self.train)

    @cached_property
    def classify(self) -> Callable[[Tensor], Tensor] | None:
        """From features in the first space to classes, (N,): by the shipped network where it knows them, else linear."""
        space = self.spaces[0]
        if self.train_labels is None or self.labels is None:
            return None
        if space.head is not None and len(self.dataset.classes) == 10:
            return lambda features: space.classify(features).argmax(1)
        return fit_classifier(space(self.train[:FITTED]), self.train_labels[:FITTED])

    @cached_property
    def real_classes(self) -> Tensor:
        """Classes of the test data as :attr:`classify` sees them, (count,)."""
        assert self.classify is not None
        return self.classify(self.real_features[self.spaces[0].name])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of training and test data: equal for equal splits."""
        found = hashlib.blake2b(digest_size=6)
        for split in (self.dataset.train, self.dataset.test):
            found.update(split.x.contiguous().numpy().tobytes())
        return found.hexdigest()

    def near(self) -> dict[str, Tensor]:
        """Outliers of the data's own shape from other data sets.

        Raises:
            BadInput: when one has another shape.
        """
        found = {}
        for name in self.protocol.near:
            other = load(name)
            if other.spec != self.dataset.spec:
                raise BadInput(
                    f"{name} cannot be outliers of {self.protocol.data}: data of {other.spec.shape}, expected "
                    f"{self.dataset.spec.shape} of the same values. Name another set."
                )
            found[name] = other.test.rows(min(self.count, len(other.test)))
        return found

    def generator(self, seed: int = 0) -> torch.Generator:
        """Randomness of what is drawn while scoring."""
        return torch.Generator().manual_seed(30_000 + seed)
