"""The standalone scripts and the library are independent of each other: from the same weights both give the same numbers."""

from __future__ import annotations

import ast
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import sixfold
from sixfold.core.draws import Draws
from sixfold.core.model import Batch, GenerativeModel
from sixfold.core.spec import DataSpec, Support

MINIMAL = Path(__file__).parent.parent / "minimal"
PLANE = DataSpec((2,), Support("real"))
SCRIPTS = sorted(path.stem for path in MINIMAL.glob("*.py"))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"minimal_{name}", MINIMAL / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


@torch.no_grad()
def copy(source: nn.Module, target: nn.Module, *, spread: float = 0.3) -> None:
    """Weights of one network into another whose linear layers stand in the same order; new ones are drawn first."""
    for one, two in zip(linears(source), linears(target), strict=True):
        for parameter in one.parameters():
            parameter.normal_(0, spread)
        two.weight.copy_(one.weight)
        two.bias.copy_(one.bias)


@pytest.fixture
def points() -> Tensor:
    return torch.randn(64, 2, generator=torch.Generator().manual_seed(5))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # float32, sums in another order


def seeded(num: int = 64, seed: int = 3) -> Draws:
    return Draws(num, generator=torch.Generator().manual_seed(seed))


def loss_of(model: GenerativeModel, x: Tensor, player: str = "model", progress: float = 1.0) -> Tensor:
    return model.loss(Batch(x, seeded(len(x)), progress=progress), player).loss


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_needs_torch_alone(name):
    text = (MINIMAL / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 150
    imported = {a.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for a in node.names}
    imported |= {str(node.module) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in imported} <= {"torch", "math", "struct", "zlib", "copy"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_draws_the_same_moons(name):
    ours = sixfold.load_data("moons").truth
    assert ours is not None
    x = script(name).moons(20_000, torch.Generator().manual_seed(0))
    # Mean of -log p over draws of the truth is its entropy; sd of -log p is 0.7, six standard errors are allowed (1e-9).
    assert float(-ours.log_prob(x).mean()) == pytest.approx(ours.best_nll, abs=6 * 0.7 / math.sqrt(20_000))


def test_flow(points):
    own = script("flow").Flow(couplings=4, width=16)
    model = sixfold.build("flow/realnvp", PLANE, couplings=4, width=16, depth=2, mixing="permutation")
    copy(own, model)
    for name, buffer in model.named_buffers():
        if name.endswith("order"):
            buffer.copy_(torch.arange(2))
    close(own.log_prob(points), model.log_prob(points).nats)
    close(-own.log_prob(points), loss_of(model, points))


def test_energy(points):
    own = script("energy").EBM(width=16)
    model = sixfold.build("energy/ebm", PLANE, width=16, depth=3, tail=1.0)
    copy(own, model)
    close(own.energy(points), model.energy(points))
    x, y = torch.linspace(-9, 9, 601), torch.linspace(-9, 9, 601)
    with torch.no_grad():
        log_z = (-own.energy(torch.cartesian_prod(x, y))).logsumexp(0) + 2 * math.log(18 / 600)
    torch.testing.assert_close(-own.energy(points) - log_z, model.log_prob(points).nats, rtol=0, atol=1e-3)  # two quadratures


def test_autoregressive(points):
    own = script("autoregressive").MADE(width=16, components=3)
    model = sixfold.build("autoregressive/made", PLANE, orders=1, width=16, depth=0, components=3)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.normal_(0, 0.5)
        net = model.net
        net.first.copy_(own.first[..., None])
        net.told.copy_(own.shift[None])
        net.last.copy_(own.last)
        net.direct.copy_(own.direct[..., None])
        net.bias.copy_(own.bias)
    close(own.log_prob(points), model.log_prob(points).nats)
    close(-own.log_prob(points), loss_of(model, points))


@pytest.mark.parametrize("codes", [1, 8])
def test_vae(points, codes):
    own = script("vae").VAE(latent=3, width=16)
    name, options = ("vae/vae", {}) if codes == 1 else ("vae/iwae", {"particles": codes})
    model = sixfold.build(name, PLANE, latent=3, width=16, depth=3, **options)
    copy(own, model)
    eps = seeded().normal(codes, 3).transpose(0, 1)
    close(-own.elbo(points, eps[0]) if codes == 1 else -own.bound(points, eps), loss_of(model, points))
    bound = model.log_prob(points, effort=codes, generator=torch.Generator().manual_seed(3))
    close(own.bound(points, eps), bound.nats)


def test_gan(points):
    own = script("gan").GAN(latent=3, width=16)
    model = sixfold.build("gan/gan", PLANE, latent=3, width=16, depth=3, game="relativistic", gamma=1.0, gamma_end=0.25)
    copy(own.generator, model.generator)
    copy(own.critic, model.critic)
    z = seeded().normal(3)
    close(own.critic_loss(points, z, 0.25), loss_of(model, points, "critic"))
    close(own.generator_loss(points, z), loss_of(model, points, "generator"))


def test_diffusion(points):
    own = script("diffusion").Diffusion(width=16)
    model = sixfold.build("diffusion/ddpm", PLANE, width=16, depth=3)
    copy(own, model)
    draws = seeded()
    t = draws.stratified()
    eps = draws.normal(2)
    close(own.loss(points, t, eps), loss_of(model, points))
    copy(own, model, spread=0.1)  # a smooth field, which both solvers follow closely
    torch.testing.assert_close(own.log_prob(points, steps=200), model.log_prob(points).nats, rtol=0, atol=5e-3)
