"""Small models that keep the contract, and many that break it in one place each: what the checks are for.

Every broken model is a right one with one thing changed. ``BROKEN`` ties it to the check that is named for its fault, and to the
others that cannot help seeing it too.

Source:  none; Gaussians, a table of bits, a factor model and a small game, made for the tests.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Exact, LogProb, Lower, Measure, Unnormalised
from sixfold.core.model import Batch, Filled, GenerativeModel, Latent, Layers, Player, Terms, Trajectory
from sixfold.core.signature import Count, Positive
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.prob.codecs import codec_for
from sixfold.solve.annealing import Bracket, LogZ
from sixfold.testing import CHECKS

POINTS = DataSpec((2,), Support("real"))
LABELLED = DataSpec((2,), Support("real"), Conditioning("classes", 3))
VECTORS = DataSpec((2,), Support("real"), Conditioning("vector", 2))
BITS = DataSpec((4,), Support("binary"))


def normal(z):
    """Nats of a standard normal, (B,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


# --- models that keep the contract -----------------------------------------------------------------------------------------


class Affine(GenerativeModel):
    """x = codec^-1(shift + scale z) with z normal: can sample and nothing else.

    Args:
        scale: standard deviation at the start.
    """

    def __init__(self, spec, *, scale: Positive = 3.0) -> None:
        super().__init__(spec)
        self.codec = codec_for(spec)
        self.shift = nn.Parameter(torch.zeros(max(1, spec.cond.size), *spec.shape))
        self.log_scale = nn.Parameter(torch.full(spec.shape, math.log(scale)))

    def prepare(self, data):
        self.codec.fit(data.rows())

    def _shift(self, cond, num):
        features = self.spec.cond.features(cond, self.shift)
        return self.shift.expand(num, *self.spec.shape) if features is None else torch.tensordot(features, self.shift, 1)

    def _code(self, x, cond):
        """Code of each datum and log|det dz/dx|."""
        u, logdet = self.codec.encode(x, self.draws(len(x), None))
        return (u - self._shift(cond, len(x))) * (-self.log_scale).exp(), logdet - self.log_scale.sum()

    def _nats(self, x, cond):
        z, logdet = self._code(x, cond)
        return normal(z) + logdet

    def loss(self, batch: Batch, player: str) -> Terms:
        nll = -self._nats(batch.x, batch.cond)
        return Terms(nll, nll=nll)

    def _noise(self, num, generator):
        return self.draws(num, generator).normal(*self.spec.shape)

    @torch.no_grad()
    def sample(self, num, *, cond=None, generator=None):
        cond = self.take_cond(cond, num)
        return self.codec.decode(self._shift(cond, num) + self.log_scale.exp() * self._noise(num, generator))


class Density(Affine):
    """Knows its density too.

    Args:
        scale: standard deviation at the start.
    """

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Exact.

        Args:
            effort: nothing grows with it.
        """
        x, cond = self.take(x), self.take_cond(cond, len(x))
        return LogProb(self._nats(x, cond), Exact, "change of variables", self.spec.dims)


class Gaussian(Density):
    """Has every capability.

    Args:
        scale: standard deviation at the start.
    """

    def encode(self, x, cond=None, *, generator=None):
        x, cond = self.take(x), self.take_cond(cond, len(x))
        return Latent(self._code(x, cond)[0].flatten(1))

    def decode(self, z, cond=None):
        cond = self.take_cond(cond, len(z))
        return self.codec.decode(self._shift(cond, len(z)) + self.log_scale.exp() * z.view(-1, *self.spec.shape))

    @property
    def latent(self):
        return self.spec.dims

    def layers(self, x, cond=None, *, generator=None):
        x, cond = self.take(x), self.take_cond(cond, len(x))
        u, _ = self.codec.encode(x, self.draws(len(x), generator))
        return Layers(torch.stack([u, self._code(x, cond)[0]]), -self.log_scale.sum().expand(1, len(x)))

    def layers_back(self, base, cond=None):
        u = self._shift(self.take_cond(cond, len(base)), len(base)) + self.log_scale.exp() * base
        return Layers(torch.stack([base, u]), self.log_scale.sum().expand(1, len(base)))

    def noised(self, x, times, *, generator=None):
        x = self.take(x)
        noise = self._noise(len(x), generator)
        return torch.stack([(1 - t) * x + t * noise for t in times])

    def bracket(self, *, effort: Count = 100, seed: int = 0):
        logdet = self._code(torch.zeros(1, *self.spec.shape, dtype=self.dtype), None)[1].detach().double()
        value = self.spec.dims / 2 * math.log(2 * math.pi) - logdet
        sure = LogZ(value, *(value * 0, value, value, value * 0 + effort))
        return Bracket(sure, sure)

    def energy(self, x):
        return 0.5 * self._code(self.take(x), None)[0].square().flatten(1).sum(1)

    def score(self, x, t=None):
        x = self.take(x).requires_grad_()
        return -torch.autograd.grad(self.energy(x).sum(), x)[0]

    @torch.no_grad()
    def trajectory(self, num, *, cond=None, frames=8, generator=None):
        noise, end = self._noise(num, generator), self.sample(num, cond=cond, generator=generator)
        times = torch.linspace(1, 0, frames)
        return Trajectory(times, torch.stack([t * noise + (1 - t) * end for t in times]))

    @torch.no_grad()
    def fill(self, x, known, *, cond=None, generator=None):
        x = self.take(x)
        return Filled(torch.where(known, x, self.sample(len(x), cond=cond, generator=generator)), exact=True)


class Bits(GenerativeModel):
    """p(x) = prod_i Bernoulli(x_i; sigmoid(bias_i + sum_j<i weight_ij x_j)), exact by the chain rule."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.bias = nn.Parameter(torch.zeros(spec.dims))
        self.weight = nn.Parameter(torch.full((spec.dims, spec.dims), 0.5))
        self.register_buffer("mask", torch.ones(spec.dims, spec.dims).tril(-1))

    def _logits(self, x):
        return self.bias + x.to(self.dtype) @ (self.weight * self.mask).T

    def _nats(self, x):
        return -nn.functional.binary_cross_entropy_with_logits(self._logits(x), x.to(self.dtype), reduction="none").sum(1)

    def loss(self, batch, player):
        return Terms(-self._nats(batch.x))

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Exact.

        Args:
            effort: nothing grows with it.
        """
        x = self.take(x)
        self.take_cond(cond, len(x))
        return LogProb(self._nats(x), Exact, "chain rule", self.spec.dims, Measure(2))

    @torch.no_grad()
    def sample(self, num, *, cond=None, generator=None):
        self.take_cond(cond, num)
        x = torch.zeros(num, self.spec.dims, dtype=torch.uint8)
        return self._drawn(x, torch.zeros_like(x, dtype=torch.bool), generator)

    def _drawn(self, x, known, generator):
        noise = self.draws(len(x), generator).uniform(self.spec.dims)
        for i in range(self.spec.dims):
            drawn = (noise[:, i] < self._logits(x)[:, i].sigmoid()).to(torch.uint8)
            x[:, i] = torch.where(known[:, i], x[:, i], drawn)
        return x

    @torch.no_grad()
    def fill(self, x, known, *, generator=None):
        leading = bool((known.int().diff(dim=1) <= 0).all())
        return Filled(self._drawn(self.take(x).clone(), known, generator), exact=leading)


class Factor(GenerativeModel):
    """p(x) = integral N(x; w z + b, s^2 I) N(z; 0, 1) dz with a Gaussian posterior: a lower bound."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.w = nn.Parameter(torch.full((spec.dims,), 0.5))
        self.b = nn.Parameter(torch.zeros(spec.dims))
        self.log_s = nn.Parameter(torch.tensor(1.0))
        self.posterior = nn.Linear(spec.dims, 1)
        self.log_std = nn.Parameter(torch.tensor(-1.0))

    def _weights(self, x, draws, num):
        """log p(x, z) / q(z | x) of ``num`` draws, (B, num)."""
        eps = draws.normal(num, 1)
        z = self.posterior(x)[:, None] + self.log_std.exp() * eps
        recon = normal(((x[:, None] - self.w * z - self.b) / self.log_s.exp()).flatten(0, 1)).view(len(x), num)
        return recon - self.spec.dims * self.log_s + (-0.5 * z.square() + 0.5 * eps.square() + self.log_std).squeeze(2)

    def loss(self, batch, player):
        return Terms(-self._weights(batch.x, batch.draws, 1).squeeze(1))

    def log_prob(self, x, cond=None, *, effort: Count = 16, generator=None):
        """The importance-weighted bound.

        Args:
            effort: draws; more tighten it.
        """
        x = self.take(x)
        self.take_cond(cond, len(x))
        nats = self._bound(self._weights(x, self.draws(len(x), generator), effort))
        return LogProb(nats, Lower, f"importance-weighted bound, K={effort}", self.spec.dims)

    def _bound(self, weights):
        return weights.logsumexp(1) - math.log(weights.shape[1])

    @torch.no_grad()
    def sample(self, num, *, cond=None, generator=None):
        self.take_cond(cond, num)
        draws = self.draws(num, generator)
        return self.w * draws.normal(1) + self.b + self.log_s.exp() * draws.normal(self.spec.dims)


class Game(GenerativeModel):
    """x = shift + scale z against a critic of the first two moments, regularised: two players."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.generator = nn.ParameterDict({"shift": torch.zeros(spec.dims), "scale": torch.full((spec.dims,), 6.0)})
        self.critic = nn.Linear(2 * spec.dims, 1, bias=False)

    def players(self):
        return {"critic": Player(list(self.critic.parameters()), steps=2), "generator": Player(list(self.generator.parameters()))}

    def _made(self, z):
        return self.generator["shift"] + self.generator["scale"] * z

    def _judged(self, x):
        return self.critic(torch.cat([x, 0.1 * x.square()], 1)).squeeze(1)

    def loss(self, batch, player):
        fake = self._made(batch.draws.normal(self.spec.dims))
        if player == "generator":
            return Terms(-self._judged(fake))
        return Terms(self._judged(fake.detach()) - self._judged(batch.x) + self.critic.weight.square().sum())

    @torch.no_grad()
    def sample(self, num, *, cond=None, generator=None):
        self.take_cond(cond, num)
        return self._made(self.draws(num, generator).normal(self.spec.dims))


# --- build ---------------------------------------------------------------------------------------------------------------


class Undocumented(Affine):
    """An option without a line.

    Args:
        scale: standard deviation at the start.
    """

    def __init__(self, spec, *, scale: Positive = 3.0, mystery: float = 0.0) -> None:
        super().__init__(spec, scale=scale)


class LooseOption(Affine):
    """An option whose range is not stated.

    Args:
        scale: standard deviation at the start.
        history: numbers kept.
    """

    def __init__(self, spec, *, scale: Positive = 3.0, history: int = 8) -> None:
        super().__init__(spec, scale=scale)
        self.register_buffer("history", torch.zeros(history))


class NotANumber(Affine):
    """An option whose default is not even equal to itself.

    Args:
        clip: where to stop; NaN never stops.
    """

    def __init__(self, spec, *, clip: float = math.nan) -> None:
        super().__init__(spec)


# --- loss ----------------------------------------------------------------------------------------------------------------


class InfiniteAtTheEnd(Affine):
    """A schedule that is not defined where the run ends."""

    def loss(self, batch, player):
        return Terms(-self._nats(batch.x, batch.cond) / torch.tensor(1 - batch.progress))

    @torch.no_grad()
    def criterion(self, batch):
        return -self._nats(batch.x, batch.cond)


class MeanCriterion(Affine):
    """A criterion that is a mean already."""

    @torch.no_grad()
    def criterion(self, batch):
        return -self._nats(batch.x, batch.cond).mean()


class OwnNoise(Affine):
    """Randomness of its own beside the batch's draws."""

    noise = torch.Generator()

    def loss(self, batch, player):
        return Terms(-self._nats(batch.x, batch.cond) * (1 + 0.1 * torch.rand((), generator=self.noise)))


class GlobalNoise(Affine):
    """Randomness of the global generator beside the batch's draws."""

    def loss(self, batch, player):
        return Terms(-self._nats(batch.x, batch.cond) * (1 + 0.1 * torch.rand(())))


class BatchMean(Affine):
    """The mean of the batch in place of each datum's loss."""

    def loss(self, batch, player):
        return Terms(-self._nats(batch.x, batch.cond).mean().expand(len(batch.x)))


class DeadParameter(Affine):
    """A parameter that nothing depends on.

    Args:
        scale: standard deviation at the start.
    """

    def __init__(self, spec, *, scale: Positive = 3.0) -> None:
        super().__init__(spec, scale=scale)
        self.forgotten = nn.Parameter(torch.zeros(3))


class MeddlingCritic(Game):
    """A critic whose step moves the generator."""

    @torch.no_grad()
    def after_step(self, player):
        if player == "critic":
            self.generator["scale"].mul_(0.99)


class InPlaceLoss(Affine):
    """A loss that normalises a parameter in place."""

    def loss(self, batch, player):
        with torch.no_grad():
            self.log_scale.clamp_(max=0.5)
        return super().loss(batch, player)


class WritesIntoTheBatch(Affine):
    """A loss that clips its data where they lie."""

    def loss(self, batch, player):
        batch.x.clamp_(-1, 1)
        return super().loss(batch, player)


# --- learn ---------------------------------------------------------------------------------------------------------------


class Poisoned(Affine):
    """A step that leaves NaN behind."""

    @torch.no_grad()
    def after_step(self, player):
        self.log_scale.fill_(math.nan)


class Unlearning(Affine):
    """Climbs where it should descend, bounded so that it does not explode at once."""

    def loss(self, batch, player):
        return Terms(self._nats(batch.x, batch.cond).clamp_min(-500))

    @torch.no_grad()
    def criterion(self, batch):
        return -self._nats(batch.x, batch.cond)


class Stale(Affine):
    """Samples from an average that nobody updates.

    Args:
        scale: standard deviation at the start.
    """

    def __init__(self, spec, *, scale: Positive = 3.0) -> None:
        super().__init__(spec, scale=scale)
        self.register_buffer("average", torch.full(spec.shape, math.log(scale)))

    @torch.no_grad()
    def sample(self, num, *, cond=None, generator=None):
        self.take_cond(cond, num)
        return self.codec.decode(self.average.exp() * self._noise(num, generator))


# --- sample --------------------------------------------------------------------------------------------------------------


class FloatBits(Bits):
    """Samples of another dtype than the data."""

    def sample(self, num, *, cond=None, generator=None):
        return super().sample(num, cond=cond, generator=generator).float()


class BeyondTheData(Bits):
    """Samples that are no data: a bit of two."""

    def sample(self, num, *, cond=None, generator=None):
        x = super().sample(num, cond=cond, generator=generator)
        x[:1] = 2
        return x


class FixedSeed(Affine):
    """The same samples whatever the generator."""

    def _noise(self, num, generator):
        return super()._noise(num, torch.Generator().manual_seed(0))


class GlobalSampler(Affine):
    """Samples from the global generator."""

    def _noise(self, num, generator):
        return torch.randn(num, *self.spec.shape)


class Counting(Affine):
    """Counts its samples in a buffer.

    Args:
        scale: standard deviation at the start.
    """

    def __init__(self, spec, *, scale: Positive = 3.0) -> None:
        super().__init__(spec, scale=scale)
        self.register_buffer("drawn", torch.tensor(0))

    def sample(self, num, *, cond=None, generator=None):
        self.drawn += num
        return super().sample(num, cond=cond, generator=generator)


class DeafSampler(Gaussian):
    """A sampler that ignores its condition."""

    def sample(self, num, *, cond=None, generator=None):
        self.take_cond(cond, num)
        return super().sample(num, cond=1, generator=generator)


# --- density -------------------------------------------------------------------------------------------------------------


class WrongSign(Density):
    """The log-determinant of its scale with the wrong sign."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        good = super().log_prob(x, cond)
        return LogProb(good.nats + 2 * self.log_scale.sum(), Exact, "change of variables", 2)


class ForgetsItsCodec(Gaussian):
    """The density of the standardised data for that of the data as given."""

    def _code(self, x, cond):
        z, _ = super()._code(x, cond)
        return z, -self.log_scale.sum().expand(len(x))


class LeakingBits(Bits):
    """Each element sees all others, later ones too."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.mask.copy_(1 - torch.eye(spec.dims))


class Reconstruction(Factor):
    """Reports how well it reconstructs, without what the code costs, as if that were a bound."""

    def _weights(self, x, draws, num):
        if num == 1:
            return super()._weights(x, draws, num)
        z = self.posterior(x)
        recon = normal((x - self.w * z - self.b) / self.log_s.exp()) - self.spec.dims * self.log_s
        return recon[:, None].expand(-1, num)


class ForgetsTheMean(Factor):
    """Sums importance weights where it should average them."""

    def _bound(self, weights):
        return weights.logsumexp(1)


class WorstOfMany(Factor):
    """The least of the weights: a bound, but looser with every draw."""

    def _bound(self, weights):
        return weights.amin(1)


class AnotherDensity(Factor):
    """A normalised density, but not that of its samples, reported as a bound of it."""

    def _bound(self, weights):
        return super()._bound(weights) * 0

    def log_prob(self, x, cond=None, *, effort: Count = 16, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        loose = super().log_prob(x, cond, effort=effort, generator=generator)
        return LogProb(normal(self.take(x) - self.b), Lower, loose.method, 2)


class LogisticSampler(Density):
    """Samples logistic noise and scores normal noise."""

    def _noise(self, num, generator):
        return self.draws(num, generator).uniform(*self.spec.shape).clamp(1e-6, 1 - 1e-6).logit()


class WrongMeasure(Bits):
    """Calls probabilities of bits a density."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        return LogProb(super().log_prob(x, cond).nats, Exact, "chain rule", self.spec.dims)


class WrongDims(Density):
    """Divides its bits by one dimension."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        return LogProb(super().log_prob(x, cond).nats, Exact, "change of variables", 1)


class GlobalBound(Factor):
    """A bound whose noise comes from the global generator."""

    def log_prob(self, x, cond=None, *, effort: Count = 16, generator=None):
        """The bound.

        Args:
            effort: draws; more tighten it.
        """
        return super().log_prob(x, cond, effort=effort)


class BatchMates(Density):
    """A datum's number depends on the data beside it, as with statistics of the batch."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        good = super().log_prob(x, cond)
        around = self.take(x).mean() if len(x) else torch.tensor(0.0)
        return LogProb(good.nats + 0.01 * around.tanh(), Exact, good.method, 2)


class NoisyExact(Density):
    """A stochastic number that calls itself exact."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        good = super().log_prob(x, cond)
        return LogProb(good.nats + 0.01 * self.draws(len(x), generator).normal(), Exact, good.method, 2)


class SharedScope(Affine):
    """Unnormalised numbers under one scope for all weights, as if log Z were the same."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        z, _ = self._code(self.take(x), self.take_cond(cond, len(x)))
        return LogProb(-0.5 * z.square().sum(1), Unnormalised, "energy", 2, scope="gaussian")


class ChokesOnNothing(Density):
    """Cannot score an empty batch."""

    def log_prob(self, x, cond=None, *, effort: Count = 1, generator=None):
        """Wrong.

        Args:
            effort: nothing grows with it.
        """
        return super().log_prob(torch.as_tensor(x).reshape(len(x), -1), cond)


# --- structure -----------------------------------------------------------------------------------------------------------


class WidenedDecoder(Gaussian):
    """Decodes to another dtype than the data."""

    def decode(self, z, cond=None):
        return super().decode(z, cond).double()


class LossyDecoder(Gaussian):
    """Decoding does not undo encoding."""

    def decode(self, z, cond=None):
        return super().decode(0.9 * z, cond)


class WildPrior(Gaussian):
    """Codes of a wider distribution than the standard normal."""

    def decode(self, z, cond=None):
        return super().decode(z if len(z) == 16 else 10 * z, cond)


class OneWayLayers(Gaussian):
    """The way back ends elsewhere."""

    def layers_back(self, base, cond=None):
        return super().layers_back(base + 0.1, cond)


class ForgetfulLayers(Gaussian):
    """Layers whose log-determinants miss what a datum changes."""

    def layers(self, x, cond=None, *, generator=None):
        found = super().layers(x, cond, generator=generator)
        return Layers(found.states[..., :1].expand_as(found.states).clone(), found.logdets)

    def layers_back(self, base, cond=None):
        raise Unsupported("the way back is not known")


class BareData(Gaussian):
    """Noise that never arrives."""

    def noised(self, x, times, *, generator=None):
        return super().noised(x, times / 2, generator=generator)


class NarrowBracket(Gaussian):
    """A bracket beside the truth."""

    def bracket(self, *, effort: Count = 100, seed: int = 0):
        found = super().bracket(effort=effort, seed=seed)
        return Bracket(*(LogZ(end.value + 1, end.stderr, end.low, end.high, end.ess) for end in (found.lower, found.upper)))


class UphillScore(Gaussian):
    """A score of the wrong sign."""

    def score(self, x, t=None):
        return -super().score(x, t)


class HotEnergy(Gaussian):
    """An energy at another temperature than its density."""

    def energy(self, x):
        return 2 * super().energy(x)


class WrongSignEnergy(Affine):
    """An energy that is high on data."""

    def energy(self, x):
        return -self._code(self.take(x), None)[0].square().sum(1)


class BackwardTrajectory(Gaussian):
    """Frames from data to noise."""

    def trajectory(self, num, *, cond=None, frames=8, generator=None):
        path = super().trajectory(num, cond=cond, frames=frames, generator=generator)
        return Trajectory(path.times, 20 * path.frames.flip(0))


class RewritingFill(Gaussian):
    """Completion that draws known elements anew as well."""

    def fill(self, x, known, *, cond=None, generator=None):
        return Filled(self.sample(len(self.take(x)), cond=cond, generator=generator), exact=False)


class BoastfulFill(Bits):
    """Calls every completion exact, although earlier elements do not know the later ones."""

    def fill(self, x, known, *, generator=None):
        return Filled(super().fill(x, known, generator=generator).x, exact=True)


# --- persist -------------------------------------------------------------------------------------------------------------


class HiddenStatistics(Affine):
    """Statistics of the data in a plain attribute."""

    middle = 0.0

    def prepare(self, data):
        super().prepare(data)
        self.middle = float(data.x.mean())

    def _shift(self, cond, num):
        return super()._shift(cond, num) + self.middle


class HiddenCounter(Affine):
    """A schedule that counts its steps in a plain attribute."""

    count = 0

    def after_step(self, player):
        self.count += 1

    def loss(self, batch, player):
        return Terms(-self._nats(batch.x, batch.cond) * (1 + 0.01 * self.count))

    @torch.no_grad()
    def criterion(self, batch):
        return -self._nats(batch.x, batch.cond)


# --- refuse --------------------------------------------------------------------------------------------------------------


class SwallowsNaN(Density):
    """Takes data without looking."""

    def take(self, x):
        return torch.as_tensor(x, dtype=self.dtype).reshape(-1, *self.spec.shape)


class ClampsLabels(Density):
    """Makes any label fit."""

    def take_cond(self, cond, num):
        if self.spec.cond.kind == "classes" and cond is not None:
            cond = torch.as_tensor(cond).clamp(0, self.spec.cond.size - 1)
        return super().take_cond(cond, num)


class TalksTooMuch(Density):
    """Complaints of several lines."""

    def take(self, x):
        try:
            return super().take(x)
        except BadInput as error:
            raise BadInput(f"{error}\nPlease read the manual.") from error


# --- tables --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Right:
    """A model that keeps the contract, and the checks that have nothing to check in it; it has to pass all others."""

    model: type[GenerativeModel]
    spec: DataSpec
    skips: frozenset[str]


@dataclass(frozen=True)
class Broken:
    """A model that breaks it: the check that is named for its fault, and the others that see it as well."""

    model: type[GenerativeModel] | str
    caught: str
    also: frozenset[str] = frozenset()
    spec: DataSpec = POINTS

    def __str__(self) -> str:
        return f"{self.model if isinstance(self.model, str) else self.model.__name__}-{self.caught}"


SEEN_BY_SAMPLES = frozenset({"samples_match_the_density", "exact_completions_follow_the_density"})

PRESETS_OF = frozenset({"presets_build"})
CONDITION = frozenset({"samples_follow_their_condition"})
BOUND = frozenset({"bound_sums_to_at_most_one", "effort_does_not_loosen_the_bound"})
SLOPES = frozenset({
    "score_is_the_slope_of_log_prob", "energy_is_minus_log_prob", "energy_is_low_on_data",
    "layers_account_for_log_prob", "bracket_holds_log_z",
})  # fmt: skip
FILLS = frozenset({"known_elements_are_kept", "exact_completions_follow_the_density"})
STRUCTURE = frozenset(name for name, (group, _) in CHECKS.items() if group == "structure")
SAMPLES_ALONE = (
    PRESETS_OF | {name for name, (group, _) in CHECKS.items() if group in ("density", "structure")} | {"wrong_data_are_refused"}
)

RIGHT = (
    Right(Affine, POINTS, SAMPLES_ALONE | CONDITION),
    Right(Gaussian, POINTS, PRESETS_OF | CONDITION | BOUND),
    Right(Gaussian, LABELLED, PRESETS_OF | BOUND | SLOPES),
    Right(Gaussian, VECTORS, PRESETS_OF | BOUND | SLOPES),
    Right(Bits, BITS, PRESETS_OF | CONDITION | BOUND | STRUCTURE - FILLS),
    Right(Factor, POINTS, PRESETS_OF | CONDITION | STRUCTURE | {"probability_sums_to_one"}),
    Right(Game, POINTS, SAMPLES_ALONE | CONDITION | {"criterion_is_finite_for_each_datum", "training_lowers_the_criterion"}),
)

BROKEN = (
    Broken(Undocumented, "signature_is_the_configuration"),
    Broken(LooseOption, "wrong_options_are_refused"),
    Broken(NotANumber, "options_round_trip"),
    Broken("broken_presets:Nameless", "presets_build", frozenset({"summary_and_source_are_stated"})),
    Broken("broken_presets:Nameless", "summary_and_source_are_stated", frozenset({"presets_build"})),
    Broken(InfiniteAtTheEnd, "loss_is_finite_for_each_datum"),
    Broken(MeanCriterion, "criterion_is_finite_for_each_datum", frozenset({"training_completes"})),
    Broken(
        OwnNoise, "loss_repeats_for_the_same_draws", frozenset({"loss_is_the_same_in_shares", "resumed_training_is_the_same"})
    ),
    Broken(GlobalNoise, "loss_leaves_the_global_generator_alone"),
    Broken(BatchMean, "loss_is_the_same_in_shares"),
    Broken(DeadParameter, "every_parameter_learns"),
    Broken(MeddlingCritic, "each_player_moves_its_own_parameters_alone"),
    Broken(InPlaceLoss, "each_player_moves_its_own_parameters_alone"),
    Broken(WritesIntoTheBatch, "batch_stays_as_it_was"),
    Broken(Poisoned, "training_completes"),
    Broken(Unlearning, "training_lowers_the_criterion", frozenset({"training_brings_samples_closer"})),
    Broken(Stale, "training_brings_samples_closer"),
    Broken(FloatBits, "samples_fit_the_specification", spec=BITS),
    Broken(BeyondTheData, "samples_fit_the_specification", spec=BITS),
    Broken(FixedSeed, "samples_follow_their_generator"),
    Broken(GlobalSampler, "sampling_leaves_the_global_generator_alone"),
    Broken(Counting, "sampling_changes_nothing"),
    Broken(DeafSampler, "samples_follow_their_condition", SEEN_BY_SAMPLES, LABELLED),
    Broken(WrongSign, "probability_sums_to_one"),
    Broken(ForgetsItsCodec, "probability_sums_to_one", frozenset({"bracket_holds_log_z"})),
    Broken(LeakingBits, "probability_sums_to_one", SEEN_BY_SAMPLES, BITS),
    Broken(Reconstruction, "bound_sums_to_at_most_one", frozenset({"samples_match_the_density"})),
    Broken(ForgetsTheMean, "bound_sums_to_at_most_one", frozenset({"samples_match_the_density"})),
    Broken(WorstOfMany, "effort_does_not_loosen_the_bound"),
    Broken(AnotherDensity, "samples_match_the_density"),
    Broken(LogisticSampler, "samples_match_the_density"),
    Broken(WrongMeasure, "log_prob_names_its_measure", spec=BITS),
    Broken(WrongDims, "log_prob_names_its_measure"),
    Broken(GlobalBound, "log_prob_leaves_the_global_generator_alone"),
    Broken(BatchMates, "log_prob_ignores_other_data"),
    Broken(NoisyExact, "log_prob_keeps_its_kind"),
    Broken(SharedScope, "log_prob_keeps_its_kind"),
    Broken(ChokesOnNothing, "log_prob_is_finite_for_each_datum"),
    Broken(WidenedDecoder, "codes_decode_to_data", frozenset({"normal_codes_decode_to_data"})),
    Broken(LossyDecoder, "decoding_undoes_encoding"),
    Broken(WildPrior, "normal_codes_decode_to_data", frozenset({"decoding_undoes_encoding"})),
    Broken(OneWayLayers, "layers_lead_back"),
    Broken(ForgetfulLayers, "layers_account_for_log_prob"),
    Broken(BareData, "noise_covers_the_data_in_time"),
    Broken(NarrowBracket, "bracket_holds_log_z"),
    Broken(UphillScore, "score_is_the_slope_of_log_prob"),
    Broken(HotEnergy, "energy_is_minus_log_prob", frozenset({"bracket_holds_log_z"})),
    Broken(WrongSignEnergy, "energy_is_low_on_data"),
    Broken(BackwardTrajectory, "trajectory_ends_in_the_data"),
    Broken(RewritingFill, "known_elements_are_kept"),
    Broken(BoastfulFill, "exact_completions_follow_the_density", spec=BITS),
    Broken(HiddenStatistics, "saved_model_is_the_same", frozenset({"resumed_training_is_the_same"})),
    Broken(HiddenCounter, "resumed_training_is_the_same"),
    Broken(SwallowsNaN, "wrong_data_are_refused"),
    Broken(ClampsLabels, "wrong_conditions_are_refused", spec=LABELLED),
    Broken(TalksTooMuch, "wrong_data_are_refused"),
)
