"""MAF: triangular Jacobians, three inverses that agree at the cost they state, closed forms, conditions, state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from flows import generator, log_det, mass_and_bound, normal, shaken
from scipy.stats import chi2
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.core.likelihood import LEBESGUE, Exact, Lower, Measure
from sixfold.core.model import Batch, HasDensity, HasLatent, HasLayers, HasScore
from sixfold.core.registry import build, recipe
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.data import load
from sixfold.models.flow._family import Flow
from sixfold.models.flow.maf import MAF
from sixfold.nn.masked import MaskedMLP
from sixfold.prob.autoregressive import MaskedAffine
from sixfold.prob.bijections import LU, Bijection, Permutation, Rotation
from sixfold.prob.codecs import codec_for
from sixfold.prob.sequential import Way
from sixfold.solve.quadrature import lattice
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

REAL = Support("real")
POINTS = DataSpec((2,), REAL)
LABELLED = DataSpec((2,), REAL, Conditioning("classes", 2))
PUSHED = DataSpec((5,), REAL, Conditioning("vector", 3))
COND = 3
WAYS: tuple[Way, ...] = ("naive", "cached", "fixed-point")
MIXINGS = ("lu", "rotation", "permutation", "reversal")


def layer(dims: int, *, cond: int = 0, direct: bool = True, depth: int = 1, width: int = 24, amount: float = 0.3) -> MaskedAffine:
    """One layer in an order that is not the natural one, away from its start."""
    order = torch.randperm(dims, generator=generator(8))[None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MaskedMLP(order, inputs=1, outputs=2, width=width, depth=depth, cond=cond, direct=direct)
    return shaken(MaskedAffine(net, bound=1.5), amount)


def maf(spec: DataSpec = POINTS, *, amount: float = 0.3, **options: Any) -> MAF:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return shaken(MAF(spec, **{"layers": 3, "width": 16, **options}), amount)


def condition(cond: int, rows: int) -> Tensor | None:
    return normal(rows, cond, seed=5) if cond else None


# --- one layer ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("cond", [0, COND])
@pytest.mark.parametrize("dims", [2, 3, 6])
def test_jacobian_is_triangular_in_the_layer_s_order_and_gives_the_log_det(
    dims: int, cond: int, depth: int, direct: bool
) -> None:
    step, x, c = layer(dims, cond=cond, depth=depth, direct=direct), normal(4, dims), condition(cond, 4)
    jacobian = torch.autograd.functional.jacobian(lambda v: step(v, c)[0].sum(0), x).transpose(0, 1)
    order = step.net.orders[0]
    turned = jacobian[:, order][:, :, order]
    assert bool((turned.triu(1) == 0).all())
    assert bool((turned.tril() != 0).flatten(1).sum(1).eq(dims * (dims + 1) // 2).all())  # and all that comes before is heard
    logdet = step(x, c)[1]
    torch.testing.assert_close(logdet, torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(logdet, turned.diagonal(dim1=1, dim2=2).log().sum(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cond", [0, COND])
@pytest.mark.parametrize(("dims", "width"), [(2, 24), (5, 3), (6, 24), (40, 64)])  # fewer units than elements, and more
def test_every_inverse_undoes_forward_and_log_dets_cancel(dims: int, width: int, cond: int, way: Way) -> None:
    step, x, c = layer(dims, cond=cond, width=width, amount=0.15), 2 * normal(30, dims), condition(cond, 30)
    step.way = way
    with torch.no_grad():
        z, forward = step(x, c)
        back, backward = step.inverse(z, c)
    # float64: 1e-16 times how much a change of one element moves those behind it, up to about 1e5 here
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(forward + backward, torch.zeros(30, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("cond", [0, COND])
def test_all_inverses_are_the_same(cond: int) -> None:
    step, z, c = layer(40, cond=cond, amount=0.1), normal(20, 40), condition(cond, 20)
    found = {}
    with torch.no_grad():
        for step.way in WAYS:
            found[step.way] = step.inverse(z, c)
    for way in WAYS[1:]:
        torch.testing.assert_close(found[way][0], found["naive"][0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found[way][1], found["naive"][1], rtol=1e-10, atol=1e-10)


def test_inverse_in_single_precision() -> None:
    step, x = layer(40, amount=0.1).float(), normal(30, 40).float()
    with torch.no_grad():
        for step.way in WAYS:
            back, _ = step.inverse(step(x)[0])
            torch.testing.assert_close(back, x, rtol=0, atol=1e-3)  # 6e-8 times as much as in float64


def test_the_walk_costs_one_pass_and_the_others_as_many_as_they_say() -> None:
    step, z = layer(32, width=64, amount=0.05), normal(10, 32)

    def flops(way: str) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            step.way = way  # type: ignore[assignment]
            step(z) if way == "forward" else step.inverse(z)
        return counter.get_total_flops()

    once = flops("forward")
    assert flops("cached") == once
    assert flops("naive") == 32 * once
    passes, rest = divmod(flops("fixed-point"), once)
    assert (rest, passes < 32) == (0, True)
    for parameter in (step.net.last, step.net.direct):
        torch.nn.init.zeros_(parameter)  # nothing depends on anything: the second pass finds nothing to change
    assert flops("fixed-point") == 2 * once


def test_a_fixed_point_survives_what_is_not_final_yet() -> None:
    # Where each element is thirty times those before it and more, what is not final yet grows so with each pass, until a float32
    # is full: 0 * inf of a masked weight would make NaN of elements that are final.
    step = layer(40, width=80).float()
    step.net.direct.data.mul_(300)
    z = normal(4, 40).float()
    with torch.no_grad():
        every = {}
        for step.way in WAYS:
            every[step.way] = step.inverse(z)[0]
    first = step.net.orders[0][:8]
    assert not torch.isfinite(every["naive"]).all()  # nor is the last of what the code stands for
    for way in WAYS[1:]:
        torch.testing.assert_close(every[way][:, first], every["naive"][:, first], rtol=1e-4, atol=0)


def test_gradients_go_through_the_inverse() -> None:
    step, z = layer(4), normal(6, 4)
    jacobian = torch.autograd.functional.jacobian(lambda v: step.inverse(v)[0].sum(0), z).transpose(0, 1)
    x = step.inverse(z)[0].detach()
    there = torch.autograd.functional.jacobian(lambda v: step(v)[0].sum(0), x).transpose(0, 1)
    torch.testing.assert_close(jacobian @ there, torch.eye(4, dtype=torch.float64).expand(6, 4, 4), rtol=0, atol=1e-10)
    torch.testing.assert_close(step.inverse(z)[1], torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-12)


def test_one_layer_stretches_by_at_most_its_bound() -> None:
    step = layer(3, direct=True)
    _, logdet = step(1e8 * normal(50, 3))
    assert float(logdet.detach().abs().max()) <= 3 * 1.5


def test_a_layer_without_units_is_any_normal_distribution() -> None:
    # z_i = (x_i - c_i x - b_i) exp(-a_i): mean (I - C)^-1 b, precision (I - C)^T diag(exp(-2 a)) (I - C).
    spec = DataSpec((4,), REAL)
    net = MaskedMLP(torch.arange(4)[None], inputs=1, outputs=2, width=4, depth=0).double()
    model = Flow(spec, codec=codec_for(spec), bijection=MaskedAffine(net, bound=2.0)).double()
    weight, shift, log_scale = normal(4, 4).tril(-1), normal(4, seed=1), 0.5 * normal(4, seed=2)
    assert net.direct is not None
    net.direct.data[:, 1, :, 0] = weight
    net.bias.data = torch.stack([2.0 * torch.atanh(log_scale / 2.0), shift], dim=1)
    inner, x = torch.eye(4, dtype=torch.float64) - weight, 2 * normal(20, 4, seed=3)
    precision = inner.T @ torch.diag((-2 * log_scale).exp()) @ inner
    truth = torch.distributions.MultivariateNormal(torch.linalg.solve(inner, shift), precision_matrix=precision)
    torch.testing.assert_close(model.log_prob(x).nats, truth.log_prob(x), rtol=0, atol=1e-10)
    drawn = model.sample(40_000, generator=generator())
    distance = ((drawn.mean(0) - truth.mean) / (truth.variance / 40_000).sqrt()).abs()
    assert float(distance.max()) < 5  # four normal tests: 2e-6


# --- the flow ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("spec", [POINTS, LABELLED, PUSHED], ids=["points", "classes", "vectors"])
def test_log_prob_is_the_change_of_variables_by_autograd(spec: DataSpec, mixing: str) -> None:
    model, x = maf(spec, mixing=mixing), normal(6, *spec.shape)
    cond = {"none": None, "classes": torch.arange(6) % 2, "vector": normal(6, 3, seed=4).float()}[spec.cond.kind]
    model.codec.fit(3 * normal(100, *spec.shape) + 1)

    def code(x: Tensor) -> Tensor:
        z: Tensor = model.bijection(model.codec.encode(x, Draws(len(x)))[0], spec.cond.features(cond, x))[0]
        return z

    base = torch.distributions.Normal(0.0, 1.0).log_prob(code(x)).sum(1)
    torch.testing.assert_close(model.log_prob(x, cond).nats, base + log_det(code, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("inverse", WAYS)
@pytest.mark.parametrize("mixing", MIXINGS)
def test_decode_undoes_encode(mixing: str, inverse: str) -> None:
    model, x, cond = maf(PUSHED, mixing=mixing, inverse=inverse, amount=0.15), normal(20, 5), normal(20, 3, seed=4).float()
    torch.testing.assert_close(model.decode(model.encode(x, cond).z, cond), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("spec", [DataSpec((1, 3, 3), Support("levels", 16)), DataSpec((5,), Support("binary"))])
def test_levels_come_back_exactly(spec: DataSpec) -> None:
    model, draws = maf(spec, amount=0.15), generator()
    x = torch.randint(spec.support.count, (50, *spec.shape), generator=draws).to(spec.dtype)
    assert torch.equal(model.decode(model.encode(x, generator=draws).z), x)


def test_samples_do_not_depend_on_the_inverse() -> None:
    drawn = [maf(DataSpec((12,), REAL), inverse=way, amount=0.15).sample(30, generator=generator(1)) for way in WAYS]
    for other in drawn[1:]:
        torch.testing.assert_close(other, drawn[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("label", [None, 0, 1])
def test_density_integrates_to_one(label: int | None) -> None:
    model = maf(POINTS if label is None else LABELLED, amount=0.15)
    points, volume = lattice((-15.0, -15.0), (15.0, 15.0), (400, 400))
    total = float(model.log_prob(points, label).nats.exp().sum()) * volume
    assert total == pytest.approx(1.0, abs=2e-4)  # tails beyond the box


def test_samples_match_the_density() -> None:
    # Counts of 40,000 samples in the cells of a grid against the density's integrals there; false alarm 1e-5.
    model = maf(amount=0.15)
    x = model.sample(40_000, generator=generator(0)).numpy()
    edges = np.linspace(-4.0, 4.0, 17)
    counts = np.histogram2d(x[:, 0], x[:, 1], bins=(edges, edges))[0]
    points, volume = lattice((-4.0, -4.0), (4.0, 4.0), (320, 320))
    mass = (model.log_prob(points).nats.exp() * volume).reshape(16, 20, 16, 20).sum((1, 3)).numpy() * len(x)
    big = mass > 10
    observed, expected = np.append(counts[big], len(x) - counts[big].sum()), np.append(mass[big], len(x) - mass[big].sum())
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic < chi2.isf(1e-5, df=len(observed) - 1)


def test_every_layer_hears_the_condition_at_every_element() -> None:
    model = maf(PUSHED)
    for step in (part for part in model.modules() if isinstance(part, MaskedAffine)):
        out = torch.autograd.functional.jacobian(lambda c, s=step: s(torch.zeros(1, 5).double(), c)[0], normal(1, 3))
        assert bool((out.abs().sum((0, 2, 3)) > 0).all())


def test_untrained_bits_per_dimension_match_the_closed_form() -> None:
    # Layers start as the identity. 4,000 repetitions of one image: six standard errors, false alarm 2e-9.
    spec = DataSpec((1, 2, 3), Support("levels", 5))
    model, x = MAF(spec, layers=3).double(), torch.tensor([0, 4, 2, 1, 0, 3], dtype=torch.uint8).reshape(1, 1, 2, 3)
    _, bound = mass_and_bound(spec, "logit", x)
    once = model.log_prob(x.expand(4000, 1, 2, 3), effort=1, generator=generator()).mean()
    assert abs(once.value - bound) < 6 * once.stderr
    assert float(once.bits_per_dim) == pytest.approx(-once.value / (6 * math.log(2)), rel=1e-12)


@pytest.mark.parametrize(
    ("spec", "kind", "measure"), [(POINTS, Exact, LEBESGUE), (DataSpec((4,), Support("levels", 3)), Lower, Measure(3))]
)
def test_likelihood_says_its_kind(spec: DataSpec, kind: type, measure: Measure) -> None:
    log_prob = MAF(spec, layers=2).log_prob(torch.zeros(3, *spec.shape, dtype=spec.dtype))
    assert (log_prob.kind, log_prob.measure, log_prob.dims) == (kind, measure, spec.dims)


def test_layers_lead_to_the_base_and_back() -> None:
    model, x = maf(DataSpec((5,), REAL), amount=0.15), normal(10, 5)
    there = model.layers(x)
    assert there.states.shape == (4, 10, 5)
    assert there.logdets.shape == (3, 10)
    back = model.layers_back(there.states[-1])
    torch.testing.assert_close(back.states.flip(0), there.states, rtol=0, atol=1e-10)
    torch.testing.assert_close(back.logdets.flip(0), -there.logdets, rtol=0, atol=1e-10)


def test_reversal_reads_every_other_layer_backwards() -> None:
    # Two layers that each pass on one direction alone: the first element of the code depends on all data through the other.
    model, x = maf(DataSpec((3,), REAL), layers=2, mixing="reversal"), normal(1, 3)
    jacobian = torch.autograd.functional.jacobian(lambda v: model.bijection(v)[0], x)[0, :, 0]
    assert bool((jacobian != 0).all())
    one = maf(DataSpec((3,), REAL), layers=1, mixing="reversal")
    flipped = torch.autograd.functional.jacobian(lambda v: one.bijection(v)[0], x)[0, :, 0].flip(1)
    assert bool((flipped.triu(1) == 0).all())


@pytest.mark.parametrize("mixing", MIXINGS)
def test_state_holds_everything_that_the_density_needs(mixing: str) -> None:
    models = [MAF(DataSpec((6,), REAL), layers=3, width=8, mixing=mixing) for _ in range(2)]  # type: ignore[arg-type]
    x = normal(5, 6).float()
    shaken(models[0]).float()
    models[1].load_state_dict(models[0].state_dict())
    one, two = (m.encode(x).z for m in models)
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_prepare_standardises_once_and_survives_a_round_trip() -> None:
    models = [MAF(DataSpec((3,), REAL), layers=2, mixing="reversal") for _ in range(2)]
    x = (normal(500, 3) @ normal(3, 3, seed=1) + 5).float()
    models[0].prepare(Split(x))
    z = models[0].encode(x).z
    torch.testing.assert_close(z.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), rtol=0, atol=1e-5)
    models[1].load_state_dict(models[0].state_dict())
    for one in models:
        one.prepare(Split(10 * x - 3))  # other data: a second start would forget the first
        torch.testing.assert_close(one.encode(x).z, z, rtol=0, atol=0)


def test_float64_stays_float64() -> None:
    model, x, cond = maf(LABELLED), normal(4, 2), torch.tensor([0, 1, 0, 1])
    results = (
        model.log_prob(x, cond).nats,
        model.loss(Batch(x, Draws(4, dtype=torch.float64), cond), "model").loss,
        model.encode(x, cond).z,
        model.decode(x, cond),
        model.sample(4, cond=cond),
        model.score(x, cond=cond),
        *model.layers_back(x, cond).logdets,
    )
    assert {r.dtype for r in results} == {torch.float64}


def test_low_precision_stays_in_the_network() -> None:
    step, x = layer(6).float(), normal(16, 6).float()
    with torch.no_grad():
        exact = step(x)
        with torch.autocast("cpu", torch.bfloat16):
            z, logdet = step(x)
            x_again = step.inverse(z)[0]
    assert z.dtype == logdet.dtype == x_again.dtype == torch.float32
    torch.testing.assert_close(logdet, exact[1], rtol=0, atol=6 * 1.5 * 3 / 256)  # six log-scales of at most 1.5


def test_a_datum_does_not_see_its_batch_nor_whether_the_model_trains() -> None:
    model, x = maf().eval(), normal(20, 2)
    together = model.log_prob(x).nats
    torch.testing.assert_close(together, torch.cat([model.log_prob(row).nats for row in x.split(1)]), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.train().log_prob(x).nats, together, rtol=0, atol=0)
    gradients = []
    for mode in (True, False):
        loss = model.train(mode).loss(Batch(x, Draws(20)), "model").loss.mean()
        gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    for one, two in zip(*gradients, strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)


def test_a_deep_flow_stays_finite_far_out() -> None:
    model = shaken(MAF(DataSpec((19,), REAL), layers=16, mixing="rotation"), 0.02).float()
    x = (1000 * normal(20, 19).float()).requires_grad_()
    loss = model.loss(Batch(x, Draws(20)), "model").loss
    gradients = torch.autograd.grad(loss.mean(), [x, *model.parameters()], allow_unused=True)
    assert torch.isfinite(loss).all()
    assert all(g is None or torch.isfinite(g).all() for g in gradients)
    assert torch.isfinite(model.sample(20, temperature=10.0, generator=generator())).all()


def test_no_data_go_both_ways() -> None:
    for way in WAYS:
        model = MAF(POINTS, layers=2, inverse=way)
        assert model.sample(0).shape == model.encode(torch.zeros(0, 2)).z.shape == (0, 2)


def test_capabilities_and_refusals() -> None:
    model = build("flow/maf", POINTS, layers=2)
    assert all(isinstance(model, capability) for capability in (HasDensity, HasLatent, HasLayers, HasScore))
    with pytest.raises(Unsupported, match="autoregressive/made"):
        MAF(DataSpec((1,), REAL))
    with pytest.raises(Unsupported, match="autoregressive"):
        MAF(DataSpec((4,), Support("tokens", 9)))


@pytest.mark.parametrize(
    ("shape", "name", "chosen"),
    [((3,), "auto", LU), ((2,), "auto", Permutation), ((1, 2, 2), "auto", Permutation), ((2,), "rotation", Rotation)],
)
def test_mixing_follows_the_data_unless_it_is_named(shape: tuple[int, ...], name: str, chosen: type[Bijection]) -> None:
    model = MAF(DataSpec(shape, REAL), layers=3, mixing=name)  # type: ignore[arg-type]
    assert sum(isinstance(part, chosen) for part in model.modules()) == 3


@pytest.mark.slow
def test_recipe_comes_close_to_the_truth_on_two_moons() -> None:
    data = load("moons").unconditional()
    model = build("flow/maf", data.spec)
    fit_model(model, data, Recipe.of(recipe("flow/maf")))
    x = data.test.rows()
    assert data.truth is not None
    assert model.log_prob(x).mean().nll < -float(data.truth.log_prob(x).mean()) + 0.05  # type: ignore[attr-defined]
