"""Answers of the third stage."""

import torch
from torch.nn.functional import binary_cross_entropy, logsigmoid, softplus

from answers import Wrong


def log_ratio(log_p, log_q):
    return lambda x: log_p(x) - log_q(x)


def a_probability(log_p, log_q):
    return lambda x: torch.sigmoid(log_p(x) - log_q(x))


def of_the_wrong_side(log_p, log_q):
    return lambda x: log_q(x) - log_p(x)


def ratio_of_densities(log_p, log_q):
    return lambda x: torch.log(log_p(x).exp() / log_q(x).exp())


def non_saturating(real, fake):
    return softplus(-real) + softplus(fake), softplus(-fake)


def by_logsigmoid(real, fake):
    return -logsigmoid(real) - logsigmoid(-fake), -logsigmoid(fake)


def saturating(real, fake):
    return softplus(-real) + softplus(fake), -softplus(fake)


def logarithms_of_probabilities(real, fake):
    real, fake = torch.sigmoid(real), torch.sigmoid(fake)
    return -torch.log(real) - torch.log(1 - fake), -torch.log(fake)


def clamped_probabilities(real, fake):
    real, fake = torch.sigmoid(real), torch.sigmoid(fake)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    critic = binary_cross_entropy(real, one, reduction="none") + binary_cross_entropy(fake, zero, reduction="none")
    return critic, binary_cross_entropy(fake, one, reduction="none")


def mean_of_the_batch(real, fake):
    critic, generator = non_saturating(real, fake)
    return critic.mean(), generator.mean()


def half_of_each(real, fake):
    critic, generator = non_saturating(real, fake)
    return critic / 2, generator


def labels_exchanged(real, fake):
    return softplus(real) + softplus(-fake), softplus(-fake)


def _slopes(critic, x, **options):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(critic(x).sum(), x, **options)[0]


def slope_penalty(critic, x, centre):
    square = _slopes(critic, x, create_graph=True).flatten(1).square().sum(1)
    return ((square + 1e-12).sqrt() - centre).square()


def norm_of_the_batch(critic, x, centre):
    norm = (_slopes(critic, x, create_graph=True).square().sum() + 1e-12).sqrt()
    return (norm - centre).square().expand(len(x))


def slope_of_the_mean(critic, x, centre):
    x = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(critic(x).mean(), x, create_graph=True)
    return ((grad.flatten(1).square().sum(1) + 1e-12).sqrt() - centre).square()


def norm_over_channels(critic, x, centre):
    square = _slopes(critic, x, create_graph=True).square().sum(1)
    return ((square + 1e-12).sqrt() - centre).square().flatten(1).mean(1) if x.ndim > 2 else slope_penalty(critic, x, centre)


def no_graph(critic, x, centre):
    square = _slopes(critic, x).flatten(1).square().sum(1)
    return ((square + 1e-12).sqrt() - centre).square()


def bare_root(critic, x, centre):
    return (_slopes(critic, x, create_graph=True).flatten(1).square().sum(1).sqrt() - centre).square()


def square_without_its_root(critic, x, centre):
    return (_slopes(critic, x, create_graph=True).flatten(1).square().sum(1) - centre).square()


RIGHT = {"optimal critic": log_ratio, "non-saturating game": by_logsigmoid, "gradient penalty": slope_penalty}
ZERO, RATIO, FAR = (
    "critic_is_zero_where_both_are_equally_likely", "critic_is_the_logarithm_of_the_ratio", "critic_is_finite_far_from_both",
)  # fmt: skip
PAIRS, NOTHING, PUSHED, SURE, LARGE = (
    "losses_are_of_each_pair", "a_critic_that_knows_nothing_pays_log_four", "critic_is_pushed_by_its_own_mistakes",
    "generator_learns_when_the_critic_is_sure", "losses_are_finite_at_large_logits",
)  # fmt: skip
PLANE, EACH, IMAGE, LEARNS, FLAT = (
    "penalty_of_a_plane_is_known", "slope_is_that_of_each_datum", "slope_is_over_all_elements_of_an_image",
    "critic_learns_from_it", "a_flat_critic_gives_no_nan",
)  # fmt: skip
WRONG = [
    Wrong("optimal critic", a_probability, {ZERO, RATIO, FAR}),
    Wrong("optimal critic", of_the_wrong_side, {RATIO, FAR}),
    Wrong("optimal critic", ratio_of_densities, {FAR}),
    Wrong("non-saturating game", saturating, {NOTHING, SURE, LARGE}),
    Wrong("non-saturating game", logarithms_of_probabilities, {LARGE}),
    Wrong("non-saturating game", clamped_probabilities, {LARGE}),
    Wrong("non-saturating game", mean_of_the_batch, {PAIRS, PUSHED, SURE}),
    Wrong("non-saturating game", half_of_each, {NOTHING, PUSHED, LARGE}),
    Wrong("non-saturating game", labels_exchanged, {PUSHED, LARGE}),
    Wrong("gradient penalty", norm_of_the_batch, {PLANE, EACH, IMAGE, LEARNS}),
    Wrong("gradient penalty", slope_of_the_mean, {PLANE, EACH, IMAGE, LEARNS}),
    Wrong("gradient penalty", norm_over_channels, {IMAGE}),
    Wrong("gradient penalty", no_graph, {LEARNS, FLAT}),
    Wrong("gradient penalty", bare_root, {FLAT}),
    Wrong("gradient penalty", square_without_its_root, {PLANE, EACH, LEARNS}),
]
