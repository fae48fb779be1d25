"""Refuse: what cannot be used is answered with BadInput in one line."""

from __future__ import annotations

import inspect
import itertools
import math
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sixfold.core.errors import Unsupported
from sixfold.core.model import Fills, HasDensity, HasEnergy, HasLatent, HasScore
from sixfold.testing.checks import SkippedError, check, refused, seeded
from sixfold.testing.subject import Subject


def _wrong_data(s: Subject) -> dict[str, Tensor]:
    """Batches of four that no model may take."""
    x = s.rows(4)[0]
    wrong = {"data with an axis too many": x[None], "data of another shape": torch.cat([x, x], -1)}
    if s.spec.support.discrete:
        far = x.long()
        far[0] = s.spec.support.count
        return wrong | {"a level out of range": far, "a negative level": -1 - x.long(), "floats for integers": x.float()}
    nan, infinite = x.clone(), x.clone()
    nan[1], infinite[2] = math.nan, math.inf
    return wrong | {"NaN": nan, "infinity": infinite, "integers for floats": x.long()}


_TAKES_DATA = {"log_prob": HasDensity, "encode": HasLatent, "score": HasScore, "energy": HasEnergy, "fill": Fills}


@check("refuse")
def wrong_data_are_refused(s: Subject) -> None:
    """Every method that takes data refuses a wrong shape, dtype, NaN or value out of range in one line."""
    model, cond = s.trained(), s.rows(4)[1]
    methods = {name: getattr(model, name) for name, protocol in _TAKES_DATA.items() if isinstance(model, protocol)}
    if not methods:
        raise SkippedError("no method takes data")
    for (name, method), (what, x) in itertools.product(methods.items(), _wrong_data(s).items()):
        known = [torch.ones(x.shape, dtype=torch.bool)] if name == "fill" else []
        given = {"cond": cond} if s.conditional and "cond" in inspect.signature(method).parameters else {}
        with suppress(Unsupported):  # what the model does for no data of this kind
            refused(partial(method, x, *known, **given), f"{what} in {name}")


@check("refuse")
def wrong_conditions_are_refused(s: Subject) -> None:
    """Sampling refuses a condition that is missing, not expected, of the wrong size, or a label outside the classes."""
    model, cond = s.trained(), s.spec.cond
    wrong: dict[str, Any] = {"a condition for a model without": 0}
    if cond.kind == "classes":
        few = torch.zeros(3, dtype=torch.long)
        wrong = {"no label": None, "a label too large": cond.size, "a negative label": -1, "three labels for two": few}
    if cond.kind == "vector":
        nan = torch.full((cond.size,), math.nan)
        wrong = {"no vector": None, "a longer vector": torch.zeros(cond.size + 1), "NaN in the vector": nan}
    for what, value in wrong.items():
        refused(partial(model.sample, 2, cond=value, generator=seeded(1)), f"{what} in sample")
