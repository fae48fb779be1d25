# %% [markdown]
# # Stage 5. Diffusion and score
#
# **The claim.** A diffusion model learns one function: the denoiser $D(z, t) = \mathbb{E}[x \mid z_t = z]$, the mean of all
# clean data that could have become the noisy state $z$. The noise in $z$, the score, every sampler, the likelihood and guidance
# are arithmetic on it. So they can be exchanged after training, and how good they are can be tested without any training,
# wherever $D$ is known in closed form.
#
# That is how this stage goes. Everything is first done with the exact denoiser of a mixture of Gaussians, where the truth is
# known to many digits. Then a trained network takes its place, in the same lines of code.

# %%
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import ks_2samp, spearmanr
from torch import Tensor

import sixfold
from sixfold.core.dataset import Dataset
from sixfold.core.draws import Draws
from sixfold.core.likelihood import Exact, LogProb
from sixfold.data import from_arrays, toys
from sixfold.evaluate.features import features_of
from sixfold.evaluate.modes import conditional_accuracy
from sixfold.evaluate.sliced import sliced_floor, sliced_wasserstein
from sixfold.models.diffusion.ddpm import DDPM
from sixfold.plot.clouds import Panel, panels, place_colours
from sixfold.plot.denoising import against_cost, arrows, density_in_time, order, signals
from sixfold.plot.display import play, show
from sixfold.plot.images import to_pixels
from sixfold.plot.plane import Window, density_map, error_map
from sixfold.plot.sheets import sheet
from sixfold.plot.style import DASHES, FAMILY_COLOURS, family_colour, figure, gridded, style
from sixfold.prob.schedules import SCHEDULES, Schedule, Spacing
from sixfold.solve.diffusion import Denoiser, NoiseSchedule, Sampler, heun, walk
from sixfold.solve.ode import exact_divergence, integrate_with_divergence
from sixfold.testing.exercises import check_answer

warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)  # torch's own, at its first derivative
FAST = os.environ.get("SIXFOLD_COURSE") == "fast"
COLOUR, GREY = family_colour("diffusion"), FAMILY_COLOURS["data"]
COSINE = Schedule("cosine")


# %%
def seeded(seed: int) -> torch.Generator:
    """A source of randomness of its own for each experiment."""
    return torch.Generator().manual_seed(seed)


def fitted(name: str, data: Dataset, **settings: Any) -> DDPM:
    """A trained denoising diffusion model."""
    model = sixfold.fit(name, data, seed=0, **settings)
    assert isinstance(model, DDPM)
    return model


def noise_for(num: int, seed: int) -> Draws:
    """Draws in double precision for samplers that start from ``num`` states."""
    return Draws(num, generator=seeded(seed), dtype=torch.float64)


# %% [markdown]
# ## 1. Drowning data in noise
#
# A state at time $t \in [0, 1]$ holds a share of the datum and a share of noise,
#
# $$z_t = \alpha_t x + \sigma_t \varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I), \qquad \alpha_t^2 + \sigma_t^2 = 1,$$
#
# and the schedule says how much of each: its log signal-to-noise ratio $\lambda_t = \log \alpha_t^2 / \sigma_t^2$ falls from
# data ($t = 0$) to noise ($t = 1$). No step depends on the one before: $q(z_t \mid x)$ is one Gaussian, drawn in one line, and
# no network takes part in it. That is why the untrained models below can show it, for signals, for points and for pictures
# alike.


# %%
def waves(num: int, generator: torch.Generator) -> Tensor:
    """Sine waves of one, two or three periods with any phase and height, seen at 32 places: (num, 32)."""
    periods = torch.randint(1, 4, (num, 1), generator=generator)
    phase, height = 2 * math.pi * torch.rand(num, 1, generator=generator), 0.5 + torch.rand(num, 1, generator=generator)
    return height * (2 * math.pi * periods * torch.arange(32) / 32 + phase).sin()


signal = from_arrays(waves(1_000 if FAST else 20_000, seeded(0)).numpy(), name="waves")
moons, digits = sixfold.load_data("moons").unconditional(), sixfold.load_data("digits").conditional()
TIMES = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
HEADS = [f"t = {t:.1f}" for t in TIMES.tolist()]
drowned = []
for data, count in ((signal, 3), (moons, 1_500), (digits, 4)):
    model = sixfold.build("diffusion/ddpm", data.spec)
    model.prepare(data.train)  # mean and scale of the data, nothing learned
    assert isinstance(model, DDPM)
    drowned.append(model.noised(data.valid.x[:count], TIMES, generator=seeded(1)))
with style():
    show(signals(drowned[0].transpose(0, 1), heads=HEADS, colour=COLOUR, width=8.4))
    shown, window = [], Window.around(drowned[1].flatten(0, 1))
    for head, x in zip(HEADS, drowned[1], strict=True):
        shown.append(Panel(head, x, place_colours(drowned[1][0]), window=window))
    show(panels(shown, columns=6, width=8.4))
    pixels = to_pixels(drowned[2].transpose(0, 1).flatten(0, 1), digits.spec, limits=(0.0, 16.0))
    show(sheet(pixels, 6, heads=HEADS))

# %% [markdown]
# Points keep their colours from panel to panel. Halfway, at equal shares of data and noise, neighbours have begun to mix; at
# the end nothing is left of waves, moons and digits but their mean and their scale. Two facts about $q(z_t \mid x)$ are worth a
# check, because most bugs in this family break one of them: given the datum, the mean is $\alpha x$ and the variance
# $\sigma^2$; and data of variance one stay so at all times.

