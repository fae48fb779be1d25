# %% [markdown]
# # Stage 4. Autoregressive models and flows
#
# **The claim.** Both families write $\log p(x)$ exactly, with no integral left over: one as a product of conditionals, the
# other by a change of variables. A masked autoregressive flow is both at once. The price is paid in one of two places: in
# sampling, where elements come one after the other, or in the shape of the map, which may bend space but can neither tear it
# nor punch holes in it.
#
# A second claim is about what people do next. Once values are drawn by another rule than the model's own (a lower temperature,
# the top $k$, the nucleus), samples become likelier and look cleaner, and past a small dose they cover less and less of the
# data. The likelihood of samples cannot tell you where that begins.

# %%
import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

import sixfold
from sixfold.core.likelihood import LogProb
from sixfold.core.spec import DataSpec, Support
from sixfold.data import load
from sixfold.data.toys import Toy
from sixfold.evaluate.coverage import precision_recall
from sixfold.evaluate.plane import plane_scores
from sixfold.models.autoregressive.made import MADE
from sixfold.models.flow.maf import MAF
from sixfold.models.flow.realnvp import RealNVP
from sixfold.models.vae.vae import VAE
from sixfold.nn.masked import MaskedMLP
from sixfold.plot.beside import beside
from sixfold.plot.clouds import Panel, panels, place_colours
from sixfold.plot.conditionals import Cut, conditionals
from sixfold.plot.display import play, show
from sixfold.plot.images import to_pixels
from sixfold.plot.plane import Window, density, points
from sixfold.plot.sheets import sheet
from sixfold.plot.style import DASHES, DENSITY, FAMILY_COLOURS, bare, family_colour, figure, gridded, style
from sixfold.plot.tradeoff import tradeoff
from sixfold.plot.warp import between, carried, mesh, rings, turns
from sixfold.prob.autoregressive import MaskedAffine
from sixfold.prob.unfold import stages
from sixfold.testing.exercises import check_answer

FAST = os.environ.get("SIXFOLD_COURSE") == "fast"
BLUE, GREEN, GREY = family_colour("autoregressive"), family_colour("flow"), FAMILY_COLOURS["data"]


def seeded(seed: int) -> torch.Generator:
    """A source of randomness of its own for each experiment."""
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The data: two densities that are known
#
# Spirals and a checkerboard have densities in closed form or by quadrature, so that "how far from the truth" has an answer in
# nats. The entropy is the least mean $-\log p$ that any model can reach. Both are hard for the same reason: thin structure, and
# empty places between.

# %%
DATA = {name: load(name) for name in (("spirals",) if FAST else ("spirals", "checkerboard"))}
TRUTH = {name: data.truth for name, data in DATA.items() if isinstance(data.truth, Toy)}
WINDOWS = {name: Window.around(data.train.x[:5000]) for name, data in DATA.items()}

with style():
    made = figure(7.2, 2.0)
    for (name, data), (left, right) in zip(DATA.items(), made.subplots(1, 4).reshape(2, 2), strict=False):
        density(left, TRUTH[name].log_prob, WINDOWS[name], title=name)
        points(right, data.test.x[:2000], WINDOWS[name], colour=GREY, title="2,000 draws")
    show(made)
for name, truth in TRUTH.items():
    print(f"{name}: entropy {truth.best_nll:.3f} nats")

# %% [markdown]
# ## 1. The chain rule
#
# Any density is a product of conditionals, in any order of the elements:
#
# $$\log p(x) = \sum_{i=1}^{D} \log p(x_i \mid x_1, \dots, x_{i-1}).$$
#
# Nothing is assumed so far. A model assumes a family for each factor (here a mixture of 16 Gaussians) and takes its numbers
# from a network that must see neither $x_i$ nor what follows. MADE gets all $D$ factors from one network in one pass: every
# weight is multiplied by a mask of zeros and ones. A hidden unit of degree $m$ sees the first $m$ elements, and output $i$
# hears only units of degree below $i$.
#
# Whether masks are right is a matter of derivatives. Here are those of each output by each input, for a network with random
# weights.

# %%
ORDERS = torch.tensor([[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]])
net = MaskedMLP(ORDERS, inputs=1, outputs=1, width=60, depth=1).requires_grad_(False)
for parameter in net.parameters():
    nn.init.normal_(parameter, generator=seeded(0))


def derivatives(k: int) -> Tensor:
    """How much each output moves with each input in order ``k``, the largest of 20 points, (6, 6)."""

    def outputs(x: Tensor) -> Tensor:
        out: Tensor = net(x.reshape(1, 6, 1), torch.tensor([k]))
        return out.flatten()

    return torch.stack([jacrev(outputs)(x).abs() for x in torch.randn(20, 6, generator=seeded(1))]).amax(0)


