"""RealNVP: inverses, Jacobians, normalisation, closed forms, state, and the match of samples and density."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flows import generator, log_det, mass_and_bound, normal, shaken
from scipy.stats import chi2
from torch import Tensor, nn

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import LEBESGUE, Exact, Lower, Measure
from sixfold.core.model import Batch, HasDensity, HasLatent, HasScore
from sixfold.core.registry import build, recipe
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.data import load
from sixfold.evaluate.sliced import sliced_floor, sliced_wasserstein
from sixfold.models.flow._family import Flow
from sixfold.models.flow.realnvp import RealNVP
from sixfold.nn.mlp import MLP
from sixfold.prob.bijections import LU, AffineCoupling, Bijection, Compose, Permutation
from sixfold.prob.codecs import codec_for
from sixfold.solve.quadrature import lattice
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

REAL = Support("real")
POINTS = DataSpec((2,), REAL)
LABELLED = DataSpec((2,), REAL, Conditioning("classes", 2))


def coupling(dims: int, *, flip: bool = False) -> AffineCoupling:
    return AffineCoupling(dims, lambda i, o: MLP(i, o, width=8, depth=1, act="tanh"), flip=flip, bound=1.5)


class Line(nn.Module):
    """Raw log-scale and shift (0.5 a, 0.25 a - 1): small enough for a pocket calculator."""

    def forward(self, a: Tensor, cond: Tensor | None = None) -> Tensor:
        return torch.cat([0.5 * a, 0.25 * a - 1], dim=1)


def one_coupling() -> Flow:
    return Flow(POINTS, codec=codec_for(POINTS), bijection=AffineCoupling(2, lambda i, o: Line(), bound=2.0)).double()


def test_one_coupling_by_hand() -> None:
    # x = (1, 2): s = 2 tanh(0.5 / 2) = 0.4898373, t = -0.75, z = (1, 2 e^s - 0.75) = (1, 2.5141014);
    # log p = -(1 + 2.5141014^2) / 2 - log(2 pi) + s = -5.0083927
    model, x = one_coupling(), torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(model.encode(x).z, torch.tensor([[1.0, 2.5141014]], dtype=torch.float64), rtol=0, atol=1e-7)
    assert float(model.log_prob(x).nats) == pytest.approx(-5.0083927, abs=1e-7)


def test_one_coupling_stretches_by_at_most_its_bound() -> None:
    _, logdet = one_coupling().bijection(torch.tensor([[1e6, 0.0], [-1e6, 0.0]], dtype=torch.float64))
    assert logdet.tolist() == [2.0, -2.0]


def fitted(spec: DataSpec = POINTS, *, steps: int = 60, **options: object) -> RealNVP:
    """A model after a few steps on two crescents, in float64: far from the identity, long before a good fit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RealNVP(spec, couplings=4, width=24, act="silu", **options).double()  # type: ignore[arg-type]
    data = crescents(2000)
    model.prepare(data)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        x, cond = data.batch(torch.arange(step * 250, step * 250 + 250) % 2000, Draws(250))
        loss = model.loss(Batch(x, Draws(250), cond if spec.cond.size else None), "model").loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def crescents(num: int) -> Split:
    label = torch.arange(num) % 2
    angle, side = math.pi * torch.rand(num, generator=generator(3), dtype=torch.float64), 1.0 - 2.0 * label
    curve = torch.stack([angle.cos() + label, side * angle.sin() + 0.5 * label], dim=1)
    return Split(curve + 0.2 * normal(num, 2), label)


@pytest.fixture(scope="module")
def model() -> RealNVP:
    return fitted()


@pytest.fixture(scope="module")
def labelled() -> RealNVP:
    return fitted(LABELLED)


def test_density_integrates_to_one(model: RealNVP) -> None:
    points, volume = lattice((-8.0, -8.0), (9.0, 8.0), (500, 500))
    total = float(model.log_prob(points).nats.exp().sum()) * volume
    assert total == pytest.approx(1.0, abs=2e-4)  # tails beyond the box; the lattice itself is good to 1e-8


@pytest.mark.parametrize("label", [0, 1])
def test_conditional_density_integrates_to_one_for_each_class(labelled: RealNVP, label: int) -> None:
    points, volume = lattice((-8.0, -8.0), (9.0, 8.0), (500, 500))
    total = float(labelled.log_prob(points, label).nats.exp().sum()) * volume
    assert total == pytest.approx(1.0, abs=2e-4)


def test_condition_informs(labelled: RealNVP) -> None:
    data = crescents(500)
    right, wrong = (labelled.log_prob(data.x, c).mean().value for c in (data.cond, 1 - data.cond))
    assert right > wrong + 0.5


