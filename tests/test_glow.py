"""Glow: Jacobians, inverses, normalisation, closed forms, starts, modes, low precision, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from flows import generator, log_det, mass_and_bound, normal, shaken
from torch import Tensor

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import LEBESGUE, Exact, Lower, Measure
from sixfold.core.model import Batch, HasDensity, HasLatent, HasScore
from sixfold.core.registry import build, recipe
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.models.flow.glow import MARGIN, Glow
from sixfold.prob.bijections import ActNorm, Permutation, PerPixel, Rotation, Squeeze
from sixfold.prob.codecs import RATE, Dequantise
from sixfold.solve.quadrature import lattice

REAL = Support("real")
CLASSES = Conditioning("classes", 3)
VECTOR = Conditioning("vector", 2)
TINY = DataSpec((1, 2, 2), REAL)
SMALL = DataSpec((1, 4, 4), REAL)
GREY = DataSpec((1, 4, 4), Support("levels", 16))
CODES = {
    "two levels": (SMALL, {}),
    "one level": (SMALL, {"levels": 1}),
    "oblong, colour": (DataSpec((3, 4, 8), REAL), {"couplings": 1}),
    "of classes": (DataSpec((1, 4, 4), REAL, CLASSES), {}),
    "of vectors": (DataSpec((1, 4, 4), REAL, VECTOR), {}),
    "additive": (SMALL, {"coupling": "additive"}),
    "rotation": (SMALL, {"mixing": "rotation"}),
    "permutation": (SMALL, {"mixing": "permutation"}),
    "three levels": (DataSpec((1, 8, 8), REAL), {"levels": 3, "couplings": 1}),
}


def small(spec: DataSpec, **options: Any) -> Glow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Glow(spec, **{"levels": 2, "width": 6, "couplings": 2, "act": "silu", **options})


def calm(model: Glow) -> None:
    """Noise of the dequantisation near its start: its parameters count tenfold, and so does shaking them."""
    for parameter in model.codec.parameters():
        parameter.data /= RATE


def tiny(spec: DataSpec = TINY, **options: Any) -> Glow:
    """A flow of four pixels in float64, away from its start."""
    return shaken(small(spec, levels=1, **options), 0.2)


def condition(spec: DataSpec, num: int) -> Tensor | None:
    if spec.cond.kind == "none":
        return None
    return torch.arange(num) % 3 if spec.cond.kind == "classes" else normal(num, 2, seed=4).float()


@pytest.mark.parametrize("name", CODES)
def test_log_prob_is_the_change_of_variables_by_autograd(name: str) -> None:
    spec, options = CODES[name]
    model, cond, x = shaken(small(spec, **options), 0.2), condition(spec, 4), normal(4, *spec.shape)
    model.codec.fit(3 * normal(100, *spec.shape) + 1)

    def code(x: Tensor) -> Tensor:
        features = spec.cond.features(cond, x)
        z: Tensor = model.bijection(model.codec.encode(x, Draws(len(x)))[0].flatten(1), features)[0]
        return z

    base = torch.distributions.Normal(0.0, 1.0).log_prob(code(x)).sum(1)
    torch.testing.assert_close(model.log_prob(x, cond).nats, base + log_det(code, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CODES)
def test_decode_undoes_encode_and_encode_undoes_decode(name: str) -> None:
    spec, options = CODES[name]
    model, cond, x = shaken(small(spec, **options), 0.2), condition(spec, 20), normal(20, *spec.shape)
    z = model.encode(x, cond).z
    assert z.shape == (20, spec.dims)
    torch.testing.assert_close(model.decode(z, cond), x, rtol=0, atol=1e-10)
    other = normal(20, spec.dims, seed=3)
    torch.testing.assert_close(model.encode(model.decode(other, cond), cond).z, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("noise", ["levels", "uniform"])
def test_levels_come_back_exactly(noise: str) -> None:
    model, draws = shaken(small(GREY, noise=noise), 0.2), generator()
    calm(model)
    x = torch.randint(16, (50, 1, 4, 4), generator=draws).to(torch.uint8)
    assert torch.equal(model.decode(model.encode(x, generator=draws).z), x)


@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_density_integrates_to_one(coupling: str) -> None:
    # Four pixels by the trapezoidal rule, 1 standard deviation in about 2 steps: 1e-8 for a normal; tails beyond the box.
    model = tiny(coupling=coupling)
    centre = model.decode(torch.zeros(1, 4)).flatten()
    spread = model.decode(normal(2000, 4)).flatten(1).std(0)
    low, high = (centre - 6 * spread).tolist(), (centre + 6 * spread).tolist()
    points, volume = lattice(low, high, (26, 26, 26, 26))
    assert float(model.log_prob(points.reshape(-1, 1, 2, 2)).nats.exp().sum()) * volume == pytest.approx(1.0, abs=2e-3)


def test_conditional_density_has_mass_one_for_each_class() -> None:
    # By importance sampling from a normal twice as wide; six standard errors, false alarm 2e-9 each.
    model = tiny(DataSpec((1, 2, 2), REAL, CLASSES))
    for label in range(3):
        centre, spread = (f(model.decode(normal(2000, 4), label).flatten(1), 0) for f in (torch.mean, torch.std))
        proposal = torch.distributions.Normal(centre, 2 * spread)
        x = centre + 2 * spread * normal(40_000, 4, seed=label)
        weight = (model.log_prob(x.reshape(-1, 1, 2, 2), label).nats - proposal.log_prob(x).sum(1)).exp()
        assert abs(float(weight.mean()) - 1) < 6 * float(weight.std()) / 200
        assert float(weight.std()) < 20  # or the standard error says nothing


@pytest.mark.parametrize(("codec", "name"), [("auto", "logit"), ("scale", "scale")])
def test_untrained_bits_per_dimension_match_the_closed_form(codec: str, name: str) -> None:
    # Couplings start as the identity and mixing as rotations, which a standard normal does not notice. 4,000 repetitions of
    # one image; six standard errors, false alarm 2e-9 each.
    spec = DataSpec((1, 2, 4), Support("levels", 5))
    model = small(spec, levels=1, codec=codec, noise="uniform").double()
    x = torch.tensor([0, 4, 2, 1, 0, 3, 3, 2], dtype=torch.uint8).reshape(1, 1, 2, 4)
    log_mass, bound = mass_and_bound(spec, name, x, margin=MARGIN)
    once = model.log_prob(x.expand(4000, 1, 2, 4), effort=1, generator=generator()).mean()
    assert abs(once.value - bound) < 6 * once.stderr
    often = model.log_prob(x.expand(200, 1, 2, 4), effort=200, generator=generator()).mean()
    assert bound < often.value < log_mass + 6 * often.stderr


def test_both_kinds_of_noise_bound_one_probability() -> None:
    # exp of the importance-weighted average is an unbiased estimate of P(x) under either; six standard errors, false alarm 2e-9.
    model, x = shaken(small(DataSpec((1, 2, 2), Support("levels", 4)), levels=1, noise="levels"), 0.2), torch.tensor([0, 3, 1, 2])
    calm(model)
    batch = x.to(torch.uint8).reshape(1, 1, 2, 2).expand(400, 1, 2, 2)
    found = []
    for noise in (model.codec.parts[0], Dequantise(4, torch.uint8)):
        model.codec.parts[0] = noise
        found.append(model.log_prob(batch, effort=100, generator=generator(2)).nats.exp())
    error = math.hypot(*(float(p.std()) / math.sqrt(400) for p in found))
    assert abs(float(found[0].mean() - found[1].mean())) < 6 * error
    assert error < 0.08 * float(found[0].mean())


@pytest.mark.parametrize(
    ("spec", "kind", "measure"),
    [(SMALL, Exact, LEBESGUE), (GREY, Lower, Measure(16)), (DataSpec((1, 4, 4), Support("binary")), Lower, Measure(2))],
)
def test_likelihood_says_its_kind(spec: DataSpec, kind: type, measure: Measure) -> None:
    log_prob = small(spec).log_prob(torch.zeros(3, *spec.shape, dtype=spec.dtype))
    assert (log_prob.kind, log_prob.measure, log_prob.dims) == (kind, measure, spec.dims)


def channels(model: Glow) -> list[PerPixel]:
    return [part for part in model.modules() if isinstance(part, PerPixel) and isinstance(part.channels, ActNorm)]


def test_prepare_normalises_every_channel_of_every_step_once() -> None:
    model = small(DataSpec((1, 4, 4), REAL, CLASSES)).double()
    x, label = normal(512, 1, 4, 4) * torch.linspace(1, 3, 16).reshape(4, 4) + 5, torch.arange(512) % 3
    for mode in (True, False):  # nothing starts on first use
        model.train(mode).log_prob(x, label)
        model.sample(2, cond=1)
    assert all(not bool(part.channels.shift.any()) for part in channels(model))
    model.prepare(Split(x, label))
    seen: list[Tensor] = []
    hooks = [part.register_forward_hook(lambda _, __, out: seen.append(out[0])) for part in channels(model)]
    z = model.encode(x, label).z
    assert len(seen) == 4
    for out in seen:
        var, mean = torch.var_mean(out, dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-10)
        torch.testing.assert_close(var, torch.ones_like(var), rtol=0, atol=1e-10)
    for hook in hooks:
        hook.remove()
    reloaded = small(DataSpec((1, 4, 4), REAL, CLASSES)).double()
    reloaded.load_state_dict(model.state_dict())
    for one in (model, reloaded):
        one.prepare(Split(10 * x - 3, label))  # other data: a second start would forget the first
        torch.testing.assert_close(one.encode(x, label).z, z, rtol=0, atol=0)


def test_prepare_leaves_no_graph_behind() -> None:
    model = small(GREY)
    model.prepare(Split(torch.randint(16, (600, 1, 4, 4), generator=generator()).to(torch.uint8)))
    assert not any(value.requires_grad for value in model.buffers())
    batch = Batch(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), Draws(4))
    for _ in range(2):
        model.loss(batch, "model").loss.mean().backward()


def test_temperature_zero_is_the_mode() -> None:
    # An additive flow's density is its base's up to a constant, and so flat at the datum whose code is 0.
    model = tiny(coupling="additive")
    x = model.sample(3, temperature=0.0)
    assert float(model.encode(x).z.abs().max()) < 1e-12
    assert float(model.score(x).abs().max()) < 1e-9
    assert bool((model.log_prob(x).nats[0] > model.log_prob(model.sample(200, generator=generator())).nats).all())


def test_a_split_s_code_is_zero_at_its_conditional_mean() -> None:
    # Part of the code that is 0 leaves x_b at its mean given x_a, where log N(x_b; mean, std) has no slope.
    model = shaken(small(SMALL), 0.2)
    prior, factor = model.bijection.parts[1].parts[-2:]
    coarse = normal(5, 8)
    x = prior.inverse(factor.inverse(torch.cat([coarse, torch.zeros(5, 8)], 1).double())[0])[0].detach().requires_grad_()
    z = factor(prior(x)[0])[0]
    slope = torch.autograd.grad(-0.5 * z[:, 8:].square().sum(), x)[0]
    torch.testing.assert_close(z[:, :8], coarse, rtol=0, atol=1e-10)
    torch.testing.assert_close(slope[:, 2:], torch.zeros(5, 2, 2, 2, dtype=torch.float64), rtol=0, atol=1e-10)


def test_temperature_scales_the_code() -> None:
    model = shaken(small(SMALL), 0.2)
    warm, cool = (model.encode(model.sample(20, temperature=t, generator=generator(1))).z for t in (1.0, 0.5))
    torch.testing.assert_close(cool, 0.5 * warm, rtol=0, atol=1e-10)


def test_condition_reaches_the_couplings_and_the_prior() -> None:
    model = shaken(small(DataSpec((1, 4, 4), REAL, CLASSES)), 0.2)
    x = normal(5, 1, 4, 4)
    one, two = (model.encode(x, label).z for label in (0, 1))
    assert bool((one != two).all())  # every element of the code: those of the fine scale through couplings alone
    prior = {name: value for name, value in model.named_parameters() if name.endswith("parts.2.weight")}
    assert len(prior) == 1


def test_low_precision_moves_neither_code_nor_log_det_far() -> None:
    model = shaken(small(GREY, noise="uniform"), 0.1).float()
    x = torch.randint(16, (64, 1, 4, 4), generator=generator()).to(torch.uint8)
    draws = (Draws(64, generator=generator(1)) for _ in range(2))
    with torch.no_grad():
        exact = model.loss(Batch(x, next(draws)), "model")
        with torch.autocast("cpu", torch.bfloat16):
            low = model.loss(Batch(x, next(draws)), "model")
    assert low.loss.dtype == low.parts["logdet"].dtype == torch.float32
    # Networks lose 2^-8 of outputs below 1 in each of five couplings; a code in bfloat16 loses that of every element's square.
    torch.testing.assert_close(low.parts["logdet"], exact.parts["logdet"], rtol=0, atol=0.1)
    torch.testing.assert_close(low.loss, exact.loss, rtol=0.01, atol=0)
    assert not torch.equal(low.loss, exact.loss)


def test_float64_stays_float64() -> None:
    spec = DataSpec((1, 4, 4), REAL, CLASSES)
    model, x, cond = small(spec).double(), normal(3, 1, 4, 4), torch.arange(3)
    results = (
        model.log_prob(x, cond).nats,
        model.loss(Batch(x, Draws(3, dtype=torch.float64), cond), "model").loss,
        model.encode(x, cond).z,
        model.sample(3, cond=cond),
        model.score(x, cond=cond),
        small(GREY).double().log_prob(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)).nats,
    )
    assert {r.dtype for r in results} == {torch.float64}


def test_a_datum_does_not_see_its_batch() -> None:
    model, x = shaken(small(SMALL), 0.2), normal(20, 1, 4, 4)
    together = model.log_prob(x).nats
    alone = torch.cat([model.log_prob(row).nats for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-11)


def test_a_stroke_far_out_stays_finite() -> None:
    # Data a hundred deviations out, weights off their start, in float32.
    model = shaken(small(DataSpec((1, 8, 8), REAL), couplings=8), 0.05).float()
    x = (100 * normal(8, 1, 8, 8)).float().requires_grad_()
    loss = model.loss(Batch(x, Draws(8)), "model").loss
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss.mean(), [x, *model.parameters()]))
    assert torch.isfinite(model.sample(8, temperature=5.0, generator=generator())).all()


@pytest.mark.parametrize(("mixing", "layer"), [("rotation", Rotation), ("permutation", Permutation)])
def test_mixing_is_of_the_channels(mixing: str, layer: type) -> None:
    found = [part for part in small(SMALL, mixing=mixing).modules() if isinstance(part, layer)]
    assert len(found) == 4


@pytest.mark.parametrize(("side", "levels"), [(2, 1), (12, 2), (28, 2), (16, 3), (64, 3)])
def test_levels_are_as_many_as_fit_up_to_three(side: int, levels: int) -> None:
    model = Glow(DataSpec((1, side, side), REAL), couplings=1, width=2)
    assert sum(isinstance(part, Squeeze) for part in model.modules()) == levels


@pytest.mark.parametrize(
    ("shape", "support", "options", "error", "says"),
    [
        ((2,), REAL, {}, Unsupported, "convolutions need images"),
        ((1, 7, 8), REAL, {}, Unsupported, "got 7 x 8, of which one is odd"),
        ((1, 28, 28), REAL, {"levels": 3}, BadInput, "28 x 28 halve 2 times; got levels=3. Use 2 or fewer."),
        ((1, 2, 2), Support("tokens", 5), {"levels": 1}, Unsupported, "tokens have no order"),
        ((1, 4, 4), REAL, {"codec": "logit"}, Unsupported, "data with levels"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    shape: tuple[int, ...], support: Support, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        Glow(DataSpec(shape, support), **options)
    assert "\n" not in str(raised.value)


def test_capabilities() -> None:
    model = build("flow/glow:additive", SMALL, width=4, couplings=1)
    assert all(isinstance(model, capability) for capability in (HasDensity, HasLatent, HasScore))
    with pytest.raises(BadInput, match=r"codes must have shape \(B, 16\); got \(1, 3\)"):
        model.decode(torch.zeros(1, 3))
    assert recipe("flow/glow:mnist")["batch"] == 64