with style():
    made = figure(5.4, 2.7)
    for k, axes in enumerate(made.subplots(1, 2)):
        moved, place = derivatives(k), ORDERS[k].argsort()
        assert torch.equal(moved > 0, place[:, None] > place), "an output sees exactly the elements before its own"
        bare(axes, f"order {' '.join(map(str, ORDERS[k].tolist()))}").imshow(moved.clamp_min(1e-2).log().numpy(), cmap=DENSITY)
        axes.set(xticks=range(6), yticks=range(6), xlabel="input", ylabel="output")
    show(made)

# %% [markdown]
# Black is an exact zero. In the natural order the derivatives are strictly lower triangular, in another order they are so after
# the same reordering. The assertion says more than the picture: each output hears *every* earlier element. A mask that hides
# too much still gives a valid density, only a worse one, and no training curve will tell. The second exercise below is about
# that.
#
# Now a MADE in one order on each data set, and on the spirals the one conditional that matters, $p(x_2 \mid x_1)$.

# %%
Model = TypeVar("Model")


def fitted(kind: type[Model], name: str, data: str, *, steps: int, **options: Any) -> Model:
    """A model trained with a fixed seed, for a handful of steps in fast mode."""
    began = time.perf_counter()
    found = sixfold.fit(name, data, seed=0, steps=8 if FAST else steps, **options)
    count, took = sum(p.numel() for p in found.parameters()), time.perf_counter() - began
    print(f"{name} on {data} {options or ''}: {count:,} parameters, trained in {took:.0f} s")
    assert isinstance(found, kind)
    return found


STEPS = 1000
MADES = {name: fitted(MADE, "autoregressive/made", name, steps=STEPS, orders=1) for name in DATA}

# %%
window, spirals = WINDOWS["spirals"], MADES["spirals"]
axis = torch.linspace(window.low[1], window.high[1], 500)


def given_first(log_prob: Callable[[Tensor], Tensor], at: float) -> Tensor:
    """Density of the second coordinate given the first: the joint one along a line, over its integral."""
    joint = log_prob(torch.stack([torch.full_like(axis, at), axis], 1)).exp()
    return joint / torch.trapezoid(joint, axis)


def cut(at: float) -> Cut:
    """What MADE, its draws and the truth say of the second coordinate at one value of the first."""
    drawn = spirals.fill(torch.tensor([[at, 0.0]]).expand(400, 2), torch.tensor([True, False]), generator=seeded(0))
    assert drawn.exact
    own, true = given_first(lambda x: spirals.log_prob(x).nats, at), given_first(TRUTH["spirals"].log_prob, at)
    return Cut(at, own, drawn.x[:, 1], true)


with style():
    nats = spirals.log_prob(window.grid(120)).nats
    show(conditionals(nats, window, axis, [cut(-2.0), cut(0.0)], colour=BLUE))

# %% [markdown]
# Shaded are draws by `fill`, which keeps the first coordinate and draws the second: what comes first in the order can be given,
# exactly. At $x_1 = 0$ a line crosses the arms several times and the conditional has as many peaks; a mixture can jump between
# them. That makes the simplest model of this stage hard to beat in the plane.
#
# ## 2. The change of variables
#
# A flow sends data through an invertible map $f = f_n \circ \dots \circ f_1$ to a base with a known density, a standard normal.
# Probability is kept, so the density changes by the factor by which volume changes:
#
# $$\log p(x) = \log \mathcal N\!\left(f(x); 0, I\right) + \log\left|\det \frac{\partial f}{\partial x}\right|.$$
#
# Determinants cost $D^3$ operations, so each $f_i$ is built to have a triangular Jacobian. RealNVP's coupling leaves one half
# of the elements as it is and moves the other by functions of the first: $y_a = x_a$, $y_b = x_b\, e^{s(x_a)} + t(x_a)$, with
# $\log|\det| = \sum s(x_a)$. The inverse costs the same, and $s$ and $t$ are never inverted: they may be any network.

# %%
REALNVPS = {name: fitted(RealNVP, "flow/realnvp", name, steps=STEPS) for name in DATA}
MAFS = {name: fitted(MAF, "flow/maf", name, steps=STEPS, layers=8, mixing="reversal") for name in DATA}

# %% [markdown]
# A wrong log-determinant does not crash. It trains, towards a "likelihood" that is none. So it is checked against the Jacobian
# that autograd finds, one small matrix for each point, layer by layer and in double precision.


