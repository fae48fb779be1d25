# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Stage 1: Foundations and energy
#
# **The claim.** An energy determines a distribution and hands out neither of the two things that one wants of it: its
# normaliser, and draws. Both must be paid for, in few dimensions with a sum over a grid, in many with chains. And both fail
# without a sign: a chain that has seen half of the distribution prints healthy numbers, a sampler looks right on an energy
# that is wrong, an estimate of the normaliser carries an interval that leaves the truth out. Here each of the two is got in
# several ways, each is broken on purpose, and for each break one number is shown that sees it.
#
# Needed: probability densities, gradients, a little PyTorch. The whole runs in a few minutes on two cores.

# %%
import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

import sixfold
from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.core.likelihood import Exact, Kind, LogProb
from sixfold.core.model import Batch, Fills, HasDensity, HasEnergy, HasLatent, HasPrior, HasScore, HasTrajectory
from sixfold.core.spec import DataSpec, Support
from sixfold.data import from_arrays
from sixfold.data.toys import Mixture, NoisyCurve, moons
from sixfold.evaluate.plane import kl_divergence
from sixfold.evaluate.sliced import sliced_wasserstein
from sixfold.models.energy.ebm import EBM
from sixfold.models.energy.rbm import RBM
from sixfold.plot.chains import Ends, along_chains, bracket, ends, energy_bar, energy_map
from sixfold.plot.curves import curves
from sixfold.plot.display import play, show
from sixfold.plot.images import to_pixels
from sixfold.plot.plane import Window, density_map, error_map, points
from sixfold.plot.sheets import sheet
from sixfold.plot.style import FAMILY_COLOURS, family_colour, figure, style
from sixfold.plot.taxonomy import Row, taxonomy
from sixfold.solve.quadrature import lattice, log_integral
from sixfold.testing.exercises import check_answer

warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)  # torch's own, at its first derivative
FAST = os.environ.get("SIXFOLD_COURSE") == "fast"
INK, PINK = FAMILY_COLOURS["data"], family_colour("energy/ebm")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## What it means to model a distribution
#
# Data come from a law $p$ that nobody knows. A model is another law $q$, and one can ask three things of it: how likely is
# this $x$ (a density), give me a new $x$ (draws), what is behind this $x$ (a code). No family answers all three well. What
# "close to $p$" means for a density is the Kullback-Leibler divergence,
#
# $$\mathrm{KL}(p \,\|\, q) = \underbrace{\mathbb{E}_p[-\log q(x)]}_{\text{what the data cost under } q} -
# \underbrace{\mathbb{E}_p[-\log p(x)]}_{\text{entropy: the least possible}} \ge 0 ,$$
#
# so that making the data likely, *maximum likelihood*, is the same as bringing this divergence down. Two moons are a law that
# we do know, so that the nats which a model loses can be counted. The simplest model is the Gaussian with the data's mean and
# covariance.

# %%
data, truth = sixfold.load_data("moons"), moons()
test = data.test.x[:500] if FAST else data.test.x
mean, cov = data.train.x.mean(0).double(), data.train.x.double().T.cov()
logdet = float((2 * math.pi * cov).logdet())


def gaussian_log_prob(x: Tensor) -> LogProb[Exact]:
    off = x.double() - mean
    return LogProb(-((off @ cov.inverse() * off).sum(1) + logdet) / 2, Exact, "closed form", dims=2)


def divergence(model: HasDensity[Kind]) -> float:
    """KL from the truth to a model in nats, by quadrature."""
    return kl_divergence(truth.log_prob, partial(model.log_prob, effort=128), truth.low, truth.high, step=0.05).value


by_grid = kl_divergence(truth.log_prob, gaussian_log_prob, truth.low, truth.high, step=0.05)
excess = truth.log_prob(test).double() - gaussian_log_prob(test).nats
error = float(excess.std()) / math.sqrt(len(test))
print(f"least possible: {truth.best_nll:.4f} nats; the Gaussian: {1 + logdet / 2:.4f} nats")
print(f"KL(truth | Gaussian): {by_grid.value:.4f} nats by a grid, {float(excess.mean()):.4f} ± {error:.4f} over test data")
assert abs(by_grid.value - float(excess.mean())) < 5 * error

# %% [markdown]
# The two agree: over test data one only averages $\log p - \log q$, and the grid takes the same average exactly. The Gaussian
# has the right mean, width and tilt, and knows nothing of moons. On the right: red where it has too much density, blue where
# too little.

# %%
window = Window.around(data.test.x, margin=0.2)
side = 40 if FAST else 110
grid = window.grid(side)
true_nats = truth.log_prob(grid)
with style():
    made = figure(7.6, 2.7)
    left, middle, right = made.subplots(1, 3)
    top = float(true_nats.exp().max())
    density_map(left, true_nats, window, top=top, title="the truth")
    density_map(middle, gaussian_log_prob(grid).nats, window, top=top, title="a Gaussian")
    error_map(right, gaussian_log_prob(grid).nats, true_nats, window, limit=top, title="the difference")
    show(made)

