"""Answers of the fourth stage."""

import torch

from answers import Wrong


class Coupling:
    def __init__(self, network):
        self.network = network

    def forward(self, x):
        kept, moved = x.chunk(2, dim=1)
        log_scale, shift = self.network(kept).chunk(2, dim=1)
        return torch.cat([kept, moved * log_scale.exp() + shift], 1), log_scale.sum(1)

    def inverse(self, z):
        kept, moved = z.chunk(2, dim=1)
        log_scale, shift = self.network(kept).chunk(2, dim=1)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], 1)


class LogdetOfTheInverse(Coupling):
    def forward(self, x):
        z, logdet = super().forward(x)
        return z, -logdet


class LogdetOfTheBatch(Coupling):
    def forward(self, x):
        z, logdet = super().forward(x)
        return z, logdet.sum()


class LooksAtWhatItMoves(Coupling):
    def forward(self, x):
        kept, moved = x.chunk(2, dim=1)
        log_scale, shift = self.network(moved).chunk(2, dim=1)
        return torch.cat([kept, moved * log_scale.exp() + shift], 1), log_scale.sum(1)


class InverseInTheWrongOrder(Coupling):
    def inverse(self, z):
        kept, moved = z.chunk(2, dim=1)
        log_scale, shift = self.network(kept).chunk(2, dim=1)
        return torch.cat([kept, moved * (-log_scale).exp() - shift], 1)


class ForgetsToScale(Coupling):
    def forward(self, x):
        kept, moved = x.chunk(2, dim=1)
        shift = self.network(kept).chunk(2, dim=1)[1]
        return torch.cat([kept, moved + shift], 1), x.new_zeros(len(x))

    def inverse(self, z):
        kept, moved = z.chunk(2, dim=1)
        return torch.cat([kept, moved - self.network(kept).chunk(2, dim=1)[1]], 1)


class WithoutGradients(Coupling):
    def forward(self, x):
        kept, moved = x.chunk(2, dim=1)
        log_scale, shift = self.network(kept.detach()).chunk(2, dim=1)
        return torch.cat([kept, moved * log_scale.exp() + shift], 1), log_scale.sum(1)


class HalvesSwapped(Coupling):
    def forward(self, x):
        z, logdet = super().forward(x)
        return z.flip(1), logdet

    def inverse(self, z):
        return super().inverse(z.flip(1))


def masks(dims, width):
    degrees = 1 + torch.arange(width) % (dims - 1)
    places = 1 + torch.arange(dims)
    return (degrees[:, None] >= places).float(), (places[:, None] > degrees).float()


def outputs_that_see_themselves(dims, width):
    degrees, places = 1 + torch.arange(width) % (dims - 1), 1 + torch.arange(dims)
    return (degrees[:, None] >= places).float(), (places[:, None] >= degrees).float()


def strict_twice(dims, width):
    degrees, places = 1 + torch.arange(width) % (dims - 1), 1 + torch.arange(dims)
    return (degrees[:, None] > places).float(), (places[:, None] > degrees).float()


def degrees_up_to_the_last(dims, width):
    degrees, places = 1 + torch.arange(width) % dims, 1 + torch.arange(dims)
    return (degrees[:, None] >= places).float(), (places[:, None] > degrees).float()


def triangles_alone(dims, width):
    return torch.ones(width, dims).tril(), torch.ones(dims, width).tril(-1)


def transposed(dims, width):
    return tuple(mask.T for mask in masks(dims, width))


def masks_of_wishes(dims, width):
    return tuple(0.5 * mask for mask in masks(dims, width))


def nucleus(p, share):
    ranked, order = p.sort(dim=-1, descending=True)
    before = ranked.cumsum(-1) - ranked
    kept = ranked * ((before < share) | (before == 0))
    return torch.zeros_like(p).scatter(-1, order, kept / kept.sum(-1, keepdim=True))


def stops_before_the_share(p, share):
    ranked, order = p.sort(dim=-1, descending=True)
    kept = ranked * (ranked.cumsum(-1) <= share)
    return torch.zeros_like(p).scatter(-1, order, kept / kept.sum(-1, keepdim=True).clamp_min(1e-12))


