"""A diffusion model of two moons, in torch alone: the shortest honest form of learning to denoise.

z_t = alpha_t x + sigma_t eps,   alpha = cos(pi t / 2),   loss = E |v(z_t, t) - (alpha_t eps - sigma_t x)|^2
dx/dt of the probability flow gives samples and, with its divergence, the likelihood
                                     (Ho et al., 2020, arXiv:2006.11239; Song et al., 2021, arXiv:2011.13456)

python minimal/diffusion.py       # trains for about twenty seconds, writes diffusion.png: data, samples
"""

import copy
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


class Diffusion(nn.Module):
    """v(z, t) by a network that sees sines and cosines of the point and of the noise level."""

    LOG_SNR = (10.0, -10.0)  # of the first and the last time: both ends of the schedule are cut

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.level = torch.linspace(math.log(0.1), math.log(2.0), 8).exp()
        self.detail = torch.linspace(math.log(1.0), math.log(16.0), 6).exp()
        sizes = [2 + 16 + 24, width, width, width]
        layers: list[nn.Module] = []
        for a, b in zip(sizes, sizes[1:]):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def angle(self, t: Tensor) -> Tensor:
        """Angle whose cosine is alpha and whose sine is sigma: linear in t between the two ends."""
        first, last = (math.atan(math.exp(-s / 2)) for s in self.LOG_SNR)
        return first + (last - first) * t

    def v(self, z: Tensor, angle: Tensor) -> Tensor:
        """alpha eps - sigma x as the network sees it, (B, 2); it is also dz / d angle."""
        level = (-2 * angle.tan().log())[:, None, None] * self.level
        detail = z[..., None] * self.detail
        blur = (-0.5 * (angle.sin()[:, None] * self.detail).square()).exp()[:, None]  # what noise leaves of each frequency
        parts = (level.sin(), level.cos(), detail.sin() * blur, detail.cos() * blur)
        features = [part.flatten(1) for part in parts]
        return self.net(torch.cat([z, *features], 1))

    def loss(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Per point, (B,), the mean over its two elements."""
        angle = self.angle(t)
        alpha, sigma = angle.cos()[:, None], angle.sin()[:, None]
        return (self.v(alpha * x + sigma * eps, angle) - (alpha * eps - sigma * x)).square().mean(1)

    @torch.no_grad()
    def sample(self, num: int, steps: int, generator: torch.Generator) -> Tensor:
        """Heun's steps along the probability flow from noise to data."""
        z, times = torch.randn(num, 2, generator=generator), self.angle(torch.linspace(1, 0, steps + 1))
        for a, b in zip(times, times[1:]):
            first = self.v(z, a.expand(num))
            second = self.v(z + (b - a) * first, b.expand(num))
            z = z + (b - a) * (first + second) / 2
        return z

    def log_prob(self, x: Tensor, steps: int = 100) -> Tensor:
        """Nats by the change of variables along the flow, Heun's steps, exact divergence, (B,)."""
        z, gained, times = x, x.new_zeros(len(x)), self.angle(torch.linspace(0, 1, steps + 1))

        def slope(z: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
            z = z.detach().requires_grad_()
            v = self.v(z, angle.expand(len(z)))
            divergence = sum(torch.autograd.grad(v[:, i].sum(), z, retain_graph=True)[0][:, i] for i in range(2))
            return v.detach(), divergence

        for a, b in zip(times, times[1:]):
            first, div_first = slope(z, a)
            second, div_second = slope(z + (b - a) * first, b)
            z = z + (b - a) * (first + second) / 2
            gained = gained + (b - a) * (div_first + div_second) / 2
        return gained - 0.5 * z.square().sum(1) - math.log(2 * math.pi)


def train(steps: int = 3000, batch: int = 512) -> tuple[Diffusion, Tensor, Tensor]:
    """The mean over steps of a model of standardised data, with the data's mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    data = moons(50_000, generator)
    mean, std = data.mean(0), data.std(0)
    model = Diffusion()
    kept = copy.deepcopy(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        x = (data[torch.randint(len(data), (batch,), generator=generator)] - mean) / std
        t = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
        loss = model.loss(x, t, torch.randn(batch, 2, generator=generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for old, new in zip(kept.parameters(), model.parameters()):
                old.lerp_(new, 1 - min(0.995, (1 + step) / (10 + step)))
        if step % 500 == 0:
            print(f"step {step:5d}  loss {loss:.3f}")
    return kept, mean, std


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
    test = moons(2000, torch.Generator().manual_seed(1))
    nll = std.log().sum() - model.log_prob((test - mean) / std).mean()
    print(f"test NLL {nll:.3f} nats, numerical (the best attainable is 1.008)")
    samples = model.sample(50_000, 30, torch.Generator().manual_seed(2)) * std + mean
    write_png("diffusion.png", [histogram(moons(50_000, torch.Generator().manual_seed(3))), histogram(samples)])


if __name__ == "__main__":
    main()