# %% [markdown]
# ## Explicit, approximate, implicit
#
# How a model answers the first question sorts the families. *Explicit* models compute their density; *approximate* ones have
# a density that they can only bound, or know up to its integral, or get by numerical work; *implicit* ones have draws alone.
# In this library a likelihood carries its kind and every other ability is a protocol, so that the table below is not written
# by hand: each registered model is built on four sorts of data and asked.
#
# The signs: `=` exact, `>=` a lower bound, `≈` numerical with a tolerance, `~` a random estimate, `∝` known up to a constant.

# %%
SORTS = {
    "points": DataSpec((2,), Support("real")),
    "real images": DataSpec((1, 6, 6), Support("real")),
    "grey images": DataSpec((1, 6, 6), Support("levels", 17)),
    "binary images": DataSpec((1, 6, 6), Support("binary")),
}
ABILITIES = {
    "energy": HasEnergy, "score": HasScore, "encodes": HasLatent, "decodes": HasPrior, "completes": Fills,
    "shows its way": HasTrajectory,
}  # fmt: skip


def asked(name: str, spec: DataSpec) -> tuple[str, list[bool]]:
    """The sign of a model's likelihood and its abilities, from an instance that has seen made-up data."""
    model, size = sixfold.build(name, spec).eval(), spec.support.size
    x = torch.randn(8, *spec.shape, generator=seeded(0))
    x = x if size is None else (x.abs() * size).long().clamp(max=size - 1).to(spec.dtype)
    model.prepare(Split(x))
    sign = model.log_prob(x[:2], effort=4, generator=seeded(1)).kind.symbol if isinstance(model, HasDensity) else "none"
    return sign, [isinstance(model, ability) for ability in ABILITIES.values()]


def row_of(name: str) -> Row:
    """One model on all sorts of data; it is explicit if some data have an exact likelihood."""
    found: dict[str, tuple[str, list[bool]]] = {}
    for sort, spec in SORTS.items():
        try:
            found[sort] = asked(name, spec)
        except Unsupported:  # such data are not for this model
            continue
    signs = {sign for sign, _ in found.values()}
    group = "explicit" if "=" in signs else "implicit" if signs == {"none"} else "approximate"
    return Row(name, group, [found[s][0] if s in found else "" for s in SORTS], next(iter(found.values()))[1])


# %%
groups = ["explicit", "approximate", "implicit"]
rows = sorted(map(row_of, sixfold.names()), key=lambda row: groups.index(row.group))
with style():
    show(taxonomy(rows, [*SORTS], [*ABILITIES]))
sorted_out = {group: sorted({row.name.partition("/")[0] for row in rows if row.group == group}) for group in groups}
print(sorted_out)
assert sorted_out["explicit"] == ["autoregressive", "flow"]
assert sorted_out["implicit"] == ["gan"]

# %% [markdown]
# Read the rows of the energy family. In the plane their likelihood is numerical, because there the integral can be summed.
# For images it is `∝`, a number up to a constant that nobody knows, or `~`, a random estimate. They alone have an *energy*.
# The rest of this stage is about what it takes to get from `∝` to the other signs.
#
# ## An energy and what it lacks
#
# Any function $E(x)$ that grows fast enough is a law:
#
# $$p(x) = \frac{e^{-E(x)}}{Z}, \qquad Z = \int e^{-E(x)}\,dx .$$
#
# Low energy is likely. Ratios are free, $\log p(a) - \log p(b) = E(b) - E(a)$, and so is the score
# $\nabla_x \log p = -\nabla_x E$: the constant $\log Z$ drops out of both. The freedom has a price in learning, for the
# likelihood holds $\log Z$:
#
# $$-\nabla_\theta \log p(x) = \nabla_\theta E(x) + \nabla_\theta \log Z, \qquad
# \nabla_\theta \log Z = -\,\mathbb{E}_{x^- \sim p}[\nabla_\theta E(x^-)] .$$
#
# Push the energy down at data, pull it up at draws of the model. Both sides can be computed on the line, where $Z$ is a sum
# over a grid.

# %%
x_data = sixfold.load_data("mixture1d").train.x[:1000].double()
x_grid, cell = lattice([-8.0], [8.0], [2000])
theta = torch.tensor([0.4, 0.3, 0.02], dtype=torch.float64, requires_grad=True)


def quartic(x: Tensor) -> Tensor:
    return theta[0] * x[:, 0] + theta[1] * x[:, 0] ** 2 + theta[2] * x[:, 0] ** 4


nll = quartic(x_data).mean() + (-quartic(x_grid)).logsumexp(0) + math.log(cell)
(slope,) = torch.autograd.grad(nll, theta)
weights = (-quartic(x_grid)).softmax(0).detach()  # the model's law on the grid
(contrast,) = torch.autograd.grad(quartic(x_data).mean() - weights @ quartic(x_grid), theta)
print("gradient of the negative log-likelihood:   ", [f"{v:.6f}" for v in slope.tolist()])
print("mean over data less mean over the model:   ", [f"{v:.6f}" for v in contrast.tolist()])
assert torch.allclose(slope, contrast, atol=1e-9)

