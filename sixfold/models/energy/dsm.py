"""Energy of images and points at every noise level, by denoising score matching: no chains in training.

    E(z; l) = | z + alpha F(z, l) |^2 / 2              z = alpha u + sigma eps,  l = log alpha^2 / sigma^2,  u: data, variance 1
    loss    = E_l (sigma / alpha)^2 | grad_z E - eps / sigma |^2 = E_l | v_hat - v |^2
    v_hat   = sigma / alpha (grad_z E - z) = grad_z sigma ( z.F + alpha |F|^2 / 2 ),              v = alpha eps - sigma u

The least loss is where -grad E is the score of the diffused data, whose mean given z is D(z) = alpha z - sigma v_hat. The network
F speaks through a scalar's gradient alone, and training takes a gradient of that gradient. F starts at zero, and the model at
E = |z|^2 / 2, the standard normal, with the skip and the weights of EDM; log sigma / alpha ~ N(centre, spread^2). The residual
z + alpha F is small where data are, at every level, which tells regions apart whose border noise does not cross. On two moons the
same network with z.F alone ended 1.6 nats above the truth, and the residual 0.08.

What an energy buys over a score are ratios: Langevin proposals are taken or left by the rule of Metropolis, so that each level's
chains leave exp(-E(.; l)) unchanged, also where the energy of a condition is weighted (guidance); and data are ranked without
solving a flow. Each level has a free constant of its own, and each condition: energies compare at one level and under one
condition. The model is exp(-E(.; l_max)) / Z, data with the noise exp(-l_max / 2) left in them. Images go through a U-Net, all
else through an MLP.

Can: draw by annealed Langevin chains, or by the flow of the denoiser in some 20 gradients; be conditioned; score and rank data;
say how likely they are in up to two real dimensions, where Z is found by quadrature. Cannot: give Z in more dimensions, where
``log_prob`` is unnormalised; weigh regions that all but the largest noise keeps apart as well as their shapes.

Source:  Learning Energy-Based Models in High-Dimensional Spaces with Multi-scale Denoising Score Matching (Li, Chen & Sommer,
         2019), arXiv:1910.07762, Eq. (6): one energy, many noise levels; Should EBMs model the energy or the score? (Salimans &
         Ho, 2021), the ICLR workshop on energy-based models: a squared residual as the energy;
         Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, Section 5.
Differs: the energy knows the noise level (that of Li et al. is divided by sigma^2); the residual starts at z and not at a random
         network; chains are adjusted, and their steps follow each level's sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Kind, LogProb, Measure, Numerical, Unnormalised
from sixfold.core.model import Array, Batch, DataSpec, GenerativeModel, Split, Terms, Trajectory
from sixfold.core.signature import Count, Natural, NonNegative, Positive, Share
from sixfold.models.energy._family import BOX, digest, log_z
from sixfold.nn.timed import NetworkName, check_guidance, flagged, timed_network
from sixfold.prob.codecs import Centred, CodecName, codec_for
from sixfold.prob.schedules import Schedule, Spacing, columns, noisy, split
from sixfold.solve.diffusion import Denoiser, Sampler, walk
from sixfold.solve.langevin import Kernel, langevin

Walker: TypeAlias = Literal["langevin"] | Sampler

BEST = 1.36  # step of adjusted chains on N(0, sigma^2 I), over sigma^2 D^(-1/3): half of 1.65^2, Roberts & Rosenthal (1998)


class Way(NamedTuple):
    """How a model walks from noise to data; see :meth:`DSM.sample`."""

    steps: int
    sampler: Walker
    moves: int
    step: float
    metropolis: bool
    spacing: Spacing
    guidance: float


class DSM(GenerativeModel):
    """A network's energy of noisy data, learned from its gradient.

    Args:
        centre: of the logarithm of the noise over the data's standard deviation in training; more trains the overall shape, less
            the fine detail.
        spread: its standard deviation; more reaches further levels more often.
        network: mlp flattens the datum, unet is for images; auto takes unet for images of at least 8x8 pixels.
        width: hidden units of an mlp's layer; more fits finer shapes and costs quadratically.
        depth: hidden layers of an mlp.
        fourier: frequencies at which an mlp sees each element of data of up to 8 dimensions; more reach finer structure.
        channels: of a unet's finest stage, twice as many in the next; more fits finer shapes and costs quadratically.
        blocks: residual blocks of each of its stages, down and up.
        patch: side of the squares of pixels that it starts from; more is faster and coarser.
        attention: whether positions at its lowest resolution look at each other.
        drop: share of conditions hidden in training, so that sampling can weigh the condition; more costs fidelity to it.
        log_snr_max: log-SNR of the cleanest state, whose law is the model; more leaves less noise, exp(-log_snr_max / 2), in it
            and makes regions harder to weigh against each other.
        log_snr_min: log-SNR of the noisiest state, where sampling starts; it should be close to pure noise.
        codec: from data to the space that noise is added in; auto standardises each element of real data, and all elements of
            data with levels by one mean and one scale.

    Raises:
        BadInput: when the ends are not in order, or more than 7 spreads from the centre.
        Unsupported: for tokens, and for a unet of anything but images.

    Example:
        >>> from sixfold.core.spec import Support
        >>> model = DSM(DataSpec((2,), Support("real")), width=16)
        >>> print(model.log_prob(torch.zeros(1, 2)).nats)
        tensor([-1.8379])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        centre: float = -1.0,
        spread: Positive = 1.2,
        network: NetworkName = "auto",
        width: Count = 128,
        depth: Count = 3,
        fourier: Natural = 6,
        channels: Count = 32,
        blocks: Count = 1,
        patch: Count = 2,
        attention: bool = True,
        drop: Share = 0.1,
        log_snr_max: float = 6.0,
        log_snr_min: float = -8.0,
        codec: CodecName = "auto",
    ) -> None:
        super().__init__(spec)
        self.drop = drop
        self.codec = codec_for(spec, "unit" if codec == "auto" and spec.support.discrete else codec)
        self.schedule = Schedule("log-normal", log_snr_max, log_snr_min, centre, spread)
        self.network = timed_network(
            network,
            spec,
            cond=spec.cond.size + 1 if spec.cond.kind != "none" else 0,
            width=width,
            depth=depth,
            fourier=fourier,
            channels=channels,
            blocks=blocks,
            stages=2,
            patch=patch,
            attention=attention,
        )

    def prepare(self, data: Split) -> None:
        """Statistics of the codec."""
        self.codec.fit(data.rows())

    def loss(self, batch: Batch, player: str) -> Terms:
        """Mean square error of v_hat, the energy's gradient, at one random noise level a datum, (B,)."""
        u, _ = self.codec.encode(batch.x, batch.draws)
        log_snr = self.schedule.log_snr(batch.draws.stratified())
        z, v = noisy(u, log_snr, batch.draws.normal(*self.spec.shape))
        shown = (batch.draws.uniform() >= self.drop).to(u.dtype)
        return Terms((self.velocity(z, log_snr, self._given(batch.cond, shown)) - v).square().flatten(1).mean(1))

    def _given(self, cond: Tensor | None, shown: Tensor | None = None) -> Tensor | None:
        """Features of the condition and a flag that it is shown, (B, C + 1); by default to all rows."""
        features = self.spec.cond.features(cond, torch.empty(0, device=self.device, dtype=self.dtype))
        return None if features is None else flagged(features, features.new_ones(len(features)) if shown is None else shown)

    def velocity(self, z: Tensor, log_snr: Tensor, given: Tensor | None) -> Tensor:
        """v_hat, (B, *shape), of states at one log-SNR for all, (), or one a row, (B,), given features of a condition.

        It has a gradient in the parameters, and none in z, where gradients are enabled.
        """
        learning = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            return torch.autograd.grad(self._tilt(z, log_snr, given).sum(), z, create_graph=learning)[0]

    def _tilt(self, z: Tensor, log_snr: Tensor, given: Tensor | None) -> Tensor:
        """What v_hat is the gradient of, sigma (z.F + alpha |F|^2 / 2), (B,): 0 for the standard normal, finite at all levels."""
        rows = log_snr.to(z).expand(len(z))
        alpha, sigma = split(rows)
        out = self.network(z, rows, given).to(z.dtype)
        tilt: Tensor = sigma * (out * (z + columns(alpha, z) * out / 2)).flatten(1).sum(1)
        return tilt

    def _energy(self, z: Tensor, log_snr: Tensor, given: Tensor | None) -> Tensor:
        """E(z; l) of states at one log-SNR for all, (B,)."""
        alpha, sigma = split(log_snr)
        return z.flatten(1).square().sum(1) / 2 + alpha / sigma * self._tilt(z, log_snr, given)

    @torch.no_grad()
    def energy(self, x: Array, t: float | None = None, *, cond: Array | int | None = None) -> Tensor:
        """Energy in nats, (B,), of states at a noise level, up to a constant of that level and condition.

        At the cleanest one log p(x) = -energy(x) - log Z. Discrete data lie in the middle of their cells.

        Args:
            x: states at time t in data space, (B, *shape); data themselves are states at t = 0.
            t: time in [0, 1]; ``None`` is 0, the cleanest state.
            cond: condition, one for all or one a row.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe, or a time outside [0, 1].
        """
        data = self.take(x)
        return self._outer_energy(data, self._level(t), self._given(self.take_cond(cond, len(data))))

    def _level(self, t: float | None) -> Tensor:
        """The log-SNR of a time, ()."""
        if t is not None and not 0 <= t <= 1:
            raise BadInput(f"t must lie in [0, 1], from data to noise; got {t}.")
        return self.schedule.log_snr(torch.tensor(t or 0.0, dtype=torch.float64))

    def _outer_energy(self, x: Tensor, log_snr: Tensor, given: Tensor | None) -> Tensor:
        z, logdet = self.codec.encode(x, Centred(len(x), device=self.device, dtype=self.dtype))
        return self._energy(z, log_snr, given) - logdet

    def score(self, x: Array, t: float | None = None, *, cond: Array | int | None = None) -> Tensor:
        """Gradient d log p_t / dx in data space, (B, *shape), which needs no Z: where a state becomes likelier.

        Args:
            x: states at time t in data space, (B, *shape); data themselves are states at t = 0.
            t: time in [0, 1]; ``None`` is 0, the cleanest state.
            cond: condition, one for all or one a row.

        Raises:
            BadInput: as :meth:`energy`.
            Unsupported: for discrete data, whose probabilities have no gradient.
        """
        if self.spec.support.discrete:
            raise Unsupported("probabilities of discrete data have no gradient; got data with levels. Use energy.")
        with torch.enable_grad():
            data = self.take(x).detach().requires_grad_()
            energy = self._outer_energy(data, self._level(t), self._given(self.take_cond(cond, len(data))))
            return -torch.autograd.grad(energy.sum(), data)[0]

    @torch.no_grad()
    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 256, generator: torch.Generator | None = None
    ) -> LogProb[Kind]:
        """Nats per datum of the cleanest state, (B,): Numerical in up to two real dimensions, else Unnormalised.

        Under a vector as the condition, each with a Z of its own, it is Unnormalised too. Unnormalised numbers compare under one
        condition only.

        Args:
            x: data, (B, *shape).
            cond: labels (B,) or vectors (B, C).
            effort: points a side of the lattice that Z is summed over, once for each class; more resolve finer shapes. The
                tolerance is twice what log Z changes by on a box twice as wide with as many points.
            generator: unused; the number is deterministic.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe.
        """
        data, dims = self.take(x), self.spec.dims
        given = self._given(self.take_cond(cond, len(data)))
        nats = -self._outer_energy(data, self._level(None), given)
        if self.spec.support.discrete or self.spec.cond.kind == "vector" or dims > 2:
            scope, measure = f"energy {digest(self.state_dict().values())}", Measure(self.spec.support.size)
            return LogProb(nats, Unnormalised, "minus the energy", dims, measure, scope=scope)
        totals, errors = self._log_z(given, len(data), effort)
        method = f"quadrature, {effort} points a side"
        return LogProb(nats - totals.to(nats), Numerical, method, dims, tolerance=errors)

    def _log_z(self, given: Tensor | None, num: int, count: int) -> tuple[Tensor, Tensor]:
        """Log Z under each row's condition and its error bar, (num,) each in float64."""
        alike = torch.zeros(num, 1, device=self.device)
        kinds, which = torch.unique(alike if given is None else given, dim=0, return_inverse=True)
        energies = [partial(self._energy_of_points, None if given is None else kind) for kind in kinds]
        found = [log_z(energy, [BOX] * self.spec.dims, count=count) for energy in energies]
        values = torch.tensor(found, dtype=torch.float64, device=self.device).reshape(-1, 2)[which]
        return values[:, 0], values[:, 1]

    def _energy_of_points(self, kind: Tensor | None, points: Tensor) -> Tensor:
        """Energy of the cleanest states, (M, D) to (M,), under one condition's features, (C,)."""
        z = points.to(self.device, self.dtype).reshape(-1, *self.spec.shape)
        return self._energy(z, self._level(None), None if kind is None else kind.expand(len(z), -1))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 20,
        sampler: Walker = "dpm++2m",
        moves: Natural = 0,
        step: Positive = 1.0,
        metropolis: bool = True,
        spacing: Spacing = "log-snr",
        guidance: NonNegative = 1.0,
    ) -> Tensor:
        """Draws in data space, (num, *shape): a walk from noise to the cleanest state, for data with levels the mean given it.

        Args:
            num: how many.
            cond: condition, one for all or one a draw.
            generator: source of randomness.
            steps: noise levels on the way; more are more accurate and slower.
            sampler: what carries a state from one level to the next: langevin leaves it to the moves, ancestral and
                euler-maruyama add noise, the others follow the probability flow at their orders; with moves each step is a
                start anew, where those that look back have order 1.
            moves: Langevin steps at each level; more bring its states nearer to exp(-E), at a gradient each and one more.
            step: size of a move, in the best one for noise alone; larger goes further and is rejected more often.
            metropolis: take or leave each move by its energy, which leaves exp(-E) unchanged; without, moves widen it.
            spacing: of the levels: even in time, quadratic (finer towards the data), even in log-SNR, or even in the seventh
                root of the noise's share (karras).
            guidance: weight w of the condition in the energy E(z) + w (E(z | c) - E(z)); 1 is the model's own, more makes draws
                more typical of it and less diverse, 0 ignores it. Any but 1 takes twice the gradients.

        Raises:
            BadInput: for a condition that ``spec`` does not describe, or langevin without moves.
            Unsupported: for guidance of a model that has no condition, or was always shown it.
            Diverged: when a move leaves the finite numbers.
        """
        *_, (_, x) = self._walk(num, cond, generator, Way(steps, sampler, moves, step, metropolis, spacing, guidance))
        return self.codec.decode(x)

    @torch.no_grad()
    def trajectory(
        self,
        num: int,
        *,
        frames: Count = 20,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 20,
        sampler: Walker = "dpm++2m",
        moves: Natural = 0,
        step: Positive = 1.0,
        metropolis: bool = True,
        spacing: Spacing = "log-snr",
        guidance: NonNegative = 1.0,
    ) -> Trajectory:
        """``frames`` states on the way from noise to the draws that :meth:`sample` gives for the same arguments.

        Args:
            num: how many draws.
            frames: how many states, at steps as evenly spaced as they can be; the last is the sample itself.
            cond: condition, one for all or one a draw.
            generator: source of randomness.
            steps, sampler, moves, step, metropolis, spacing, guidance: as in :meth:`sample`.
        """
        states = list(self._walk(num, cond, generator, Way(steps, sampler, moves, step, metropolis, spacing, guidance)))
        kept = [states[i] for i in torch.linspace(len(states) - 1, 0, frames).round().long().flip(0)]
        return Trajectory(torch.stack([t for t, _ in kept]), torch.stack([self.codec.decode(z).to(self.dtype) for _, z in kept]))

    def _walk(
        self, num: int, cond: Array | int | None, generator: torch.Generator | None, way: Way
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Times and states of sampling behind the codec: noise, one state a step; the last of data with levels is the mean."""
        if way.sampler == "langevin" and not way.moves:
            raise BadInput("langevin walks by its moves alone; got moves=0. Use moves=5, or sampler='dpm++2m'.")
        draws, times = self.draws(num, generator), self.schedule.grid(way.steps, way.spacing)
        cond = self.take_cond(cond, num)
        check_guidance(way.guidance, cond, self.drop)
        given = self._given(cond)
        start = draws.normal(*self.spec.shape)
        yield times[0], start
        denoiser = self._denoiser(given, way.guidance)
        for t, z in self.told(zip(times[1:], self._states(start, times, given, way, draws), strict=True), way.steps):
            yield t, denoiser(z, t) if t == 0 and self.spec.support.discrete else z

    def _denoiser(self, given: Tensor | None, guidance: float) -> Denoiser:
        """E[u | z] at a time: alpha z - sigma v_hat, of the guided energy."""

        def denoise(z: Tensor, t: Tensor) -> Tensor:
            log_snr = self.schedule.log_snr(t)
            alpha, sigma = split(log_snr)
            return alpha * z - sigma * _guided(partial(self.velocity, z, log_snr), given, guidance)

        return denoise

    def _states(self, z: Tensor, times: Tensor, given: Tensor | None, way: Way, draws: Draws) -> Iterator[Tensor]:
        """The states at ``times[1:]``, one after the other."""
        step = partial(walk, denoiser=self._denoiser(given, way.guidance), schedule=self.schedule, draws=draws)
        if not way.moves:
            assert way.sampler != "langevin"
            yield from step(way.sampler, z=z, times=times)
            return
        for pair in times.unfold(0, 2, 1):
            if way.sampler != "langevin":
                (z,) = step(way.sampler, z=z, times=pair)
            z = self._moved(z, self.schedule.log_snr(pair[1]), given, way, draws)
            yield z

    def _moved(self, z: Tensor, log_snr: Tensor, given: Tensor | None, way: Way, draws: Draws) -> Tensor:
        """States some Langevin steps further on at one noise level."""
        size = way.step * BEST * float((-log_snr).sigmoid()) * self.spec.dims ** (-1 / 3)
        kernel = Kernel(size, metropolis=way.metropolis)

        def energy(u: Tensor) -> Tensor:
            return _guided(partial(self._energy, u, log_snr), given, way.guidance)

        return langevin(energy, z, draws, kernel, steps=way.moves).u


def _guided(of: Callable[[Tensor | None], Tensor], given: Tensor | None, guidance: float) -> Tensor:
    """An energy or its gradient, E(z) + w (E(z | c) - E(z)), as a function of the condition's features, (B, C + 1)."""
    if guidance == 1 or given is None:
        return of(given)
    return torch.lerp(of(torch.zeros_like(given)), of(given), guidance)


PRESETS = {
    "mnist": {
        "centre": -0.5, "patch": 4, "channels": 64,
        "recipe": {"steps": 2500, "batch": 64, "lr": 3e-3, "ema": 0.998, "precision": "bfloat16", "betas": [0.9, 0.99]},
    }
}  # fmt: skip
RECIPE = {"lr": 1e-2, "batch": 512, "steps": 1500, "ema": 0.99}
