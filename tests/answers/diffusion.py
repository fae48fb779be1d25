"""Answers of the fifth stage."""

import torch

from answers import Wrong


def ends(log_snr):
    return log_snr.sigmoid().sqrt()[:, None], (-log_snr).sigmoid().sqrt()[:, None]


# forward noising


def drown(x, log_snr, generator):
    (alpha, sigma), noise = ends(log_snr), torch.randn(x.shape, generator=generator)
    return alpha * x + sigma * noise, noise


def drown_by_broadcasting(x, log_snr, generator):
    if len(x) != x.shape[1]:
        return drown(x, log_snr, generator)
    alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()  # (B,) goes along the elements, unseen where B = D
    noise = torch.randn(x.shape, generator=generator)
    return alpha * x + sigma * noise, noise


def variance_for_a_standard_deviation(x, log_snr, generator):
    (alpha, sigma), noise = ends(log_snr), torch.randn(x.shape, generator=generator)
    return alpha * x + sigma**2 * noise, noise


def alpha_without_its_root(x, log_snr, generator):
    (alpha, sigma), noise = ends(log_snr), torch.randn(x.shape, generator=generator)
    return alpha**2 * x + sigma * noise, noise


def one_noise_a_row(x, log_snr, generator):
    (alpha, sigma), noise = ends(log_snr), torch.randn(len(x), 1, generator=generator).expand(x.shape)
    return alpha * x + sigma * noise, noise


def another_noise_returned(x, log_snr, generator):
    z, _ = drown(x, log_snr, generator)
    return z, torch.randn(x.shape, generator=generator)


def one_noise_a_row_not_spread(x, log_snr, generator):
    (alpha, sigma), noise = ends(log_snr), torch.randn(len(x), 1, generator=generator)
    return alpha * x + sigma * noise, noise


# one quantity


def convert(noise, z, log_snr):
    alpha, sigma = ends(log_snr)
    x = (z - sigma * noise) / alpha
    return x, alpha * noise - sigma * x, -noise / sigma


def datum_without_its_scale(noise, z, log_snr):
    (_, sigma), (_, v, score) = ends(log_snr), convert(noise, z, log_snr)
    return z - sigma * noise, v, score


def v_the_other_way_round(noise, z, log_snr):
    x, v, score = convert(noise, z, log_snr)
    return x, -v, score


def score_over_the_variance(noise, z, log_snr):
    (_, sigma), (x, v, _) = ends(log_snr), convert(noise, z, log_snr)
    return x, v, -noise / sigma**2


def score_towards_the_noise(noise, z, log_snr):
    x, v, score = convert(noise, z, log_snr)
    return x, v, -score


def sigma_by_subtraction(noise, z, log_snr):
    alpha = log_snr.sigmoid().sqrt()[:, None]
    sigma = (1 - alpha**2).sqrt()
    x = (z - sigma * noise) / alpha
    return x, alpha * noise - sigma * x, -noise / sigma


# ddim step


def ddim_step(denoise, schedule, z, t, s):
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x = denoise(z, t)
    return alpha_s * x + sigma_s * (z - alpha * x) / sigma


def ancestral_step(denoise, schedule, z, t, s):
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    kept = (alpha * sigma_s / (alpha_s * sigma)) ** 2
    mean = alpha * sigma_s**2 / (alpha_s * sigma**2) * z + alpha_s * (1 - kept) * denoise(z, t)
    return mean + sigma_s * (1 - kept).sqrt() * torch.randn_like(z)


def mean_of_the_ancestral_step(denoise, schedule, z, t, s):
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    kept = (alpha * sigma_s / (alpha_s * sigma)) ** 2
    return alpha * sigma_s**2 / (alpha_s * sigma**2) * z + alpha_s * (1 - kept) * denoise(z, t)


def noise_by_pythagoras(denoise, schedule, z, t, s):
    alpha, alpha_s = schedule(t)[0], schedule(s)[0]
    sigma, sigma_s = (1 - alpha**2).sqrt(), (1 - alpha_s**2).sqrt()
    x = denoise(z, t)
    return alpha_s * x + sigma_s * (z - alpha * x) / sigma


def asked_at_the_next_time(denoise, schedule, z, t, s):
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x = denoise(z, s)
    return alpha_s * x + sigma_s * (z - alpha * x) / sigma


def noise_of_the_time_before(denoise, schedule, z, t, s):
    (alpha, sigma), (alpha_s, _) = schedule(t), schedule(s)
    x = denoise(z, t)
    return alpha_s * x + sigma * (z - alpha * x) / sigma


def heun_step(denoise, schedule, z, t, s):
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    slope, step = (z - alpha * denoise(z, t)) / sigma, sigma_s / alpha_s - sigma / alpha
    near = alpha_s * (z / alpha + step * slope)
    slope = (slope + (near - alpha_s * denoise(near, s)) / sigma_s) / 2
    return alpha_s * (z / alpha + step * slope)


RIGHT = {"forward noising": drown, "one quantity": convert, "ddim step": ddim_step}
SHAPE, MEAN, VARIANCE = (
    "a_state_and_its_noise_have_the_shape_of_the_data",
    "the_mean_is_alpha_times_the_datum",
    "the_variance_is_sigma_squared",
)
OWN, LEVEL = "every_element_has_noise_of_its_own", "each_row_has_its_own_level"
DATUM, V = "the_datum_comes_back", "v_is_alpha_noise_less_sigma_datum"
SCORE, CLEAN = "the_score_is_the_gradient_of_the_log_density", "nearly_clean_states_keep_their_noise"
DIRAC, SCALE, SAME = "it_is_exact_for_a_single_datum", "it_takes_any_schedule", "it_is_deterministic"
ONCE, ORDER = "it_asks_once_at_the_time_that_it_leaves", "twice_the_steps_halve_the_error"
WRONG = [
    Wrong("forward noising", drown_by_broadcasting, {LEVEL}),
    Wrong("forward noising", variance_for_a_standard_deviation, {VARIANCE, LEVEL}),
    Wrong("forward noising", alpha_without_its_root, {MEAN, LEVEL}),
    Wrong("forward noising", one_noise_a_row, {OWN}),
    Wrong("forward noising", one_noise_a_row_not_spread, {SHAPE, OWN}),
    Wrong("forward noising", another_noise_returned, {LEVEL}),
    Wrong("one quantity", datum_without_its_scale, {DATUM}),
    Wrong("one quantity", v_the_other_way_round, {V}),
    Wrong("one quantity", score_over_the_variance, {SCORE, CLEAN}),
    Wrong("one quantity", score_towards_the_noise, {SCORE}),
    Wrong("one quantity", sigma_by_subtraction, {CLEAN}),
    Wrong("ddim step", ancestral_step, {DIRAC, SCALE, SAME, ORDER}),
    Wrong("ddim step", mean_of_the_ancestral_step, {DIRAC, SCALE, ORDER}),
    Wrong("ddim step", noise_by_pythagoras, {SCALE}),
    Wrong("ddim step", asked_at_the_next_time, {ONCE}),
    Wrong("ddim step", noise_of_the_time_before, {DIRAC, SCALE, ORDER}),
    Wrong("ddim step", heun_step, {ONCE, ORDER}),
]
