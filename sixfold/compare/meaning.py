"""What each score of a comparison is: its name in words, which way is better, and which broken generators it claims to see.

A key is a name, and behind ``@`` the feature space that it was computed in: ``coverage@cnn``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["likelihood", "fidelity", "coverage", "fidelity and coverage", "novelty", "representation", "anomaly", "cost"]
Better = Literal["lower", "higher", "zero", "none"]

DROPPED, BLURRED, GAUSSIAN, COPIES, REAL = "modes dropped", "blurred", "Gaussian", "training copies", "real data"


@dataclass(frozen=True)
class Meaning:
    """What a score is.

    Args:
        head: of its column.
        axis: which quality it is about.
        better: which way; ``zero`` for signed numbers that should vanish, ``none`` for facts.
        sees: references that it must rank below real data, or it says nothing here.
        says: in words, for the page and the note.
        digits: after the point, as printed.
        main: whether its column stands in the short table.
    """

    head: str
    axis: Axis
    better: Better
    sees: tuple[str, ...]
    says: str
    digits: int = 3
    main: bool = False


_BOTH = (DROPPED, BLURRED, GAUSSIAN)

MEANINGS: dict[str, Meaning] = {
    "nll": Meaning("-log p", "likelihood", "lower", (), "mean negative log-likelihood of test data", 3, True),
    "excess": Meaning("above truth", "likelihood", "lower", (), "nats above the true density on the same test data", 3, True),
    "kl": Meaning(
        "KL(truth, model)", "likelihood", "lower", (), "Kullback-Leibler divergence from the truth by quadrature, nats"
    ),
    "total_variation": Meaning("TV", "likelihood", "lower", (), "half the area between the true and the learned density"),
    "typicality": Meaning("typicality gap", "likelihood", "zero", (), "mean log p of own samples less that of test data, nats"),
    "typicality_standardised": Meaning(
        "typicality gap / sd", "likelihood", "zero", (), "the same in standard deviations of log p"
    ),
    "sliced": Meaning("sliced W2", "fidelity and coverage", "lower", _BOTH, "sliced Wasserstein distance to test data", 3, True),
    "frechet": Meaning(
        "Fréchet",
        "fidelity and coverage",
        "lower",
        _BOTH,
        "Fréchet distance between Gaussians fitted to features, which is FID in Inception's alone",
    ),
    "frechet_limit": Meaning(
        "Fréchet, N to infinity",
        "fidelity and coverage",
        "lower",
        _BOTH,
        "Fréchet distance extrapolated to infinitely many data",
        3,
        True,
    ),
    "kernel": Meaning(
        "kernel (KID)", "fidelity and coverage", "lower", _BOTH, "unbiased squared kernel distance, KID's polynomial", 4
    ),
    "rbf": Meaning(
        "kernel (RBF)", "fidelity and coverage", "lower", _BOTH, "unbiased squared kernel distance, RBF at three scales", 4, True
    ),
    "two_sample": Meaning(
        "classifier",
        "fidelity and coverage",
        "lower",
        _BOTH,
        "held-out accuracy of telling samples from test data; 0.5 is perfect",
        3,
        True,
    ),
    "precision": Meaning(
        "precision", "fidelity", "higher", (BLURRED, GAUSSIAN), "share of samples within the reach of test data"
    ),
    "density": Meaning(
        "density", "fidelity", "higher", (BLURRED, GAUSSIAN), "how many test data's reaches a sample lies in, over k", 3, True
    ),
    "recall": Meaning("recall", "coverage", "higher", (DROPPED,), "share of test data within the reach of samples"),
    "coverage": Meaning("coverage", "coverage", "higher", (DROPPED,), "share of test data with a sample within reach", 3, True),
    "modes": Meaning("modes found", "coverage", "higher", (DROPPED,), "known modes with a good sample", 0, True),
    "good": Meaning(
        "good samples",
        "fidelity",
        "higher",
        (BLURRED, GAUSSIAN),
        "share of samples within 3 standard deviations of a mode",
        3,
        True,
    ),
    "mode_kl": Meaning("mode KL", "coverage", "lower", (DROPPED,), "reverse KL over modes, nats"),
    "classes": Meaning("classes found", "coverage", "higher", (DROPPED,), "classes among the samples, by a classifier", 0),
    "class_shift": Meaning(
        "class shift", "coverage", "lower", (DROPPED,), "total variation between class shares of samples and test data", 3, True
    ),
    "class_kl": Meaning(
        "class KL", "coverage", "lower", (DROPPED,), "reverse KL between class shares of samples and test data, nats"
    ),
    "class_p": Meaning("class p", "coverage", "none", (), "p-value that samples and test data have the same class shares"),
    "conditional_accuracy": Meaning(
        "class accuracy", "fidelity", "higher", (), "share of samples that a classifier takes for the class asked for"
    ),
    "distance_ratio": Meaning(
        "train distance",
        "novelty",
        "none",
        (COPIES,),
        "distance to the nearest training datum over that of test data; 1 is new data, 0 copies",
        2,
        True,
    ),
    "near_duplicates": Meaning(
        "near copies",
        "novelty",
        "lower",
        (COPIES,),
        "share of samples nearer to training data than 99% of test data are",
        3,
        True,
    ),
    "exact_duplicates": Meaning("exact copies", "novelty", "lower", (COPIES,), "share of samples that are training data"),
    "near_repeats": Meaning(
        "near repeats", "novelty", "lower", (), "share of samples nearer to another sample than 99% of test data to each other"
    ),
    "exact_repeats": Meaning("exact repeats", "novelty", "lower", (), "share of samples that equal another sample"),
    "authenticity": Meaning(
        "authenticity",
        "novelty",
        "higher",
        (COPIES,),
        "share of samples farther from their training datum than its own neighbour is",
    ),
    "readout": Meaning("accuracy", "representation", "higher", (), "of a simple reader of codes, on test data"),
    "auroc": Meaning("AUROC", "anomaly", "higher", (), "chance that an outlier scores above a test datum"),
    "ap_outliers": Meaning("AP, outliers", "anomaly", "higher", (), "average precision with outliers as positives"),
    "ap_inliers": Meaning("AP, inliers", "anomaly", "higher", (), "average precision with test data as positives"),
    "fpr95": Meaning(
        "FPR95", "anomaly", "lower", (), "share of outliers taken for test data when 95% of test data are let through"
    ),
    "parameters": Meaning("parameters", "cost", "none", (), "numbers learned", 0),
    "train_seconds": Meaning("train s", "cost", "lower", (), "seconds of training", 1, True),
    "sample_seconds": Meaning("s / 1k", "cost", "lower", (), "seconds for 1,000 samples", 2, True),
    "evaluations": Meaning("NFE", "cost", "none", (), "evaluations of the network for one batch of samples", 0),
    "memory": Meaning("peak MB", "cost", "lower", (), "peak memory of the process, MB", 0),
    "active_units": Meaning(
        "active units", "representation", "none", (), "latent variables whose posterior mean varies over data", 0
    ),
}


def name_of(key: str) -> str:
    """Name of a key without its feature space."""
    return key.partition("@")[0]


def space_of(key: str) -> str:
    """Feature space of a key, empty without one."""
    return key.partition("@")[2]


def meaning(key: str) -> Meaning:
    """What the score behind a key is."""
    return MEANINGS[name_of(key)]


def head(key: str) -> str:
    """Head of a column: the name in words, and the feature space where there is more than one to choose from."""
    space = space_of(key).removeprefix("standardised")
    return f"{meaning(key).head}, {space}" if space else meaning(key).head
