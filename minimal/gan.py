"""A relativistic GAN on two moons, in torch alone: the shortest honest form of adversarial training.

critic      min_D  E s(D(G(z)) - D(x))  +  gamma/2 E |grad D(x)|^2  +  gamma/2 E |grad D(G(z))|^2         s = softplus
generator   min_G  E s(D(x) - D(G(z)))                                     (Huang et al., 2025, arXiv:2501.05441)

python minimal/gan.py             # trains for about half a minute, writes gan.png: data, samples
"""

import copy
import math
import struct
import zlib

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


def moons(num: int, generator: torch.Generator) -> Tensor:
    """Two half circles of radius 1 with Gaussian noise of 0.1, (num, 2)."""
    angle = math.pi * torch.rand(num, generator=generator)
    lower = torch.rand(num, generator=generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], 1) + 0.1 * torch.randn(num, 2, generator=generator)


def network(inputs: int, outputs: int, width: int, act: type[nn.Module], **options: float) -> nn.Sequential:
    """Three hidden layers and no normalisation: statistics of the batch would tie the penalty of one datum to the others."""
    layers: list[nn.Module] = []
    for a, b in ((inputs, width), (width, width), (width, width)):
        layers += [nn.Linear(a, b), act(**options)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class GAN(nn.Module):
    """A generator of points and a critic of them."""

    def __init__(self, latent: int = 8, width: int = 64) -> None:
        super().__init__()
        self.latent = latent
        self.generator = network(latent, 2, width, nn.SiLU)
        self.critic = network(2, 1, width, nn.LeakyReLU, negative_slope=0.2)

    def critic_loss(self, real: Tensor, z: Tensor, gamma: float) -> Tensor:
        """Per pair of a real and a generated point, (B,)."""
        both = torch.cat([real, self.generator(z).detach()]).requires_grad_()
        score = self.critic(both).squeeze(1)
        slope = torch.autograd.grad(score.sum(), both, create_graph=True)[0].square().sum(1)
        (r, f), (r1, r2) = score.chunk(2), slope.chunk(2)
        return softplus(f - r) + gamma / 2 * (r1 + r2)

    def generator_loss(self, real: Tensor, z: Tensor) -> Tensor:
        """Per pair, (B,)."""
        return softplus(self.critic(real).squeeze(1) - self.critic(self.generator(z)).squeeze(1))

    @torch.no_grad()
    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        return self.generator(torch.randn(num, self.latent, generator=generator))


def train(steps: int = 4000, batch: int = 256) -> tuple[GAN, Tensor, Tensor]:
    """The mean over steps of a GAN of standardised data, with the data's mean and one common scale."""
    generator = torch.Generator().manual_seed(0)
    data = moons(50_000, generator)
    mean, std = data.mean(0), (data - data.mean(0)).square().mean().sqrt()
    gan = GAN()
    kept = copy.deepcopy(gan)
    movers = [torch.optim.Adam(part.parameters(), lr=1e-3, betas=(0.0, 0.99)) for part in (gan.critic, gan.generator)]
    for step in range(steps):
        fall = 0.5 * (1 + math.cos(math.pi * step / steps))
        for i, mover in enumerate(movers):
            real = (data[torch.randint(len(data), (batch,), generator=generator)] - mean) / std
            z = torch.randn(batch, gan.latent, generator=generator)
            # The penalty fades: coverage first, sharpness later. The step does not: the mean over steps settles the game.
            loss = gan.critic_loss(real, z, 0.1 + 0.9 * fall) if i == 0 else gan.generator_loss(real, z)
            mover.param_groups[0]["lr"] = 1e-3 * (0.2 + 0.8 * fall)
            gan.zero_grad()  # the generator's loss also leaves gradients in the critic, which must not be stepped
            loss.mean().backward()
            mover.step()
        with torch.no_grad():
            for old, new in zip(kept.parameters(), gan.parameters()):
                old.lerp_(new, 1 - min(0.999, (1 + step) / (10 + step)))
        if step % 500 == 0:
            print(f"step {step:5d}  generator loss {loss.mean():.3f}")
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
    gan, mean, std = train()
    samples = gan.sample(50_000, torch.Generator().manual_seed(2)) * std + mean
    print("a GAN has no likelihood: look at gan.png")
    write_png("gan.png", [histogram(moons(50_000, torch.Generator().manual_seed(3))), histogram(samples)])


if __name__ == "__main__":
    main()
