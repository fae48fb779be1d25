"""Codecs: log-determinants against autograd, round trips, and the bound that dequantisation gives."""

import math

import pytest
import torch

from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.core.spec import DataSpec, Support
from sixfold.prob.codecs import RATE, Affine, Chain, Dequantise, LevelNoise, Logit, Standardise, codec_for


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(num, seed=0):
    return Draws(num, generator=generator(seed), dtype=torch.float64)


def standardised(shape, *, shared=False):
    codec = Standardise(shape, shared=shared).double()
    codec.fit(
        1.5
        + torch.rand(50, *shape, dtype=torch.float64, generator=generator(1))
        * torch.arange(1, math.prod(shape) + 1).reshape(shape)
    )
    return codec


# Bijections of real data in the unit interval.
SMOOTH = {
    "affine": lambda: Affine(shift=0.5, scale=0.25),
    "standardise": lambda: standardised((1, 2, 2)),
    "standardise shared": lambda: standardised((1, 2, 2), shared=True),
    "logit": Logit,
    "logit wide margin": lambda: Logit(margin=0.2),
    "chain": lambda: Chain(Logit(), Affine(shift=1.0, scale=3.0), standardised((1, 2, 2))),
}


@pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH)
def test_log_determinant_is_that_of_the_jacobian(make):
    codec, x = make(), torch.rand(3, 1, 2, 2, dtype=torch.float64, generator=generator())
    _, logdet = codec.encode(x, draws(3))
    for row, got in zip(x, logdet, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: codec.encode(v[None], draws(1))[0].flatten(), row)
        assert float(got) == pytest.approx(
            float(torch.linalg.slogdet(jacobian.reshape(4, 4)).logabsdet), abs=1e-10
        )  # float64 rounding


@pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH)
def test_decoding_undoes_encoding(make):
    codec, x = make(), torch.rand(7, 1, 2, 2, dtype=torch.float64, generator=generator())
    u, logdet = codec.encode(x, draws(7))
    assert u.shape == x.shape
    assert logdet.shape == (7,)
    torch.testing.assert_close(codec.decode(u), x, atol=1e-12, rtol=0)  # float64 rounding of numbers of order one


@pytest.mark.parametrize("name", ["auto", "standardise", "logit"])
@pytest.mark.parametrize("levels", [2, 17, 256, 1000])
def test_every_level_comes_back(name, levels):
    spec = DataSpec((1, 4, 5), Support("levels", levels))
    x = torch.randint(levels, (200, 1, 4, 5), generator=generator()).to(spec.dtype)
    x[0], x[1] = 0, levels - 1
    codec = codec_for(spec, name)
    codec.fit(x)
    u, _ = codec.double().encode(x, draws(200))
    back = codec.decode(u)
    assert back.dtype == spec.dtype
    # In float64 a level's cell is 1e12 times wider than the rounding, but a draw next to a cell's border may still cross it.
    assert float((back != x).double().mean()) < 1e-3
    assert torch.equal(back[:2], x[:2])


def test_what_lies_outside_decodes_to_the_nearest_level():
    codec = codec_for(DataSpec((1,), Support("levels", 4)))
    assert codec.decode(torch.tensor([[-9.0], [-1.0], [0.0], [1.0], [9.0]])).flatten().tolist() == [0, 0, 2, 3, 3]


def test_auto_codec_of_levels_spans_minus_one_to_one():
    spec = DataSpec((1,), Support("levels", 4))
    u, logdet = codec_for(spec).encode(torch.arange(4, dtype=torch.uint8).repeat(1000)[:, None], draws(4000))
    assert -1 <= float(u.min()) < -0.99
    assert 0.99 < float(u.max()) < 1
    assert torch.allclose(logdet, torch.tensor(math.log(2 / 4), dtype=torch.float64))


@pytest.mark.parametrize("shared", [False, True])
def test_standardised_data_have_mean_zero_and_unit_size(shared):
    x = torch.randn(500, 3, generator=generator()) * torch.tensor([0.1, 1.0, 10.0]) + 5.0
    codec = Standardise((3,), shared=shared)
    codec.fit(x)
    u, _ = codec.encode(x, draws(500))
    assert u.mean(0).abs().max() < 1e-4  # float32 rounding of 5 / 0.1
    assert float(u.square().mean()) == pytest.approx(1.0, abs=1e-4)
    if shared:
        assert len(codec.std.unique()) == 1
        assert float(u[:, 2].std() / u[:, 0].std()) == pytest.approx(float(x[:, 2].std() / x[:, 0].std()), rel=1e-3)