# %%
draws = noise_for(20_000, 2)
unit = draws.normal(1)  # data of variance one
for t in torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64):
    (alpha, sigma), noise = COSINE(t), draws.normal(1)
    given, whole = alpha * 1.7 + sigma * noise, alpha * unit + sigma * noise
    print(f"t = {t:.1f}: given x = 1.7, mean {given.mean():.3f} (alpha x = {1.7 * alpha:.3f}) and", end=" ")
    print(f"variance {given.var():.3f} (sigma^2 = {sigma**2:.3f}); variance of all states {whole.var():.3f}")
    assert abs(given.mean() - 1.7 * alpha) < 5 * sigma / len(unit) ** 0.5  # five standard errors, here and below
    assert max(abs(given.var() / sigma**2 - 1), abs(whole.var() - 1)) < 5 * (2 / len(unit)) ** 0.5

# %% [markdown]
# ## 2. One function
#
# For a mixture of Gaussians, all that noise does is known. The state's law is again a mixture, with centres $\alpha m_k$ and
# variances $\alpha^2 s^2 + \sigma^2$; the denoiser is an average over the components of what each one expects, weighed by how
# likely it is given $z$:
#
# $$D(z, t) = \sum_k p(k \mid z) \Big( m_k + \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2} (z - \alpha m_k) \Big).$$
#
# These lines are the only model of the first half of this stage.


# %%
@dataclass(frozen=True)
class Known:
    """A mixture of Gaussians in D dimensions, whose every noisy version and whose denoiser are known.

    Args:
        centres: (K, D).
        std: standard deviation of each component along each axis, (D,).
        weights: of the components, (K,).
    """

    centres: Tensor
    std: Tensor
    weights: Tensor

    def parts(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets from the noisy centres, (B, K, D), and log weight times density of each component, (B, K)."""
        variance, off = alpha**2 * self.std**2 + sigma**2, z[:, None] - alpha * self.centres
        return off, self.weights.log() - (off.square() / variance + (2 * math.pi * variance).log()).sum(2) / 2

    def log_prob(self, z: Tensor, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        """Log-density of states at time t, nats, (B,)."""
        return self.parts(z, *schedule(t))[1].logsumexp(1)

    def denoiser(self, schedule: NoiseSchedule) -> Denoiser:
        """E[x | z] as a function of state and time."""

        def denoise(z: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = schedule(t)
            off, nats = self.parts(z, alpha, sigma)
            each = self.centres + alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2) * off
            return (nats.softmax(1)[..., None] * each).sum(1)

        return denoise


three = torch.tensor([[-1.3, -0.6], [0.2, 1.2], [1.2, -0.5]], dtype=torch.float64)
plane = Known(three, torch.tensor([0.25, 0.25]).double(), torch.tensor([0.5, 0.2, 0.3]).double())

# %% [markdown]
# Given the state, each of the following is known from any other one:
#
# $$\hat\varepsilon = \frac{z - \alpha D}{\sigma}, \qquad v = \alpha \hat\varepsilon - \sigma D, \qquad
# \nabla_z \log p_t(z) = -\frac{\hat\varepsilon}{\sigma} = \frac{\alpha D - z}{\sigma^2}.$$
#
# The first two are definitions. The third is a theorem, often named after Tweedie: *the gradient of the log-density of noisy
# data points from the state to its denoised version*. Here it is checked against autograd on the density above, which knows
# nothing of denoising.


# %%
def names_of(datum: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expected noise, v and score of a state whose expected datum is known."""
    eps = (z - alpha * datum) / sigma
    return eps, alpha * eps - sigma * datum, -eps / sigma


for t in torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64):
    alpha, sigma = COSINE(t)
    z = noise_for(500, 3).normal(2).requires_grad_()
    (gradient,) = torch.autograd.grad(plane.log_prob(z, COSINE, t).sum(), z)
    z = z.detach()
    datum = plane.denoiser(COSINE)(z, t)
    eps, v, score = names_of(datum, z, alpha, sigma)
    worst = float((score - gradient).abs().max() / gradient.abs().max())
    print(f"t = {float(t):.2f}: score by denoising and by autograd differ by {worst:.1e} of the largest")
    assert worst < 1e-9
    assert torch.allclose(alpha * z - sigma * v, datum, atol=1e-9), "and back: x0 from v"
    assert torch.allclose(sigma * z + alpha * v, eps, atol=1e-9), "and back: eps from v"


# %%
def field(known: Known, times: tuple[float, ...]) -> Figure:
    """Densities of noisy data, and arrows from states to what they are expected to have been, at the scale of the data."""
    made = figure(8.4, 3.2)
    window = Window((-2.4, -2.4), (2.4, 2.4))
    for axes, t in zip(made.subplots(1, len(times)), torch.tensor(times).double(), strict=True):
        alpha = COSINE(t)[0]
        density_map(axes, known.log_prob(window.grid(100).double(), COSINE, t), window, title=f"t = {float(t):.2f}")
        start = window.grid(11).double()
        arrows(axes, start, start + 0.3 * (alpha * known.denoiser(COSINE)(start, t) - start))
    return made


with style():
    show(field(plane, (0.2, 0.5, 0.8)))

