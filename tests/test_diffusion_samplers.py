"""Samplers of diffusion models against denoisers that are known in closed form: Gaussians, mixtures, a point."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.prob.schedules import SCHEDULES, Schedule, ScheduleName, Spacing
from sixfold.solve.diffusion import Denoiser, NoiseSchedule, ancestral, ddim, euler_maruyama, heun, multistep
from sixfold.solve.ode import integrate
from sixfold.solve.quadrature import gauss_legendre

MEAN = torch.tensor([0.7, -0.4], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
Walk = Callable[[Denoiser, NoiseSchedule, Tensor, Tensor, Draws], Iterator[Tensor]]

WALKS: dict[str, Walk] = {
    "ancestral": lambda d, s, z, t, draws: ancestral(d, s, z, t, draws=draws),
    "euler-maruyama": lambda d, s, z, t, draws: euler_maruyama(d, s, z, t, draws=draws),
    "ddim": lambda d, s, z, t, draws: ddim(d, s, z, t, draws=draws),
    "ddim, eta 0.5": lambda d, s, z, t, draws: ddim(d, s, z, t, draws=draws, eta=0.5),
}


def exploding(t: Tensor) -> tuple[Tensor, Tensor]:
    """A schedule of another scale: alpha = 1, sigma from 0.01 to 80."""
    return torch.ones_like(t), (math.log(0.01) + t * math.log(80 / 0.01)).exp()


def straight(t: Tensor) -> tuple[Tensor, Tensor]:
    """Flow matching's own scale: alpha = 1 - t, sigma = t, away from the ends."""
    t = 1e-3 + (1 - 2e-3) * t
    return 1 - t, t


class Still(Draws):
    """No randomness: the noise is the same number everywhere."""

    def __init__(self, size: int, value: float) -> None:
        super().__init__(size, dtype=torch.float64)
        self.value = value

    def normal(self, *shape: int) -> Tensor:
        return torch.full((self.size, *shape), self.value, dtype=torch.float64)


