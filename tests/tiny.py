"""Models of a few parameters, each with everything that a training loop could get wrong; built by name as ``tiny:Blob``."""

import torch
from torch import nn

from sixfold.core.dataset import Dataset, Split
from sixfold.core.model import Batch, GenerativeModel, Player, Terms
from sixfold.core.spec import DataSpec, Support

PLANE = DataSpec((2,), Support("real"))


class Blob(GenerativeModel):
    """One player: a denoiser with noise of its own, dropout from the global generator and a buffer that counts.

    Args:
        width: of its hidden layer.
        dropout: share of hidden units that are dropped.
        poison: number of updates after which the loss is NaN; 0 never.
        until: number of updates after which it is finite again.
    """

    def __init__(self, spec: DataSpec, *, width: int = 8, dropout: float = 0.0, poison: int = 0, until: int = 10**9) -> None:
        super().__init__(spec)
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 2))
        self.poison, self.until = poison, until
        self.seen = 0
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("steps", torch.tensor(0))

    def prepare(self, data):
        self.mean.copy_(data.x.mean(0))

    def loss(self, batch: Batch, player: str) -> Terms:
        self.seen += self.training
        noise = batch.draws.normal(2)
        loss = (self.net(batch.x - self.mean + noise) + noise).square().sum(1)
        sick = self.training and 0 < self.poison < self.seen <= self.until
        return Terms(loss * torch.nan if sick else loss, noise=noise.square().sum(1), rise=torch.tensor(batch.progress))

    def after_step(self, player: str) -> None:
        self.steps += 1

    def sample(self, num, *, cond=None, generator=None):
        return self.net(torch.randn(num, 2, generator=generator)) + self.mean


class Duel(GenerativeModel):
    """Two players: a critic with a penalty on its gradient, two steps a round, and a generator at half the learning rate."""

    def __init__(self, spec: DataSpec, *, width: int = 8) -> None:
        super().__init__(spec)
        self.critic = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))
        self.generator = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))
        self.register_buffer("turns", torch.zeros(2))

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player(self.critic.parameters(), steps=2),
            "generator": Player(self.generator.parameters(), lr=0.5),
        }

    def loss(self, batch: Batch, player: str) -> Terms:
        fake = self.generator(batch.draws.normal(2))
        if player == "generator":
            return Terms(-self.critic(fake)[:, 0])
        real = batch.x.requires_grad_()
        score = self.critic(real)[:, 0]
        (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        penalty = slope.square().sum(1)
        return Terms(self.critic(fake)[:, 0] - score + penalty, penalty=penalty)

    def after_step(self, player: str) -> None:
        self.turns[["critic", "generator"].index(player)] += 1

    def sample(self, num, *, cond=None, generator=None):
        return self.generator(torch.randn(num, 2, generator=generator))


def plane(rows: int = 200, seed: int = 0) -> Dataset:
    """Correlated points; train, validation and test rows in equal numbers."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(3 * rows, 2, generator=g) @ torch.tensor([[1.0, 0.6], [0.0, 0.5]]) + 1.0
    return Dataset("plane", PLANE, *(Split(part) for part in x.split(rows)))


class Memory(GenerativeModel):
    """Tied parameters, and a buffer that takes its size from the data."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.net = nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.net.weight
        self.register_buffer("rows", torch.zeros(0, 2))

    def prepare(self, data):
        self.rows = data.x.clone()

    def loss(self, batch: Batch, player: str) -> Terms:
        return Terms((self.tied(self.net(batch.x)) - batch.x).square().sum(1))

    def sample(self, num, *, cond=None, generator=None):
        return self.rows[torch.randint(len(self.rows), (num,), generator=generator)]
