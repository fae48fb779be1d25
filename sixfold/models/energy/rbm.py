"""Restricted Boltzmann machine: binary pixels and hidden units that depend on each other across the layers and not within.

    E(v, h) = -v.b - h.c - v W h                       v: pixels, and one unit for each class of which exactly one is on
    F(v)    = -v.b - sum_j softplus(c_j + (v W)_j)     free energy: p(v) = exp(-F(v)) / Z
    grad NLL = mean grad F(v+) - mean grad F(v-)       v+: data,  v-: chains of block Gibbs sampling, h given v and v given h

Persistent chains go on from update to update (PCD-k); without them they start at the data (CD-k, biased towards them). The
centred gradient takes the offsets m of v and n of h out of the statistics, and out of the biases what that adds to them,

    G_W = <(v - m)(h - n)>+ - <...>-       G_b = <v>+ - <v>- - G_W n       G_c = <h>+ - <h>- - G_W' m

It is ascent in a parametrisation in which flipping zeros and ones changes nothing, and learns faster from data of any mean.

Labels are units of the model: the joint p(x, y) is learned, and p(x | y) is the same machine with the hidden biases c + U_y.

Can: draw approximate samples by Gibbs chains and complete data; say how likely data are, exactly where the smaller layer has up
to 20 units, else with log Z by annealed importance sampling. Cannot: take grey values, real data or tokens; share a batch among
processes, whose chains would differ. The loss hovers about zero and measures no progress: ``pseudo`` does, the pseudo-likelihood.

Source:  Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008), ICML, Section 3.
         Centred gradient: How to Center Deep Boltzmann Machines (Melchior, Fischer & Wiskott, 2016), arXiv:1311.1354; Deep
         Boltzmann Machines and the Centering Trick (Montavon & Mueller, 2012), arXiv:1203.3783. Units of classes: Classification
         using Discriminative Restricted Boltzmann Machines (Larochelle & Bengio, 2008), ICML. log Z: On the Quantitative
         Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008), ICML.
Differs: as many persistent chains as are wanted, whatever the batch has data; they may restart.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.core.likelihood import Estimate, Exact, Kind, LogProb, Measure
from sixfold.core.model import Array, Batch, DataSpec, Filled, GenerativeModel, Latent, Split, Terms, Trajectory
from sixfold.core.signature import Count, Natural, Positive, Share
from sixfold.models.energy._family import dealt, digest, frame_steps
from sixfold.prob.bipartite import Bipartite, Tempered, fire
from sixfold.solve.annealing import Bracket, LogZ, forward, log_z, reverse

ENUMERATED = 20  # units of the smaller layer up to which Z is summed over all of its states
QUICK = 12  # units up to which that is done for every validation
RUNS = 100  # of annealed importance sampling, for each class


class RBM(GenerativeModel):
    """Two layers of binary units, and the chains that they are learned with.

    Args:
        hidden: units; more fit finer dependence and cost in proportion. Up to 20 leave the likelihood exact.
        chains: persistent chains, which all move in each update; more give a less noisy gradient and cost in proportion. With 0
            none persist, and chains start at the data of the batch (contrastive divergence).
        walk: rounds of Gibbs sampling of a chain in each update; more give a less biased gradient and cost in proportion.
        restart: share of persistent chains that start anew at the data's rates in each update; more cross between modes, and bias
            the gradient where chains do not come far between two restarts.
        gradient: plain, centred by the data's means, or enhanced: centred by the middle of the data's and the chains' means.
        slide: share of a batch in the moving averages that those means are; with 1 the enhanced gradient may diverge.
        scatter: standard deviation of the first weights; more break the symmetry of the hidden units sooner.

    Raises:
        Unsupported: for data that are not binary, and for a condition that is not a class.

    Example:
        >>> from sixfold.core.spec import Support
        >>> model = RBM(DataSpec((4,), Support("binary")), hidden=3, scatter=1e-9)
        >>> print(model.log_prob(torch.zeros(1, 4, dtype=torch.uint8)).nats)
        tensor([-2.7726])
    """

    couples_batch = True
    chains: Tensor
    base: Tensor
    middle: Tensor
    middle_hidden: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: Count = 500,
        chains: Natural = 100,
        walk: Count = 1,
        restart: Share = 0.0,
        gradient: Literal["plain", "centred", "enhanced"] = "centred",
        slide: Share = 0.01,
        scatter: Positive = 0.01,
    ) -> None:
        super().__init__(spec)
        if spec.support.kind != "binary":
            raise Unsupported(f"energy/rbm takes binary data; got {spec.support.kind}. Use a binarised variant, as mnist:binary.")
        if spec.cond.kind == "vector":
            raise Unsupported("energy/rbm is conditioned on classes; got vectors. Leave --conditional out, or use vae/vae.")
        self.walk, self.restart, self.gradient, self.slide = walk, restart, gradient, slide
        units = spec.dims + spec.cond.size
        self.weight = nn.Parameter(scatter * torch.randn(units, hidden))
        self.visible, self.hidden = nn.Parameter(torch.zeros(units)), nn.Parameter(torch.zeros(hidden))
        self.register_buffer("base", torch.zeros(spec.dims))
        self.register_buffer("middle", torch.full((units,), 0.5))
        self.register_buffer("middle_hidden", torch.full((hidden,), 0.5))
        self.register_buffer("chains", torch.zeros(chains, units, dtype=torch.uint8))
        self._found: dict[tuple[str, bool, int, int], LogZ] = {}

    @torch.no_grad()
    def prepare(self, data: Split) -> None:
        """Independent units at the data's rates: visible biases are their logits, offsets their means, chains draws of them."""
        if self.prepared:
            return
        V, C = self.spec.dims, self.spec.cond.size
        x = data.rows().flatten(1)
        self.middle[:V] = (x.sum(0) + 1) / (len(x) + 2)  # Laplace's rule: no pixel is impossible
        self.base.copy_(self.middle[:V].logit())
        self.visible[:V] = self.base
        self.chains[:, :V] = torch.rand(len(self.chains), V, device=self.device) < self.middle[:V]
        if C and data.cond is not None:
            self.middle[V:] = (torch.bincount(data.cond, minlength=C) + 1) / (len(x) + C)
            self.visible[V:] = self.middle[V:].log()
            shares = self.middle[V:].expand(len(self.chains), C)
            self.chains[:, V:] = one_hot(torch.multinomial(shares, 1)[:, 0], C)
        self.prepared.fill_(True)

    # Training.

    def loss(self, batch: Batch, player: str) -> Terms:
        """Free energy of each datum less the chains' mean, (B,), with the plain, centred or enhanced gradient."""
        data = self._units(batch.x, batch.cond)
        chains = self._advance(data, batch.draws)
        drive, their_drive = ((units @ self.weight).to(self.dtype) for units in (data, chains))
        offsets = self._offsets(data, drive, chains, their_drive)
        pull = self._pull(chains, their_drive, *offsets).mean() - self._pull(data, drive, *offsets)
        contrast = (self._free(data, drive) - self._free(chains, their_drive).mean()).detach()
        with torch.no_grad():
            pseudo = self._layers.given(batch.cond).pseudo(data[:, : self.spec.dims], batch.draws)
        return Terms(contrast + pull - pull.detach(), contrast=contrast, pseudo=pseudo)

    def _units(self, x: Tensor, label: Tensor | None) -> Tensor:
        """Pixels and units of classes as floats, (N, V + C)."""
        pixels = x.flatten(1).to(self.dtype)
        return pixels if label is None else torch.cat([pixels, one_hot(label, self.spec.cond.size).to(self.dtype)], 1)

    def _free(self, units: Tensor, drive: Tensor) -> Tensor:
        """Free energy from what drives the hidden units, (N,)."""
        return -(units @ self.visible) - softplus(drive + self.hidden).sum(1)

    def _pull(self, units: Tensor, drive: Tensor, m: Tensor, n: Tensor) -> Tensor:
        """Linear in the parameters, (N,): the gradient of data's less chains' mean is G of the module's docstring."""
        v, h = units - m, (drive + self.hidden).sigmoid().detach() - n
        across = ((drive - m @ self.weight) * h).sum(1)
        return across + units @ self.visible + (h + n) @ self.hidden - (v @ self.visible) * (h @ n) - (h @ self.hidden) * (v @ m)

    @torch.no_grad()
    def _offsets(self, data: Tensor, drive: Tensor, chains: Tensor, their_drive: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken out of visible and hidden units, (V + C,) and (H,): moving averages, which take the batch in."""
        if self.gradient == "plain":
            return torch.zeros_like(self.middle), torch.zeros_like(self.middle_hidden)
        seen = [(data, drive), (chains, their_drive)][: 1 + (self.gradient == "enhanced")]
        for middle, means in (
            (self.middle, [units.mean(0) for units, _ in seen]),
            (self.middle_hidden, [(a + self.hidden).sigmoid().mean(0) for _, a in seen]),
        ):
            middle.lerp_(torch.stack(means).mean(0), self.slide)
        return self.middle.clone(), self.middle_hidden.clone()

    @torch.no_grad()
    def _advance(self, data: Tensor, draws: Draws) -> Tensor:
        """Walk the persistent chains on, in place, or chains from the data: where they are now, (N, V + C)."""
        if not len(self.chains):
            return self._layers.gibbs(data, draws, steps=self.walk)
        draws = Draws(len(self.chains), generator=draws.generator, device=draws.device, dtype=draws.dtype)
        begin, V = self.chains.to(self.dtype), self.spec.dims
        if self.restart:
            begin[:, :V] = torch.where(draws.uniform(1) < self.restart, self._at_rates(draws), begin[:, :V])
        self.chains.copy_(self._layers.gibbs(begin, draws, steps=self.walk))
        return self.chains.to(self.dtype)

    @torch.no_grad()
    def criterion(self, batch: Batch) -> Tensor | None:
        """Negative log-likelihood where few states are to be summed over; else ``None``: the loss judges nothing."""
        return -self.log_prob(batch.x, batch.cond).nats if self._smaller <= QUICK else None

    # Chains.

    @property
    def _layers(self) -> Bipartite:
        """The law of all units."""
        return Bipartite(self.weight, self.visible, self.hidden, self.spec.cond.size)

    def _at_rates(self, draws: Draws) -> Tensor:
        """Independent pixels at the data's rates, (B, V)."""
        return fire(self.base.expand(draws.size, -1), draws)

    def _persisted(self, label: Tensor | None, draws: Draws) -> Tensor:
        """Pixels of persistent chains, of the same label where there are any, (B, V); at the data's rates if none persist."""
        if not len(self.chains):
            return self._at_rates(draws)
        order, pixels = draws.uniform(), self.chains[:, : self.spec.dims].to(self.dtype)
        if label is None:
            return pixels[dealt(order, len(pixels))]
        begin, theirs = pixels.new_empty(len(label), self.spec.dims), self.chains[:, self.spec.dims :].argmax(1)
        for y in torch.unique(label):
            pool = pixels[theirs == y] if bool((theirs == y).any()) else pixels
            begin[label == y] = pool[dealt(order[label == y], len(pool))]
        return begin

    def _data(self, pixels: Tensor) -> Tensor:
        """Pixels as data, (N, *shape)."""
        return pixels.reshape(-1, *self.spec.shape).to(self.spec.dtype)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 200,
        start: Literal["chains", "base"] = "chains",
    ) -> Tensor:
        """Ends of Gibbs chains, (num, *shape): approximate draws, the nearer to the model the longer they walk.

        Args:
            num: how many.
            cond: a label for all, or one for each, which its chain keeps.
            generator: source of randomness.
            steps: of each chain; more forget the start and take longer.
            start: the persistent chains of training, again from the first when they run out, or pixels at the data's rates.

        Raises:
            BadInput: for a condition that does not fit.
        """
        label, draws = self.take_cond(cond, num), self.draws(num, generator)
        begin = self._persisted(label, draws) if start == "chains" else self._at_rates(draws)
        return self._data(self._layers.given(label).gibbs(begin, draws, steps=steps))

    @torch.no_grad()
    def fill(
        self,
        x: Array,
        known: Array,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 200,
    ) -> Filled:
        """Data with their unknown pixels drawn given the known ones, (B, *shape), by chains that keep those; not exact.

        Args:
            x: data, (B, *shape); unknown pixels can hold any valid value.
            known: bool, (B, *shape) or (*shape).
            cond: a label for all, or one for each.
            generator: source of randomness.
            steps: of each chain, from pixels at the data's rates; more come nearer to the conditional.

        Raises:
            BadInput: when ``known`` is not boolean or of another shape.
        """
        data = self.take(x)
        label, draws = self.take_cond(cond, len(data)), self.draws(len(data), generator)
        mask = self.take_known(known, len(data)).flatten(1)
        begin = torch.where(mask, self._units(data, None), self._at_rates(draws))
        return Filled(self._data(self._layers.given(label).gibbs(begin, draws, steps=steps, known=mask)), exact=False)

    @torch.no_grad()
    def trajectory(
        self,
        num: int,
        *,
        frames: int = 20,
        steps: int = 1000,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
    ) -> Trajectory:
        """States of chains on their way from pixels at the data's rates, densest at the start where they change most.

        Args:
            num: chains.
            frames: states to show of each; the first is the start.
            steps: of each chain in all; at least one lies between two frames.
            cond: a label for all, or one for each.
            generator: source of randomness.
        """
        draws, times = self.draws(num, generator), frame_steps(frames, steps)
        layers, path = self._layers.given(self.take_cond(cond, num)), [self._at_rates(draws)]
        for before, after in pairwise(times):
            path.append(layers.gibbs(path[-1], draws, steps=after - before))
        return Trajectory(torch.tensor(times, dtype=self.dtype), torch.stack(path).reshape(frames, num, *self.spec.shape))

    @torch.no_grad()
    def encode(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Latent:
        """Hidden units drawn given each datum, (B, H), and as their mean the probabilities that they are on."""
        data = self.take(x)
        logits = self._layers.given(self.take_cond(cond, len(data))).drive(self._units(data, None))
        return Latent(fire(logits, self.draws(len(data), generator)), logits.sigmoid())

    @torch.no_grad()
    def decode(self, z: Array, cond: Array | int | None = None) -> Tensor:
        """The likeliest pixels given hidden units or their probabilities, (B, H); a label adds nothing to those."""
        code = torch.as_tensor(z).to(self.device, self.dtype)
        return self._data(self._layers.given(self.take_cond(cond, len(code))).back(code) > 0)

    # The density.

    @property
    def _smaller(self) -> int:
        """Units of the smaller layer."""
        return min(self.spec.dims, len(self.hidden))

    @property
    def _each(self) -> Tensor | None:
        """Every label once, (C,)."""
        return torch.arange(self.spec.cond.size, device=self.device) if self.spec.cond.size else None

    @torch.no_grad()
    def energy(self, x: Array) -> Tensor:
        """Free energy in nats, (B,), labels summed out where there are any: log p(x) = -energy(x) - log Z.

        Raises:
            BadInput: for data that ``spec`` does not describe.
        """
        data = self.take(x)
        labels = [None] if self._each is None else [y.expand(len(data)) for y in self._each]
        return -torch.stack([self._layers.log_density(self._units(data, y)) for y in labels]).logsumexp(0)

    @torch.no_grad()
    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 2000, generator: torch.Generator | None = None
    ) -> LogProb[Kind]:
        """Log-probability in nats per datum, given its label, (B,): Exact for up to 20 units in the smaller layer, else Estimate.

        An Estimate takes log Z from forward annealed importance sampling, which is too low in expectation: the number errs on the
        high side. Its standard error is that of log Z, one number for all data: a mean over data does not make it smaller, so
        twice of it is the tolerance. :meth:`bracket` has the other side. log Z is found once for the same parameters and effort.

        Args:
            x: data, (B, *shape).
            cond: a label for all, or one for each.
            effort: temperatures of annealing; more raise log Z towards the truth and take longer, for each class as long again.
                An exact value needs none.
            generator: unused; the runs have a fixed seed, so that log Z is a function of the parameters and the effort.

        Raises:
            BadInput: for data that ``spec`` does not describe, or a condition that does not fit.
        """
        data = self.take(x)
        label = self.take_cond(cond, len(data))
        row = torch.zeros(len(data), dtype=torch.long, device=self.device) if label is None else label
        exact = self._smaller <= ENUMERATED
        total = self._log_z(0 if exact else effort)
        nats = (self._layers.given(label).log_density(self._units(data, None)) - total.value[row]).to(self.dtype)
        if exact:
            return LogProb(nats, Exact, f"enumeration of {2**self._smaller} states", self.spec.dims, Measure(2))
        error = total.stderr[row]
        return LogProb(
            nats, Estimate, f"forward annealed importance sampling, {effort} temperatures", self.spec.dims, Measure(2),
            error.to(self.dtype), 2 * error, "high",
        )  # fmt: skip

    @torch.no_grad()
    def bracket(self, *, effort: Count = 2000, seed: int = 0) -> Bracket:
        """Lower and upper estimate of log Z in nats, a number for each class, (C,), or (1,) without labels.

        The lower one takes nothing on trust: it starts from exact draws of independent pixels and lies below log Z in expectation
        however badly chains mix. The upper one lies above in expectation if its chains start as draws of the model. They start
        where the persistent chains are, at the data's rates if none persist, and walk as many rounds as there are temperatures:
        as near to the model as Gibbs sampling mixes. A mode that no chain has found is missing from the upper one, and nothing
        would show it. Intervals are of the chance in the weights of 100 runs alone.

        Args:
            effort: temperatures of each run; more narrow the bracket and take longer in proportion.
            seed: of the runs; what has been found is kept for the same parameters, effort and seed.
        """
        return Bracket(self._log_z(effort, seed=seed), self._log_z(effort, backward=True, seed=seed))

    def _log_z(self, effort: int, *, backward: bool = False, seed: int = 0) -> LogZ:
        """Log Z of each class, found once for these parameters; by enumeration for an effort of 0."""
        key = (digest(self.state_dict().values()), backward, effort, seed)
        self._found = {k: found for k, found in self._found.items() if k[0] == key[0]}
        if key not in self._found:
            self._found[key] = self._anneal(effort, backward=backward, seed=seed) if effort else self._sum()
        return self._found[key]

    def _sum(self) -> LogZ:
        total = self._layers.given(self._each).log_z()
        none = torch.zeros_like(total)
        return LogZ(total, none, total, total, none)

    def _anneal(self, effort: int, *, backward: bool, seed: int) -> LogZ:
        label = None if self._each is None else self._each.repeat_interleave(RUNS)
        draws = self.draws(RUNS if label is None else len(label), torch.Generator(self.device).manual_seed(seed))
        layers, betas = self._layers.given(label), [k / effort for k in range(effort + 1)]
        family = Tempered(layers, self.base)
        if backward:
            start = layers.gibbs(self._persisted(label, draws), draws, steps=effort)
            weights = reverse(family, family.at(start), betas, draws)
        else:
            weights = forward(family, family.start(draws), betas, draws)
        return log_z(weights.reshape(-1, RUNS), family.log_z0, backward=backward)


PRESETS = {
    "cd": {"chains": 0, "gradient": "plain"},
    "mnist": {"hidden": 500, "chains": 100, "gradient": "centred", "recipe": {"steps": 40_000, "batch": 100, "lr": 0.05}},
}
RECIPE = {
    "optimiser": "sgd", "betas": [0.0, 0.999], "lr": 0.05, "lr_schedule": "linear", "warmup": 0.0, "clip": 0.0,
    "batch": 100, "steps": 5000, "ema": 0.99,
}  # fmt: skip
