"""Energy-based model: p(u) = exp(-E(u)) / Z with a network in E, by maximum likelihood with persistent Langevin chains.

    E(u) = f(u) + |u|^2 / (2 tail^2)                               u: data in the codec's space, R^D
    grad NLL = mean grad E(u+) - mean grad E(u-)                   u+: data,  u-: chains that walk on exp(-E)

f is a network whose activations grow at most linearly, |f(u)| <= a + b |u|. The quadratic tail outgrows it, so exp(-E) is
integrable over R^D and Z exists whatever the weights are. f starts at zero: the first model is the base N(0, tail^2 I), and
chains that start as draws of the base start as draws of the model.

Chains move by Langevin steps at temperature 1 with a Metropolis correction, so that what is learned is the energy of the data
and not of a wider or colder distribution. Some proposals are draws of the base, taken or left by the same rule; in few
dimensions they carry chains from mode to mode. The step adapts until 57% of the Langevin proposals are accepted.

Can: score and rank data; say how likely they are, in up to two real dimensions, where Z is found by quadrature; sample by long
chains, which is approximate until they have mixed. Cannot: give Z in more dimensions, where ``log_prob`` is unnormalised;
cross wide empty regions in many dimensions; be conditioned; share a batch among processes, whose chains would differ. The loss
hovers about zero and measures no progress.

Source:  Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008), ICML, Section 3:
         persistent chains. Implicit Generation and Modeling with Energy-Based Models (Du & Mordatch, 2019), arXiv:1903.08689,
         Algorithm 1: a replay buffer of Langevin chains, energies kept small.
Differs: temperature 1 and a Metropolis correction (there, noise of 0.005 at steps of 10 is a temperature near 1e-6); restarts
         obey the correction too; f alone is kept small; a quadratic tail in place of clamped pixels; no spectral norm.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Kind, LogProb, Measure, Numerical, Unnormalised
from sixfold.core.model import Array, Batch, DataSpec, GenerativeModel, Split, Terms, Trajectory
from sixfold.core.signature import Count, NonNegative, Positive, Share
from sixfold.models.energy._family import BOX, dealt, digest, frame_steps, log_z
from sixfold.nn.mlp import MLP, Activation
from sixfold.prob.codecs import Centred, CodecName, codec_for
from sixfold.solve.langevin import OPTIMAL_ACCEPTANCE, Kernel, langevin

COARSE = 80  # points a side for validation: exact to 1e-6 where nothing is narrower than a tenth of a standard deviation


class EBM(GenerativeModel):
    """A network's energy with a quadratic tail, and the chains that it is learned with.

    Args:
        width: hidden units of the network; more fits finer shapes and costs quadratically.
        depth: hidden layers of the network.
        act: its nonlinearity; a smooth one keeps Langevin steps accurate.
        tail: standard deviation of the base in standardised units; larger reaches data further out and takes longer to carve.
        chains: persistent chains, at least as many as the batch has data; more are less alike and lag further behind.
        walk: Langevin steps of a chain in each update; more give a less biased gradient and cost as much longer.
        step: size of a Langevin step at first; adjusted chains adapt theirs, unadjusted ones keep it and are biased by it.
        spread: steps are drawn between step / spread and step * spread; larger reaches finer and coarser shapes at once.
        restart: share of proposals that are draws of the base; more mixes modes in few dimensions and is lost effort in many.
        metropolis: adjust chains by the Metropolis rule; without it every restart is taken, so make them rare.
        anchor: weight of f^2, which holds the free constant of the energy; more draws the density towards the base.
        codec: from data to the space of the energy; auto standardises each element, after dequantising data with levels.

    Raises:
        Unsupported: for data with a condition, and for unordered tokens.

    Example:
        >>> from sixfold.core.spec import Support
        >>> model = EBM(DataSpec((2,), Support("real")), width=16)
        >>> print(model.log_prob(torch.zeros(1, 2)).nats)
        tensor([-1.8379])
    """

    couples_batch = True
    chains: Tensor
    log_step: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Count = 128,
        depth: Count = 3,
        act: Activation = "silu",
        tail: Positive = 1.0,
        chains: Count = 4096,
        walk: Count = 5,
        step: Positive = 0.02,
        spread: Positive = 4.0,
        restart: Share = 0.25,
        metropolis: bool = True,
        anchor: NonNegative = 1e-3,
        codec: CodecName = "auto",
    ) -> None:
        super().__init__(spec)
        if spec.cond.kind != "none":
            raise Unsupported(f"energy/ebm takes no condition; got {spec.cond.kind}. Leave --conditional out, or use vae/vae.")
        self.tail, self.walk, self.spread, self.restart = tail, walk, spread, restart
        self.metropolis, self.anchor = metropolis, anchor
        self.codec = codec_for(spec, "standardise" if codec == "auto" else codec)
        self.net = MLP(spec.dims, 1, width=width, depth=depth, act=act, zero=True)
        self.register_buffer("chains", tail * torch.randn(chains, *spec.shape))
        self.register_buffer("log_step", torch.tensor(step).log())

    def prepare(self, data: Split) -> None:
        """Statistics of the codec. Chains need no data: they start as draws of the base, which is the first model."""
        if not self.prepared:
            self.codec.fit(self.take(data.rows()))
            self.prepared.fill_(True)

    def loss(self, batch: Batch, player: str) -> Terms:
        """Energy of each datum less that of a chain, whose gradient is that of the NLL, and both values of f squared."""
        u, _ = self.codec.encode(batch.x, batch.draws)
        chains, accepted = self._advance(batch.draws)
        data, model = self._tilt(u), self._tilt(chains)
        contrast, squares = data - model + self._bowl(u) - self._bowl(chains), data.square() + model.square()
        return Terms(contrast + self.anchor * squares, contrast=contrast, squares=squares, accepted=accepted)

    def _advance(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Walk some chains on, in place; where they are now, (B, *shape), and the share of accepted steps."""
        count = len(self.chains)
        if draws.size > count:
            raise BadInput(
                f"each datum of a batch needs a chain; got {draws.size} data, {count} chains. Use chains={draws.size}."
            )
        # A window at a random place holds no chain twice; chains do not know their neighbours.
        rows = (draws.integers(count)[0] + torch.arange(draws.size, device=draws.device)) % count
        kernel = replace(self._kernel, metropolis=self.metropolis)
        walk = langevin(self._energy, self.chains[rows], draws, kernel, steps=self.walk)
        self.chains[rows] = walk.u
        if self.metropolis:
            self.log_step += 0.1 * (walk.accepted - OPTIMAL_ACCEPTANCE)
        return walk.u, walk.accepted

    @property
    def _kernel(self) -> Kernel:
        """How chains move, adjusted; sampling changes its temperature, training may leave the adjustment out."""
        return Kernel(float(self.log_step.exp()), spread=self.spread, restart=self.restart, base=self.tail)

    def _energy(self, u: Tensor) -> Tensor:
        """E(u) in the codec's space, (B,)."""
        return self._tilt(u) + self._bowl(u)

    def _bowl(self, u: Tensor) -> Tensor:
        """The quadratic tail, (B,)."""
        return u.flatten(1).square().sum(1) / (2 * self.tail**2)

    def _tilt(self, u: Tensor) -> Tensor:
        """f(u), (B,)."""
        value: Tensor = self.net(u.flatten(1)).squeeze(1)
        return value

    @torch.no_grad()
    def criterion(self, batch: Batch) -> Tensor | None:
        """Negative log-likelihood by coarse quadrature in up to two real dimensions; else ``None``: the loss judges nothing."""
        return -self.log_prob(batch.x, effort=COARSE).nats if self._countable else None

    @property
    def _countable(self) -> bool:
        """Whether Z can be found by quadrature."""
        return self.spec.dims <= 2 and not self.spec.support.discrete

    @torch.no_grad()
    def energy(self, x: Array) -> Tensor:
        """Energy of data as given, (B,) in nats: log p(x) = -energy(x) - log Z. Discrete data lie in the middle of their cells.

        Raises:
            BadInput: for data that ``spec`` does not describe.
        """
        return self._outer_energy(self.take(x))

    def _outer_energy(self, x: Tensor) -> Tensor:
        u, logdet = self.codec.encode(x, Centred(len(x), device=self.device, dtype=self.dtype))
        return self._energy(u) - logdet

    @torch.no_grad()
    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 256, generator: torch.Generator | None = None
    ) -> LogProb[Kind]:
        """Log-density in nats per datum, (B,): Numerical in up to two real dimensions, else Unnormalised.

        Args:
            x: data, (B, *shape).
            cond: none; the model takes no condition.
            effort: points a side of the lattice that Z is summed over; more resolve finer shapes. The tolerance is twice what
                log Z changes by on a box twice as wide with as many points.
            generator: unused; the number is deterministic.

        Raises:
            BadInput: for data that ``spec`` does not describe, or a condition.
        """
        data, dims = self.take(x), self.spec.dims
        self.take_cond(cond, len(data))
        nats = -self._outer_energy(data)
        if not self._countable:
            measure = Measure(self.spec.support.size)
            return LogProb(nats, Unnormalised, "minus the energy", dims, measure, scope=f"energy {self._digest()}")
        sides = [BOX * self.tail] * dims
        total, error = log_z(lambda u: self._energy(u.to(nats)), sides, count=effort)
        return LogProb(nats - total, Numerical, f"quadrature, {effort} points a side", dims, tolerance=error)

    def _digest(self) -> str:
        """What tells this energy from any other: a hash of all that it depends on."""
        return digest([*self.net.state_dict().values(), *self.codec.state_dict().values()])

    def score(self, x: Array, t: float | None = None) -> Tensor:
        """Gradient d log p(x) / dx of real data, (B, *shape), which needs no Z; there are no noise levels ``t``.

        Raises:
            BadInput: for data that ``spec`` does not describe.
            Unsupported: for discrete data, whose probabilities have no gradient.
        """
        if self.spec.support.discrete:
            raise Unsupported("probabilities of discrete data have no gradient; got data with levels. Use energy.")
        with torch.enable_grad():
            data = self.take(x).detach().requires_grad_()
            return -torch.autograd.grad(self._outer_energy(data).sum(), data)[0]

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 50,
        temperature: Positive = 1.0,
        start: Literal["chains", "base"] = "chains",
    ) -> Tensor:
        """Ends of adjusted chains in data space, (num, *shape): approximate draws, the nearer to the model the longer they walk.

        Args:
            num: how many.
            cond: none; the model takes no condition.
            generator: source of randomness.
            steps: of each chain; more forget the start and take longer.
            temperature: draws follow exp(-E / temperature); below 1 they are more typical and less diverse.
            start: the persistent chains of training, again from the first when they run out, or the base.

        Raises:
            BadInput: for a condition.
        """
        self.take_cond(cond, num)
        draws = self.draws(num, generator)
        u = self.tail * draws.normal(*self.spec.shape)
        if start == "chains":
            u = self.chains[dealt(draws.uniform(), len(self.chains))]
        kernel = replace(self._kernel, temperature=temperature)
        return self.codec.decode(langevin(self._energy, u, draws, kernel, steps=steps).u)

    @torch.no_grad()
    def trajectory(self, num: int, *, frames: int = 20, steps: int = 200, generator: torch.Generator | None = None) -> Trajectory:
        """Chains on their way from the base by Langevin steps alone, densest at the start where they move most.

        Args:
            num: chains.
            frames: states to show of each; the first is the base.
            steps: of each chain in all; at least one lies between two frames.
            generator: source of randomness.
        """
        draws = self.draws(num, generator)
        u = self.tail * draws.normal(*self.spec.shape)
        times, states = frame_steps(frames, steps), [u]
        for before, after in pairwise(times):
            u = langevin(self._energy, u, draws, replace(self._kernel, restart=0.0), steps=after - before).u
            states.append(u)
        path = torch.stack([self.codec.decode(u).to(self.dtype) for u in states])
        return Trajectory(torch.tensor(times, dtype=self.dtype), path)


PRESETS = {"unadjusted": {"metropolis": False, "restart": 0.001, "step": 0.002, "walk": 10}}
RECIPE = {"lr": 5e-3, "betas": [0.5, 0.99], "batch": 256, "steps": 1000, "ema": 0.995, "validate_every": 0.1}
