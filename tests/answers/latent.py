"""Answers of the second stage."""

import math

import torch

from answers import Wrong


def gaussian_kl(mean, logvar):
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)


def mean_over_units(mean, logvar):
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(1)


def mean_over_the_batch(mean, logvar):
    return gaussian_kl(mean, logvar).mean()


def turned_round(mean, logvar):
    return -gaussian_kl(mean, logvar)


def logvar_as_log_std(mean, logvar):
    return gaussian_kl(mean, 2 * logvar)


def without_the_half(mean, logvar):
    return 2 * gaussian_kl(mean, logvar)


def logvar_as_variance(mean, logvar):
    return 0.5 * (mean.square() + logvar - 1 - logvar.abs().log()).sum(1)


def draw(mean, logvar, generator):
    return mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


def variance_as_std(mean, logvar, generator):
    return mean + logvar.exp() * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


def without_gradient(mean, logvar, generator):
    return draw(mean.detach(), logvar.detach(), generator)


def gradient_of_the_mean_alone(mean, logvar, generator):
    return draw(mean, logvar.detach(), generator)


def one_noise_for_all_units(mean, logvar, generator):
    return mean + (0.5 * logvar).exp() * torch.randn(len(mean), 1, generator=generator, dtype=mean.dtype)


def one_code_for_the_batch(mean, logvar, generator):
    return draw(mean, logvar, generator)[:1]


def global_noise(mean, logvar, generator):
    return mean + (0.5 * logvar).exp() * torch.randn_like(mean)


def bound(recon, log_prior, log_q):
    return (recon + log_prior - log_q).logsumexp(1) - math.log(recon.shape[1])


def mean_of_logarithms(recon, log_prior, log_q):
    return (recon + log_prior - log_q).mean(1)


def without_log_k(recon, log_prior, log_q):
    return (recon + log_prior - log_q).logsumexp(1)


def along_the_batch(recon, log_prior, log_q):
    return (recon + log_prior - log_q).logsumexp(0) - math.log(recon.shape[1])


def entropy_with_the_wrong_sign(recon, log_prior, log_q):
    return bound(recon, log_prior, -log_q)


def exponentials_that_vanish(recon, log_prior, log_q):
    return (recon + log_prior - log_q).exp().mean(1).log()


def right_gradient_wrong_value(recon, log_prior, log_q):
    weight = recon + log_prior - log_q
    return (weight.softmax(1).detach() * weight).sum(1)


KL, DRAW, BOUND = "gaussian divergence", "reparameterised draw", "bound of several codes"
RIGHT = {KL: gaussian_kl, DRAW: draw, BOUND: bound}
ONE, ZERO, POSITIVE, SUM, MEAN = (
    "divergence_is_one_number_a_datum",
    "divergence_is_zero_at_the_prior",
    "divergence_is_never_negative",
    "divergences_of_units_add_up",
    "divergence_is_the_mean_of_log_q_less_log_p",
)
SHAPE, VARIANCE, OWN, GENERATOR, GRADIENT = (
    "draw_keeps_the_shape",
    "draw_has_the_variance_whose_logarithm_is_given",
    "draw_has_noise_of_its_own_for_each_unit",
    "draw_takes_its_noise_from_the_generator",
    "gradients_pass_through_the_draw",
)
EACH, SINGLE, TRUE, RISES, AVERAGE, TINY = (
    "bound_is_one_number_a_datum",
    "bound_of_one_code_is_the_evidence_lower_bound",
    "bound_is_the_truth_under_the_true_posterior",
    "bound_rises_with_the_number_of_codes",
    "bound_averages_weights_and_not_their_logarithms",
    "bound_survives_tiny_weights",
)
WRONG = [
    Wrong(KL, mean_over_units, {SUM, MEAN}),
    Wrong(KL, mean_over_the_batch, {ONE, MEAN}),
    Wrong(KL, turned_round, {POSITIVE, MEAN}),
    Wrong(KL, logvar_as_log_std, {MEAN}),
    Wrong(KL, without_the_half, {MEAN}),
    Wrong(KL, logvar_as_variance, {ZERO, POSITIVE, MEAN}),
    Wrong(DRAW, variance_as_std, {VARIANCE, GRADIENT}),
    Wrong(DRAW, without_gradient, {GRADIENT}),
    Wrong(DRAW, gradient_of_the_mean_alone, {GRADIENT}),
    Wrong(DRAW, one_noise_for_all_units, {OWN}),
    Wrong(DRAW, one_code_for_the_batch, {SHAPE, VARIANCE, OWN, GRADIENT}),
    Wrong(DRAW, global_noise, {GENERATOR}),
    Wrong(BOUND, mean_of_logarithms, {RISES, AVERAGE}),
    Wrong(BOUND, without_log_k, {TRUE, AVERAGE}),
    Wrong(BOUND, along_the_batch, {EACH, SINGLE, TRUE, RISES, AVERAGE}),
    Wrong(BOUND, entropy_with_the_wrong_sign, {SINGLE, TRUE, AVERAGE}),
    Wrong(BOUND, exponentials_that_vanish, {TINY}),
    Wrong(BOUND, right_gradient_wrong_value, {AVERAGE}),
]