# %% [markdown]
# Bright is likely; each arrow goes three tenths of the way from a state $z$ to $\alpha D(z, t)$, so it has the direction of the
# score. With little noise a point is sent to its own component, and the borders are sharp. With much noise all are sent to
# about the same place, the mean of all data: nothing more is known. A sampler is a way to go down in $t$ while following these
# arrows.
#
# If one can be had from the other, what does it matter which a network is asked for? It matters for its errors. Those of a
# predicted $\varepsilon$ become errors of the datum times $\sigma / \alpha$, which is large where there is mostly noise. Those
# of a predicted datum become errors of $\varepsilon$ times $\alpha / \sigma$, large where there is little. From $v$ the factors
# are $\sigma$ and $\alpha$, never above one, which is why it is what `diffusion/ddpm` predicts unless told otherwise.
#
# ## 3. Learning it
#
# Among all functions of $z$, the mean square error $\mathbb{E}\,|v - \hat v(z, t)|^2$ is least for the conditional mean: this
# is the whole training. But the least is not zero, because $z$ does not determine its noise. With $v^*$ the exact conditional
# mean,
#
# $$\mathbb{E}\,|v - \hat v|^2 = \mathbb{E}\,|v - v^*|^2 + \mathbb{E}\,|\hat v - v^*|^2 .$$
#
# The first term is a floor that no network can go below; the second, the excess, is all that there is to learn.
#
# Two moons are a mixture as well: Gaussians along two half circles, 256 of which give the density to ten digits. So the exact
# denoiser of the training distribution is known too, and we can look at the second term alone.

# %%
trained = fitted("diffusion/ddpm", moons, steps=10 if FAST else 2_000)


def inside(x: Tensor) -> Tensor:
    """Data as the network sees them: standardised by the model's codec."""
    return trained.codec.encode(x.float(), trained.draws(len(x), None))[0].double()


