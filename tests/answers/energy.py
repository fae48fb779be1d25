"""Answers of the first stage."""

import math

import torch

from answers import Wrong


def langevin_step(x, score, size, generator):
    return x + 0.5 * size * score(x) + math.sqrt(size) * torch.randn(x.shape, generator=generator)


def twice_the_drift(x, score, size, generator):
    return x + size * score(x) + math.sqrt(size) * torch.randn(x.shape, generator=generator)


def noise_of_the_wrong_size(x, score, size, generator):
    return x + 0.5 * size * score(x) + size * torch.randn(x.shape, generator=generator)


def one_noise_for_both(x, score, size, generator):
    return x + 0.5 * size * score(x) + math.sqrt(size) * torch.randn(len(x), 1, generator=generator)


def not_written(x, score, size, generator):
    raise NotImplementedError


RIGHT = {"langevin step": langevin_step}
DRIFT, NOISE, SHAPE = "step_drifts_by_half_its_size_times_the_score", "noise_has_the_variance_of_the_step", "step_keeps_the_shape"
WRONG = [
    Wrong("langevin step", twice_the_drift, {DRIFT}),
    Wrong("langevin step", noise_of_the_wrong_size, {NOISE}),
    Wrong("langevin step", one_noise_for_both, {NOISE}),
    Wrong("langevin step", not_written, {DRIFT, NOISE, SHAPE}),
]
