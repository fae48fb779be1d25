"""Scores of samples alone: what every model can be asked, and every reference."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sixfold.compare.protocol import Ground
from sixfold.data.toys import Mixture
from sixfold.evaluate.classifier import two_sample_test
from sixfold.evaluate.coverage import precision_recall
from sixfold.evaluate.frechet import frechet, frechet_limit
from sixfold.evaluate.kernel import kernel_distance, rbf_distance
from sixfold.evaluate.modes import class_scores, mode_scores
from sixfold.evaluate.novelty import novelty
from sixfold.evaluate.score import Score, samples
from sixfold.evaluate.sliced import sliced_score


def score_samples(ground: Ground, x: Tensor, *, train: Tensor | None = None) -> dict[str, Score]:
    """Every score of samples that the protocol asks for, by key.

    Args:
        ground: the data.
        x: samples in data space, (N, *shape).
        train: data that the samples were made from; the training data by default.

    Raises:
        BadInput: for samples that are not finite, too few, or of another shape than the data.
    """
    samples(x, ground.real)
    whole, near = "samples" in ground.protocol.metrics, "novelty" in ground.protocol.metrics
    spaces = ground.spaces if whole else [ground.near_space] if near else []
    features = {space.name: space(x) for space in spaces}
    found: dict[str, Score] = {}
    if whole:
        found["sliced"] = sliced_score(x, ground.real)
        for name, seen in features.items():
            found |= {f"{metric}@{name}": score for metric, score in _in_space(ground, name, seen)}
        found |= _modes(ground, x) | _classes(ground, features[ground.spaces[0].name])
    return found | (_novelty(ground, features[ground.near_space.name], train) if near else {})


def _in_space(ground: Ground, name: str, a: Tensor) -> Iterator[tuple[str, Score]]:
    """Distances, neighbours and the classifier in one feature space."""
    b = ground.real_features[name]
    yield "frechet", frechet(a, b)
    yield "frechet_limit", frechet_limit(a, b)
    yield "kernel", kernel_distance(a, b)
    yield "rbf", rbf_distance(a, b)["mean"]
    yield from precision_recall(a, b).items()
    if name == ground.spaces[0].name:
        yield "two_sample", two_sample_test(a, b).accuracy


def _modes(ground: Ground, x: Tensor) -> dict[str, Score]:
    """Modes of a mixture whose components are known."""
    truth = ground.dataset.truth
    return mode_scores(x, truth.centres, truth.std) if isinstance(truth, Mixture) else {}


def _classes(ground: Ground, features: Tensor) -> dict[str, Score]:
    """Classes of the samples against those of test data, both as a classifier sees them."""
    if ground.classify is None or ground.dataset.truth is not None:
        return {}
    return class_scores(ground.classify(features), ground.real_classes, len(ground.dataset.classes))


def _novelty(ground: Ground, features: Tensor, train: Tensor | None) -> dict[str, Score]:
    """How near the samples lie to what they were made from."""
    known = ground.train_features if train is None else ground.near_space(train)
    found = novelty(features, ground.real_features[ground.near_space.name], known)
    return {name: score for name, score in found.items() if math.isfinite(score.value)}  # no ratio to a distance of zero
