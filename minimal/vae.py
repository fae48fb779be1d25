"""A variational autoencoder of two moons, in torch alone: the shortest honest form of a latent variable model.

log p(x) >= E_q(z|x)[ log p(x|z) ] - KL( q(z|x) || N(0, I) )           (Kingma & Welling, 2014, arXiv:1312.6114)
log p(x) >= E log 1/K sum_k p(x|z_k) N(z_k; 0, I) / q(z_k|x)           (Burda et al., 2016, arXiv:1509.00519)

python minimal/vae.py             # trains for about fifteen seconds, writes vae.png: data, samples
"""

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


def network(inputs: int, outputs: int, width: int) -> nn.Sequential:
    """Three hidden layers."""
    layers: list[nn.Module] = []
    for a, b in ((inputs, width), (width, width), (width, width)):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class VAE(nn.Module):
    """The decoder says mean and scale of each element; the encoder says mean and scale of the code."""

    def __init__(self, latent: int = 2, width: int = 64) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = network(2, 2 * latent, width)
        self.decoder = network(latent, 2 * 2, width)
        with torch.no_grad():  # a narrow likelihood at the start: a wide one learns to ignore the code
            self.decoder[-1].bias.copy_(torch.tensor([0.0, math.log(math.expm1(0.1))]).repeat(2))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.encoder(x).chunk(2, 1)
        return mean, softplus(raw) + 1e-4

    def likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), summed over elements; z may carry one more axis in front than x."""
        mean, raw = self.decoder(z).unflatten(-1, (2, 2)).unbind(-1)
        scale = 0.01 + softplus(raw)  # bounded below: a free scale has no best value
        return (-0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def elbo(self, x: Tensor, eps: Tensor) -> Tensor:
        """Evidence lower bound with the KL in closed form, (B,)."""
        mean, std = self.posterior(x)
        kl = 0.5 * (mean.square() + std.square() - 1).sum(1) - std.log().sum(1)
        return self.likelihood(x, mean + std * eps) - kl

    def bound(self, x: Tensor, eps: Tensor, beta: float = 1.0) -> Tensor:
        """Importance-weighted bound, (B,), from eps of shape (K, B, Z); no bound while beta is less than 1."""
        mean, std = self.posterior(x)
        z = mean + std * eps
        ratio = 0.5 * (eps.square() - z.square()).sum(-1) + std.log().sum(-1)  # log N(z; 0, I) - log q(z|x)
        weight = self.likelihood(x, z) + beta * ratio
        return weight.logsumexp(0) - math.log(len(eps))

    @torch.no_grad()
    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """Draws from p(x|z), noise included."""
        mean, raw = self.decoder(torch.randn(num, self.latent, generator=generator)).unflatten(-1, (2, 2)).unbind(-1)
        return mean + (0.01 + softplus(raw)) * torch.randn(num, 2, generator=generator)


def train(steps: int = 2000, batch: int = 256, codes: int = 8) -> tuple[VAE, Tensor, Tensor]:
    """A model of standardised data, with their mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    data = moons(50_000, generator)
    mean, std = data.mean(0), data.std(0)
    model = VAE()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        x = (data[torch.randint(len(data), (batch,), generator=generator)] - mean) / std
        beta = min(1.0, step / (0.05 * steps))  # the code becomes useful before it is taxed
        loss = -model.bound(x, torch.randn(codes, batch, model.latent, generator=generator), beta).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5d}  loss {loss:.3f}")
    return model, mean, std


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
    test = (moons(2000, torch.Generator().manual_seed(1)) - mean) / std
    with torch.no_grad():
        bound = model.bound(test, torch.randn(256, len(test), model.latent, generator=torch.Generator().manual_seed(4)))
    nll = std.log().sum() - bound.mean()
    print(f"test NLL <= {nll:.3f} nats, importance-weighted bound with 256 codes (the best attainable is 1.008)")
    samples = model.sample(50_000, torch.Generator().manual_seed(2)) * std + mean
    write_png("vae.png", [histogram(moons(50_000, torch.Generator().manual_seed(3))), histogram(samples)])


if __name__ == "__main__":
    main()
