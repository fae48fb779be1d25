"""RealNVP on two moons, in torch alone: the shortest honest form of a normalizing flow.

log p(x) = log N(z; 0, I) + log |det dz/dx|,   z = f(x) a chain of affine couplings      (Dinh et al., 2017, arXiv:1605.08803)

python minimal/flow.py            # trains for about ten seconds, writes flow.png: data, samples, density
"""

import math
import struct
import zlib

import torch
from torch import Tensor, nn


def moons(num: int, generator: torch.Generator) -> Tensor:
    """Two half circles of radius 1 with Gaussian noise of 0.1, (num, 2)."""
    angle = math.pi * torch.rand(num, generator=generator)
    lower = torch.rand(num, generator=generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], 1) + 0.1 * torch.randn(num, 2, generator=generator)


class Coupling(nn.Module):
    """One element stays, the other is scaled and shifted by functions of it."""

    def __init__(self, moved: int, width: int) -> None:
        super().__init__()
        self.moved = moved
        self.net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def terms(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.net(kept[:, None]).unbind(1)
        return raw.tanh(), shift  # log-scales within one: unbounded ones overflow far from the data

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.terms(x[:, 1 - self.moved])
        y = x.clone()
        y[:, self.moved] = x[:, self.moved] * log_scale.exp() + shift
        return y, log_scale

    def inverse(self, y: Tensor) -> Tensor:
        log_scale, shift = self.terms(y[:, 1 - self.moved])
        x = y.clone()
        x[:, self.moved] = (y[:, self.moved] - shift) * (-log_scale).exp()
        return x


class Flow(nn.Module):
    """Couplings that move the second element, then the first, then the second ..."""

    def __init__(self, couplings: int = 8, width: int = 64) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(1 - i % 2, width) for i in range(couplings))

    def log_prob(self, x: Tensor) -> Tensor:
        logdet = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, gained = coupling(x)
            logdet = logdet + gained
        return logdet - 0.5 * x.square().sum(1) - math.log(2 * math.pi)

    @torch.no_grad()
    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(num, 2, generator=generator)
        for coupling in reversed(self.couplings):
            x = coupling.inverse(x)
        return x


def train(steps: int = 2000, batch: int = 512) -> tuple[Flow, Tensor, Tensor]:
    """A flow of standardised data, with their mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    data = moons(50_000, generator)
    mean, std = data.mean(0), data.std(0)
    flow = Flow()
    optimiser = torch.optim.Adam(flow.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        x = (data[torch.randint(len(data), (batch,), generator=generator)] - mean) / std
        loss = -flow.log_prob(x).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5d}  loss {loss:.3f}")
    return flow, mean, std


def grid(side: int = 200) -> Tensor:
    """Cell centres of the window [-1.5, 2.5] x [-1.5, 2], row by row from the top, (side * side, 2)."""
    x, y = torch.linspace(-1.5, 2.5, side), torch.linspace(2.0, -1.5, side)
    return torch.cartesian_prod(y, x).flip(1)


def histogram(x: Tensor, side: int = 200) -> Tensor:
    """Counts over the same window, (side, side)."""
    cell = ((x - torch.tensor([-1.5, -1.5])) / torch.tensor([4.0, 3.5]) * side).floor().long()
    cell = cell[((cell >= 0) & (cell < side)).all(1)]
    return torch.bincount((side - 1 - cell[:, 1]) * side + cell[:, 0], minlength=side * side).view(side, side).float()


def write_png(path: str, panels: list[Tensor]) -> None:
    """Panels side by side, each scaled to its own largest value, as a grey PNG."""
    grey = torch.cat([255 - 255 * (p / p.max()).sqrt() for p in panels], 1).byte()
    rows = b"".join(b"\0" + bytes(row.tolist()) for row in grey)

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main() -> None:
    torch.manual_seed(0)
    flow, mean, std = train()
    test = moons(10_000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        nll = std.log().sum() - flow.log_prob((test - mean) / std).mean()
        density = flow.log_prob((grid() - mean) / std).exp().view(200, 200)
    print(f"test NLL {nll:.3f} nats, exact (the best attainable is 1.008)")
    samples = flow.sample(50_000, torch.Generator().manual_seed(2)) * std + mean
    write_png("flow.png", [histogram(moons(50_000, torch.Generator().manual_seed(3))), histogram(samples), density])


if __name__ == "__main__":
    main()