# %% [markdown]
# ## Contrastive divergence with persistent chains
#
# In more dimensions the model's mean needs draws of the model, which move as it learns. The trick of *persistent* chains:
# keep a few thousand walkers, move them a few steps downhill-with-noise at each update, never start them anew. `energy/ebm`
# does that. Its energy is a network plus a bowl $|u|^2/2$, which keeps $Z$ finite; its steps are Langevin's, taken or left by
# the rule of Metropolis, so that the chains are after $e^{-E}/Z$ itself and not something wider.
#
# `sixfold.fit` would train it in one line. Here is the loop by hand, because we want to look in between, and because we shall
# break it: `persistent=False` throws all chains back to noise before every update.


# %%
def training(model: EBM, steps: int, *, persistent: bool = True, seed: int = 0) -> Iterator[int]:
    """Train in place; gives the number of each step before it is taken."""
    generator, x = seeded(seed), data.train.x
    model.prepare(data.train)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        yield step
        if not persistent:
            model.chains.normal_(generator=generator)
        batch = x[torch.randint(len(x), (256,), generator=generator)]
        # Chains walk on; then the energy of the data less that of the chains.
        terms = model.loss(Batch(batch, Draws(256, generator=generator)), "model")
        optimiser.zero_grad()
        torch.autograd.backward(terms.loss.mean())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def walkers(energies: Tensor, x: Tensor, title: str) -> Figure:
    """Points on an energy, one frame of an animation."""
    made = figure(3.3, 3.5)
    axes = made.subplots()
    energy_map(axes, energies, window, top=8.0)
    points(axes, x, window, colour="#111111", title=title, size=8)
    return made


# %%
STEPS = 8 if FAST else 1000
shown = {round((STEPS - 1) * (i / 15) ** 2) for i in range(16)}
torch.manual_seed(0)
model = EBM(data.spec, width=16 if FAST else 128)
states: list[tuple[int, Tensor, Tensor, float]] = []
for step in training(model, STEPS):
    if step in shown:
        states.append((step, model.energy(grid), model.codec.decode(model.chains[:300]), divergence(model)))
model.eval()
with style():
    play((walkers(e, x, f"step {step}: {kl:.3f} nats lost") for step, e, x, kl in states), seconds=6)
print(f"KL to the truth: {states[0][3]:.3f} nats before training, {divergence(model):.3f} nats after {STEPS} steps")
assert FAST or divergence(model) < 0.05, divergence(model)

# %% [markdown]
# A line for each nat of energy, bright where it is low; dots are persistent chains. The surface starts as the bowl, and the
# chains as draws of it. Where data are and chains are not the surface sinks, where chains are and data are not it rises, and
# the chains run after it. When both are alike, the mean of the gradient is zero, and that is the only sign of success that
# the loss ever gives: its value hovers about zero from the start. The numbers above each frame are not from the loss. They
# come from quadrature.
#
# ## The first missing thing: log Z
#
# In the plane $Z$ is a sum over a grid. The error bar comes from doing it twice, on a box twice as wide with as many points.


# %%
def minus_energy(x: Tensor) -> Tensor:
    return -model.energy(x.float())


fine, _ = log_integral(minus_energy, [5.0, 5.0], count=60 if FAST else 400)
found = {count: log_integral(minus_energy, [5.0, 5.0], count=count) for count in (6, 12, 25, 50, 100, 200)}
for count, (value, bar) in found.items():
    print(f"{count:4} points a side: log Z = {value:8.4f} ± {bar:.4f} nats, off by {abs(value - fine):.4f}")
values = model.log_prob(test[:100]).nats + model.energy(test[:100])
print(f"log_prob(x) + energy(x) is one number for all x: {float(-values.mean()):.4f}, which varies by {float(values.std()):.1e}")
assert float(values.std()) < 1e-4
assert FAST or (abs(found[6][0] - fine) > 0.1 and abs(found[100][0] - fine) < 5e-3), found
pixels = 64
print(f"the same 50 points a side for {pixels} pixels: 10^{pixels * math.log10(50):.0f} evaluations")

# %% [markdown]
# Once the spacing is finer than the finest detail, the sum converges faster than any power of it. Before that it is off by
# much, and here the error bar says so, because two grids that are both too coarse disagree. (They need not: a mode so narrow
# that both grids step over it is missing from both.) What rules the method out is the last line: the number of points is a
# power of the number of dimensions.
#
# ## The second missing thing: draws
#
# Draws come from chains. A Langevin step goes downhill by the gradient and adds noise,
#
# $$u' = u - h\,\nabla E(u) + \sqrt{2hT}\;n, \qquad n \sim \mathcal{N}(0, I),$$
#
# and at temperature $T = 1$ the chains end up as draws of $e^{-E}/Z$. How long until "end up"? The usual look: the energy of
# chains along their way, beside that of data.