# %%
def checked(model: MAF | RealNVP, x: Tensor) -> tuple[Tensor, float]:
    """Mean log-determinant of each layer, (T,), and the largest difference from autograd's at points ``x``, in nats."""
    exact = copy.deepcopy(model).double().requires_grad_(False)
    there, worst = exact.layers(x), 0.0
    for step, state, logdet in zip(stages(exact.bijection), there.states[:-1], there.logdets, strict=True):
        jacobian = vmap(jacrev(lambda p, step=step: step(p[None])[0][0]))(state)
        worst = max(worst, float((torch.linalg.slogdet(jacobian).logabsdet - logdet).abs().max()))
    base = -0.5 * there.states[-1].square().sum(1) - math.log(2 * math.pi)
    rest = exact.log_prob(x).nats - base - there.logdets.sum(0)  # one constant: data are standardised before the first layer
    assert float(rest.max() - rest.min()) < 1e-9
    return there.logdets.mean(1), worst


FLOWS: dict[str, MAF | RealNVP] = {"RealNVP": REALNVPS["spirals"], "MAF": MAFS["spirals"]}
for label, flow in FLOWS.items():
    means, worst = checked(flow, DATA["spirals"].test.x[:100].double())
    print(f"{label}: mean log|det| of its layers in nats: {' '.join(f'{v:+.2f}' for v in means.tolist())}")
    print(f"    largest difference from autograd, {len(means)} layers x 100 points: {worst:.1e} nats")
    assert worst < 1e-9, worst  # rounding of float64

# %% [markdown]
# ## 3. Both at once
#
# Let each conditional be a normal, $x_i \mid x_{<i} \sim \mathcal N(m_i, e^{2 s_i})$, with $m_i$ and $s_i$ from a MADE. A draw
# is $x_i = m_i + e^{s_i} z_i$ with standard normal $z_i$. Read backwards, this is a map from data to noise,
#
# $$z_i = (x_i - m_i(x_{<i}))\, e^{-s_i(x_{<i})}, \qquad \log\left|\det \frac{\partial z}{\partial x}\right| = -\sum_i s_i,$$
#
# triangular by the order of the elements. One layer of MAF is an autoregressive model and a flow, with one number for $\log p$:

# %%
BOUND = 1.0  # of log-scales, which the layer squashes smoothly
net = MaskedMLP(torch.arange(6)[None], inputs=1, outputs=2, width=60, depth=1).double().requires_grad_(False)
for parameter in net.parameters():
    nn.init.normal_(parameter, std=0.3, generator=seeded(0))
x = torch.randn(1000, 6, generator=seeded(1), dtype=torch.float64)


def log_normal(z: Tensor) -> Tensor:
    """Standard normal log-density of each element, in nats."""
    return -0.5 * (z.square() + math.log(2 * math.pi))


z, logdet = MaskedAffine(net, bound=BOUND)(x)
by_change_of_variables = log_normal(z).sum(1) + logdet

raw, mean = net(x.unsqueeze(-1), torch.zeros(len(x), dtype=torch.long)).unbind(-1)
scale = (BOUND * torch.tanh(raw / BOUND)).exp()
by_chain_rule = (log_normal((x - mean) / scale) - scale.log()).sum(1)

apart = float((by_change_of_variables - by_chain_rule).abs().max())
print(f"largest difference between the two readings of log p at 1,000 points: {apart:.1e} nats")
assert apart < 1e-9

# %% [markdown]
# One layer has normal conditionals and no more. A stack is richer: what the first layer leaves of the data is not quite noise,
# and the next one models that, here in the reverse order of the elements. In the plane the two flows are nearly the same
# machine with other networks inside, since a layer of MAF and a coupling both move one element by a function of the other. They
# part in many dimensions: a coupling lets one half depend on the other half, MAF lets each element depend on all before it.
#
# ## 4. The plane, bent
#
# What does the map do? Each panel shows test points after some layers of RealNVP, coloured by where they began, with the mesh
# on which they began. From data to base, this is the model computing a density.

# %%
BOX = Window((-3.2, -3.2), (3.2, 3.2))  # states have about unit spread
flow = FLOWS["RealNVP"]
there = flow.layers(DATA["spirals"].test.x[:1500])
square = mesh(Window((-2.0, -2.0), (2.0, 2.0)), lines=11)
bent = carried(lambda p: flow.layers(flow.codec.decode(p)).states, square)
titles = ["data", *(f"layer {i}" for i in range(1, len(there.states) - 1)), "base"]
hues = place_colours(there.states[0])
with style():
    parts = zip(titles, there.states, bent, strict=True)
    show(panels([Panel(title, p, hues, window=BOX, mesh=m) for title, p, m in parts], columns=3, width=6.0))

again = flow.layers_back(there.states[-1]).states[-1]
error = float((again - there.states[0]).abs().max())
print(f"there and back again: off by at most {error:.1e} of 1,500 points with unit spread")
assert error < 1e-2, error  # float32 through layers that stretch

# %% [markdown]
# No two lines of one kind meet, none ends, and no cell folds over: that is what "smooth and invertible" looks like. Cells that
# grow on the way are those where data are dense. The other direction is sampling. Below, draws of the base and its contours
# (circles that hold 39, 86 and 99% of the mass) go back through the layers, noise first and data last. Between layers the
# pictures are turned so that each lies over the next, which changes nothing about the model and spares the eye its rotations.

