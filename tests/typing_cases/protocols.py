"""What the type checker must say of capabilities: ``# E: code`` marks a line that it has to refuse."""

from torch import Tensor

from sixfold.core.likelihood import Estimate, Exact, Kind, LogProb, Lower
from sixfold.core.model import Array, Batch, GenerativeModel, HasDensity, HasEnergy, HasLatent, Terms
from sixfold.core.signature import Count
from sixfold.core.spec import DataSpec


class Sampler(GenerativeModel):
    """Can sample and nothing else."""

    def loss(self, batch: Batch, player: str) -> Terms:
        return Terms(batch.x.flatten(1).sum(1))

    def sample(self, num: int, *, cond: Array | int | None = None, generator: object = None) -> Tensor:
        return self.draws(num, None).normal(*self.spec.shape)


class Exactly(Sampler):
    """Knows its density."""

    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 1, generator: object = None
    ) -> LogProb[Exact]:
        return LogProb(self.take(x).flatten(1).sum(1), Exact, "by hand", 2)


class Roughly(Sampler):
    """Estimates its density."""

    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 1, generator: object = None
    ) -> LogProb[Estimate]:
        return LogProb(self.take(x).flatten(1).sum(1), Estimate, "by lot", 2)


def wants_density(model: HasDensity[Kind]) -> None: ...


def wants_bound(model: HasDensity[Lower]) -> None: ...


def wants_energy(model: HasEnergy) -> None: ...


def wants_code(model: HasLatent) -> None: ...


def capabilities(sampler: Sampler, exactly: Exactly, roughly: Roughly) -> None:
    wants_density(exactly)
    wants_density(roughly)
    wants_bound(exactly)
    wants_density(sampler)  # E: arg-type
    wants_bound(sampler)  # E: arg-type
    wants_bound(roughly)  # E: arg-type
    wants_energy(exactly)  # E: arg-type
    wants_code(exactly)  # E: arg-type


def narrowed(model: GenerativeModel) -> None:
    if isinstance(model, HasDensity):
        wants_density(model)
    wants_density(model)  # E: arg-type


class Nothing(GenerativeModel):
    """Has neither loss nor sample."""


def build(spec: DataSpec, x: Tensor) -> None:
    Nothing(spec)  # E: abstract
    Exactly(spec).sample(2)
    Exactly(spec).log_prob(x, effort="much")  # E: arg-type
