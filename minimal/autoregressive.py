"""MADE on two moons, in torch alone: the shortest honest form of an autoregressive model.

    log p(x) = log p(x_1) + log p(x_2 | x_1), each a mixture of Gaussians       (Germain et al., 2015, arXiv:1502.03509)

One masked network gives both factors in one pass: hidden unit of degree m sees the first m elements, and the element at
place p hears units of degree at most p. Masks multiply the weights where they are used and never change them.

    python minimal/autoregressive.py  # trains for about ten seconds, writes autoregressive.png: data, samples, density
"""

import math
import struct
import zlib

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu, softplus


def moons(num: int, generator: torch.Generator) -> Tensor:
    """Two half circles of radius 1 with Gaussian noise of 0.1, (num, 2)."""
    angle = math.pi * torch.rand(num, generator=generator)
    lower = torch.rand(num, generator=generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], 1) + 0.1 * torch.randn(num, 2, generator=generator)


class MADE(nn.Module):
    """A hidden layer between masked weights, with direct connections; D elements, K Gaussians for each."""

    def __init__(self, dims: int = 2, width: int = 256, components: int = 16) -> None:
        super().__init__()
        self.dims, self.components = dims, components
        self.degrees = 1 + torch.arange(width) * (dims - 1) // width
        self.first = nn.Parameter((2 * torch.rand(width, dims) - 1) / math.sqrt(dims))
        self.shift = nn.Parameter(2 * torch.rand(width) - 1)
        self.last = nn.Parameter(torch.zeros(dims, 3 * components, width))
        self.direct = nn.Parameter(torch.zeros(dims, 3 * components, dims))
        means = torch.linspace(-2, 2, components).expand(dims, -1)
        raw = torch.full_like(means, -1.0)
        self.bias = nn.Parameter(torch.cat([torch.zeros_like(means), means, raw], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of each element given those before it, (B, D, 3 K)."""
        place = torch.arange(self.dims)
        sees = (self.degrees[:, None] > place).float()
        hears = (place[:, None] >= self.degrees).float()[:, None]
        before = (place[:, None] > place).float()[:, None]
        hidden = silu(linear(x, sees * self.first, self.shift))
        out = linear(hidden, (hears * self.last).flatten(0, 1)) + linear(x, (before * self.direct).flatten(0, 1))
        return out.view(len(x), self.dims, -1) + self.bias

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact nats, (B,)."""
        logits, mean, raw = self(x).chunk(3, -1)
        scale = 0.01 + softplus(raw)  # bounded below: a free scale has no best value
        parts = -0.5 * ((x[..., None] - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return (logits.log_softmax(-1) + parts).logsumexp(-1).sum(1)

    @torch.no_grad()
    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        x = torch.zeros(num, self.dims)
        for i in range(self.dims):
            logits, mean, raw = self(x)[:, i].chunk(3, -1)
            chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            noise = torch.randn(num, 1, generator=generator)
            x[:, i] = (mean.gather(1, chosen) + (0.01 + softplus(raw)).gather(1, chosen) * noise)[:, 0]
        return x


def train(steps: int = 2000, batch: int = 256) -> tuple[MADE, Tensor, Tensor]:
    """A model of standardised data, with their mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    data = moons(50_000, generator)
    mean, std = data.mean(0), data.std(0)
    model = MADE()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        x = (data[torch.randint(len(data), (batch,), generator=generator)] - mean) / std
        loss = -model.log_prob(x).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5d}  loss {loss:.3f}")
    return model, mean, std


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
    model, mean, std = train()
    test = moons(10_000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        nll = std.log().sum() - model.log_prob((test - mean) / std).mean()
        density = model.log_prob((grid() - mean) / std).exp().view(200, 200)
    print(f"test NLL {nll:.3f} nats, exact (the best attainable is 1.008)")
    samples = model.sample(50_000, torch.Generator().manual_seed(2)) * std + mean
    write_png("autoregressive.png", [histogram(moons(50_000, torch.Generator().manual_seed(3))), histogram(samples), density])


if __name__ == "__main__":
    main()
