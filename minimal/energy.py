"""An energy-based model of two moons, in torch alone: maximum likelihood with persistent Langevin chains.

p(x) = exp(-E(x)) / Z,   grad NLL = E_data[grad E(x+)] - E_chains[grad E(x-)]        (Tieleman, 2008; arXiv:1903.08689)

python minimal/energy.py          # trains for about half a minute, writes energy.png: data, chains, density
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


class EBM(nn.Module):
    """E(x) = f(x) + |x|^2 / 2: the tail outgrows the network, so that exp(-E) can be integrated."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((2, width), (width, width), (width, width)):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 1))
        nn.init.zeros_(self.net[-1].weight)  # the first model is the normal distribution that the chains start from
        nn.init.zeros_(self.net[-1].bias)

    def energy(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1) + 0.5 * x.square().sum(1)

    def loss(self, data: Tensor, chains: Tensor) -> Tensor:
        """Energy of data less energy of chains, (B,): its mean has the likelihood's gradient, its value says nothing."""
        return self.energy(data) - self.energy(chains)

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and its gradient."""
        x = x.detach().requires_grad_()
        energy = self.energy(x)
        return energy.detach(), torch.autograd.grad(energy.sum(), x)[0]

    def walk(self, x: Tensor, steps: int, size: float, generator: torch.Generator) -> Tensor:
        """Metropolis-adjusted Langevin steps at temperature 1: exp(-E) is their stationary distribution."""
        energy, slope = self.slope(x)
        for _ in range(steps):
            there = x - size * slope + math.sqrt(2 * size) * torch.randn(x.shape, generator=generator)
            energy_there, slope_there = self.slope(there)
            forth = (there - x + size * slope).square().sum(1)
            back = (x - there + size * slope_there).square().sum(1)
            ratio = energy - energy_there + (forth - back) / (4 * size)
            accept = torch.rand(len(x), generator=generator).log() < ratio
            x = torch.where(accept[:, None], there, x)
            energy, slope = torch.where(accept, energy_there, energy), torch.where(accept[:, None], slope_there, slope)
        return x


def train(steps: int = 1500, batch: int = 256) -> tuple[EBM, Tensor, Tensor, Tensor]:
    """A model of standardised data and its chains, with the data's mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    data = moons(50_000, generator)
    mean, std = data.mean(0), data.std(0)
    model, chains = EBM(), torch.randn(4096, 2, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = torch.randperm(len(chains), generator=generator)[:batch]
        anew = torch.rand(batch, 1, generator=generator) < 0.05
        start = torch.where(anew, torch.randn(batch, 2, generator=generator), chains[rows])
        chains[rows] = model.walk(start, 10, 0.02, generator)
        x = (data[torch.randint(len(data), (batch,), generator=generator)] - mean) / std
        loss = model.loss(x, chains[rows]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step:5d}  energy gap {loss:+.3f}")
    return model, chains, mean, std


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
    model, chains, mean, std = train()
    x, y = torch.linspace(-8, 8, 801), torch.linspace(-8, 8, 801)
    test = (moons(10_000, torch.Generator().manual_seed(1)) - mean) / std
    with torch.no_grad():
        log_z = (-model.energy(torch.cartesian_prod(x, y))).logsumexp(0) + 2 * math.log(16 / 800)
        nll = model.energy(test).mean() + log_z + std.log().sum()
        density = (-model.energy((grid() - mean) / std)).exp().view(200, 200)
    print(f"test NLL {nll:.3f} nats, log Z by quadrature (the best attainable is 1.008)")
    chains = model.walk(chains, 200, 0.02, torch.Generator().manual_seed(2)) * std + mean
    write_png("energy.png", [histogram(moons(4096, torch.Generator().manual_seed(3))), histogram(chains), density])


if __name__ == "__main__":
    main()