def seeded(num: int, seed: int = 0) -> Draws:
    return Draws(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(schedule: NoiseSchedule) -> Denoiser:
    """E[x | z] for x ~ N(MEAN, COV)."""

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        gain = alpha * COV @ torch.linalg.inv(alpha**2 * COV + sigma**2 * torch.eye(2, dtype=torch.float64))
        return MEAN + (z - alpha * MEAN) @ gain.T

    return denoise


def end(walk: Walk, denoise: Denoiser, schedule: NoiseSchedule, z: Tensor, grid: Tensor, draws: Draws) -> Tensor:
    *_, last = walk(denoise, schedule, z, grid, draws)
    return last


def law(walk: Walk, schedule: NoiseSchedule, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the last state: for a Gaussian each step is affine plus noise, so that both follow exactly."""
    sigma = schedule(grid[0])[1]
    mean, cov = torch.zeros(2, dtype=torch.float64), sigma**2 * torch.eye(2, dtype=torch.float64)
    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    for pair in torch.stack([grid[:-1], grid[1:]], 1):
        quiet = end(walk, gaussian(schedule), schedule, probes, pair, Still(3, 0.0))
        loud = end(walk, gaussian(schedule), schedule, probes, pair, Still(3, 1.0))
        step = (quiet[1:] - quiet[0]).T
        mean, cov = quiet[0] + step @ mean, step @ cov @ step.T + (loud - quiet)[0, 0] ** 2 * torch.eye(2)
    return mean, cov


@pytest.mark.parametrize("schedule", [*map(Schedule, SCHEDULES), exploding, straight])
@pytest.mark.parametrize("name", WALKS)
def test_law_of_a_gaussian_is_reached_at_order_one(name: str, schedule: NoiseSchedule) -> None:
    """The covariance errs in proportion to the step. What is left at infinitely many is that z_1 is not quite noise."""
    alpha, sigma = schedule(torch.tensor(0.0, dtype=torch.float64))
    truth = alpha**2 * COV + sigma**2 * torch.eye(2, dtype=torch.float64)
    errors = []
    for steps in (100, 200, 400):
        mean, cov = law(WALKS[name], schedule, torch.linspace(1, 0, steps + 1, dtype=torch.float64))
        errors.append(float((cov - truth).norm()))
        # |alpha_1 MEAN| is at most exp(-5) or 1/80 for these schedules and is all that the start leaves out.
        torch.testing.assert_close(mean, alpha * MEAN, rtol=0, atol=0.012)
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(1.0, abs=0.15), errors
    assert errors[-1] < 0.04


@pytest.mark.parametrize("schedule", [Schedule("cosine"), exploding, straight])
def test_ddim_at_eta_one_is_the_ancestral_step(schedule: NoiseSchedule) -> None:
    z, grid = seeded(50).normal(2), Schedule("cosine").grid(12, "quadratic")
    one = ancestral(gaussian(schedule), schedule, z, grid, draws=seeded(50, 1))
    other = ddim(gaussian(schedule), schedule, z, grid, draws=seeded(50, 1), eta=1.0)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [Schedule("linear"), straight])
def test_ancestral_step_is_the_posterior_by_bayes(schedule: NoiseSchedule) -> None:
    """Condition the joint Gaussian of (z_s, z_t) given x on z_t: Cov(z_s, z_t) = sigma_s^2 alpha_t / alpha_s."""
    t, s = torch.tensor([0.8, 0.3], dtype=torch.float64)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    z, x = seeded(20).normal(3), seeded(20, 1).normal(3)
    covariance = sigma_s**2 * alpha_t / alpha_s
    mean = alpha_s * x + covariance / sigma_t**2 * (z - alpha_t * x)
    std = (sigma_s**2 - covariance**2 / sigma_t**2).sqrt()
    for value in (0.0, 1.0):
        found = end(WALKS["ancestral"], lambda z, t: x, schedule, z, torch.stack([t, s]), Still(20, value))
        torch.testing.assert_close(found, mean + value * std)


@pytest.mark.parametrize("spacing", ["time", "quadratic", "log-snr", "karras"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 9, 27, 100])
def test_each_step_goes_to_the_next_time_of_the_grid(spacing: Spacing, name: ScheduleName, steps: int) -> None:
    """When the datum is known, ddim's state at any time s is alpha_s x + sigma_s eps with the noise it started from."""
    schedule, seen = Schedule(name), []
    grid = schedule.grid(steps, spacing)
    noise, x = seeded(4).normal(2), torch.tensor([2.0, -3.0], dtype=torch.float64)

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t))
        return x.expand_as(z)

    alpha, sigma = schedule(grid[0])
    states = list(ddim(denoise, schedule, alpha * x + sigma * noise, grid, draws=Still(4, math.nan)))
    assert seen == grid[:-1].tolist()
    assert len(states) == steps
    for s, state in zip(grid[1:], states, strict=True):
        alpha, sigma = schedule(s)
        torch.testing.assert_close(state, alpha * x + sigma * noise, rtol=1e-9, atol=1e-9)


WEIGHTS, CENTRES, SPREAD = (0.3, 0.7), (-1.2, 0.6), 0.25


def mixture(schedule: NoiseSchedule) -> Denoiser:
    """E[x | z] for a mixture of two Gaussians on the line."""
    centres, weights = torch.tensor(CENTRES, dtype=torch.float64), torch.tensor(WEIGHTS, dtype=torch.float64)

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        var = alpha**2 * SPREAD**2 + sigma**2
        share = (weights.log() - (z - alpha * centres).square() / (2 * var)).softmax(1)
        each = centres + alpha * SPREAD**2 / var * (z - alpha * centres)
        return (share * each).sum(1, keepdim=True)

    return denoise