# %%
shown = "spirals" if FAST else "checkerboard"
flow = REALNVPS[shown]
out = flow.layers_back(torch.randn(500, 2, generator=seeded(0))).states
lines = torch.cat([rings((1.0, 2.0, 3.0)), mesh(BOX, lines=9, fine=400)], dim=1)
wound = carried(lambda p: flow.layers_back(p).states, lines)
upright = turns(out.flip(0)).flip(0)  # the data stay as they are, what comes before is turned
hues = place_colours(out[-1])
COUNT = 3 if FAST else 20


def frames() -> Iterator[Figure]:
    """From base to data; between two layers everything moves straight, for the eye alone."""
    for p, m in zip(between(out @ upright, COUNT), between(wound @ upright[:, None], COUNT), strict=True):
        yield panels([Panel("", p, hues, window=BOX, mesh=m)], width=3.6)


with style():
    play(frames(), seconds=6.0, hold=2.0)

# %% [markdown]
# The disc is pulled into squares; it is never cut and no hole is punched in it. Where data are apart the model needs next to no
# mass between them, and gets there by stretching: thin, but not empty. *Set `shown = "spirals"`, or `flow` to one of `MAFS`,
# and run again.*
#
# ## 5. Learned densities beside the truth
#
# The same data, seed and number of steps for MADE and both flows, and beside them a VAE of the second stage, whose number is
# only a lower bound (32 importance samples). *Excess* is the mean of $\log p_\text{truth} - \log p_\text{model}$ over test
# points; its expectation is $\mathrm{KL}(\text{truth}\,\|\,\text{model})$, which is also computed by quadrature over the plane.
# *Misplaced* is the total variation. *Astray* is the share of the model's draws that land where the truth is lower than it is
# at 999 of 1,000 real points: between the arms, on the white squares.

# %%
VAES = {name: fitted(VAE, "vae/vae", name, steps=STEPS) for name in DATA}
Explicit: TypeAlias = MADE | MAF | RealNVP | VAE
MODELS: dict[str, dict[str, Explicit]] = {
    n: {"MADE": MADES[n], "MAF": MAFS[n], "RealNVP": REALNVPS[n], "VAE": VAES[n]} for n in DATA
}


def nats_of(model: Explicit, x: Tensor) -> LogProb[Any]:
    """Log-probability of points with its kind; a bound is taken with 32 importance samples."""
    few = 2 if FAST else 32
    return model.log_prob(x.float(), effort=few, generator=seeded(0)) if isinstance(model, VAE) else model.log_prob(x.float())


class Row(NamedTuple):
    """One model on one data set: excess with its standard error and KL in nats, shares misplaced and astray."""

    excess: float
    stderr: float
    kl: float
    misplaced: float
    astray: float


def row(model: Explicit, name: str) -> Row:
    """Scores on 5,000 test points, over the plane, and of 10,000 draws."""
    x, truth = DATA[name].test.x[: 500 if FAST else 5000], TRUTH[name]
    gap = (truth.log_prob(x) - nats_of(model, x).nats).double()
    plane = plane_scores(truth.log_prob, lambda p: nats_of(model, p), truth.low, truth.high, step=0.1 if FAST else 0.05)
    least = truth.log_prob(DATA[name].test.x).quantile(0.001)
    astray = float((truth.log_prob(model.sample(1000 if FAST else 10_000, generator=seeded(1))) < least).double().mean())
    stderr = float(gap.std()) / math.sqrt(len(gap))
    return Row(float(gap.mean()), stderr, plane["kl"].value, plane["total_variation"].value, astray)


# %%
ROWS = {name: {label: row(model, name) for label, model in models.items()} for name, models in MODELS.items()}
for name, rows in ROWS.items():
    print(f"{name:14}excess, nats       KL, nats   misplaced   astray")
    for label, r in rows.items():
        sign = "<=" if label == "VAE" else " ="
        print(f"  {label:8}{sign} {r.excess:8.3f} ± {r.stderr:.3f} {r.kl:10.3f} {r.misplaced:11.1%} {r.astray:8.1%}")
        assert abs(r.excess - r.kl) < 5 * r.stderr + 0.02 * r.kl, r  # a mean over draws, an integral over the plane
    flows = (rows["MAF"], rows["RealNVP"])
    assert FAST or rows["MADE"].kl < min(r.kl for r in flows), rows
    assert FAST or rows["VAE"].kl > max(r.kl for r in flows), rows
    logs = {label: lambda x, model=model: nats_of(model, x).nats for label, model in MODELS[name].items()}
    with style():
        show(beside(TRUTH[name].log_prob, logs, WINDOWS[name], side=40 if FAST else 120))

