"""Everything that is asked of a trained model: its likelihood, its samples, its codes, its power to find outliers, its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from sixfold.compare.cost import Drawn, draw
from sixfold.compare.exhibit import SIDE, Exhibit
from sixfold.compare.protocol import Ground
from sixfold.compare.score_samples import score_samples
from sixfold.core.likelihood import Exact, Kind, LogProb, MeanLogProb, Unnormalised
from sixfold.core.model import GenerativeModel, HasDensity, HasLatent
from sixfold.core.registry import build
from sixfold.data.toys import Toy
from sixfold.evaluate.anomaly import anomaly, outliers
from sixfold.evaluate.likelihood import likelihood_score, log_prob_of, typicality_gap
from sixfold.evaluate.modes import conditional_accuracy
from sixfold.evaluate.plane import plane_scores
from sixfold.evaluate.representation import active_units, codes, encode_parts, pca_encoder, probe, raw
from sixfold.evaluate.score import Score, known
from sixfold.plot.plane import Window
from sixfold.run.pictures import log_density_of

OWN = 2000
"""Own samples whose likelihood is set against that of test data, and points that are drawn."""

SHOWN = 100
"""Images that are drawn."""

STRANGERS = 1000
"""Test data and outliers of each kind that anomaly scores are tried on, at most."""

CODED = 20_000
"""Training data that are encoded, at most."""

DETAIL = 0.75
"""Spacing of the quadrature, in widths of the truth's smallest detail."""


@dataclass(frozen=True)
class Scored:
    """What a model was found to be: scores by key, likelihood with its kind, and what is drawn of it."""

    scores: Mapping[str, Score]
    exhibit: Exhibit
    likelihood: MeanLogProb[Kind] | None = None


@dataclass
class _Examined:
    """A model under examination; everything it draws follows from the seed."""

    ground: Ground
    model: GenerativeModel
    seed: int
    likelihood: MeanLogProb[Kind] | None = None
    drawn: Drawn = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = draw(self.model, self.ground.count, cond=self.cond(self.ground.count), generator=self.generator())

    def asks(self, group: str) -> bool:
        return group in self.ground.protocol.metrics

    def generator(self) -> torch.Generator:
        return torch.Generator(self.model.device).manual_seed(40_000 + self.seed)

    def cond(self, num: int) -> Tensor | None:
        """The test data's own conditions, so that samples and data share their mix of classes."""
        own = self.ground.dataset.test.cond
        return None if self.model.spec.cond.kind == "none" or own is None else own[:num]

    def log_prob(self, x: Tensor) -> LogProb[Kind]:
        return log_prob_of(self.model, x, self.cond(len(x)), generator=self.generator())


def score_model(ground: Ground, model: GenerativeModel, *, seconds: float | None, seed: int = 0) -> Scored:
    """Score a trained model.

    Args:
        ground: the data that it was trained on.
        model: in eval mode.
        seconds: that training took; ``None`` when that is not known.
        seed: of samples and of bounds that draw.

    Raises:
        BadInput: when its samples are not finite.
        Unsupported: when a part of the protocol cannot be asked of it.
    """
    it = _Examined(ground, model, seed)
    found: dict[str, Score] = {}
    if it.asks("likelihood") and isinstance(model, HasDensity):
        found |= _likelihood(it)
    found |= score_samples(ground, it.drawn.samples) | _asked_class(it)
    if it.asks("representation"):
        found |= _representation(it)
    if it.asks("anomaly") and model.spec.cond.kind == "none":
        found |= _anomaly(it)
    if it.asks("cost"):
        found |= _cost(it, seconds)
    return Scored(found, _exhibit(it), it.likelihood)


def _likelihood(it: _Examined) -> dict[str, Score]:
    """Of test data, against the truth where it is known, and against that of the model's own samples."""
    test, truth = it.log_prob(it.ground.real), it.ground.dataset.truth
    it.likelihood = test.mean()
    found = typicality_gap(it.log_prob(it.drawn.samples[:OWN]), test)
    if test.kind is Unnormalised:
        return found
    found["nll"] = likelihood_score(test)
    if truth is not None:
        found["excess"] = excess(test, truth.log_prob(it.ground.real))
        found |= _plane(it)
    return found


def excess(test: LogProb[Kind], truth: Tensor) -> Score:
    """Nats per datum above the truth on the same data; its mean is KL(truth || model), a bound's bounds it from above.

    Args:
        test: the model's log-probabilities of data.
        truth: true log-density of the same data, (N,).
    """
    return likelihood_score(test - LogProb(truth.to(test.nats), Exact, "truth", test.dims, test.measure))


