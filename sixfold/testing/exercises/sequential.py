"""Exercises of the fourth stage: a coupling layer, the masks of MADE, and the nucleus of a distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import jacrev

from sixfold.testing.checks import expect, same, seeded
from sixfold.testing.exercises.facts import Answer, fact

DIMS = 6  # of a coupling's data and of masks
ROUNDING = 1e-9  # of float64 numbers of order one
WIDTH = 64  # hidden units: enough that even degrees drawn at random hold each value


def _network(kept: Tensor) -> Tensor:
    """Some function of the half that stays, (N, 3) to (N, 6), with no structure to exploit."""
    first = torch.randn(8, DIMS // 2, generator=seeded(1), dtype=torch.float64)
    last = torch.randn(DIMS, 8, generator=seeded(2), dtype=torch.float64)
    return torch.tanh(kept @ first.T) @ last.T / 4


def _points() -> Tensor:
    return torch.randn(5, DIMS, generator=seeded(0), dtype=torch.float64)


def _jacobians(function: Callable[[Tensor], Tensor]) -> Tensor:
    """Derivatives of each code by each element of its point, (N, D, D), of a function of batches; one point at a time."""
    return torch.stack([jacrev(lambda x: function(x[None])[0])(x) for x in _points()])


@fact("coupling layer")
def one_logdet_a_point(coupling: Answer) -> None:
    """Points (N, D) become codes (N, D) and one log-determinant each, (N,)."""
    z, logdet = coupling(_network).forward(_points())
    expect(z.shape == (5, DIMS) and logdet.shape == (5,), (tuple(z.shape), tuple(logdet.shape)), ((5, DIMS), (5,)))


@fact("coupling layer")
def first_half_stays(coupling: Answer) -> None:
    """The first half of the elements comes out as it went in."""
    x = _points()
    half = DIMS // 2
    same(coupling(_network).forward(x)[0][:, :half], x[:, :half], "first half", to=ROUNDING)


@fact("coupling layer")
def second_half_depends_on_the_first(coupling: Answer) -> None:
    """Every element of the second half depends on every element of the first, by autograd."""
    layer, half = coupling(_network), DIMS // 2
    least = float(_jacobians(lambda x: layer.forward(x)[0])[:, half:, :half].abs().amax(0).min())
    expect(least > 1e-6, f"a derivative of {least:.1g} at every point", "none that vanishes")


@fact("coupling layer")
def every_number_of_the_network_counts(coupling: Answer) -> None:
    """Each of the network's numbers, log-scales and shifts, moves the code."""
    x = _points()

    def code(moved: Tensor) -> Tensor:
        z: Tensor = coupling(lambda kept: _network(kept) + moved).forward(x)[0]
        return z

    size = jacrev(code)(torch.zeros(DIMS, dtype=torch.float64)).abs().amax((0, 1))
    idle = [i for i, most in enumerate(size.tolist()) if most < 1e-6]
    expect(not idle, f"numbers {idle} of {DIMS} without effect", "none")


@fact("coupling layer")
def inverse_undoes_the_map(coupling: Answer) -> None:
    """The inverse of the code is the point."""
    x, layer = _points(), coupling(_network)
    same(layer.inverse(layer.forward(x)[0]), x, "inverse of the code", to=ROUNDING)


@fact("coupling layer")
def logdet_is_that_of_the_jacobian(coupling: Answer) -> None:
    """The log-determinant is that of the Jacobian which autograd finds, point by point."""
    x, layer = _points(), coupling(_network)
    found = _jacobians(lambda x: layer.forward(x)[0])
    same(layer.forward(x)[1], torch.linalg.slogdet(found).logabsdet, "log-determinant", to=ROUNDING)


def _derivatives(masks: Answer) -> Tensor:
    """Derivatives of each output of a masked network by each input, (D, D), the largest of some points."""
    first, last = (torch.as_tensor(m).double() for m in masks(DIMS, WIDTH))
    enter = torch.randn(WIDTH, DIMS, generator=seeded(3), dtype=torch.float64)
    leave = torch.randn(DIMS, WIDTH, generator=seeded(4), dtype=torch.float64)

    def network(x: Tensor) -> Tensor:
        return torch.tanh(x @ (first * enter).T) @ (last * leave).T

    return _jacobians(network).abs().amax(0)