# %%
path = model.trajectory(100, frames=8 if FAST else 24, steps=10 if FAST else 400, generator=seeded(1))
along = torch.stack([model.energy(frame) for frame in path.frames])
with style():
    show(along_chains(path.times, along, model.energy(test[:2000]), colour=PINK))

# %% [markdown]
# From wide noise the energy falls within a few dozen steps into the band of the data and stays there. It is tempting to stop
# here. But energy is one number, and a law is more than its energies. So put all chains on one end of one moon, let them
# walk, and ask two things: how far is their mean energy from the model's, and which share of them is on the other moon? Since
# this is the plane, quadrature knows both answers.

# %%
cells, volume = lattice(truth.low, truth.high, [60 if FAST else 300] * 2)
energy_of_cells, truth_of_cells = model.energy(cells.float()).double(), truth.log_prob(cells)
outer, inner = (NoisyCurve({name: branch}, truth.noise) for name, branch in truth.branches.items())


def on_inner(x: Tensor) -> Tensor:
    """Which points are nearer to the inner moon."""
    return (inner.log_prob(x) > outer.log_prob(x)).double()


def tempered(temperature: float) -> Tensor:
    """Probability of each cell under exp(-E / T) / Z(T)."""
    return (-energy_of_cells / temperature).softmax(0)


def walk(start: EBM, temperature: float, stops: list[int], chains: int) -> Iterator[tuple[int, Tensor]]:
    """Chains from the left end of the outer moon by small steps alone, and where they are after so many."""
    lost, generator, done = copy.deepcopy(start), seeded(2), 0
    lost.restart = 0.0  # the model's own sampler also jumps, which needs few dimensions
    x = torch.tensor([[-1.0, 0.0]]).repeat(chains, 1)
    for stop in stops:
        lost.chains = lost.codec.encode(x, Draws(chains, generator=generator))[0]
        x = lost.sample(chains, steps=stop - done, temperature=temperature, generator=generator)
        done = stop
        yield stop, x


# %%
stops = [1, 2, 4] if FAST else [1, 3, 7, 15, 30, 60, 100, 160, 250, 400, 640, 1000, 1600]
results: dict[float, list[tuple[int, float, float, float]]] = {}
for temperature in (1.0, 0.5):
    law = tempered(temperature)
    exact = float(law @ energy_of_cells)
    for stop, x in walk(model, temperature, stops, 50 if FAST else 500):
        e = model.energy(x)
        gap, half = float(e.mean()) - exact, 2 * float(e.std()) / math.sqrt(len(e))
        results.setdefault(temperature, []).append((stop, gap, half, float(on_inner(x).mean())))
    print(f"T = {temperature}: the model has {float(law @ on_inner(cells)):.3f} of its mass on the inner moon")
for stop, gap, half, share in results[1.0]:
    print(f"{stop:5} steps: energy off by {gap:6.3f} ± {half:.3f} nats, share of chains on the inner moon {share:.3f}")

# %%
columns = {f"T = {temperature:g}": list(zip(*rs, strict=True)) for temperature, rs in results.items()}
with style():
    made = figure(7.6, 2.7)
    left, right = made.subplots(1, 2)
    curves(left, {name: (c[0], c[1]) for name, c in columns.items()}, xlabel="steps", ylabel="energy off by, nats")
    curves(right, {name: (c[0], c[3]) for name, c in columns.items()}, xlabel="steps", ylabel="share on the inner moon")
    for axes, truly in ((left, 0.0), (right, 0.5)):
        axes.axhline(truly, color=INK, linewidth=1.0, linestyle=(0, (6, 2)))
        axes.set_xscale("log")
    show(made)
for temperature, rs in results.items():
    healthy = [(stop, share) for stop, gap, half, share in rs if abs(gap) < half + 0.02] or [(0, 0.0)]
    print(f"T = {temperature}: energy first right after {healthy[0][0]} steps, with {healthy[0][1]:.3f} on the inner moon")
    assert FAST or healthy[0][1] < 0.3, healthy
assert FAST or results[1.0][-1][3] > 0.35, results[1.0][-1]

# %% [markdown]
# On the left the energies say "arrived" while on the right most chains have never been on the other moon: the first silent
# failure. At that time all chains agree with each other, so that no comparison among them would tell. What tells is a start
# that is wider than the target (then chains disagree until they have mixed), or a question about something other than the
# energy. The colder law is worse, because its barrier is twice as high: time to cross grows like $e^{\text{barrier}/T}$.
# *Change this and run again*: $T = 0.25$.

# %%
stops = [1, 3, 5] if FAST else [1, 3, 6, 10, 16, 25, 40, 60, 90, 130, 180, 250, 340, 460, 620, 800]
with style():
    e = model.energy(grid)
    frames = walk(model, 1.0, stops, 30 if FAST else 250)
    play((walkers(e, x, f"{n} steps: {float(on_inner(x).mean()):.2f} on the inner moon") for n, x in frames), seconds=6)