def learned(model: DDPM, schedule: Schedule) -> Denoiser:
    """The denoiser of a trained network: its v, and one line of arithmetic."""

    @torch.no_grad()
    def denoise(z: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        return alpha * z - sigma * model.velocity(z.to(model.dtype), schedule.log_snr(t), None).double()

    return denoise


near, t = moons.test.x[:200], torch.tensor(0.3, dtype=torch.float64)
scale = inside(torch.ones(1, 2)) - inside(torch.zeros(1, 2))
score = names_of(learned(trained, COSINE)(inside(near), t), inside(near), *COSINE(t))[2] * scale  # in units of the data
assert torch.allclose(trained.score(near, 0.3).double(), score, rtol=1e-3, atol=1e-3), "the model's own score is the same"
curve = toys.moons().quadrature
truth = Known(inside(curve.centres), curve.std * scale[0], curve.log_weights.exp())

# %%
asked_for = {name: fitted("diffusion/ddpm", moons, predict=name, steps=10 if FAST else 2_000) for name in ("eps", "x0")}
levels = torch.linspace(-10, 10, 5 if FAST else 21, dtype=torch.float64)
u, source = inside(moons.test.x[: 500 if FAST else 5_000]), noise_for(500 if FAST else 5_000, 5)
rows = []
for t in COSINE.time_of(levels).clamp(0, 1):
    (alpha, sigma), noise = COSINE(t), source.normal(2)
    z, v = alpha * u + sigma * noise, alpha * noise - sigma * u
    denoisers = [truth.denoiser(COSINE), *(learned(m, COSINE) for m in (trained, *asked_for.values()))]
    best, found, *others = (names_of(d(z, t), z, alpha, sigma)[1] for d in denoisers)
    rows.append([float(e.square().mean()) for e in (v - found, v - best, found - best, *(o - best for o in others))])
loss, floor, excess, by_eps, by_x0 = torch.tensor(rows).T.tolist()
worst = max(abs(a - b - c) for a, b, c, *_ in rows)
means = [sum(each) / len(each) for each in (loss, floor, excess)]
print(f"mean over log-SNR: loss {means[0]:.4f} = floor {means[1]:.4f} + excess {means[2]:.5f}")
print(f"largest |loss - floor - excess| of these finite samples: {worst:.4f}")
print(f"excess at log-SNR -10: v {excess[0]:.5f}, eps {by_eps[0]:.5f}; at 10: v {excess[-1]:.5f}, x0 {by_x0[-1]:.5f}")
assert FAST or (worst < 0.02 and means[2] < 0.1 * means[1]), (worst, means)
assert FAST or (by_eps[0] > 5 * excess[0] and by_x0[-1] > 5 * excess[-1]), (by_eps[0], by_x0[-1])

# %%
SHOWN = {
    "loss of the network": (loss, COLOUR),
    "floor: loss of the exact denoiser": (floor, GREY),
    "excess, asked for v": (excess, COLOUR),
    "excess, asked for the noise": (by_eps, FAMILY_COLOURS["gan"]),
    "excess, asked for the datum": (by_x0, FAMILY_COLOURS["flow"]),
}
with style():
    axes = gridded((made := figure(7.2, 3.4)).subplots())
    for dash, (label, (values, colour)) in zip(DASHES, SHOWN.items(), strict=False):
        axes.plot(levels.tolist(), values, color=colour, linestyle=dash, label=label)
    axes.set(yscale="log", xlabel="log-SNR (noise left, data right)", ylabel="mean square error of v")
    made.legend(loc="outside right upper", fontsize=8)
    show(made)

# %% [markdown]
# The loss lies on its floor: nearly all of it is noise that nobody can predict, and the curve that says how good the model is
# runs far below. This is why the loss of a diffusion model hardly falls after the first minute while the samples go on
# improving. *Change `steps=2_000` to 200 and run again: the loss looks almost the same, the excess does not.* The networks that
# were asked for the noise or the datum have the same size and the same training. Each is as good as the first where its
# question is easy to turn into $v$, and much worse at the other end, as these factors foretell.
#
# ## 4. Two ways back: an SDE and an ODE
#
# Time can be run backwards in two ways that pass through the same densities $p_t$. With $y = \sigma / \alpha$, the noise in
# units of the data,
#
# $$d\Big(\frac{z}{\alpha}\Big) = \hat\varepsilon \, dy \quad\text{(ODE)}, \qquad\qquad
# d\Big(\frac{z}{\alpha}\Big) = 2 \hat\varepsilon\, dy + \sqrt{2 y\, |dy|}\; n \quad\text{(SDE)}.$$
#
# The SDE denoises twice as hard and pays back with fresh noise $n$. The ODE is called the probability flow. In one dimension
# the whole of both can be seen; the data are three Gaussians on the line, and the denoiser is exact.

# %%
line_toy = toys.mixture1d()
line = Known(line_toy.centres, torch.tensor([line_toy.std]).double(), line_toy.log_weights.exp())


def ways(sampler: Sampler, steps: int, num: int, seed: int) -> Tensor:
    """States with the exact denoiser of the line, from noise to data, (steps + 1, num); starts are equal for every seed."""
    start, times = noise_for(num, 6).normal(1), COSINE.grid(steps)
    states = walk(sampler, line.denoiser(COSINE), COSINE, start, times, draws=noise_for(num, seed))
    return torch.stack([start, *states])[..., 0]


STEPS = 20 if FAST else 300
times, places = COSINE.grid(STEPS), torch.linspace(-3.2, 3.2, 150, dtype=torch.float64)[:, None]
nats = torch.stack([line.log_prob(places, COSINE, t) for t in times])
both = ways("euler-maruyama", STEPS, 14, 7), ways("heun", STEPS, 14, 7)
with style():
    made = figure(8.4, 3.3)
    for axes, paths, name in zip(made.subplots(1, 2, sharey=True), both, ("SDE", "ODE"), strict=True):
        density_in_time(axes, nats, paths, span=(1.0, 0.0), reach=(-3.2, 3.2), title=f"{name}: 14 paths from the same starts")
        axes.set_xlabel("time, from noise to data")
    show(made)

# %% [markdown]
# The columns of each picture are the densities $p_t$, each by its own brightest value. Left, paths of the SDE shake and cross.
# Right, paths of the ODE are smooth and cannot cross, so that the order of the starts is the order of the ends. Yet both fill
# the same densities. In numbers:

# %%
num = 500 if FAST else 5_000
WAYS: tuple[Sampler, ...] = ("euler-maruyama", "ancestral", "heun")
ends = {name: ways(name, STEPS, num, 8)[-1] for name in WAYS}
real, start = line_toy.sample(num, generator=seeded(9))[:, 0], noise_for(num, 6).normal(1)[:, 0]
for way, x in ends.items():
    result, rank = ks_2samp(x.numpy(), real.numpy()), float(spearmanr(start, x).statistic)
    print(f"{way:15s} KS distance to fresh data {result.statistic:.4f} (p = {result.pvalue:.3f})", end=", ")
    print(f"rank correlation of start and end {rank:.4f}")
    assert FAST or result.pvalue > 1e-4, way
again = [ways("heun", STEPS, num, 10)[-1], ways("euler-maruyama", STEPS, num, 10)[-1]]
print(f"run again: ODE ends move by {float((again[0] - ends['heun']).abs().mean()):.3f}, SDE ends by", end=" ")
print(f"{float((again[1] - ends['euler-maruyama']).abs().mean()):.3f} on average")
assert torch.equal(again[0], ends["heun"])
assert bool((ends["heun"][start.argsort()].diff() > 0).all()), "paths of an ODE on the line do not cross"

# %% [markdown]
# Now the network in place of the formula, in the plane. Points keep the colour of the place where they *start*, and both movies
# start from the same noise. The ODE deforms the normal distribution into moons, and neighbours stay neighbours; the SDE stirs,
# and at the end the colours are mixed.

# %%
frames = 3 if FAST else 18
sde = trained.trajectory(700, frames=frames, generator=seeded(11), steps=90, sampler="ancestral", spacing="quadratic")
ode = trained.trajectory(700, frames=frames, generator=seeded(11), steps=90, sampler="heun", spacing="quadratic")
assert torch.equal(sde.frames[0], ode.frames[0])
window = Window.around(torch.cat([sde.frames[0], moons.train.x[:2000]]), margin=0.02)


def movie() -> Iterator[Figure]:
    """Both ways side by side, one figure a frame."""
    colours = place_colours(sde.frames[0])
    for t, left, right in zip(sde.times.tolist(), sde.frames, ode.frames, strict=True):
        with style():
            named = (("SDE (ancestral)", left), ("ODE (Heun)", right))
            yield panels([Panel(f"{name}, t = {t:.2f}", x, colours, window=window) for name, x in named], columns=2, width=6.4)


play(movie(), seconds=4.5, hold=1.5)

# %% [markdown]
# ## 5. The likelihood of the flow
#
# An ODE is a change of variables that takes time, so the density of its ends is known. Along the flow in the angle $\phi$ with
# $\tan \phi = \sigma / \alpha$, the velocity is $v$ itself, and
#
# $$\frac{dz}{d\phi} = v(z, \phi), \qquad \log p(x) = \log p_1(z_1) + \int \operatorname{div} v \, d\phi .$$
#
# With the exact denoiser, this has to agree with the closed form, and how fast it does so is the order of the method: Runge and
# Kutta's is four.


# %%
def angles(steps: int) -> Tensor:
    """From the cleanest state to the noisiest, denser where data are clean and the flow bends most."""
    first, last = (math.atan(math.exp(-end / 2)) for end in (COSINE.log_snr_max, COSINE.log_snr_min))
    return first + (last - first) * torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()


def velocity(denoise: Denoiser) -> Callable[[Tensor, Tensor], Tensor]:
    """The flow in the angle, from a denoiser."""

    def rate(z: Tensor, phi: Tensor) -> Tensor:
        t = COSINE.time_of(-2 * phi.tan().log())
        return names_of(denoise(z, t), z, *COSINE(t))[1]

    return rate


zero, one = torch.tensor([0.0, 1.0], dtype=torch.float64)
x, errors = line_toy.sample(300, generator=seeded(12)).double(), []
for steps in (10, 20, 40, 80):
    z, gained = integrate_with_divergence(velocity(line.denoiser(COSINE)), x, angles(steps), divergence=exact_divergence)
    errors.append(float((line.log_prob(z, COSINE, one) + gained - line.log_prob(x, COSINE, zero)).abs().mean()))
    print(f"{steps:3d} steps: mean error of log p(x) {errors[-1]:.2e} nats")
normal = -(z[:, 0].square() + math.log(2 * math.pi)) / 2
prior = float((line.log_prob(z, COSINE, one) - normal).abs().mean())
slope = order(([10, 20, 40, 80], errors))
print(f"fitted order {slope:.2f}; taking N(0, 1) for the law of the noisiest state costs {prior:.1e} nats")
assert errors[-1] < 1e-4, errors
assert 3.3 < slope < 5.5, slope

# %% [markdown]
# Now the trained model, whose `log_prob` does this with its network. It answers in two ways, and each number says of which kind
# it is. The flow's density is numerical (`≈`): right up to a tolerance, which is the change from half the steps. The
# variational bound (`>=`) is about another model, the one that samples by the SDE, and lies below its log-likelihood. Beside
# them stands the truth, in closed form.

# %%
few = 100 if FAST else 2_000
held_out = moons.test.x[:few]
right = LogProb(toys.moons().log_prob(held_out), Exact, "closed form", dims=2)
flow_nats = trained.log_prob(held_out, method="ode", effort=4 if FAST else 16)
bound = trained.log_prob(held_out, method="bound", effort=4 if FAST else 64, generator=seeded(13))
print(f"truth {right.mean()}\nflow  {flow_nats.mean()}\nbound {bound.mean()}")
gap = (right.nats.double() - flow_nats.nats.double()).mean()
print(f"flow: {float(gap):.4f} nats below the truth on the same data, tolerance {flow_nats.mean().tolerance:.4f}")
assert FAST or -0.01 < float(gap) < 0.08, gap
assert FAST or bound.mean().value < right.mean().value + 0.03, "a bound lies below (three standard errors of its noise)"

# %%
side, window = (24 if FAST else 72), Window.around(moons.train.x)
grid = window.grid(side)
cell = (window.high[0] - window.low[0]) * (window.high[1] - window.low[1]) / side**2
learnt, exact = trained.log_prob(grid, method="ode", effort=4 if FAST else 10).nats, toys.moons().log_prob(grid)
mass, top = float(learnt.double().exp().sum()) * cell, float(exact.exp().max())
print(f"mass of the flow's density in the window {mass:.3f}, of the truth {float(exact.double().exp().sum()) * cell:.3f}")
assert FAST or abs(mass - 1) < 0.03, mass
with style():
    cells = (made := figure(8.4, 3.0)).subplots(1, 3)
    density_map(cells[0], exact, window, top=top, title="truth")
    density_map(cells[1], learnt, window, top=top, title="density of the flow")
    image = error_map(cells[2], learnt, exact, window, limit=top / 4, title="flow less truth")
    made.colorbar(image, ax=cells[2], shrink=0.8).outline.set_visible(False)
    show(made)

# %% [markdown]
# Nothing in training ever mentioned a density. That it integrates to one and lies on the truth is what the claim promises: it
# was there, in the denoiser.
#
# ## 6. Schedules are clocks
#
# A schedule is the log-SNR as a function of time. It decides how often each noise level is trained on, and where a sampler that
# takes even steps of time takes them. It does *not* decide what is to be learned, since the denoiser depends on the noise level
# alone, nor where the flow leads.

# %%
clock = torch.linspace(0, 1, 200, dtype=torch.float64)
with style():
    clocks, shares = (made := figure(8.4, 3.0)).subplots(1, 2)
    for i, (name, colour) in enumerate(zip(SCHEDULES, ("gan", "vae", "autoregressive", "flow"), strict=True)):
        schedule, stroke = Schedule(name), DASHES[i]
        values, at = schedule.log_snr(clock), torch.linspace(-9.9, 9.9, 200, dtype=torch.float64)
        clocks.plot(clock, values, color=FAMILY_COLOURS[colour], linestyle=stroke, label=name)
        shares.plot(at, -1 / schedule.slope(schedule.time_of(at)), color=FAMILY_COLOURS[colour], linestyle=stroke)
    gridded(clocks).set(xlabel="time", ylabel="log-SNR")
    gridded(shares).set(xlabel="log-SNR", ylabel="share of time per unit", ylim=(0, None))
    clocks.legend(fontsize=8)
    show(made)

# %% [markdown]
# So the schedule can be exchanged after training. The network was trained on the cosine's clock. Below, the same starting noise
# goes down the clocks of the other schedules in many steps of Heun's method, and arrives at the same places. What cannot be
# exchanged is the end: sampling starts from pure noise, and if the schedule stops before there is only noise, every sample is
# wrong, however good the denoiser. The last lines stop early on purpose, with the exact one. Public code has done that unseen,
# since samples still look roughly right.

# %%
start, many = noise_for(200, 14).normal(2), 30 if FAST else 400
arrived = {}
for name in SCHEDULES:
    schedule = Schedule(name)
    arrived[name] = list(heun(learned(trained, schedule), schedule, start, schedule.grid(many)))[-1]
for name, ended in arrived.items():
    apart = float((ended - arrived["cosine"]).norm(dim=1).mean())
    print(f"ends on the clock of {name} lie {apart:.4f} from those on the cosine's, in standard deviations of the data")
    assert FAST or apart < 0.02, (name, apart)

count, wrong = (500 if FAST else 20_000), []
target = [line_toy.sample(count, generator=seeded(seed)) for seed in (15, 16)]
for last in (-10.0, -4.0, -2.0, 0.0):
    schedule = Schedule("cosine", log_snr_min=last)
    z = list(heun(line.denoiser(schedule), schedule, noise_for(count, 17).normal(1), schedule.grid(40, "log-snr")))[-1]
    wrong.append(sliced_wasserstein(z, target[0], projections=1))
    print(f"a schedule that ends at log-SNR {last:5.1f}: Wasserstein distance to the data {wrong[-1]:.3f}")
least = sliced_wasserstein(*target, projections=1)
print(f"two samples of the data: {least:.3f}")
assert FAST or wrong[-1] > 4 * max(wrong[0], least), (wrong, least)

# %% [markdown]
# ## 7. What a network evaluation buys
#
# Sampling costs evaluations of the network, and the samplers differ in what they make of them. A method of order $p$ divides
# its error by $2^p$ when the number of steps is doubled. With the exact denoiser, the error is the distance from where the flow
# really leads, and the order is a slope on logarithmic axes.

# %%
SOLVERS: dict[str, tuple[Sampler, int, int]] = {  # label: sampler, evaluations a step, order by theory
    "DDIM": ("ddim", 1, 1),
    "Heun": ("heun", 2, 2),
    "DPM-Solver++ 2M": ("dpm++2m", 1, 2),
    "multistep of order 3": ("dpm++3m", 1, 3),
}
start, reference = noise_for(100, 18).normal(1), COSINE.grid(200 if FAST else 2_000, "log-snr")
budgets = [8, 16, 32] if FAST else [8, 16, 32, 64, 128, 256, 512]


def end(sampler: Sampler, times: Tensor) -> Tensor:
    """Where a sampler ends with the exact denoiser of the line."""
    return list(walk(sampler, line.denoiser(COSINE), COSINE, start, times, draws=noise_for(len(start), 19)))[-1]


flow_ends, known_errors = end("dpm++3m", reference), {}
for label, (sampler, calls, theory) in SOLVERS.items():
    grids = [COSINE.grid(n // calls, "log-snr") for n in budgets]
    errors = [float((end(sampler, grid) - flow_ends).abs().mean()) for grid in grids]
    known_errors[label] = (budgets, errors)
    slope = order((budgets, errors))
    print(f"{label:21s} error {errors[1]:.1e} in 16 evaluations, {errors[-1]:.1e} in {budgets[-1]}", end="; ")
    print(f"order {slope:.2f}, by theory {theory}")
    assert FAST or abs(slope - theory) < 0.4, (label, slope)
SPACINGS: tuple[Spacing, ...] = ("time", "quadratic", "karras", "log-snr")
for spacing in SPACINGS:
    apart = float((end("ddim", COSINE.grid(16, spacing)) - flow_ends).abs().mean())
    print(f"DDIM in 16 evaluations, steps even in {spacing}: error {apart:.3f}")

# %% [markdown]
# Now the trained network. The error is the sliced Wasserstein distance to fresh data, which has a floor: two samples of the
# data themselves are not at distance zero. All six samplers use the same weights, and none of them was known in training.

# %%
size, spend = (300, [8, 16]) if FAST else (4_000, [8, 16, 32, 64, 128])
fresh = [toys.moons().sample(size, generator=seeded(20 + i)) for i in range(4)]
least, cost = sliced_floor(fresh, projections=100), {}
SAMPLERS: dict[str, tuple[Sampler, int, int]] = {"ancestral": ("ancestral", 1, 1), "Euler-Maruyama": ("euler-maruyama", 1, 1)}
for label, (sampler, calls, _theory) in (SOLVERS | SAMPLERS).items():
    far = []
    for spent in spend:
        x = trained.sample(size, generator=seeded(24), sampler=sampler, steps=spent // calls, spacing="log-snr")
        far.append(sum(sliced_wasserstein(x, y, projections=100) for y in fresh) / len(fresh))
    cost[label] = (spend, far)
    print(f"{label:21s} " + ", ".join(f"{d:.3f} in {n}" for n, d in zip(spend, far, strict=True)))
print(f"{'real against real':21s} {least:.3f}")
second, firsts = cost["DPM-Solver++ 2M"][1][1], [cost[name][1][1] for name in ("ancestral", "Euler-Maruyama", "DDIM")]
assert FAST or second < 0.5 * min(firsts), (second, firsts)  # at 16 evaluations
assert FAST or max(far[-1] for _, far in cost.values()) < 4 * least, (cost, least)
with style():
    cells = (made := figure(8.4, 3.5)).subplots(1, 2)
    against_cost(cells[0], known_errors, ylabel="mean distance from the flow", title="exact denoiser: error of the solver")
    against_cost(cells[1], cost, ylabel="sliced Wasserstein distance", floor=least, title="trained on moons: distance to data")
    show(made)

# %% [markdown]
# Left, solver error alone: the lines are straight, and a method of higher order wins by as much as one likes. Right, all of
# them come down to a floor of sampling noise and of what the network has got wrong, and then evaluations buy nothing more.
# Higher order matters in between, at ten to thirty evaluations, which is where samplers are used. *Change `spacing="log-snr"`
# in the last cell to `"time"`: the order of the samplers at 16 evaluations changes too.*
#
# ## 8. Signals
#
# Nothing so far knew that the data were points. A signal is a point in as many dimensions as it has places, so the same model
# takes it. We train on the waves of section 1, and measure what a wave is: the share of a signal's power that lies at its
# strongest frequency is 1 for each of them, and small for noise.

# %%
sung = fitted("diffusion/ddpm", signal, steps=10 if FAST else 3_000, batch=512, lr=4e-3)


def purity(x: Tensor) -> Tensor:
    """Share of the power at the strongest frequency, of signals (..., L)."""
    power: Tensor = torch.fft.rfft(x.double()).abs().square()[..., 1:]
    strongest: Tensor = power.amax(-1) / power.sum(-1)
    return strongest


heard = sung.trajectory(400, frames=6, generator=seeded(25), steps=60)
for t, x in zip(heard.times.tolist(), heard.frames, strict=True):
    print(f"t = {t:.2f}: purity of the states {float(purity(x).mean()):.3f}")
periods = torch.fft.rfft(heard.frames[-1]).abs()[:, 1:].argmax(1) + 1
shares_of = [float((periods == k).float().mean()) for k in (1, 2, 3)]
print(f"samples of 1, 2 and 3 periods: {shares_of[0]:.2f}, {shares_of[1]:.2f}, {shares_of[2]:.2f}; of the data a third each")
assert FAST or float(purity(heard.frames[-1]).mean()) > 0.9
assert FAST or min(shares_of) > 0.2, shares_of
heads = [f"t = {t:.1f}" for t in heard.times.tolist()]
with style():
    show(signals(heard.frames[:, :5].transpose(0, 1), heads=heads, colour=COLOUR, width=8.4))

# %% [markdown]
# ## 9. Digits, and guidance
#
# A conditional model has seen the class of most training data, and for the rest a flag that says "not told". So it holds two
# denoisers, $D(z, t, c)$ and $D(z, t)$. Guidance goes on in the direction in which the condition moved the expectation:
#
# $$D_w = D(z, t) + w \, \big( D(z, t, c) - D(z, t) \big).$$
#
# At $w = 1$ this is the conditional model, at $w = 0$ the unconditional one, and beyond 1 the class is exaggerated. It is one
# line in front of a sampler, without any training, and all of it is arithmetic on the denoiser again.

# %%
drawn = fitted("diffusion/ddpm:pixels", digits, conditional=True, steps=10 if FAST else 3_000, batch=256, width=256, lr=2e-3)
wanted = torch.arange(10)
path = drawn.trajectory(10, frames=8, cond=wanted, generator=seeded(26), steps=40, sampler="dpm++2m", guidance=1.5)
with style():
    pixels = to_pixels(path.frames[:, [2, 3, 5, 8]].transpose(0, 1).flatten(0, 1), digits.spec, limits=(0.0, 16.0))
    show(sheet(pixels, 8, rows=[str(k) for k in (2, 3, 5, 8)], heads=[f"{t:.2f}" for t in path.times.tolist()], foot="time"))

# %% [markdown]
# Is the class right, and are the draws of one class still diverse? A classifier that knows handwritten digits judges the first.
# For the second we take the mean distance between two draws of one class in that classifier's features, in units of the same
# distance between two real digits of one class.

# %%
space = features_of("cnn", digits.spec, "digits", digits.train.x)
asked = wanted.repeat(10 if FAST else 60)


def spread(features: Tensor, classes: Tensor) -> float:
    """Mean distance between two data of one class, over the classes."""
    return float(torch.stack([torch.pdist(features[classes == k]).mean() for k in range(10)]).mean())


seen, labels = space(digits.test.x), digits.test.cond
assert labels is not None
real_spread, real_hit = spread(seen, labels), conditional_accuracy(space.classify(seen).argmax(1), labels)
WEIGHTS, hits, wide, first = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0), [], [], []
for weight in WEIGHTS:
    x = drawn.sample(
        len(asked), cond=asked, generator=seeded(27), steps=30, sampler="dpm++2m", spacing="log-snr", guidance=weight
    )
    embedded = space(x)
    hits.append(conditional_accuracy(space.classify(embedded).argmax(1), asked))
    wide.append(spread(embedded, asked) / real_spread)
    first.append(x[:10])
    accuracy = f"class as asked {hits[-1].value:.3f} [{hits[-1].low:.3f}, {hits[-1].high:.3f}]"
    print(f"weight {weight:3.1f}: {accuracy}, spread within a class {wide[-1]:.2f} of real digits")
print(f"real digits: {real_hit.value:.3f} [{real_hit.low:.3f}, {real_hit.high:.3f}], spread 1")
assert FAST or (hits[0].value < 0.25 and hits[3].value > hits[1].value + 0.02), hits
assert FAST or wide[3] < 0.95 * min(wide[1], 1.0), wide
assert FAST or hits[3].value > real_hit.value, (hits[3], real_hit)

# %%
with style():
    axes = gridded((made := figure(5.4, 2.8)).subplots())
    axes.plot(WEIGHTS, [h.value for h in hits], color=COLOUR, marker="o", markersize=4, label="class as asked")
    axes.fill_between(WEIGHTS, [h.low for h in hits], [h.high for h in hits], color=COLOUR, alpha=0.25, linewidth=0)
    axes.plot(
        WEIGHTS, wide, color=FAMILY_COLOURS["gan"], linestyle=DASHES[1], marker="s", markersize=4, label="spread within a class"
    )
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=DASHES[3])
    axes.set(xlabel="guidance weight", ylabel="share, and ratio to real digits")
    axes.legend(fontsize=8)
    show(made)
    chosen = torch.cat([first[WEIGHTS.index(w)] for w in (0.0, 1.0, 2.0, 5.0)])
    show(sheet(to_pixels(chosen, digits.spec), 10, rows=[f"w = {w}" for w in (0, 1, 2, 5)], heads=list(digits.classes)))

# %% [markdown]
# Weight buys the class at the price of diversity: draws of one class come to lie closer together than real digits do, and soon
# more weight buys nothing. Note that guided digits are recognised more often than real ones. That is no triumph: real digits
# are not all typical, and a share of right classes rewards draws that are.
#
# Is there a distribution that guided draws come from? It is often said that they come from $p(x)\,p(c \mid x)^w$ up to a
# constant, sharpened Bayes. The guided denoiser belongs to that density only in the limit of no noise; at other levels the
# sharpened density is not what noise makes of it. With two known classes on the line one can look: the next cell follows the
# guided flow with exact denoisers, beside the sharpened density by a sum over a lattice.

# %%
pair = Known(torch.tensor([[-0.7], [0.7]]).double(), torch.tensor([0.6]).double(), torch.tensor([0.5, 0.5]).double())
right_one = Known(pair.centres[1:], pair.std, torch.ones(1).double())
lattice = torch.linspace(-6, 8, 4_000, dtype=torch.float64)[:, None]
for weight in (1.0, 3.0, 6.0):

    def guided(z: Tensor, t: Tensor, weight: float = weight) -> Tensor:
        """Both exact denoisers, mixed as in the formula."""
        return torch.lerp(pair.denoiser(COSINE)(z, t), right_one.denoiser(COSINE)(z, t), weight)

    z = list(heun(guided, COSINE, noise_for(500 if FAST else 20_000, 28).normal(1), COSINE.grid(60, "log-snr")))[-1]
    sharp = (weight * right_one.log_prob(lattice, COSINE, zero) + (1 - weight) * pair.log_prob(lattice, COSINE, zero)).softmax(0)
    mean = float((sharp * lattice[:, 0]).sum())
    std = float((sharp * (lattice[:, 0] - mean).square()).sum().sqrt())
    print(f"weight {weight}: guided flow has mean {float(z.mean()):.3f} and std {float(z.std()):.3f}", end="; ")
    print(f"sharpened Bayes {mean:.3f} and {std:.3f}")
    assert FAST or (abs(float(z.mean()) - mean) < 0.02) == (weight == 1.0), "they agree at weight 1 and nowhere else"

# %% [markdown]
# So guidance is useful arithmetic and not a posterior. Its draws are no samples of a density that anybody wrote down, which is
# worth remembering when they are compared by likelihood.
#
# ## Exercises
#
# Each draft below has a mistake of the sort that goes unseen in training. Run the cell, read which fact fails, and mend it.
#
# **Noise.** Write `drown(x, log_snr, generator)`: data (B, D) and a log-SNR for each row, (B,), to a draw of the state $z$ and
# the noise $\varepsilon$ in it. Training draws one of these for each datum in each step, so a mistake here is learned
# faithfully.


# %%
def drown(x: Tensor, log_snr: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A draft."""
    alpha = log_snr.sigmoid().sqrt()[:, None]
    noise = torch.randn(x.shape, generator=generator)
    return alpha * x + (1 - alpha) * noise, noise


print(check_answer("forward noising", drown))

# %% [markdown]
# **One quantity.** Write `convert(noise, z, log_snr)`: the noise in a state, the state, both (B, D), and log-SNRs (B,) to the
# datum, $v$ and the score. Whoever has this can use a network that was trained for one of them with a sampler that was written
# for another.


# %%
def convert(noise: Tensor, z: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A draft."""
    alpha = log_snr.sigmoid().sqrt()[:, None]
    sigma = (1 - alpha**2).sqrt()
    datum = (z - sigma * noise) / alpha
    return datum, alpha * noise - sigma * datum, -noise


print(check_answer("one quantity", convert))

# %% [markdown]
# **A sampler.** Write one step of DDIM, `step(denoise, schedule, z, t, s)`: from the state $z$ at time $t$ to the state at the
# earlier time $s$. `denoise(z, t)` is the denoiser, `schedule(t)` gives $\alpha$ and $\sigma$. Take the datum and the noise
# apart, and put them together again as they would stand at time $s$. If it is right, `step` can replace any sampler of this
# stage.


# %%
def step(denoise: Denoiser, schedule: NoiseSchedule, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """A draft."""
    alpha, sigma = schedule(t)
    alpha_s, _ = schedule(s)
    datum = denoise(z, s)
    noise = (z - alpha * datum) / sigma
    return alpha_s * datum + (1 - alpha_s**2).sqrt() * noise


print(check_answer("ddim step", step))

# %% [markdown]
# ## Companions
#
# - Luo, *Understanding Diffusion Models: A Unified Perspective* (2022), arXiv:2208.11970: all of sections 1 to 4 step by step.
# - Ho, Jain & Abbeel, *Denoising Diffusion Probabilistic Models* (2020), arXiv:2006.11239: the paper that made it work.
# - Song, Meng & Ermon, *Denoising Diffusion Implicit Models* (2021), arXiv:2010.02502: the deterministic sampler of the last
#   exercise.
# - Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole, *Score-Based Generative Modeling through Stochastic Differential
#   Equations* (2021), arXiv:2011.13456: the SDE, the probability flow and its likelihood.
# - Vincent, *A Connection Between Score Matching and Denoising Autoencoders* (2011), Neural Computation: why denoising learns
#   the score.
# - Kingma, Salimans, Poole & Ho, *Variational Diffusion Models* (2021), arXiv:2107.00630: schedules as clocks, and the bound.
# - Salimans & Ho, *Progressive Distillation for Fast Sampling of Diffusion Models* (2022), arXiv:2202.00512: where v comes
#   from.
# - Karras, Aittala, Aila & Laine, *Elucidating the Design Space of Diffusion-Based Generative Models* (2022), arXiv:2206.00364:
#   what can be chosen apart from what.
# - Lu, Zhou, Bao, Chen, Li & Zhu, *DPM-Solver++* (2022), arXiv:2211.01095: multistep solvers.
# - Ho & Salimans, *Classifier-Free Diffusion Guidance* (2022), arXiv:2207.12598.
# - Lipman, Chen, Ben-Hamu, Nickel & Le, *Flow Matching for Generative Modeling* (2022), arXiv:2210.02747: the same denoiser
#   under another name.
# - Murphy, *Probabilistic Machine Learning: Advanced Topics* (2023), the chapter on diffusion models.
