"""Learn: a short training gets somewhere."""

from __future__ import annotations

import math

from sixfold.evaluate.sliced import sliced_wasserstein
from sixfold.testing.checks import SkippedError, check, expect
from sixfold.testing.subject import Subject


@check("learn")
def training_completes(s: Subject) -> None:
    """The short training ends without an error or a divergence; where it does not, checks of the trained model are skipped."""
    error = s.training if isinstance(s.training, Exception) else None
    expect(error is None, f"{type(error).__name__}: {' '.join(str(error).split())}", "a training that completes")


@check("learn")
def training_lowers_the_criterion(s: Subject) -> None:
    """On validation data the criterion falls by more than five standard errors of its paired difference."""
    batches = [s.batch(min(2000, len(s.data.valid)), progress=1.0) for _ in range(2)]
    before, after = (m.eval().criterion(b) for m, b in zip((s.fresh(), s.trained()), batches, strict=True))
    if before is None or after is None:
        raise SkippedError("the model has no criterion")
    fall = (before - after).double()
    least = 5 * float(fall.std()) / math.sqrt(len(fall))
    expect(float(fall.mean()) > least, f"{before.mean():.4g} before, {after.mean():.4g} after", f"a fall of {least:.2g}")


@check("learn")
def training_brings_samples_closer(s: Subject) -> None:
    """The sliced Wasserstein distance of 1000 samples to as many training data falls to at most 0.9 of its start."""
    num = min(1000, len(s.data.train))
    real = s.rows(num, part="train")[0].float()
    before, after = (
        sliced_wasserstein(s.samples(m.eval(), num, part="train").float(), real, projections=100)
        for m in (s.fresh(), s.trained())
    )
    expect(after <= 0.9 * before, f"distance {before:.3g} before, {after:.3g} after", "at most 0.9 of it after training")