def test_ddim_follows_the_probability_flow_at_order_one() -> None:
    """Against the flow dz/dphi = (alpha z - x) / sigma of a mixture, solved by another method in another variable."""
    schedule, z = Schedule("cosine"), seeded(50).normal(1)

    def flow(z: Tensor, phi: Tensor) -> Tensor:
        # tan phi = sigma / alpha, and cosine's time is linear in phi.
        (alpha, sigma), t = (phi.cos(), phi.sin()), schedule.time_of(-2 * phi.tan().log())
        return (alpha * z - mixture(schedule)(z, t)) / sigma

    start, stop = (math.atan(math.exp(-end / 2)) for end in (schedule.log_snr_min, schedule.log_snr_max))
    truth = integrate(flow, z, torch.linspace(start, stop, 401, dtype=torch.float64))
    found = [end(WALKS["ddim"], mixture(schedule), schedule, z, schedule.grid(n), Still(50, math.nan)) for n in (100, 200, 400)]
    errors = [float((x - truth).abs().mean()) for x in found]
    assert [math.log2(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([1.0, 1.0], abs=0.15), errors


@pytest.mark.parametrize("name", WALKS)
def test_draws_of_a_mixture_pass_kolmogorov_smirnov(name: str) -> None:
    """False-alarm rate 1e-4; 200 steps leave a distance of about 0.005 where 0.03 would be noticed in 5000 draws."""
    schedule: Schedule = Schedule("cosine")
    draws = seeded(5000, 5)
    z = end(WALKS[name], mixture(schedule), schedule, draws.normal(1), schedule.grid(200), draws)

    def cdf(x: Tensor) -> Tensor:
        return sum(w * norm.cdf(x, c, SPREAD) for w, c in zip(WEIGHTS, CENTRES, strict=True))  # type: ignore[return-value]

    assert kstest(z[:, 0].numpy(), cdf).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(3,), (1, 5), (2, 3, 4)])
@pytest.mark.parametrize("name", WALKS)
def test_any_shape_is_the_flattened_walk(name: str, shape: tuple[int, ...]) -> None:
    schedule = Schedule("cosine")
    z, grid = seeded(6).normal(*shape), schedule.grid(5)

    def run(z: Tensor) -> Tensor:
        return end(WALKS[name], lambda z, t: (z * t).tanh(), schedule, z, grid, seeded(6, 1))

    torch.testing.assert_close(run(z).flatten(1), run(z.flatten(1)))


def test_ddim_at_eta_zero_draws_nothing() -> None:
    draws = seeded(3)
    assert draws.generator is not None
    before = draws.generator.get_state()
    list(ddim(lambda z, t: z, Schedule("cosine"), torch.ones(3, 2), Schedule("cosine").grid(4), draws=draws))
    assert torch.equal(draws.generator.get_state(), before)


# Solvers of the flow

Solver = Callable[[Denoiser, NoiseSchedule, Tensor, Tensor], Iterator[Tensor]]

SOLVERS: dict[str, tuple[Solver, int]] = {
    "ddim": (lambda d, s, z, t: ddim(d, s, z, t, draws=Still(len(z), math.nan)), 1),
    "heun": (heun, 2),
    "multistep 1": (lambda d, s, z, t: multistep(d, s, z, t, order=1), 1),
    "multistep 2": (lambda d, s, z, t: multistep(d, s, z, t, order=2), 2),
    "multistep 3": (lambda d, s, z, t: multistep(d, s, z, t, order=3), 3),
}

every_solver = pytest.mark.parametrize("name", SOLVERS)


def last(solver: Solver, denoise: Denoiser, schedule: NoiseSchedule, z: Tensor, grid: Tensor) -> Tensor:
    *_, x = solver(denoise, schedule, z, grid)
    return x