# %% [markdown]
# ## What temperature does
#
# Dividing the energy by $T < 1$ makes draws more typical, which looks like quality. With $\beta = 1/T$ everything follows
# from $\log Z(\beta)$:
#
# $$\frac{d \log Z}{d\beta} = -\,\mathbb{E}_\beta[E], \qquad H_\beta = \log Z(\beta) + \beta\,\mathbb{E}_\beta[E] ,$$
#
# the first of which is checked below by autograd. Then the tempered laws are scored as models of two moons.

# %%
for temperature in (0.25, 0.5, 1.0, 2.0):
    beta = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
    total = (-beta * energy_of_cells).logsumexp(0) + math.log(volume)
    (by_slope,) = torch.autograd.grad(total, beta)
    law, log_z = tempered(temperature), float(total.detach())
    typical, log_q = float(law @ energy_of_cells), -energy_of_cells / temperature - log_z
    assert abs(typical + float(by_slope)) < 1e-6
    lost_nats = float(truth_of_cells.exp() @ (truth_of_cells - log_q)) * volume
    looks = float(law @ truth_of_cells)
    print(f"T = {temperature:4}: entropy {log_z + typical / temperature:6.3f} nats, log p(draws) under the truth {looks:6.3f},"
          f" KL to the truth {lost_nats:6.3f} nats")  # fmt: skip
    if temperature == 0.25:
        assert FAST or (lost_nats > 0.3 and looks > -truth.best_nll), (lost_nats, looks)

# %%
with style():
    made = figure(7.6, 2.75)
    for axes, temperature in zip(made.subplots(1, 3), (0.25, 1.0, 2.0), strict=True):
        num, steps = (50, 2) if FAST else (1000, 80)
        x = model.sample(num, steps=steps, temperature=temperature, generator=seeded(3))
        e, law = model.energy(x), tempered(temperature)
        exact, half = float(law @ energy_of_cells), 5 * float(e.std()) / math.sqrt(num)
        assert FAST or abs(float(e.mean()) - exact) < half + 0.02, (temperature, float(e.mean()), exact)
        energy_map(axes, model.energy(grid) / temperature, window)
        points(axes, x, window, colour="#111111", size=3, title=f"T = {temperature}")
    show(made)

# %% [markdown]
# At $T = 1/4$ every draw is one that the truth finds likely, more so than its own draws are on average: by the look of single
# samples the cold sampler beats the data. As a law it is worse by far than at $T = 1$, for the blur of the moons is gone.
# Many energy-based image models are trained with noise so small that the temperature is near zero; their samples are then low
# points of $E$, not draws of $e^{-E}$, and no likelihood can be read off them.
#
# ## Too few steps in training
#
# Now the break in the training loop: chains start from noise at every update and walk ten steps. The gradient then compares
# data with *where ten steps lead*, and the energy is shaped until ten steps lead to data. That it be the energy of the data
# is asked by nobody. Beside it stands a control that differs in nothing but that its chains go on.


# %%
def trained_with(*, persistent: bool) -> EBM:
    """A model whose chains walk ten small steps an update, and either go on from there in the next or start anew."""
    torch.manual_seed(0)
    model = EBM(data.spec, width=16 if FAST else 128, restart=0.0, walk=10)
    for _ in training(model, 8 if FAST else 500, persistent=persistent):
        pass
    return model.eval()