def _plane(it: _Examined) -> dict[str, Score]:
    """Divergences by quadrature on the line and the plane, of unconditional models."""
    truth = it.ground.dataset.truth
    if not isinstance(truth, Toy) or it.model.spec.cond.kind != "none":
        return {}
    found = plane_scores(truth.log_prob, it.log_prob, truth.low, truth.high, step=DETAIL * truth.scale)
    return {name: found[name] for name in ("kl", "total_variation")}


def _asked_class(it: _Examined) -> dict[str, Score]:
    """How often a classifier agrees with the class that a sample was asked to be."""
    ground = it.ground
    if it.model.spec.cond.kind != "classes" or not it.asks("samples") or ground.classify is None or ground.labels is None:
        return {}
    predicted = ground.classify(ground.spaces[0](it.drawn.samples))
    return {"conditional_accuracy": conditional_accuracy(predicted, ground.labels)}


def _representation(it: _Examined) -> dict[str, Score]:
    """Accuracies of simple readers of the codes, beside those of raw data, principal components and the untrained network."""
    model, ground = it.model, it.ground
    if not isinstance(model, HasLatent) or model.spec.cond.kind != "none" or ground.train_labels is None or ground.labels is None:
        return {}
    known, labels = ground.train[:CODED], ground.train_labels[:CODED]
    code = codes(model, generator=it.generator())
    dims = code(ground.real[:2]).flatten(1).shape[1]
    encoders = {"code": code, "raw": raw, "untrained": codes(_untrained(model), generator=it.generator())}
    if dims < ground.dataset.spec.dims:
        encoders["PCA"] = pca_encoder(known, dims)
    table = probe({name: encode_parts(e, known, ground.real) for name, e in encoders.items()}, labels, ground.labels)
    found = {f"readout@{reader} | {name}": score for name, row in table.items() for reader, score in row.items()}
    if it.ground.dataset.spec.is_image and (means := model.encode(ground.real).mean) is not None:
        found["active_units"] = active_units(means)
    return found


def _untrained(model: GenerativeModel) -> HasLatent:
    """The same network as it was built."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = build(model.name, model.spec, **model.options).eval()
    assert isinstance(fresh, HasLatent)
    return fresh


def _anomaly(it: _Examined) -> dict[str, Score]:
    """How well each of the model's scores tells each kind of outlier from test data."""
    own = it.ground.real[:STRANGERS]
    kinds = {name: x[:STRANGERS] for name, x in outliers(own, it.ground.dataset.spec, near=it.ground.near()).items()}
    table = anomaly(it.model, own, kinds, reference=it.ground.dataset.train, generator=it.generator())
    return {
        f"{measure}@{kind} | {score}": value for (kind, score), row in table.items() for measure, value in _short(row).items()
    }


MEASURES = {"AUROC": "auroc", "AP outliers": "ap_outliers", "AP inliers": "ap_inliers", "FPR at 95% TPR": "fpr95"}


def _short(row: Mapping[str, Score]) -> dict[str, Score]:
    return {MEASURES[name]: score for name, score in row.items()}


def _cost(it: _Examined, seconds: float | None) -> dict[str, Score]:
    trained = {} if seconds is None else {"train_seconds": known(seconds)}
    return {
        "parameters": known(sum(p.numel() for p in it.model.parameters())),
        **trained,
        "sample_seconds": known(it.drawn.seconds / len(it.drawn.samples) * 1000),
        "evaluations": known(it.drawn.evaluations),
        "memory": known(it.drawn.megabytes),
    }


def _exhibit(it: _Examined) -> Exhibit:
    """Samples, density over the plane, and codes of test data in two dimensions."""
    spec, real = it.ground.dataset.spec, it.ground.real
    density = log_density_of(it.model) if spec.shape == (2,) else None
    over = None if density is None else density(Window.around(real).grid(SIDE)).cpu()
    return Exhibit(it.drawn.samples[: SHOWN if spec.is_image else OWN].clone(), over, *_codes(it))


def _codes(it: _Examined) -> tuple[Tensor | None, Tensor | None]:
    if not isinstance(it.model, HasLatent) or it.model.spec.cond.kind != "none" or it.ground.labels is None:
        return None, None
    z = codes(it.model, generator=it.generator())(it.ground.real[:OWN]).flatten(1).double()
    flat = z if z.shape[1] <= 2 else torch.from_numpy(PCA(2, svd_solver="full").fit_transform(z.numpy()))
    return flat.float(), it.ground.labels[: len(z)].clone()