def test_pixels_alike_have_one_mean_and_one_scale():
    x = torch.randn(500, 1, 2, 2, generator=generator()) * torch.tensor([0.1, 1.0]) + torch.tensor([5.0, 3.0])
    for spec, given in ((DataSpec((1, 2, 2), Support("real")), x), (DataSpec((1, 2, 2), Support("levels", 9)), x.round().byte())):
        codec = codec_for(spec, "logit" if spec.support.discrete else "auto", shared=True)
        codec.fit(given)
        last = codec.parts[-1]
        assert len(last.mean.unique()) == len(last.std.unique()) == 1
        u, _ = codec.encode(given, draws(500))
        assert float(u.mean()) == pytest.approx(0.0, abs=0.05)  # the noise is drawn anew: sampling error
        assert float(u.square().mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("constant", [0.0, 1.0, 1e6])
def test_constant_elements_keep_scale_one(constant):
    x = torch.stack([torch.full((20,), constant), torch.randn(20, generator=generator())], 1)
    codec = Standardise((2,))
    codec.fit(x)
    u, logdet = codec.encode(x, draws(20))
    assert codec.std[0] == 1
    assert bool(torch.isfinite(u).all() and torch.isfinite(logdet).all())
    assert bool((u[:, 0] == 0).all())


def test_statistics_travel_with_the_state():
    spec = DataSpec((2,), Support("real"))
    fitted, fresh = codec_for(spec), codec_for(spec)
    fitted.fit(torch.randn(100, 2, generator=generator()) * 3 + 1)
    fresh.load_state_dict(fitted.state_dict())
    x = torch.ones(1, 2)
    assert torch.equal(fitted.encode(x, draws(1))[0], fresh.encode(x, draws(1))[0])


def test_each_part_of_a_chain_is_fitted_to_what_the_parts_before_it_make():
    spec = DataSpec((3,), Support("levels", 16))
    x = torch.randint(4, 12, (400, 3), generator=generator()).to(torch.uint8)
    codec = codec_for(spec, "logit").double()
    codec.fit(x)
    u, _ = codec.encode(x, draws(400, seed=9))
    assert u.mean(0).abs().max() < 0.1  # other noise than in fitting: 5 standard errors of 400 draws are 0.25
    assert (u.std(0) - 1).abs().max() < 0.1


# --- the bound -----------------------------------------------------------------------------------------------------------


def bounded(codec, log_density, x, num):
    """Mean of log p_u(u(x + v)) + log|det| over dequantisation noise for one datum, with its standard error."""
    u, logdet = codec.encode(x.expand(num, *x.shape), draws(num))
    values = log_density(u) + logdet
    return float(values.mean()), float(values.std()) / math.sqrt(num)


def normal(u):
    return torch.distributions.Normal(0.0, 1.0).log_prob(u).flatten(1).sum(1)


@pytest.mark.parametrize("name", ["auto", "standardise", "logit"])
def test_dequantised_densities_bound_the_mass_from_below_and_sum_to_at_most_one(name):
    """Jensen: E_v log p(x + v) <= log integral p(x + v) dv, the mass that the density gives to the cell of x."""
    levels = 5
    spec = DataSpec((1,), Support("levels", levels))
    every = torch.arange(levels, dtype=torch.uint8)[:, None]
    codec = codec_for(spec, name).double()
    codec.fit(every.repeat(100, 1))
    total = 0.0
    for x in every:
        v = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000  # the cell's mass by the midpoint rule, error 1e-8
        u, logdet = inner(codec).encode(((float(x) + v) / levels)[:, None], draws(len(v)))
        mass = float((normal(u) + logdet - math.log(levels)).exp().mean())
        bound, error = bounded(codec, normal, x, 4000)
        assert bound <= math.log(mass) + 5 * error  # five standard errors: false alarm 3e-7
        assert bound >= math.log(mass) - 2.0  # not vacuous either
        total += math.exp(bound)
    assert total <= 1.0


def inner(codec):
    """What follows the dequantisation in a chain."""
    return Chain(*list(codec.parts)[1:])


def test_a_density_that_is_flat_in_each_cell_makes_the_bound_tight():
    """For u uniform on [0, 1) the mass of each of k levels is 1 / k, and the bound is exactly -D log k."""
    codec = Dequantise(8, torch.uint8)
    bound, _ = bounded(codec, lambda u: torch.zeros(len(u), dtype=u.dtype), torch.tensor([3, 5], dtype=torch.uint8), 10)
    assert bound == pytest.approx(-2 * math.log(8), abs=1e-12)


def test_only_a_dequantising_chain_is_bounded():
    assert codec_for(DataSpec((2,), Support("levels", 4))).bounded
    assert not codec_for(DataSpec((2,), Support("real"))).bounded


def test_dequantisation_draws_anew_and_only_from_its_draws():
    codec, x = Dequantise(4, torch.uint8), torch.zeros(5, 3, dtype=torch.uint8)
    before = torch.get_rng_state()
    one, shared = draws(5), draws(5)
    first, second = codec.encode(x, one)[0], codec.encode(x, one)[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, codec.encode(x, shared)[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("spec", "name", "says"),
    [
        (DataSpec((4,), Support("tokens", 30)), "auto", "tokens have no order"),
        (DataSpec((2,), Support("real")), "logit", "data with levels; got real"),
        (DataSpec((2,), Support("real")), "scale", "data with levels; got real"),
    ],
)
def test_codecs_that_do_not_apply_are_refused(spec, name, says):
    with pytest.raises(Unsupported, match=says) as error:
        codec_for(spec, name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", [DataSpec((2,), Support("real")), DataSpec((1, 2, 2), Support("levels", 4))])
def test_empty_batches_pass(spec):
    codec = codec_for(spec)
    u, logdet = codec.encode(torch.zeros(0, *spec.shape, dtype=spec.dtype), draws(0))
    assert u.shape == (0, *spec.shape)
    assert logdet.shape == (0,)
    assert codec.decode(u).shape == (0, *spec.shape)


class Given(Draws):
    """Draws whose normal numbers are chosen."""

    def __init__(self, e):
        super().__init__(len(e), dtype=torch.float64)
        self.e = e

    def normal(self, *shape):
        return self.e.reshape(-1, *shape)


def test_learned_noise_has_the_density_that_it_states():
    # exp(-log-determinant) / k is q(v): by the change of variables from e, and of mass one by quadrature over v.
    codec = LevelNoise(4, torch.uint8).double()
    codec.mean.data, codec.log_std.data = torch.tensor([[-1.0, 0.0, 0.5, 2.0], [0.3, 0.56, -1.0, 0.0]]).double() / RATE
    e = torch.linspace(-6, 6, 4001, dtype=torch.float64, requires_grad=True)
    for level in range(4):
        u, logdet = codec.encode(torch.full((4001, 1), level), Given(e))
        v = u[:, 0] * 4 - level
        density = (-logdet).exp() / 4
        slope = torch.autograd.grad(v.sum(), e, retain_graph=True)[0]
        stated = torch.distributions.Normal(0.0, 1.0).log_prob(e).exp() / slope
        torch.testing.assert_close(density, stated, rtol=1e-9, atol=0)
        assert float(torch.trapezoid(density, v).detach()) == pytest.approx(1.0, abs=1e-6)  # beyond 6 standard deviations: 2e-9
        assert bool((codec.decode(u) == level).all())


@pytest.mark.parametrize("mean", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_learned_noise_never_reaches_the_next_level(mean, dtype):
    codec = LevelNoise(256, torch.uint8).to(dtype)
    codec.mean.data.fill_(mean / RATE)
    codec.log_std.data.fill_(3.0 / RATE)
    x = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 200)
    u, logdet = codec.encode(x, Draws(256, generator=generator(), dtype=dtype))
    assert torch.equal(codec.decode(u), x)
    assert bool(logdet.isfinite().all())


def test_learned_noise_starts_nearly_uniform():
    e = torch.randn(100_000, generator=generator(), dtype=torch.float64)
    _, logdet = LevelNoise(4, torch.uint8).encode(torch.zeros(100_000, 1, dtype=torch.uint8), Given(e))
    divergence = -(logdet + math.log(4)).mean()  # E log q(v), of a density on the unit interval
    # The minimum is by quadrature; six standard errors, false alarm 2e-9.
    assert abs(float(divergence.detach()) - 0.01748) < 6 * float(logdet.detach().std()) / math.sqrt(100_000)