short, control = trained_with(persistent=False), trained_with(persistent=True)
num = 100 if FAST else 3000
floor = sliced_wasserstein(data.train.x[:num], test[:num])
print(f"{'real data':>20}: sliced distance to test data {floor:.3f}, mean log p under the truth {-truth.best_nll:.3f}")
drawn: dict[int, Tensor] = {}
for steps in (10, 40, 160) if FAST else (10, 40, 160, 640):
    drawn[steps] = short.sample(num, steps=steps // 10 if FAST else steps, start="base", generator=seeded(4))
    far, looks = sliced_wasserstein(drawn[steps], test[:num]), float(truth.log_prob(drawn[steps]).mean())
    print(f"{steps:4} steps from noise: sliced distance to test data {far:.3f}, mean log p under the truth {looks:.3f}")
own, later = (sliced_wasserstein(drawn[steps], test[:num]) for steps in (10, 160))
print(f"KL to the truth: {divergence(short):.3f} nats of this energy, {divergence(control):.3f} of the control's")
assert FAST or float(truth.log_prob(drawn[160]).mean()) > float(truth.log_prob(drawn[10]).mean())
assert FAST or (later > 3 * own and divergence(short) > 4 * divergence(control)), (own, later, divergence(short))

# %%
with style():
    made = figure(7.6, 2.75)
    left, middle, right = made.subplots(1, 3)
    points(left, drawn[10], window, colour=PINK, size=3, title="10 steps: as in training")
    points(middle, drawn[160], window, colour=PINK, size=3, title="160 steps: nearer to its law")
    image = energy_map(right, short.energy(grid), window, title="the energy it has learned")
    energy_bar(made, image, [right])
    show(made)

# %% [markdown]
# With the number of steps that it was trained with, the sampler is close to real data. With more steps, which should only
# bring it closer to its own law, it gets worse: the second silent failure, a good sampler on a wrong energy. Note the other
# column, too: as chains go on, the truth finds their ends *likelier*. Two numbers see through it, the divergence of the
# energy and the distance of *long* chains; neither is the training loss. Used as a sampler of ten steps the model is fine.
# Used as an energy, for likelihoods or anomalies, it misleads. *Change this and run again*: `walk=3`.
#
# ## Denoising score matching: no chains, another blind spot
#
# One can learn $E$ without $Z$ and without chains by matching scores, $\mathbb{E}_p|\nabla E + \nabla\log p|^2$. The score of
# the data is unknown, but that of *noisy* data has a regression for it: with $z = x + \sigma\varepsilon$, the best prediction
# of $\varepsilon/\sigma$ from $z$ is $-\nabla\log p_\sigma(z)$. `energy/dsm` fits one energy $E(z, \sigma)$ to all noise
# levels so. Same data, same axes; energies have a free constant, so each is compared with $-\log p$ after the best constant
# has been taken out.

# %%
dsm = sixfold.fit("energy/dsm", data, steps=4 if FAST else 1000, width=16 if FAST else 128, validate_every=0.0)
assert isinstance(dsm, HasEnergy)
assert isinstance(dsm, HasDensity)
for name, energy in (("chains", model.energy(test)), ("denoising", dsm.energy(test))):
    off = energy + truth.log_prob(test)
    print(f"{name:>10}: constant {float(off.mean()):7.3f} nats; after it, off by {float(off.std()):.3f} nats over test data")
lost = {"chains": divergence(model), "denoising": divergence(dsm)}
print("KL to the truth, nats:", {name: f"{value:.3f}" for name, value in lost.items()})
assert FAST or max(lost.values()) < 0.15, lost

# %%
with style():
    made = figure(7.6, 2.4)
    panels = list(made.subplots(1, 3))
    surfaces = {"the truth": -true_nats, "persistent chains": model.energy(grid), "denoising": dsm.energy(grid)}
    for axes, (title, e) in zip(panels, surfaces.items(), strict=True):
        image = energy_map(axes, e, window, title=title)
    energy_bar(made, image, panels)
    show(made)

# %% [markdown]
# Both energies are right where data are. They differ where data never were, and there neither is told anything: chains visit
# such places early in training and then leave, noisy data reach as far as the noise.
#
# What a score cannot see is what regions weigh against each other. Take two Gaussians far apart with weights 1/2 and 1/2, and
# a model that says 9/10 and 1/10. The divergence between the two laws, and the mean squared difference of their scores (the
# Fisher divergence $F$), at growing noise:

# %%
line, width = lattice([-60.0], [60.0], [400 if FAST else 6000])
centres = torch.tensor([[-2.5], [2.5]], dtype=torch.float64)


def apart(variance: float) -> tuple[float, float]:
    """KL and Fisher divergence of the two laws after noise of this variance, by quadrature."""
    std = math.sqrt(0.3**2 + variance)
    u = line.clone().requires_grad_()
    p, q = (Mixture(centres, std, torch.tensor(w, dtype=torch.float64)).log_prob(u) for w in ([0.5, 0.5], [0.9, 0.1]))
    (slope,) = torch.autograd.grad((p - q).sum(), u)
    mass = p.detach().exp() * width
    return float(mass @ (p - q).detach()), float(mass @ slope[:, 0].square())


for sigma in (0.0, 0.5, 1.0, 2.0, 4.0):
    kl, fisher = apart(sigma**2)
    print(f"noise {sigma:3}: KL {kl:.4f} nats, F {fisher:.2e}")
assert apart(0.0)[1] < 1e-6
assert abs(apart(0.0)[0] - math.log(5 / 3)) < 1e-6
times = torch.linspace(0.0, math.sqrt(200.0), 60 if FAST else 400).square()  # variances, denser at little noise
fishers = torch.tensor([apart(float(t))[1] for t in times], dtype=torch.float64)
collected = float(torch.trapezoid(fishers, times.double())) / 2 + apart(200.0)[0]
print(f"half the integral of F over the noise's variance, and what is left: {collected:.4f} nats; KL: {apart(0.0)[0]:.4f} nats")
assert abs(collected - apart(0.0)[0]) < (0.02 if FAST else 2e-3)

# %% [markdown]
# Without noise the scores agree to many digits, and the weights could be anything: the third silent failure. The last line is
# why denoising at *many* levels nevertheless learns a law. Noise wears the difference of two laws down at half the Fisher
# divergence, $\frac{d}{d\sigma^2}\,\mathrm{KL}(p_\sigma\|q_\sigma) = -\frac12 F(p_\sigma\|q_\sigma)$, so that all levels
# together hold the whole of the divergence. Stage 5 comes back to this.
#
# ## A Boltzmann machine of digits, and log Z by annealing
#
# In 64 dimensions no grid helps. A restricted Boltzmann machine has pixels $v$ and hidden units $h$ with
# $E(v, h) = -v^\top b - h^\top c - v^\top W h$. Its hidden units can be summed out by hand, so that one has the free energy
# $F(v)$ and fast chains: all $h$ given $v$, all $v$ given $h$. Training is the same contrast of data and persistent chains.
# What is left is $\log Z$.

# %%
grey = sixfold.load_data("digits")
images = torch.cat([part.x for part in (grey.train, grey.valid, grey.test)])
digits = from_arrays((images > 7).to(torch.uint8), name="digits in black and white")
trained = sixfold.fit("energy/rbm", digits, hidden=8 if FAST else 128, steps=5 if FAST else 4000)
assert isinstance(trained, RBM)
drawings = {"data": digits.test.x[:16]}
for steps in (1, 10, 100, 1000):
    drawings[f"{steps} steps"] = trained.sample(16, steps=min(steps, 5) if FAST else steps, start="base", generator=seeded(5))
with style():
    show(sheet(to_pixels(torch.cat([*drawings.values()]), trained.spec), 16, rows=[*drawings], width=7.6))

# %% [markdown]
# *Annealed importance sampling* leads chains from a law with known $Z_0$ (independent pixels) to the machine through $K$
# temperatures and multiplies the ratios that they meet. The product $w$ has mean exactly $Z/Z_0$, for any $K$. Its
# *logarithm* is too low on average (Jensen), and the same way walked back from draws of the machine is too high. Run both,
# and $\log Z$ is between: a bracket. Above: digits, and chains of the machine from independent pixels on.


# %%
def brackets(machine: RBM, efforts: list[int]) -> tuple[list[Ends], list[Ends]]:
    """Forward and reverse estimates of log Z at growing numbers of temperatures."""
    pairs = [machine.bracket(effort=effort) for effort in efforts]
    return [ends(pair.lower) for pair in pairs], [ends(pair.upper) for pair in pairs]


efforts = [3, 10] if FAST else [3, 10, 30, 100, 300, 1000]
forward, backward = brackets(trained, efforts)
with style():
    show(bracket(efforts, forward, backward, colour=PINK))
free = trained.energy(digits.test.x).double()
low, high = forward[-1][1], backward[-1][2]
print(f"log Z between {low:.3f} and {high:.3f} nats")
print(f"-log p of test digits between {float(free.mean()) + low:.3f} and {float(free.mean()) + high:.3f} nats")
print(f"log_prob says: {trained.log_prob(digits.test.x, effort=efforts[-1]).mean()}")
assert FAST or high - low < 0.3, (low, high)

# %% [markdown]
# Note the direction. A forward estimate of $\log Z$ is too *low*, so that the likelihood $-F - \log Z$ comes out too *high*:
# the usual estimate flatters the model, the more the fewer temperatures it was given. That is why `log_prob` prints `~`, and
# why the pair of numbers is worth more than either.
#
# ## A machine whose log Z is known
#
# With 16 hidden units $Z$ is a sum over $2^{16}$ states. So the bracket can be put to the test: on the machine as trained,
# and on the same machine with all weights five times as large, which is temperature 1/5. Its modes are then deep, and chains
# hardly leave them.

# %%
tiny = sixfold.fit("energy/rbm", digits, hidden=6 if FAST else 16, steps=5 if FAST else 2000)
assert isinstance(tiny, RBM)
cold = copy.deepcopy(tiny)
with torch.no_grad():
    for parameter in cold.parameters():
        parameter.mul_(5.0)


def log_z_of(machine: RBM) -> float:
    """Log Z by enumeration: log p(v) = -F(v) - log Z for any v."""
    v = digits.test.x[:1]
    log_prob = machine.log_prob(v)
    assert log_prob.kind is Exact
    return float(-machine.energy(v).double() - log_prob.nats.double())


efforts = [3, 10] if FAST else [10, 30, 100, 300, 1000]
below: dict[str, list[float]] = {}  # the reverse estimate less the truth
for name, machine in (("as trained", tiny), ("cold", cold)):
    exact = log_z_of(machine)
    forward, backward = brackets(machine, efforts)
    print(f"{name}: log Z = {exact:.3f} nats by enumeration; estimates less that, and 95% intervals:")
    for effort, *both in zip(efforts, forward, backward, strict=True):
        told = [f"{v - exact:6.3f} ({low - exact:6.3f} to {high - exact:6.3f})" for v, low, high in both]
        print(f"{effort:6} temperatures: forward {told[0]}, reverse {told[1]}")
    below[name] = [v - exact for v, *_ in backward]
with style():
    show(bracket(efforts, forward, backward, colour=PINK, exact=exact))
assert FAST or abs(below["as trained"][-1]) < 0.15, below
assert FAST or sum(value < -0.3 for value in below["cold"]) >= 3, below

# %% [markdown]
# On the machine as trained both runs are right from few temperatures on. On the cold one the reverse run, which should lie
# above, lies *below* the truth, and its narrow interval does not hold it: the fourth silent failure. It was promised draws of
# the machine. Its chains come from the training, at temperature 1, and hardly move, so that modes stand in wrong proportions,
# and nothing in its weights knows. What shows it is the order of the two: beyond chance, an upper end below the lower one is
# impossible if both are what they say. The forward run trusts nothing: it starts from exact draws, and recovers as
# temperatures grow. *Change this and run again*: 2 or 10 instead of 5.
#
# ## What stands
#
# | missing | how to get it | fails silently when | what sees it |
# |---|---|---|---|
# | draws | long chains | chains share a start and a mode; energies look right | a wide start; a question other than the energy |
# | draws | short chains from noise, in training too | the energy is bent until they land well | longer chains get worse |
# | the gradient | persistent chains | they lag behind the energy | the density by another way |
# | the gradient | scores of noisy data | regions are weighed by large noise alone | draws' shares of the regions |
# | $\log Z$ | a grid | finer detail than the grid; more than a few dimensions | two grids |
# | $\log Z$ | annealing, forward | few temperatures flatter the model | the reverse run |
# | $\log Z$ | annealing, reverse | its start is no draw | it falls below the forward run |
#
# ## Exercises
#
# Each asks for a function. `check_answer` says which facts hold and, of those that fail, what was got. The drafts below are
# wrong on purpose.
#
# **1. A Langevin step.** Write `step(x, score, size, generator)`: points `x` of shape `(N, 2)` after one unadjusted step of
# size $h$, $x + \frac h2\,\mathrm{score}(x) + \sqrt h\,n$ (the step of the text with $h$ halved). All chance comes from the
# generator.


# %%
def my_step(x: Tensor, score: Callable[[Tensor], Tensor], size: float, generator: torch.Generator) -> Tensor:
    return x + size * score(x) + size * torch.randn_like(x)


print(check_answer("langevin step", my_step))

# %% [markdown]
# **2. The free energy of a Boltzmann machine.** Write `free_energy(v, weight, visible, hidden)` for visible units `v` of
# shape `(N, V)`: $F(v) = -\log \sum_h e^{\,v^\top b + h^\top c + v^\top W h}$, as `(N,)`. The sum over $2^H$ states is a
# product over hidden units. Why it matters: this is where the hidden units' integral was got for nothing, and where a
# careless logarithm overflows.


# %%
def my_free_energy(v: Tensor, weight: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
    on = torch.sigmoid(v @ weight + hidden)
    return -(v @ visible) - (on * (v @ weight + hidden)).sum(1)


print(check_answer("rbm free energy", my_free_energy))

# %% [markdown]
# **3. The contrastive loss.** Write `loss(energy, data, chains)`, a number whose gradient in the energy's parameters is that
# of the negative log-likelihood when `chains` are draws of the model. Public code has had its sign turned, and has let
# gradients flow back through the walk of the chains; both train something else without an error.


# %%
def my_loss(energy: Callable[[Tensor], Tensor], data: Tensor, chains: Tensor) -> Tensor:
    return energy(chains).mean() - energy(data).mean()


print(check_answer("contrastive loss", my_loss))

# %% [markdown]
# ## Companions
#
# - LeCun, Chopra, Hadsell, Ranzato and Huang, *A Tutorial on Energy-Based Learning* (2006).
# - Song and Kingma, *How to Train Your Energy-Based Models* (2021), arXiv:2101.03288.
# - Tieleman, *Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient* (2008), ICML.
# - Nijkamp, Hill, Zhu and Wu, *Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based Model* (2019),
#   arXiv:1904.09770.
# - Du and Mordatch, *Implicit Generation and Modeling with Energy-Based Models* (2019), arXiv:1903.08689.
# - Vincent, *A Connection Between Score Matching and Denoising Autoencoders* (2011), Neural Computation 23.
# - Wenliang and Kanagawa, *Blindness of score-based methods to isolated components and mixing proportions* (2020),
#   arXiv:2008.10087.
# - Neal, *Annealed Importance Sampling* (2001), Statistics and Computing 11.
# - Salakhutdinov and Murray, *On the Quantitative Analysis of Deep Belief Networks* (2008), ICML.
# - Burda, Grosse and Salakhutdinov, *Accurate and conservative estimates of MRF log-likelihood using reverse annealing*
#   (2015), arXiv:1412.8566.
# - Goodfellow, *NIPS 2016 Tutorial: Generative Adversarial Networks* (2016), arXiv:1701.00160, for the explicit and the
#   implicit.
# - Murphy, *Probabilistic Machine Learning: Advanced Topics* (2023), on energy-based models; Tomczak, *Deep Generative
#   Modeling* (2024).