@fact("masks of made")
def masks_have_the_shapes_of_the_weights(masks: Answer) -> None:
    """Both masks hold zeros and ones and have their weights' shapes, (width, D) and (D, width)."""
    first, last = (torch.as_tensor(m) for m in masks(DIMS, WIDTH))
    wanted = (WIDTH, DIMS), (DIMS, WIDTH)
    expect((first.shape, last.shape) == wanted, (tuple(first.shape), tuple(last.shape)), wanted)
    values = sorted(set(torch.cat([first.flatten(), last.flatten()]).double().tolist()))
    expect(set(values) <= {0.0, 1.0}, f"values {values[:4]}", "0 and 1 alone")


@fact("masks of made")
def no_output_sees_itself_or_what_follows(masks: Answer) -> None:
    """Output i depends on no input from i on, by autograd."""
    seen = _derivatives(masks).triu() > 0
    pairs = [tuple(pair) for pair in seen.nonzero().tolist()]
    expect(not pairs, f"output, input (from 0): {pairs[:3]} and {max(0, len(pairs) - 3)} more", "none")


@fact("masks of made")
def every_output_sees_all_before_it(masks: Answer) -> None:
    """Output i depends on every input before i."""
    blind = (_derivatives(masks) == 0).tril(-1)
    pairs = [tuple(pair) for pair in blind.nonzero().tolist()]
    expect(not pairs, f"no way to output from input (from 0): {pairs[:3]} and {max(0, len(pairs) - 3)} more", "none")


@fact("masks of made")
def every_unit_is_of_use(masks: Answer) -> None:
    """Every hidden unit hears an input and is heard by an output."""
    first, last = (torch.as_tensor(m).double() for m in masks(DIMS, WIDTH))
    idle = int(((first.sum(1) == 0) | (last.sum(0) == 0)).sum())
    expect(idle == 0, f"{idle} of {WIDTH} units that hear or say nothing", "none")


def _rows() -> Tensor:
    """Some distributions over seven values, (R, 7), without ties."""
    sharp = torch.linspace(3.0, 0.2, 9, dtype=torch.float64)[:, None]
    return (sharp * torch.randn(9, 7, generator=seeded(5), dtype=torch.float64)).softmax(1)


def _kept(nucleus: Answer) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Probabilities, which of them the answer keeps, and the share that they are to reach."""
    for share in (0.2, 0.5, 0.9, 0.99):
        yield _rows(), nucleus(_rows(), share) > 0, share


@fact("nucleus")
def mass_reaches_the_share(nucleus: Answer) -> None:
    """The values that are kept hold at least the share asked for."""
    for p, kept, share in _kept(nucleus):
        least = float((p * kept).sum(1).min())
        expect(least >= share - ROUNDING, f"a mass of {least:.3f}", f"at least {share}")


@fact("nucleus")
def no_smaller_set_would_do(nucleus: Answer) -> None:
    """No set of fewer values holds the share."""
    for p, kept, share in _kept(nucleus):
        best = p.sort(1, descending=True).values.cumsum(1)
        wanted = (best < share - ROUNDING).sum(1) + 1
        row = int((kept.sum(1) - wanted).argmax())
        expect(bool((kept.sum(1) <= wanted).all()), f"{int(kept[row].sum())} values for {share}", int(wanted[row]))


@fact("nucleus")
def one_value_at_least_is_kept(nucleus: Answer) -> None:
    """However small the share, the likeliest value is kept."""
    for share in (0.0, 1e-6):
        kept = nucleus(_rows(), share) > 0
        there = kept.gather(1, _rows().argmax(1, keepdim=True))
        expect(bool(there.all()), f"{int((~there).sum())} of {len(kept)} distributions without it at {share}", "none")


@fact("nucleus")
def what_is_kept_is_renormalised(nucleus: Answer) -> None:
    """What is kept sums to one, in the proportions that it had."""
    for p, kept, share in _kept(nucleus):
        mass = (p * kept).sum(1, keepdim=True).clamp_min(1e-300)
        same(nucleus(p, share), p * kept / mass, f"probabilities at {share}", to=ROUNDING)


@fact("nucleus")
def order_of_the_values_is_kept(nucleus: Answer) -> None:
    """Values in another order, or rows, give the same probabilities in that order."""
    p, order, rows = _rows(), torch.randperm(7, generator=seeded(6)), torch.randperm(9, generator=seeded(7))
    same(nucleus(p[rows][:, order], 0.7), nucleus(p, 0.7)[rows][:, order], "probabilities", to=ROUNDING)