# %% [markdown]
# MADE's faults are ripples: normals that imitate flat squares and thin arms. The flows' faults are of another kind: a veil
# between the parts and filaments across the white squares, where the map could not be stretched or turned sharply enough. The
# VAE spreads its mass widest, and how much of that is the model and how much the bound, its number alone cannot say.
#
# ## 6. The price, first part: the shape of the map
#
# A flow of few layers is a poor one, whatever its networks, and more layers bend more. Beside the flows stands a MADE whose
# conditionals are single normals instead of mixtures: by section 3 it should be worth as much as a flow of one layer.

# %%
DEPTHS = (1,) if FAST else (1, 2, 4)
BY_DEPTH: dict[str, dict[int, MAF | RealNVP]] = {
    "MAF": {n: fitted(MAF, "flow/maf", "spirals", steps=STEPS, layers=n, mixing="reversal") for n in DEPTHS},
    "RealNVP": {n: fitted(RealNVP, "flow/realnvp", "spirals", steps=STEPS, couplings=n) for n in DEPTHS},
}
normals = fitted(MADE, "autoregressive/made", "spirals", steps=STEPS, orders=1, components=1)

# %%
single = row(normals, "spirals").kl
print(f"MADE with one normal for each conditional: {single:.3f} nats, with 16: {ROWS['spirals']['MADE'].kl:.3f} nats")
with style():
    made = figure(5.4, 2.8)
    axes = gridded(made.subplots())
    for (label, flows_of), dash in zip(BY_DEPTH.items(), DASHES, strict=False):
        kl = {n: row(flow, "spirals").kl for n, flow in flows_of.items()} | {8: ROWS["spirals"][label].kl}
        print(f"{label}: KL to the truth in nats: " + ", ".join(f"{n} layers {v:.3f}" for n, v in kl.items()))
        assert FAST or kl[1] > kl[2] > 1.1 * kl[8], kl
        assert FAST or abs(single - kl[1]) < 0.25, (single, kl)
        axes.plot([*kl], [*kl.values()], "o", linestyle=dash, color=GREEN, label=label)
    axes.plot([1], [single], "s", color=BLUE, label="MADE, one normal")
    axes.axhline(ROWS["spirals"]["MADE"].kl, color=BLUE, linewidth=1.2, label="MADE, 16 normals")
    axes.set(xscale="log", xlabel="layers", ylabel="KL to the truth, nats")
    axes.set_ylim(bottom=0)
    axes.minorticks_off()
    axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.legend(fontsize=8)
    show(made)

# %% [markdown]
# It is. So the conditionals make the difference, not the chain rule: a mixture does at once what a chain of affine layers
# approaches slowly. Splines in place of affine maps need far fewer layers, and a base that is itself a mixture helps with
# separate parts. The rule stands: under a smooth invertible map of the plane, the model is as connected as its base.
#
# ## 7. The price, second part: drawing a sample
#
# $\log p(x)$ takes one pass in both families, since all of $x$ is known. A draw does not know $x_1$ when it needs it for $x_2$.
# Three ways turn the same noise into the same sample: **naive**, the whole network once for each element; **fixed-point**,
# guess all elements, apply the network to all, and repeat until nothing changes; **cached**, compute each hidden unit once, as
# soon as the last element that it sees is known. On the 8x8 digits $D = 64$.

# %%
DIGITS = load("digits")
pixels = fitted(MADE, "autoregressive/made", "digits", steps=500, orders=1)
maf = fitted(MAF, "flow/maf", "digits", steps=150, layers=1 if FAST else 5)


class Cost(NamedTuple):
    """What a call took: its result, passes of whole networks, operations in matrix products, seconds."""

    result: Tensor
    passes: int
    operations: int
    seconds: float


def cost(model: nn.Module, call: Callable[[], Tensor]) -> Cost:
    """Cost of a call, made once to count and once more for the clock."""
    nets, seen = [m for m in model.modules() if isinstance(m, MaskedMLP)], [0]
    hooks = [m.register_forward_hook(lambda *_: seen.append(1)) for m in nets]
    with FlopCounterMode(display=False) as counted:
        result = call()
    for hook in hooks:
        hook.remove()
    began = time.perf_counter()
    call()
    return Cost(result, sum(seen), counted.get_total_flops(), time.perf_counter() - began)


# %%
def by_maf(way: str) -> Cost:
    """64 draws of the trained MAF by another way back."""
    other = sixfold.build("flow/maf", DIGITS.spec, **maf.options | {"inverse": way})
    other.load_state_dict(maf.state_dict())
    return cost(other, lambda: other.sample(64, generator=seeded(0)))


def by_made(way: Any) -> Cost:
    """64 draws of the trained MADE."""
    return cost(pixels, lambda: pixels.sample(64, generator=seeded(0), sampler=way))