@pytest.mark.parametrize("dims", [2, 5])
@pytest.mark.parametrize("mixing", ["lu", "rotation", "permutation"])
def test_log_prob_is_the_change_of_variables_by_autograd(mixing: str, dims: int) -> None:
    model = shaken(RealNVP(DataSpec((dims,), REAL), couplings=3, width=8, act="tanh", mixing=mixing))  # type: ignore[arg-type]
    model.codec.fit(3 * normal(100, dims) + 1)
    x = normal(6, dims)

    def code(x: Tensor) -> Tensor:
        z: Tensor = model.bijection(model.codec.encode(x, Draws(len(x)))[0])[0]
        return z

    base = torch.distributions.Normal(0.0, 1.0).log_prob(code(x)).sum(1)
    torch.testing.assert_close(model.log_prob(x).nats, base + log_det(code, x), rtol=0, atol=1e-10)


def test_samples_match_the_density(model: RealNVP) -> None:
    # Counts of 40,000 samples in the cells of a grid against the density's integrals there; false alarm 1e-5.
    x = model.sample(40_000, generator=generator(0)).numpy()
    edges = np.linspace(-3.0, 4.0, 15)
    counts = np.histogram2d(x[:, 0], x[:, 1], bins=(edges, edges))[0]
    points, volume = lattice((-3.0, -3.0), (4.0, 4.0), (560, 560))
    mass = (model.log_prob(points).nats.exp() * volume).reshape(14, 40, 14, 40).sum((1, 3)).numpy() * len(x)
    big = mass > 10
    observed, expected = np.append(counts[big], len(x) - counts[big].sum()), np.append(mass[big], len(x) - mass[big].sum())
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic < chi2.isf(1e-5, df=len(observed) - 1)


@pytest.mark.parametrize(
    "spec", [POINTS, LABELLED, DataSpec((1, 3, 3), Support("levels", 16)), DataSpec((5,), Support("binary"))]
)
def test_decode_undoes_encode(spec: DataSpec) -> None:
    model = shaken(RealNVP(spec, couplings=4, width=8))
    size, draws = (50, *spec.shape), generator()
    cond = torch.arange(50) % 2 if spec.cond.size else None
    x = normal(*size) if spec.support == REAL else torch.randint(spec.support.count, size, generator=draws).to(spec.dtype)
    back = model.decode(model.encode(x, cond, generator=draws).z, cond)
    assert back.dtype == x.dtype
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)  # levels come back exactly: their cells are far wider than rounding


def test_temperature_scales_the_code(model: RealNVP) -> None:
    warm, cool = (model.encode(model.sample(20, temperature=t, generator=generator(1))).z for t in (1.0, 0.5))
    torch.testing.assert_close(cool, 0.5 * warm, rtol=0, atol=1e-10)
    torch.testing.assert_close(warm, model.encode(model.sample(20, generator=generator(1))).z, rtol=0, atol=0)


def test_score_is_the_slope_of_log_prob(labelled: RealNVP) -> None:
    x, step = crescents(20).x, 1e-5
    cond = torch.arange(20) % 2
    for i, direction in enumerate(step * torch.eye(2, dtype=torch.float64)):
        rise = labelled.log_prob(x + direction, cond).nats - labelled.log_prob(x - direction, cond).nats
        slope = labelled.score(x, cond=cond)[:, i]
        torch.testing.assert_close(slope, rise / (2 * step), rtol=1e-5, atol=1e-5)  # central differences: step^2 f''' / 6


@pytest.mark.parametrize("codec", ["logit", "scale"])
def test_untrained_bits_per_dimension_match_the_closed_form(codec: str) -> None:
    # Couplings start as the identity and mixing as a rotation, which a standard normal does not notice. 4,000 repetitions of
    # one image: six standard errors, false alarm 2e-9 each.
    spec = DataSpec((1, 2, 3), Support("levels", 5))
    model = RealNVP(spec, couplings=3, codec=codec).double()  # type: ignore[arg-type]
    x = torch.tensor([0, 4, 2, 1, 0, 3], dtype=torch.uint8).reshape(1, 1, 2, 3)
    log_mass, bound = mass_and_bound(spec, codec, x)
    once = model.log_prob(x.expand(4000, 1, 2, 3), effort=1, generator=generator())
    assert abs(once.mean().value - bound) < 6 * once.mean().stderr
    assert float(once.mean().bits_per_dim) == pytest.approx(-once.mean().value / (6 * math.log(2)), rel=1e-12)
    # The importance-weighted bound tightens towards the probability itself and stays below it in expectation.
    often = model.log_prob(x.expand(200, 1, 2, 3), effort=200, generator=generator())
    assert bound < often.mean().value < log_mass + 6 * often.mean().stderr
    assert log_mass - often.mean().value < 0.05 * (log_mass - bound) + 6 * often.mean().stderr


