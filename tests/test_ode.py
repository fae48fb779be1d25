"""Fixed-step solvers against matrix exponentials and integrals, divergences against traces of Jacobians."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from sixfold.nn.mlp import MLP
from sixfold.solve.ode import (
    TABLEAUS,
    Method,
    exact_divergence,
    hutchinson_divergence,
    integrate,
    integrate_with_divergence,
)

A = torch.tensor([[-0.5, 2.0, 0.3], [-1.5, 0.2, 0.1], [0.4, -0.2, 0.7]], dtype=torch.float64)
every = pytest.mark.parametrize("method", TABLEAUS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(x: Tensor, t: Tensor) -> Tensor:
    return x @ A.T


def turning(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt = (A + A^2 sin 3t) x: the matrices commute, so that the solution is an exponential of the integral."""
    return x @ (A + A @ A * (3 * t).sin()).T


def solution(field: object, x: Tensor, start: float, stop: float) -> Tensor:
    turned = (math.cos(3 * start) - math.cos(3 * stop)) / 3 if field is turning else 0.0
    return x @ torch.linalg.matrix_exp(A * (stop - start) + A @ A * turned).T


def times(start: float, stop: float, steps: int) -> Tensor:
    return torch.linspace(start, stop, steps + 1, dtype=torch.float64)


@every
@pytest.mark.parametrize("field", [linear, turning])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, -0.5)])
def test_error_falls_at_the_declared_order(method: Method, field: object, ends: tuple[float, float]) -> None:
    x = normal(5, 3)
    assert callable(field)
    errors = [
        float((integrate(field, x, times(*ends, n), method=method) - solution(field, x, *ends)).norm()) for n in (32, 64, 128)
    ]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(TABLEAUS[method].order, abs=0.15)
    assert errors[-1] < {"heun": 1e-2, "rk4": 1e-5}[method]


@every
def test_uneven_steps_are_taken_as_given(method: Method) -> None:
    x, grid = normal(5, 3), times(0.0, 1.0, 200) ** 2
    torch.testing.assert_close(integrate(turning, x, grid, method=method), solution(turning, x, 0, 1), rtol=1e-3, atol=1e-3)
    back = integrate(turning, integrate(turning, x, grid, method=method), grid.flip(0), method=method)
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)


def curved() -> tuple[MLP, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MLP(4, 4, width=16, depth=2, act="tanh").double(), normal(6, 2, 2)


def traces(net: MLP, x: Tensor) -> Tensor:
    jacobians = [torch.autograd.functional.jacobian(lambda y: net(y.reshape(1, 4))[0], row.flatten()) for row in x]
    return torch.stack([j.trace() for j in jacobians])


def test_exact_divergence_is_the_trace_of_the_jacobian() -> None:
    net, x = curved()
    value, divergence = exact_divergence(lambda y: net(y.flatten(1)).reshape(y.shape), x)
    torch.testing.assert_close(value, net(x.flatten(1)).reshape(x.shape))
    torch.testing.assert_close(divergence, traces(net, x))


def test_hutchinson_is_unbiased() -> None:
    net, x = curved()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)), dtype=torch.float64).reshape(-1, 1, 2, 2)
    found = [hutchinson_divergence(s.expand_as(x))(lambda y: net(y.flatten(1)).reshape(y.shape), x)[1] for s in signs]
    # The expectation is a mean over all 16 sign vectors: no statistics.
    torch.testing.assert_close(torch.stack(found).mean(0), traces(net, x))
    assert float(torch.stack(found).detach().std(0).min()) > 1e-3  # a single probe is not already the trace


def test_hutchinson_keeps_rows_apart() -> None:
    net, x = curved()
    signs = 2.0 * torch.randint(2, x.shape, generator=torch.Generator().manual_seed(3)).double() - 1
    _, divergence = hutchinson_divergence(signs)(lambda y: net(y.flatten(1)).reshape(y.shape), x)
    jacobians = [torch.autograd.functional.jacobian(lambda y: net(y.reshape(1, 4))[0], row.flatten()) for row in x]
    torch.testing.assert_close(
        divergence, torch.stack([s.flatten() @ j @ s.flatten() for s, j in zip(signs, jacobians, strict=True)])
    )


@every
def test_integral_of_the_divergence_carries_the_density(method: Method) -> None:
    """Under dx/dt = A x a Gaussian stays one, log p(x_1) = log p(x_0) - tr(A)."""
    x = normal(7, 3)
    end, integral = integrate_with_divergence(linear, x, times(0, 1, 100), divergence=exact_divergence, method=method)
    torch.testing.assert_close(integral, A.trace().expand(7), rtol=1e-12, atol=0)
    flow = torch.linalg.matrix_exp(A)
    start, stop = (
        torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
        for covariance in (torch.eye(3, dtype=torch.float64), flow @ flow.T)
    )
    torch.testing.assert_close(start.log_prob(x) - integral, stop.log_prob(end), rtol=1e-3, atol=1e-3)


def test_density_of_a_curved_flow_is_its_change_of_variables() -> None:
    """log |det| of the solution map's own Jacobian, by autograd through the solver, is the integral of the divergence."""
    net, x = curved()

    def field(y: Tensor, t: Tensor) -> Tensor:
        return net(y.flatten(1)).reshape(y.shape) * (1 + t)

    grid = times(0, 1, 40)
    _, integral = integrate_with_divergence(field, x, grid, divergence=exact_divergence)

    def solved(row: Tensor) -> Tensor:
        return integrate(field, row.reshape(1, 2, 2), grid).flatten()

    jacobians = torch.stack([torch.autograd.functional.jacobian(solved, row.flatten()) for row in x])
    # Both are of order 4 in a step of 1/40; the rest is the constant in front.
    torch.testing.assert_close(integral, torch.linalg.slogdet(jacobians)[1], rtol=1e-6, atol=1e-6)