for label, scored, drawn in (
    ("MADE", cost(pixels, lambda: pixels.log_prob(DIGITS.test.x[:64]).nats), by_made),
    ("MAF", cost(maf, lambda: maf.log_prob(DIGITS.test.x[:64], effort=1).nats), by_maf),
):
    print(f"{label}: density of 64 images: {scored.passes} passes, {scored.operations / 1e6:.0f} million operations")
    ways = {way: drawn(way) for way in ("naive", "fixed-point", "cached")}
    for way, c in ways.items():
        alike = float((c.result == ways["naive"].result).double().mean())
        much = f"{c.operations / scored.operations:6.2f} times the density's operations"
        print(f"    64 draws, {way:12}{c.passes:4} passes, {much}, {c.seconds:.3f} s, {alike:.2%} of pixels as naive")
        assert alike > 0.99, alike  # the same noise; rounding of float32 may tip a pixel that lies on an edge
    assert ways["naive"].passes == 64 * scored.passes > ways["fixed-point"].passes
    assert ways["cached"].passes == 0
    assert ways["cached"].operations < 1.1 * scored.operations

# %% [markdown]
# The cached walk draws with the arithmetic of *one* density, for MADE and for MAF. The price of autoregression is thus not
# arithmetic. It is 64 steps that wait for each other, each with almost nothing to do. How that grows with the dimension, and
# how RealNVP compares, shows in seconds:

# %%
DIMS = (4, 16) if FAST else (4, 16, 64, 256)


def seconds(name: str, dims: int, **options: Any) -> float:
    """Seconds for 64 draws of an untrained model of ``dims`` real numbers, which cost as much as a trained one's."""
    model = sixfold.build(name, DataSpec((dims,), Support("real")), **options)
    model.sample(64)  # once for what is only slow the first time
    began = time.perf_counter()
    model.sample(64)
    return time.perf_counter() - began


TIMES = {
    "RealNVP, 8 couplings": [seconds("flow/realnvp", d) for d in DIMS],
    "MAF, 8 layers, cached": [seconds("flow/maf", d, layers=8) for d in DIMS],
    "MAF, 8 layers, naive": [seconds("flow/maf", d, layers=8, inverse="naive") for d in DIMS],
}
with style():
    made = figure(5.4, 2.8)
    axes = gridded(made.subplots())
    for (label, took), stroke in zip(TIMES.items(), DASHES, strict=False):
        axes.plot(DIMS, took, "o", linestyle=stroke, color=GREEN, label=label)
        print(f"{label:24}" + "   ".join(f"D = {d}: {s:.4f} s" for d, s in zip(DIMS, took, strict=True)))
    axes.set(xscale="log", yscale="log", xlabel="elements of a datum", ylabel="seconds for 64 draws")
    axes.minorticks_off()
    axes.set_xticks(DIMS, [str(d) for d in DIMS])
    axes.legend(fontsize=8)
    show(made)
coupled, cached, naive = (took[-1] for took in TIMES.values())
assert FAST or coupled < cached < naive, TIMES

# %% [markdown]
# RealNVP takes eight passes whatever the dimension. Both of MAF's lines rise, since its steps cannot be taken at once. Run the
# other way round, the same layer would sample in one pass and take $D$ steps to score: the inverse autoregressive flow. Whoever
# needs both fast pays with couplings, in shape.
#
# ## 8. Pixels as tokens
#
# An image read pixel by pixel, each of 17 grey levels drawn from a table of probabilities, is text in all but name. The MADE
# from above is such a model, with an exact likelihood, and it completes images: what comes first in its order may be given.

# %%
bits = pixels.log_prob(DIGITS.test.x).mean()
real = torch.cat([DIGITS.test.x, DIGITS.valid.x])  # what was not trained on
print(f"test images: {bits.bits_per_dim:.3f} ± {bits.bits_stderr:.3f} bits a pixel; uniform: {math.log2(17):.3f}")

upper = torch.zeros(DIGITS.spec.shape, dtype=torch.bool)
upper[:, :4] = True
filled = pixels.fill(real[:6].repeat_interleave(7, 0), upper, generator=seeded(0))
assert filled.exact, "the upper half comes first in the only order"
with style():
    rows_of = torch.cat([real[:6, None], filled.x.reshape(6, 7, *DIGITS.spec.shape)], dim=1).flatten(0, 1)
    show(sheet(to_pixels(rows_of, DIGITS.spec), 8, heads=["data", *(f"draw {i}" for i in range(1, 8))]))

