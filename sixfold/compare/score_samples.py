"""Scores of samples alone: what every model can be asked, and every reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from sixfold.compare.protocol import Ground
from sixfold.data.toys import Mixture
from sixfold.evaluate.classifier import two_sample_test
from sixfold.evaluate.coverage import precision_recall
from sixfold.evaluate.features import Features
from sixfold.evaluate.frechet import frechet, frechet_limit
from sixfold.evaluate.kernel import kernel_distance, rbf_distance
from sixfold.evaluate.modes import class_scores, fit_classifier, mode_scores
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
    found: dict[str, Score] = {}
    if "samples" in ground.protocol.metrics:
        found["sliced"] = sliced_score(x, ground.real)
        for space in ground.spaces:
            found |= {f"{name}@{space.name}": score for name, score in _in_space(ground, space, x)}
        found |= _modes(ground, x) | _classes(ground, x)
    if "novelty" in ground.protocol.metrics:
        found |= _novelty(ground, x, train)
    return found


def _in_space(ground: Ground, space: Features, x: Tensor) -> Iterator[tuple[str, Score]]:
    """Distances, neighbours and the classifier in one feature space."""
    a, b = space(x), ground.real_features[space.name]
    yield "frechet", frechet(a, b)
    yield "frechet_limit", frechet_limit(a, b)
    yield "kernel", kernel_distance(a, b)
    yield "rbf", rbf_distance(a, b)["mean"]
    yield from precision_recall(a, b).items()
    if space is ground.spaces[0]:
        yield "two_sample", two_sample_test(a, b).accuracy


def _modes(ground: Ground, x: Tensor) -> dict[str, Score]:
    """Modes of a mixture whose components are known."""
    truth = ground.dataset.truth
    return mode_scores(x, truth.centres, truth.std) if isinstance(truth, Mixture) else {}


def _classes(ground: Ground, x: Tensor) -> dict[str, Score]:
    """Classes of the samples against those of test data, both as a classifier sees them."""
    classify = classifier_of(ground) if ground.dataset.truth is None else None
    if classify is None:
        return {}
    return class_scores(classify(x), classify(ground.real), len(ground.dataset.classes))


def classifier_of(ground: Ground) -> Callable[[Tensor], Tensor] | None:
    """From data to classes, (N,): the shipped network where it knows them, else a linear one on features of training data."""
    space = ground.spaces[0]
    if ground.train_labels is None or ground.labels is None:
        return None
    if space.head is not None and len(ground.dataset.classes) == 10:
        return lambda x: space.classify(x).argmax(1)
    fitted = fit_classifier(space(ground.train[:20_000]), ground.train_labels[:20_000])
    return lambda x: fitted(space(x))


def _novelty(ground: Ground, x: Tensor, train: Tensor | None) -> dict[str, Score]:
    """How near the samples lie to what they were made from."""
    space = ground.near_space
    known = space(ground.train if train is None else train)
    found = novelty(space(x), ground.real_features[space.name], known)
    return {name: score for name, score in found.items() if math.isfinite(score.value)}  # no ratio to a distance of zero
