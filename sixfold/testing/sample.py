"""Sample: data of the specification, random by the generator alone, under their condition."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.testing.checks import SkippedError, UnmetError, check, expect, same, seeded, steady, untouched
from sixfold.testing.subject import Subject


@check("sample")
def samples_fit_the_specification(s: Subject) -> None:
    """Any number of samples, also none and one, has the data's shape, dtype and range, and no gradient."""
    model = s.trained()
    for num in (0, 1, 64):
        x = s.samples(model, num)
        expect(tuple(x.shape) == (num, *s.spec.shape), tuple(x.shape), (num, *s.spec.shape))
        expect(
            x.dtype == s.spec.dtype and not x.requires_grad, f"{x.dtype}, gradient {x.requires_grad}", f"{s.spec.dtype} without"
        )
        try:
            s.spec.check(x, name="a sample")
        except BadInput as error:
            raise UnmetError(f"{error} Expected data of the specification.") from error


@check("sample")
def samples_follow_their_generator(s: Subject) -> None:
    """The same seed gives the same samples, bit for bit, another seed others."""
    model = s.trained()
    first = steady(lambda: s.samples(model, 16, seed=3))
    other = s.samples(model, 16, seed=4)
    same(steady(lambda: s.samples(model, 16, seed=3)), first, "samples from the same seed")
    expect(not torch.equal(first, other), "the same samples from another seed", "others")


@check("sample")
def sampling_leaves_the_global_generator_alone(s: Subject) -> None:
    """With a generator of its own, sampling takes nothing from the global one."""
    model = s.trained()
    untouched(lambda: s.samples(model, 16), "sample")


@check("sample")
def sampling_changes_nothing(s: Subject) -> None:
    """Sampling leaves parameters, buffers and mode as they were."""
    model = s.trained()
    before = copy.deepcopy(model.state_dict())
    s.samples(model, 16)
    changed = differing(before, model.state_dict())
    expect(not changed and not model.training, f"changed {', '.join(changed) or 'mode'}", "the model as it was")


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names whose tensors differ in any bit; NaN equals itself."""
    return [n for n in a.keys() | b.keys() if n not in a or n not in b or not torch.equal(a[n].nan_to_num(), b[n].nan_to_num())]


@check("sample")
def samples_follow_their_condition(s: Subject) -> None:
    """After training, the same noise under another condition gives other samples."""
    if not s.conditional:
        raise SkippedError("the data have no condition")
    model, conds = s.trained(), s.rows(500)[1]
    assert conds is not None
    first = conds[0]
    other = next(c for c in conds if not torch.equal(c, first))
    one, two = (steady(partial(model.sample, 64, cond=c, generator=seeded(3))) for c in (first, other))
    expect(not torch.equal(one, two), "the same samples under two conditions", "samples that depend on the condition")