# %% [markdown]
# Every draw of a row has the upper half of the image at its left. The lower halves differ, and some lead to another digit:
# these are draws of $p(\text{lower} \mid \text{upper})$, not one best guess.
#
# Now the rules that make samples look better. All act on one conditional at a time:
#
# * **temperature** $\tau$: probabilities become $p^{1/\tau}$, renormalised;
# * **top-k**: only the $k$ likeliest values stay;
# * **nucleus** (top-p): the smallest set of values that holds a mass of at least $p$ stays.
#
# None of them draws from the model any more, nor from $p(x)^{1/\tau}$ over whole images: a product of sharpened conditionals is
# another distribution. For each setting we take the mean $\log p$ of the samples under the *unchanged* model, the share of
# held-out images with a sample in reach (coverage), and the share of samples in reach of a held-out image (precision).


# %%
class Judged(NamedTuple):
    """A set of images: mean log p under the model with its standard error in nats, coverage, precision, how many differ."""

    nats: float
    stderr: float
    coverage: float
    precision: float
    distinct: int


def judged(x: Tensor) -> Judged:
    """Numbers of some images beside as many held-out ones."""
    mean, found, each = pixels.log_prob(x).mean(), precision_recall(x, real), torch.unique(x.flatten(1), dim=0)
    return Judged(mean.value, mean.stderr, found["coverage"].value, found["precision"].value, len(each))


def draws(**rule: Any) -> Tensor:
    """As many draws as there are held-out images, from the same noise for every rule."""
    return pixels.sample(len(real), generator=seeded(1), **rule)


IMAGES = {
    "temperature": {f"{t:g}": draws(temperature=t) for t in (1.5, 1.2, 1.0, 0.85, 0.7, 0.5, 0.3)},
    "top-k": {f"{k}": draws(top_k=k) for k in (8, 5, 3, 2, 1)},
    "nucleus": {f"{p:g}": draws(top_p=p) for p in (0.99, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3)},
    "images": {"held-out": real, "training": DIGITS.train.x[: len(real)]},
}
FOUND = {rule: {setting: judged(x) for setting, x in sets.items()} for rule, sets in IMAGES.items()}

# %%
print(f"{'':24}mean log p, nats   coverage   precision   distinct of {len(real)}")
for rule, settings in FOUND.items():
    for setting, j in settings.items():
        print(f"{rule:12}{setting:10}{j.nats:10.1f} ± {j.stderr:3.1f} {j.coverage:12.2f} {j.precision:11.2f} {j.distinct:11}")
assert FOUND["top-k"]["1"].distinct == 1, "greedy draws are one image"

# %% [markdown]
# Go down a block: the likelihood rises at every step, past that of real images and without end. Then read the coverage beside
# it. A small dose helps: it cuts off values that the model itself gets wrong, which would spoil a whole image each. Past it
# coverage falls to nothing, while the likelihood keeps rising and precision gives no alarm. The likeliest row is the greedy
# one, and it is a single image.

# %%
for rule in IMAGES.keys() - {"images"}:
    likelier = [j.nats for j in FOUND[rule].values()]
    last, asis, held_out = [*FOUND[rule].values()][-1], FOUND["temperature"]["1"], FOUND["images"]["held-out"]
    assert FAST or likelier == sorted(likelier), "each step of a block is likelier"
    assert FAST or last.nats > held_out.nats + 30, "and at last far likelier than real images"
    assert FAST or last.coverage < asis.coverage - 0.2, "while much of the data has no sample near"
assert FAST or FOUND["nucleus"]["0.9"].coverage > asis.coverage, "a small dose helps"
with style():
    curves = {rule: {name: (j.nats, j.coverage) for name, j in settings.items()} for rule, settings in FOUND.items()}
    anchors = {f"{name} images": point for name, point in curves.pop("images").items() if name == "training"}
    axes_names = {"xlabel": "mean log p of the samples under the model, nats", "ylabel": "coverage of held-out images"}
    show(tradeoff(curves, anchors, colour=BLUE, **axes_names))

# %%
SHOWN = [("top-k", "1"), ("temperature", "0.3"), ("temperature", "0.7"), ("nucleus", "0.8"), ("temperature", "1")]
SHOWN += [("temperature", "1.5"), ("images", "held-out")]
with style():
    chosen = torch.cat([IMAGES[rule][setting][:12] for rule, setting in SHOWN])
    show(
        sheet(
            to_pixels(chosen, DIGITS.spec),
            12,
            rows=[f"{rule.replace('temperature', 'temp.')} {setting}".removeprefix("images ") for rule, setting in SHOWN],
            width=7.0,
        )
    )

