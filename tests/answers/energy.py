"""Answers of the first stage."""

import math

import torch
from torch.nn.functional import softplus

from answers import Wrong

# A step of a chain.


def langevin_step(x, score, size, generator):
    return x + 0.5 * size * score(x) + math.sqrt(size) * torch.randn(x.shape, generator=generator)


def twice_the_drift(x, score, size, generator):
    return x + size * score(x) + math.sqrt(size) * torch.randn(x.shape, generator=generator)


def uphill_for_downhill(x, score, size, generator):
    return x - 0.5 * size * score(x) + math.sqrt(size) * torch.randn(x.shape, generator=generator)


def noise_of_the_wrong_size(x, score, size, generator):
    return x + 0.5 * size * score(x) + size * torch.randn(x.shape, generator=generator)


def one_noise_for_both(x, score, size, generator):
    return x + 0.5 * size * score(x) + math.sqrt(size) * torch.randn(len(x), 1, generator=generator)


def global_noise(x, score, size, generator):
    return x + 0.5 * size * score(x) + math.sqrt(size) * torch.randn_like(x)


def in_place(x, score, size, generator):
    x += 0.5 * size * score(x) + math.sqrt(size) * torch.randn(x.shape, generator=generator)
    return x


def moved_alone(x, score, size, generator):
    return (x + 0.5 * size * score(x)).mean(0) + math.sqrt(size) * torch.randn(x.shape[1], generator=generator)


def not_written(x, score, size, generator):
    raise NotImplementedError


# The free energy of a restricted Boltzmann machine.


def free_energy(v, weight, visible, hidden):
    return -(v @ visible) - softplus(v @ weight + hidden).sum(1)


def overflowing(v, weight, visible, hidden):
    return -(v @ visible) - torch.log1p((v @ weight + hidden).exp()).sum(1)


def of_the_wrong_sign(v, weight, visible, hidden):
    return v @ visible + softplus(v @ weight + hidden).sum(1)


def energy_of_the_mean(v, weight, visible, hidden):
    """Hidden units put at their means, without their entropy."""
    on = (v @ weight + hidden).sigmoid()
    return -(v @ visible) - (on * (v @ weight + hidden)).sum(1)


def summed_over_the_batch(v, weight, visible, hidden):
    return -(v @ visible).sum() - softplus(v @ weight + hidden).sum()


# The loss that an energy is learned by.


def contrastive_loss(energy, data, chains):
    return energy(data).mean() - energy(chains.detach()).mean()


def the_wrong_way_round(energy, data, chains):
    return energy(chains.detach()).mean() - energy(data).mean()


def through_the_walk(energy, data, chains):
    return energy(data).mean() - energy(chains).mean()


def sums_for_means(energy, data, chains):
    return energy(data).sum() - energy(chains.detach()).sum()


def of_absolute_energies(energy, data, chains):
    """The constant is held by a penalty that the exercise did not ask for."""
    up, down = energy(data), energy(chains.detach())
    return up.mean() - down.mean() + 0.1 * (up.square().mean() + down.square().mean())


def data_alone(energy, data, chains):
    return energy(data).mean()


RIGHT = {"langevin step": langevin_step, "rbm free energy": free_energy, "contrastive loss": contrastive_loss}
SHAPE, START, CHANCE = "step_keeps_the_shape", "step_leaves_its_start_alone", "generator_alone_decides"
DRIFT, NOISE = "step_drifts_by_half_its_size_times_the_score", "noise_has_the_variance_of_the_step"
ROWS, SUM = "one_number_a_row", "hidden_units_are_summed_out"
SLOPE, FINITE = "its_slope_is_the_chance_that_a_unit_is_on", "large_weights_do_not_overflow"
MEANS, FREE = "gradient_is_a_difference_of_means", "constant_of_the_energy_is_free"
FIXED, LAW = "chains_are_held_fixed", "it_leads_to_the_law_of_the_data"
WRONG = [
    Wrong("langevin step", twice_the_drift, {DRIFT}),
    Wrong("langevin step", uphill_for_downhill, {DRIFT}),
    Wrong("langevin step", noise_of_the_wrong_size, {NOISE}),
    Wrong("langevin step", one_noise_for_both, {NOISE}),
    Wrong("langevin step", global_noise, {CHANCE}),
    Wrong("langevin step", in_place, {START}),
    Wrong("langevin step", moved_alone, {SHAPE, DRIFT, NOISE}),
    Wrong("langevin step", not_written, {SHAPE, START, CHANCE, DRIFT, NOISE}),
    Wrong("rbm free energy", overflowing, {FINITE}),
    Wrong("rbm free energy", of_the_wrong_sign, {SUM, SLOPE}),
    Wrong("rbm free energy", energy_of_the_mean, {SUM, SLOPE}),
    Wrong("rbm free energy", summed_over_the_batch, {ROWS, SUM}),
    Wrong("contrastive loss", the_wrong_way_round, {MEANS, FIXED, LAW}),
    Wrong("contrastive loss", through_the_walk, {FIXED, LAW}),
    Wrong("contrastive loss", sums_for_means, {MEANS, FREE, FIXED, LAW}),
    Wrong("contrastive loss", of_absolute_energies, {MEANS, FREE, FIXED, LAW}),
    Wrong("contrastive loss", data_alone, {MEANS, FREE, FIXED, LAW}),
]