def one_too_many(p, share):
    ranked, order = p.sort(dim=-1, descending=True)
    before = ranked.cumsum(-1) - ranked
    keep = torch.cat([torch.ones_like(p[..., :1], dtype=torch.bool), before[..., :-1] < share], -1)
    kept = ranked * keep
    return torch.zeros_like(p).scatter(-1, order, kept / kept.sum(-1, keepdim=True))


def gathers_where_it_should_scatter(p, share):
    ranked, order = p.sort(dim=-1, descending=True)
    before = ranked.cumsum(-1) - ranked
    kept = p * ((before < share) | (before == 0)).gather(-1, order)
    return kept / kept.sum(-1, keepdim=True)


def without_sorting(p, share):
    before = p.cumsum(-1) - p
    kept = p * ((before < share) | (before == 0))
    return kept / kept.sum(-1, keepdim=True)


def not_renormalised(p, share):
    return p * (nucleus(p, share) > 0)


def nothing_at_a_share_of_zero(p, share):
    return nucleus(p, share) if share > 0 else torch.zeros_like(p)


def one_cut_for_all_rows(p, share):
    ranked, order = p.sort(dim=-1, descending=True)
    count = int((ranked.cumsum(-1)[0] - ranked[0] < share).sum())
    kept = ranked * (torch.arange(p.shape[-1]) < max(1, count))
    return torch.zeros_like(p).scatter(-1, order, kept / kept.sum(-1, keepdim=True))


RIGHT = {"coupling layer": Coupling, "masks of made": masks, "nucleus": nucleus}
SHAPE, STAYS, DEPENDS = "one_logdet_a_point", "first_half_stays", "second_half_depends_on_the_first"
COUNTS, UNDONE, LOGDET = "every_number_of_the_network_counts", "inverse_undoes_the_map", "logdet_is_that_of_the_jacobian"
ZEROS, STRICT = "masks_have_the_shapes_of_the_weights", "no_output_sees_itself_or_what_follows"
REACHED, USED = "every_output_sees_all_before_it", "every_unit_is_of_use"
MASS, SMALLEST, ONE = "mass_reaches_the_share", "no_smaller_set_would_do", "one_value_at_least_is_kept"
SUMS, ORDER = "what_is_kept_is_renormalised", "order_of_the_values_is_kept"
WRONG = [
    Wrong("coupling layer", LogdetOfTheInverse, {LOGDET}),
    Wrong("coupling layer", LogdetOfTheBatch, {SHAPE, LOGDET}),
    Wrong("coupling layer", LooksAtWhatItMoves, {DEPENDS, UNDONE, LOGDET}),
    Wrong("coupling layer", InverseInTheWrongOrder, {UNDONE}),
    Wrong("coupling layer", ForgetsToScale, {COUNTS}),
    Wrong("coupling layer", WithoutGradients, {DEPENDS}),
    Wrong("coupling layer", HalvesSwapped, {STAYS, DEPENDS}),
    Wrong("masks of made", outputs_that_see_themselves, {STRICT}),
    Wrong("masks of made", strict_twice, {REACHED, USED}),
    Wrong("masks of made", degrees_up_to_the_last, {USED}),
    Wrong("masks of made", triangles_alone, {USED}),
    Wrong("masks of made", transposed, {ZEROS, STRICT, REACHED, USED}),
    Wrong("masks of made", masks_of_wishes, {ZEROS}),
    Wrong("nucleus", stops_before_the_share, {MASS, ONE}),
    Wrong("nucleus", one_too_many, {SMALLEST}),
    Wrong("nucleus", gathers_where_it_should_scatter, {MASS, ONE, ORDER}),
    Wrong("nucleus", without_sorting, {SMALLEST, ONE, ORDER}),
    Wrong("nucleus", not_renormalised, {SUMS}),
    Wrong("nucleus", nothing_at_a_share_of_zero, {ONE}),
    Wrong("nucleus", one_cut_for_all_rows, {MASS, SMALLEST}),
]