@pytest.mark.parametrize(
    ("spec", "kind", "measure"),
    [
        (POINTS, Exact, LEBESGUE),
        (DataSpec((4,), Support("levels", 3)), Lower, Measure(3)),
        (DataSpec((4,), Support("binary")), Lower, Measure(2)),
    ],
)
def test_likelihood_says_its_kind(spec: DataSpec, kind: type, measure: Measure) -> None:
    log_prob = RealNVP(spec, couplings=2).log_prob(torch.zeros(3, *spec.shape, dtype=spec.dtype))
    assert (log_prob.kind, log_prob.measure, log_prob.dims) == (kind, measure, spec.dims)


def test_masses_of_all_data_sum_to_the_mass_within_the_codec_s_range() -> None:
    # Two pixels of four levels fill the square |u| <= logit(0.99); outside it there is mass that no datum gets. The average over
    # dequantisations estimates each mass without bias; six standard errors, false alarm 2e-9.
    bijection = shaken(Compose(LU(torch.linalg.qr(normal(2, 2, seed=9))[0]), coupling(2), coupling(2, flip=True)))
    spec, edge = DataSpec((2,), Support("levels", 4)), math.log(99)
    model = Flow(spec, codec=codec_for(spec, "logit"), bijection=bijection).double()
    every = torch.cartesian_prod(torch.arange(4), torch.arange(4)).to(torch.uint8)
    each = model.log_prob(every.repeat(2000, 1), effort=10, generator=generator()).nats.exp().reshape(2000, 16).sum(1)
    points, volume = lattice((-edge, -edge), (edge, edge), (400, 400))
    within = Flow(POINTS, codec=codec_for(POINTS), bijection=bijection).double()
    mass = float(within.log_prob(points).nats.exp().sum()) * volume
    assert abs(each.mean() - mass) < 6 * each.std() / math.sqrt(2000)


def test_prepare_standardises_once_and_survives_a_round_trip() -> None:
    model = RealNVP(DataSpec((3,), REAL), couplings=1, mixing="permutation")
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    x = (normal(500, 3) @ normal(3, 3, seed=1) + 5).float()
    for mode in (True, False):
        model.train(mode).log_prob(x)
        model.loss(Batch(x, Draws(500)), "model")
        model.sample(3)
    assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())  # nothing starts on first use
    model.prepare(Split(x))
    z = model.encode(x).z
    torch.testing.assert_close(z.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), rtol=0, atol=1e-5)
    reloaded = RealNVP(DataSpec((3,), REAL), couplings=1, mixing="permutation")
    reloaded.load_state_dict(model.state_dict())
    for one in (model, reloaded):
        one.prepare(Split(10 * x - 3))  # other data: a second start would forget the first
        torch.testing.assert_close(one.encode(x).z, z, rtol=0, atol=0)


def test_prepare_starts_actnorm_from_what_it_sees_and_leaves_the_global_generator() -> None:
    model = RealNVP(DataSpec((4,), Support("levels", 8)), couplings=3)
    x = torch.randint(8, (2000, 4), generator=generator()).clamp_max(4).to(torch.uint8)
    before = torch.get_rng_state()
    model.prepare(Split(x))
    assert torch.equal(before, torch.get_rng_state())
    z = model.encode(x, generator=generator(7)).z  # fresh dequantisation: statistics agree to sampling error
    assert z.mean(0).abs().max() < 0.15
    assert (z.std(0) - 1).abs().max() < 0.1


def test_constant_elements_prepare_to_finite_numbers() -> None:
    model = RealNVP(DataSpec((3,), REAL), couplings=2, mixing="permutation")
    x = normal(50, 3).float()
    x[:, 1] = 7.0
    model.prepare(Split(x))
    assert torch.isfinite(model.log_prob(x).nats).all()


@pytest.mark.parametrize("mixing", ["lu", "rotation", "permutation"])
def test_state_holds_everything_that_the_density_needs(mixing: str) -> None:
    models = [RealNVP(DataSpec((6,), REAL), couplings=3, mixing=mixing) for _ in range(2)]  # type: ignore[arg-type]
    x = normal(5, 6).float()
    shaken(models[0]).float()
    models[1].load_state_dict(models[0].state_dict())
    one, two = (m.encode(x).z for m in models)
    torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("mixing", ["lu", "rotation", "permutation"])