# %% [markdown]
# The trap in one sentence: *the likelihood of samples says what the model finds likely, and a sampler can raise it by drawing
# less.* By likelihood the coldest temperature wins; by what is missing it loses, and the best dose lies where likelihood shows
# nothing. Real images are the anchor: a sample far likelier than data is no better than one far less likely. *Change the
# settings in `IMAGES` and run again; or put `pixels = sixfold.fit("autoregressive/pixelcnn", "digits", steps=400)` before this
# section, a model which knows that pixels are neighbours (some minutes): the curve lies higher and bends the same way.*
#
# ## Exercises
#
# `check_answer` says which of the facts that define a right answer hold, and of those that fail what was got. The drafts below
# run and are wrong.
#
# **A coupling layer.** Write a class whose constructor takes `network`, a function of the half that stays, (N, D/2) to (N, D),
# that gives log-scales and shifts side by side. `forward(x)` gives codes (N, D) and log-determinants (N,), `inverse(z)` gives
# points. The first half of the elements stays, the second becomes $x_b\, e^{s} + t$. It matters because a flow whose
# log-determinant is wrong trains all the same.


# %%
class MyCoupling:
    """A first draft."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From points to codes."""
        kept, moved = x.chunk(2, dim=1)
        log_scale, shift = self.network(kept).chunk(2, dim=1)
        return torch.cat([kept, moved * log_scale.exp() + shift], 1), log_scale.exp().sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """From codes to points."""
        kept, moved = z.chunk(2, dim=1)
        log_scale, shift = self.network(kept).chunk(2, dim=1)
        return torch.cat([kept, moved * (-log_scale).exp() - shift], 1)


print(check_answer("coupling layer", MyCoupling))

# %% [markdown]
# **The masks of MADE.** A network with one hidden layer, $h = \tanh((M_1 \odot W_1)\,x)$ and $y = (M_2 \odot W_2)\,h$, is to
# give the numbers of $x_i$ from $x_{<i}$ alone. Write `masks(dims, width)`, which returns $M_1$, (width, dims), and $M_2$,
# (dims, width), for the natural order. A unit that hears too much leaks the answer into the question; one that hears too little
# wastes the network, and nothing complains.


# %%
def my_masks(dims: int, width: int) -> tuple[Tensor, Tensor]:
    """A first draft: unit and output hear what does not come after them."""
    degrees, places = torch.arange(width) % dims, torch.arange(dims)
    return (degrees[:, None] >= places).float(), (places[:, None] >= degrees).float()


print(check_answer("masks of made", my_masks))

# %% [markdown]
# **The nucleus.** Write `nucleus(p, share)`: probabilities (N, K), each row a distribution, with all but the smallest set of
# values whose mass reaches `share` set to zero, and the rest renormalised. A public implementation puts sorted values back in
# their places by the wrong permutation, so that the *best* value could be the one to go, and samples were merely a little odd.


# %%
def my_nucleus(p: Tensor, share: float) -> Tensor:
    """A first draft: keep what comes before the share is reached."""
    ranked, order = p.sort(dim=-1, descending=True)
    kept = ranked * (ranked.cumsum(-1) < share)
    return torch.zeros_like(p).scatter(-1, order, kept / kept.sum(-1, keepdim=True))


print(check_answer("nucleus", my_nucleus))

# %% [markdown]
# ## Companions
#
# * Germain, Gregor, Murray and Larochelle, *MADE: Masked Autoencoder for Distribution Estimation* (2015), arXiv:1502.03509.
# * van den Oord, Kalchbrenner and Kavukcuoglu, *Pixel Recurrent Neural Networks* (2016), arXiv:1601.06759; van den Oord and
#   others, *Conditional Image Generation with PixelCNN Decoders* (2016), arXiv:1606.05328; Salimans, Karpathy, Chen and Kingma,
#   *PixelCNN++* (2017), arXiv:1701.05517.
# * Dinh, Sohl-Dickstein and Bengio, *Density estimation using Real NVP* (2017), arXiv:1605.08803; Kingma and Dhariwal, *Glow*
#   (2018), arXiv:1807.03039.
# * Papamakarios, Pavlakou and Murray, *Masked Autoregressive Flow for Density Estimation* (2017), arXiv:1705.07057; Kingma and
#   others, *Improved Variational Inference with Inverse Autoregressive Flow* (2016), arXiv:1606.04934.
# * Durkan, Bekasov, Murray and Papamakarios, *Neural Spline Flows* (2019), arXiv:1906.04032.
# * Papamakarios, Nalisnick, Rezende, Mohamed and Lakshminarayanan, *Normalizing Flows for Probabilistic Modeling and Inference*
#   (2021), arXiv:1912.02762: the survey to read.
# * Song, Meng, Liao and Ermon, *Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving* (2021),
#   arXiv:2002.03629, for the fixed point; Holtzman, Buys, Du, Forbes and Choi, *The Curious Case of Neural Text Degeneration*
#   (2020), arXiv:1904.09751, for the nucleus.
# * Books: Murphy, *Probabilistic Machine Learning: Advanced Topics* (2023), chapters on autoregressive models and normalizing
#   flows; Tomczak, *Deep Generative Modeling* (2nd edition, 2024). Lectures: Stanford CS236, *Deep Generative Models*; Berkeley
#   CS294-158, *Deep Unsupervised Learning*.