def slopes(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def off(solver: Solver, spacing: Spacing, counts: tuple[int, ...]) -> list[float]:
    """Mean distance from the flow of a mixture, which 4000 steps of order 3 tell to 1e-8."""
    schedule, z = Schedule("cosine"), seeded(50).normal(1)
    truth = last(SOLVERS["multistep 3"][0], mixture(schedule), schedule, z, schedule.grid(2000, "log-snr"))
    return [float((last(solver, mixture(schedule), schedule, z, schedule.grid(n, spacing)) - truth).abs().mean()) for n in counts]


@every_solver
@pytest.mark.parametrize("spacing", ["log-snr", "karras"])
def test_order_of_accuracy(name: str, spacing: Spacing) -> None:
    """The error of 160 steps over that of 320, on a mixture of two Gaussians: 2 to the power of the order."""
    solver, order = SOLVERS[name]
    errors = off(solver, spacing, (160, 320))
    assert slopes(errors) == [pytest.approx(order, abs=0.35)], errors  # order 3 is approached from above


def halved(denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor) -> Iterator[Tensor]:
    """Order 3 as it is widely written, D2 = (D1_0 - D1_1) / (r0 + r1) in place of twice that."""
    kept: list[tuple[Tensor, Tensor]] = []
    for t, s in itertools.pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        lam, h = (alpha_t / sigma_t).log(), (alpha_s / sigma_s * sigma_t / alpha_t).log()
        kept = [(lam, denoiser(z, t)), *kept[:2]]
        phi1 = torch.expm1(-h)
        z = sigma_s / sigma_t * z - alpha_s * phi1 * kept[0][1]
        if len(kept) == 3:
            r0, r1 = (kept[0][0] - kept[1][0]) / h, (kept[1][0] - kept[2][0]) / h
            d10, d11 = (kept[0][1] - kept[1][1]) / r0, (kept[1][1] - kept[2][1]) / r1
            phi2 = phi1 / h + 1
            z = z + alpha_s * phi2 * (d10 + r0 / (r0 + r1) * (d10 - d11)) - alpha_s * (phi2 / h - 0.5) * (d10 - d11) / (r0 + r1)
        yield z


def test_half_the_second_derivative_is_of_order_two() -> None:
    """What ours differs from, and that the test of order tells them apart."""
    assert slopes(off(halved, "log-snr", (160, 320))) == [pytest.approx(2, abs=0.2)]


@pytest.mark.parametrize("schedule", [Schedule("cosine"), exploding, straight])
def test_ddim_is_eulers_method_in_the_ratio_of_noise_and_signal(schedule: NoiseSchedule) -> None:
    """Against d(z / alpha) / dy = (z / alpha - D) / y, y = sigma / alpha, stepped by hand; order 1 of multistep is the same."""
    z, grid = seeded(20).normal(1), Schedule("cosine").grid(12, "quadratic")
    x = z / schedule(grid[0])[0]
    for t, s in itertools.pairwise(grid):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x = x + (sigma_s / alpha_s - sigma / alpha) * (x - mixture(schedule)(alpha * x, t)) / (sigma / alpha)
    for name in ("ddim", "multistep 1"):
        found = last(SOLVERS[name][0], mixture(schedule), schedule, z, grid)
        torch.testing.assert_close(found, schedule(grid[-1])[0] * x, rtol=1e-9, atol=1e-9)


def test_ddim_is_eulers_method_for_the_straight_path() -> None:
    """In rectified flow's own time and scale dx/dt = eps - x, the velocity that its network is asked for."""
    z, grid = seeded(20).normal(1), torch.linspace(1, 0, 9, dtype=torch.float64)
    x = z
    for t, s in itertools.pairwise(grid):
        alpha, sigma = straight(t)
        datum = mixture(straight)(x, t)
        x = x + (straight(s)[1] - sigma) * ((x - alpha * datum) / sigma - datum)
    torch.testing.assert_close(last(SOLVERS["ddim"][0], mixture(straight), straight, z, grid), x, rtol=1e-9, atol=1e-9)


def test_heun_is_karras_and_heuns_method() -> None:
    """Against another solver of dx/d sigma = (x - D(x, sigma)) / sigma, with times that are noise levels down to zero."""

    def levels(sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(sigma), sigma

    sigmas = Schedule("cosine").grid(9, "karras")
    y = Schedule("cosine")(sigmas)[1] / Schedule("cosine")(sigmas)[0]
    x = 80 * seeded(20).normal(1)
    truth = integrate(lambda x, s: (x - mixture(levels)(x, s)) / s, x, y, method="heun")
    torch.testing.assert_close(last(heun, mixture(levels), levels, x, y), truth, rtol=1e-9, atol=1e-9)
    to_zero = torch.cat([y, y.new_zeros(1)])
    for name in ("heun", "multistep 2", "multistep 3"):  # the last step, to zero, is the mean of the datum
        *_, before, end = SOLVERS[name][0](mixture(levels), levels, x, to_zero)
        torch.testing.assert_close(end, mixture(levels)(before, y[-1]), rtol=1e-9, atol=1e-9)


def test_order_two_is_algorithm_two_of_the_paper() -> None:
    schedule, z = Schedule("cosine"), seeded(20).normal(1)
    grid = schedule.grid(8, "quadratic")
    alpha, sigma = schedule(grid)
    lam = (alpha / sigma).log()
    h = lam.diff()
    x, d = z, [mixture(schedule)(z, grid[0])]
    for i in range(1, 9):
        r = h[i - 2] / h[i - 1] if i > 1 else torch.tensor(math.inf)
        mixed = (1 + 1 / (2 * r)) * d[-1] - (1 / (2 * r) * d[-2] if i > 1 else 0)
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * torch.expm1(-h[i - 1]) * mixed
        d.append(mixture(schedule)(x, grid[i]))
    torch.testing.assert_close(last(SOLVERS["multistep 2"][0], mixture(schedule), schedule, z, grid), x, rtol=1e-9, atol=1e-9)


def test_order_three_is_exact_where_the_datum_is_a_parabola_of_log_snr() -> None:
    """sigma_s int exp(l) D(l) dl by quadrature; from the third step on, given the exact states before it."""
    schedule: Schedule = Schedule("cosine")

    def datum(lam: Tensor) -> Tensor:
        return 0.3 - 0.2 * lam + 0.7 * lam**2

    grid = schedule.grid(4, "quadratic")[:4]  # four times, three steps
    alpha, sigma = schedule(grid)
    lam = (alpha / sigma).log()
    z = torch.zeros(1, 1, dtype=torch.float64)
    two, three = list(multistep(lambda z, t: datum(schedule.log_snr(t) / 2).expand_as(z), schedule, z, grid, order=3))[1:]
    nodes, weights = gauss_legendre(float(lam[2]), float(lam[3]), 40)
    exact = sigma[3] * (two / sigma[2] + (weights * nodes.exp() * datum(nodes)).sum())
    torch.testing.assert_close(three, exact, rtol=1e-10, atol=1e-10)


CALLS = {"ancestral": 1, "euler-maruyama": 1, "ddim": 1, "ddim, eta 0.5": 1, "heun": 2, "multistep 2": 1, "multistep 3": 1}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_counted(name: str) -> None:
    asked = []

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return z.tanh()

    schedule, z = Schedule("cosine"), seeded(3).normal(1)
    grid = schedule.grid(7)
    states = (
        WALKS[name](denoise, schedule, z, grid, seeded(3, 1)) if name in WALKS else SOLVERS[name][0](denoise, schedule, z, grid)
    )
    assert len(list(states)) == 7
    assert len(asked) == 7 * CALLS[name]
    assert asked == sorted(asked, reverse=True)


@every_solver
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_solvers_take_any_shape_and_reach_a_known_datum(name: str, shape: tuple[int, ...]) -> None:
    """When the datum is known, the flow is straight and every solver follows it exactly."""
    schedule, solver = Schedule("linear"), SOLVERS[name][0]
    noise, x = seeded(4).normal(*shape), seeded(1, 2).normal(*shape)
    grid = schedule.grid(6)
    (alpha, sigma), (alpha_0, sigma_0) = schedule(grid[0]), schedule(grid[-1])
    found = last(solver, lambda z, t: x.expand_as(z), schedule, alpha * x + sigma * noise, grid)
    torch.testing.assert_close(found, alpha_0 * x + sigma_0 * noise, rtol=1e-8, atol=1e-8)


def test_noise_of_euler_maruyama_overshoots_and_of_ancestral_undershoots() -> None:
    schedule = Schedule("cosine")
    truth = (torch.eye(2) * schedule(torch.tensor(0.0))[1] ** 2 + COV).trace()
    found = {name: law(WALKS[name], schedule, schedule.grid(50))[1].trace() for name in ("ancestral", "euler-maruyama")}
    assert float(found["ancestral"]) < float(truth) < float(found["euler-maruyama"])


@pytest.mark.parametrize("schedule", [Schedule("cosine"), exploding])
def test_score_of_a_mixture_is_what_the_denoiser_implies(schedule: NoiseSchedule) -> None:
    """grad log p_t(z) = (alpha D - z) / sigma^2, against autograd of the mixture's own density."""
    centres, weights = torch.tensor(CENTRES, dtype=torch.float64), torch.tensor(WEIGHTS, dtype=torch.float64)
    for t in torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64):
        alpha, sigma = schedule(t)
        z = (2 * seeded(30).normal(1)).requires_grad_()
        spread = (alpha**2 * SPREAD**2 + sigma**2).sqrt()
        density = (weights.log() + torch.distributions.Normal(alpha * centres, spread).log_prob(z)).logsumexp(1)
        (score,) = torch.autograd.grad(density.sum(), z)
        torch.testing.assert_close((alpha * mixture(schedule)(z, t) - z) / sigma**2, score, rtol=1e-9, atol=1e-9)