def test_float64_stays_float64(mixing: str) -> None:
    model = RealNVP(LABELLED, couplings=2, mixing=mixing).double()  # type: ignore[arg-type]
    x, cond = normal(4, 2), torch.tensor([0, 1, 0, 1])
    draws = Draws(4, dtype=torch.float64)
    results = (
        model.log_prob(x, cond).nats,
        model.loss(Batch(x, draws, cond), "model").loss,
        model.encode(x, cond).z,
        model.decode(x, cond),
        model.sample(4, cond=cond),
        model.score(x, cond=cond),
        RealNVP(DataSpec((2,), Support("levels", 4)), couplings=2).double().log_prob(torch.zeros(1, 2, dtype=torch.uint8)).nats,
    )
    assert {r.dtype for r in results} == {torch.float64}


def test_a_datum_does_not_see_its_batch(model: RealNVP) -> None:
    x = crescents(20).x
    together = model.log_prob(x).nats
    alone = torch.cat([model.log_prob(row).nats for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.train().log_prob(x).nats, together, rtol=0, atol=0)
    model.eval()


def test_loss_is_minus_log_prob_and_its_parts(model: RealNVP) -> None:
    x = crescents(20).x
    terms = model.loss(Batch(x, Draws(20)), "model")
    torch.testing.assert_close(terms.loss, -model.log_prob(x).nats, rtol=0, atol=1e-12)
    torch.testing.assert_close(terms.loss.detach(), -(terms.parts["base"] + terms.parts["logdet"]), rtol=0, atol=1e-12)


def test_a_deep_flow_stays_finite_far_out() -> None:
    # Where public affine flows overflow: 32 couplings in float32, weights off their start, data a thousand deviations out.
    model = RealNVP(DataSpec((19,), REAL), couplings=32, mixing="rotation")
    shaken(model, 0.03).float()
    x = 1000 * normal(20, 19).float()
    x.requires_grad_()
    loss = model.loss(Batch(x, Draws(20)), "model").loss
    gradients = torch.autograd.grad(loss.mean(), [x, *model.parameters()])
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(g).all() for g in gradients)
    assert torch.isfinite(model.sample(20, temperature=10.0, generator=generator())).all()


def test_capabilities_and_refusals() -> None:
    model = build("flow/realnvp", POINTS, couplings=2)
    assert all(isinstance(model, capability) for capability in (HasDensity, HasLatent, HasScore))
    discrete = RealNVP(DataSpec((2,), Support("levels", 4)), couplings=2)
    with pytest.raises(Unsupported, match="Use log_prob"):
        discrete.score(torch.zeros(1, 2, dtype=torch.uint8))
    with pytest.raises(Unsupported, match="autoregressive/made"):
        RealNVP(DataSpec((1,), REAL))
    with pytest.raises(Unsupported, match="autoregressive"):
        RealNVP(DataSpec((4,), Support("tokens", 9)))
    with pytest.raises(BadInput, match=r"codes must have shape \(B, 2\); got \(1, 3\)"):
        discrete.decode(torch.zeros(1, 3))
    with pytest.raises(BadInput, match="conditioned on classes"):
        RealNVP(LABELLED, couplings=2).sample(3)


@pytest.mark.parametrize(("shape", "chosen"), [((2,), LU), ((1, 2, 2), Permutation)])
def test_mixing_follows_the_data(shape: tuple[int, ...], chosen: type[Bijection]) -> None:
    model = RealNVP(DataSpec(shape, REAL), couplings=3)
    assert sum(isinstance(part, chosen) for part in model.modules()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flow/realnvp", "flow/realnvp:deep"])
def test_recipe_comes_within_five_hundredths_of_a_nat_on_two_moons(name: str) -> None:
    data = load("moons").unconditional()
    model = build(name, data.spec)
    fit_model(model, data, Recipe.of(recipe(name)))
    truth, x = data.truth, data.test.rows()
    assert truth is not None
    assert model.log_prob(x).mean().nll < -float(truth.log_prob(x).mean()) + 0.05  # type: ignore[attr-defined]
    real = [truth.sample(10_000, generator=generator(i)) for i in range(3)]
    samples = model.sample(10_000, generator=generator(9))
    assert sliced_wasserstein(samples, real[0]) < 2 * sliced_floor(real[1:])


@pytest.mark.slow
def test_recipe_for_images_reaches_two_bits_on_digits() -> None:
    data = load("digits").unconditional()
    model = build("flow/realnvp:images", data.spec)
    fit_model(model, data, Recipe.of(recipe("flow/realnvp:images")))
    assert model.log_prob(data.test.rows(), generator=generator()).mean().bits_per_dim < 2.0  # type: ignore[attr-defined]
