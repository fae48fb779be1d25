"""Answers of the sixth stage."""

import math

import torch

from answers import Wrong


def kernel_distance(x, y, kernel):
    n, m = len(x), len(y)
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    return (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1)) - 2 * xy.mean()


def pairs_with_themselves(x, y, kernel):
    return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()


def never_below_zero(x, y, kernel):
    return kernel_distance(x, y, kernel).clamp_min(0)


def cross_term_once(x, y, kernel):
    return kernel_distance(x, y, kernel) + kernel(x, y).mean()


def root_of_it(x, y, kernel):
    return kernel_distance(x, y, kernel).abs().sqrt()


def one_size_for_both(x, y, kernel):
    n = len(x)
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    return (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1)) - 2 * xy.mean()


def paired_interval(a, b):
    d = a - b
    half = 1.96 * d.std() / math.sqrt(len(d))
    return d.mean() - half, d.mean() + half


def as_if_independent(a, b):
    half = 1.96 * torch.sqrt(a.var() / len(a) + b.var() / len(b))
    return (a - b).mean() - half, (a - b).mean() + half


def the_other_way_round(a, b):
    return paired_interval(b, a)


def spread_of_the_data(a, b):
    d = a - b
    return d.mean() - 1.96 * d.std(), d.mean() + 1.96 * d.std()


def one_standard_error(a, b):
    d = a - b
    half = d.std() / math.sqrt(len(d))
    return d.mean() - half, d.mean() + half


def bits_per_dim(nats, dims, width):
    return -(nats / dims + math.log(width)) / math.log(2)


def sign_of_the_logarithm(nats, dims, width):
    return -bits_per_dim(nats, dims, width)


def nats_per_dim(nats, dims, width):
    return -(nats / dims + math.log(width))


def without_the_levels(nats, dims, width):
    return -nats / dims / math.log(2)


def levels_the_wrong_way(nats, dims, width):
    return -(nats / dims - math.log(width)) / math.log(2)


def not_per_dim(nats, dims, width):
    return -(nats + dims * math.log(width)) / math.log(2)


RIGHT = {"kernel distance": kernel_distance, "paired interval": paired_interval, "bits per dimension": bits_per_dim}
MEAN, BELOW = "equals_are_zero_apart_on_average", "some_equals_are_less_than_zero_apart"
ALIKE, SHIFT = "both_samples_are_treated_alike", "a_shift_is_its_closed_form_apart"
MIDDLE, SHARED = "its_middle_is_the_mean_difference", "what_both_share_does_not_widen_it"
ROOT, COVERS = "it_shrinks_with_the_root_of_the_number_of_data", "it_holds_the_truth_as_often_as_it_says"
LEVELS, HALF = "a_uniform_density_costs_the_logarithm_of_the_levels", "a_half_for_each_element_is_one_bit"
LESS, UNITS = "likelier_data_cost_less", "units_do_not_matter"
WRONG = [
    Wrong("kernel distance", pairs_with_themselves, {MEAN, BELOW}),
    Wrong("kernel distance", never_below_zero, {MEAN, BELOW}),
    Wrong("kernel distance", cross_term_once, {MEAN, BELOW, SHIFT}),
    Wrong("kernel distance", root_of_it, {MEAN, BELOW, SHIFT}),
    Wrong("kernel distance", one_size_for_both, {ALIKE}),
    Wrong("paired interval", as_if_independent, {SHARED, COVERS}),
    Wrong("paired interval", the_other_way_round, {MIDDLE, SHARED, COVERS}),
    Wrong("paired interval", spread_of_the_data, {ROOT, COVERS}),
    Wrong("paired interval", one_standard_error, {ROOT, COVERS}),
    Wrong("bits per dimension", sign_of_the_logarithm, {LEVELS, HALF, LESS}),
    Wrong("bits per dimension", nats_per_dim, {LEVELS, HALF, LESS}),
    Wrong("bits per dimension", without_the_levels, {LEVELS, UNITS}),
    Wrong("bits per dimension", levels_the_wrong_way, {LEVELS, UNITS}),
    Wrong("bits per dimension", not_per_dim, {LEVELS, HALF, LESS}),
]
