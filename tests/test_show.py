"""What a run's page shows of a model: facts about what is drawn, and that every model that can be shown is."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import CASES, CELLS, CLASSES, STAMP, VECTOR, told

import sixfold
from sixfold.core.dataset import Dataset, Split
from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.core.model import Batch
from sixfold.core.registry import build, entry, names
from sixfold.core.spec import DataSpec, Support
from sixfold.plot.images import to_pixels
from sixfold.plot.sheets import covered, sheet
from sixfold.prob.unfold import stages, unfold
from sixfold.run.folder import RunFolder
from sixfold.run.page import write_page
from sixfold.run.show import sections as shows
from sixfold.run.show.codes import between, lattice, traversals
from sixfold.run.show.completions import completions, normalised, top_half
from sixfold.run.show.energies import energies, log_zs
from sixfold.run.show.layers import layers, shown
from sixfold.run.show.noise import evenly, noising
from sixfold.run.show.sections import sections
from sixfold.run.show.subject import Section, Subject
from sixfold.run.show.walks import margins
from sixfold.solve.sphere import slerp


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made_up(spec: DataSpec, num: int = 40) -> Dataset:
    """Random data as a specification describes them."""
    size = spec.support.size
    x = torch.randn(num, *spec.shape, generator=generator())
    if size is not None:
        x = torch.randint(size, (num, *spec.shape), generator=generator(), dtype=spec.dtype)
    cond, classes = None, ()
    if spec.cond.kind == "classes":
        cond, classes = torch.arange(num) % spec.cond.size, tuple("abcdefghij"[: spec.cond.size])
    elif spec.cond.kind == "vector":
        cond = torch.randn(num, spec.cond.size, generator=generator())
    part = Split(x, cond)
    return Dataset("made up", spec, part, part, part, classes=classes)


def few(dataset: Dataset, num: int = 60) -> Dataset:
    """The first data of each part."""
    parts = {p: getattr(dataset, p) for p in ("train", "valid", "test")}
    return replace(dataset, **{k: replace(p, x=p.x[:num], labels=None if p.labels is None else p.labels[:num])
                               for k, p in parts.items()})  # fmt: skip


def subject(name: str, dataset: Dataset, *, stir: float = 0.0, **options) -> Subject:
    """An untrained model that has seen its data; stirred parameters make it do something."""
    model = build(name, dataset.spec, **options).eval()
    model.prepare(dataset.train)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(stir * torch.randn(p.shape, generator=generator()))
    return Subject(model, dataset)


def digits(name: str = "digits") -> Dataset:
    return few(sixfold.load_data(name).unconditional())


def cells(drawing, side: int, gap: int = 1) -> np.ndarray:
    """The images of a sheet, (rows, columns, side, side, 3)."""
    (axes,) = drawing.made.axes
    picture = np.asarray(axes.images[0].get_array())
    step = side + gap
    rows, columns = ((length - gap) // step for length in picture.shape[:2])
    return np.stack([
        [picture[gap + r * step : gap + r * step + side, gap + c * step : gap + c * step + side] for c in range(columns)]
        for r in range(rows)
    ])  # fmt: skip


# What is drawn.


def test_a_sheet_stands_row_by_row_under_its_heads():
    pixels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(2, 1).repeat(2, 2)
    made = sheet(pixels, 3, rows=["a", "b"], heads=["x", "y", "z"])
    (axes,) = made.axes
    picture = np.asarray(axes.images[0].get_array())
    for label, position in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True):
        assert picture[2, round(position), 0] == "xyz".index(label.get_text())
    for label, position in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True):
        assert picture[round(position), 2, 0] == 3 * "ab".index(label.get_text())


def test_what_is_covered_is_of_one_shade_and_the_rest_is_as_it_was():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1)).astype(np.uint8)
    known = top_half((1, 4, 4))[0].numpy()
    seen = covered(pixels, known, "#0072B2")
    assert (seen[:, :2] == pixels[:, :2]).all()
    assert len(np.unique(seen[:, 2:].reshape(-1, 3), axis=0)) == 1


def test_limits_are_black_and_white():
    spec = DataSpec((1, 1, 3), Support("real"))
    assert to_pixels(torch.tensor([[[[-9.0, 0.0, 9.0]]]]), spec, limits=(-2.0, 2.0)).flatten().tolist() == [0, 128, 255]


def test_the_manifold_is_in_reading_order_and_its_cells_hold_equal_shares():
    codes = lattice(5).reshape(5, 5, 2)
    assert (codes[:, 1:, 0] > codes[:, :-1, 0]).all(), "the first element grows to the right"
    assert (codes[1:, :, 1] < codes[:-1, :, 1]).all(), "the second falls from row to row"
    shares = torch.special.ndtr(codes[0, :, 0].double())
    # Middles of five equal shares, in float32.
    assert torch.allclose(shares, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64), atol=1e-6)


def test_a_traversal_moves_one_element():
    base, at = torch.tensor([5.0, 6.0, 7.0]), torch.tensor([-1.0, 1.0])
    found = traversals(base, torch.tensor([2, 0]), at)
    assert found.tolist() == [[5, 6, -1], [5, 6, 1], [-1, 6, 7], [1, 6, 7]]


def test_slerp_turns_evenly_and_keeps_to_the_sphere():
    a, b = torch.randn(2, 3, 9, generator=generator(), dtype=torch.float64)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    way = slerp(a, b, torch.linspace(0, 1, 7))
    # Rounding of double precision.
    assert torch.allclose(way[0], a, atol=1e-12)
    assert torch.allclose(way[-1], b, atol=1e-12)
    assert torch.allclose(way.norm(dim=2), torch.ones(7, 3, dtype=torch.float64), atol=1e-12)
    angles = (way[1:] * way[:-1]).sum(2).acos()
    assert torch.allclose(angles, angles[:1].expand_as(angles), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.5, -1.0])
def test_codes_on_one_line_are_joined_by_it(factor):
    a = torch.randn(1, 4, generator=generator())
    way = slerp(a, factor * a, torch.linspace(0, 1, 5))
    assert torch.allclose(way[2], (1 + factor) / 2 * a, atol=1e-5)


def test_a_way_between_codes_is_straight_in_few_dimensions_and_round_in_many():
    for dims, kind in ((2, "straight"), (16, "spherical")):
        a, b = torch.eye(dims)[:1], torch.eye(dims)[1:2]
        way, name = between(a, b, torch.tensor([0.0, 0.5, 1.0]))
        assert name == kind
        assert torch.allclose(way[[0, 2]], torch.stack([a, b]))
        assert float(way[1].norm()) == pytest.approx(1.0 if kind == "spherical" else math.sqrt(0.5), abs=1e-6)


FLOWS = [
    ("flow/realnvp", CLASSES, {"width": 8, "couplings": 3}, 3),
    ("flow/realnvp:images", replace(STAMP, cond=DataSpec((1,), Support("real")).cond), {"width": 8, "couplings": 4}, 4),
    ("flow/glow", STAMP, {"width": 8, "couplings": 2}, 8),  # two steps in each of three scales, and two splits
]


@pytest.mark.parametrize(("name", "spec", "options", "count"), FLOWS, ids=["points", "image", "scales"])
def test_layers_begin_with_the_data_end_at_the_base_and_go_back(name, spec, options, count):
    s = subject(name, made_up(spec), stir=0.05, **options)
    x, cond = s.data(8), s.cond(8)
    there = s.model.layers(x, cond, generator=generator())
    u, outer = s.model.codec.encode(x, Draws(8, generator=generator()))
    assert torch.equal(there.states[0], u)
    assert there.states.shape == (count + 1, 8, *spec.shape)
    z = s.model.encode(x, cond, generator=generator()).z
    # The same sums in another order.
    assert torch.allclose(there.states[-1].flatten(1).sort(1).values, z.sort(1).values, atol=1e-4)
    nats = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1) + there.logdets.sum(0) + outer
    assert torch.allclose(nats, s.model._log_density(x, cond, Draws(8, generator=generator())), atol=1e-3)
    back = s.model.layers_back(there.states[-1], cond)
    assert torch.allclose(back.states.flip(0), there.states, atol=1e-4)
    assert torch.allclose(back.logdets.flip(0), -there.logdets, atol=1e-4)


def test_layers_leave_every_pixel_in_its_place():
    s = subject("flow/realnvp:images", made_up(replace(STAMP, cond=DataSpec((1,), Support("real")).cond)), width=8, couplings=4)
    there = s.model.layers(s.data(30), generator=generator())
    # Before training couplings change nothing: each layer only scales and shifts each pixel, whatever it permutes.
    first, last = there.states[0].flatten(1), there.states[-1].flatten(1)
    kept = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(first.T, last.T, strict=True)])
    assert bool((kept > 0.999).all())
    assert all(step.bends for step in stages(s.model.bijection)[-1].parts[-1:])
    assert len(unfold(s.model.bijection)) > len(stages(s.model.bijection))


def test_the_strip_of_a_flow_shows_the_first_and_the_last_state():
    s = subject("flow/glow", made_up(STAMP), stir=0.05, width=8, couplings=2)
    strip = next(d for d in layers(s).drawings if d.name == "forward")
    states = s.model.layers(s.data(64), s.cond(64), generator=s.generator()).states
    places = shown(len(states))
    assert (places[0], places[-1]) == (0, len(states) - 1)
    seen = cells(strip, 8)
    for i in (0, -1):
        expected = to_pixels(states[places[i], :5], s.model.spec, limits=(-2.5, 2.5))
        assert (seen[:, i] == expected).all()


@pytest.mark.parametrize("name", ["autoregressive/made", "energy/rbm"])
def test_completions_keep_the_known_half_exactly(name):
    data = digits("digits:binary")
    (drawing,) = completions(subject(name, data)).drawings
    seen = cells(drawing, 8)
    real = to_pixels(data.valid.rows(6), data.spec)
    assert (seen[:, 0] == real).all()
    assert (seen[:, 1:, :4] == real[:, None, :4]).all()
    assert (seen[:, 2:, 4:] != seen[:, :1, 4:]).any(), "nothing was drawn"


def test_a_cut_of_a_normal_is_a_normal():
    axis = torch.linspace(-8, 8, 400)
    truth = torch.distributions.Normal(1.0, 0.5)
    # The trapezoidal rule is nearly exact for a smooth density that vanishes at both ends.
    assert torch.allclose(normalised(truth.log_prob(axis) + 3.0, axis), truth.log_prob(axis).exp().double(), atol=1e-6)


def test_the_margin_is_what_was_logged(tmp_path):
    sixfold.fit("gan/gan", "moons", steps=12, width=8, folder=tmp_path / "run")
    rows = RunFolder(tmp_path / "run").metrics()
    logged = [row["players"]["critic"]["margin"] for row in rows if "players" in row]
    found = margins(Subject(sixfold.load(tmp_path / "run"), sixfold.load_data("moons"), rows))
    lines = found.drawings[0].made.axes[0].get_lines()
    assert logged
    assert any(list(line.get_ydata()) == logged for line in lines)
    assert "The critic&#39;s margin" in (tmp_path / "run" / "index.html").read_text()


def test_the_logged_margin_is_the_difference_of_mean_scores():
    s = subject("gan/gan", few(sixfold.load_data("moons").unconditional()), stir=0.1, width=8)
    x = s.data(16)
    terms = s.model.loss(Batch(x, Draws(16, generator=generator())), "critic")
    draws = Draws(16, generator=generator())
    real = s.model.codec.encode(x, draws)[0]
    fake = s.model.generator(draws.normal(s.model.latent), None)
    expected = (s.model.critic(real, None) - s.model.critic(fake, None)).squeeze(1)
    assert torch.allclose(terms.parts["margin"], expected, atol=1e-6)  # rounding


@pytest.mark.parametrize("name", ["diffusion/ddpm", "diffusion/edm"])
def test_noise_grows_from_the_data_to_the_base(name):
    data = made_up(DataSpec((1, 16, 16), Support("real")), 60)
    s = subject(name, data, network="mlp", width=8)
    x = s.data(60)
    states = s.model.noised(x, torch.tensor([0.0, 0.5, 1.0]), generator=generator(1))
    scale = x.std()
    # At the least noise, exp(-10 / 2), the datum all but stands; at most noise its share is as small.
    assert float((states[0] - x).abs().max()) < 6 * scale * math.exp(-5)
    assert abs(float(torch.corrcoef(torch.stack([states[2].flatten(), x.flatten()]))[0, 1])) < 5 / math.sqrt(x.numel())
    near = [float(torch.corrcoef(torch.stack([z.flatten(), x.flatten()]))[0, 1]) for z in states]
    assert near[0] > near[1] > near[2]
    grey = subject(name, digits(), network="mlp", width=8)
    noise, clean = noising(grey).drawings
    assert noise.name == "noising"
    assert (cells(noise, 8)[:, 0] == to_pixels(grey.data(4), grey.model.spec)).all()
    way = grey.model.trajectory(6, frames=60, generator=grey.generator()).frames
    assert (cells(clean, 8)[:, -1] == to_pixels(way[-1], grey.model.spec)).all()


def test_frames_are_chosen_at_even_times_whatever_the_steps():
    times = torch.tensor([1.0, 1.0, 0.99, 0.74, 0.52, 0.5, 0.3, 0.26, 0.01, 0.0])
    assert evenly(times, 5) == [0, 3, 5, 7, 9]
    assert evenly(times[:2], 5) == [0, 1]


def test_energies_of_chains_are_the_models():
    s = subject("energy/rbm", digits("digits:binary"), hidden=8, chains=20)
    drawing = next(d for d in energies(s).drawings if d.name == "energies")
    line = next(line for line in drawing.made.axes[0].get_lines() if line.get_label() == "chains")
    path = s.model.trajectory(64, frames=20, generator=s.generator())
    expected = [np.median(s.model.energy(frame.to(torch.uint8)).double()) for frame in path.frames]
    assert np.abs(line.get_ydata() - np.asarray(expected)).max() < 1e-4  # float32


def test_the_exact_log_z_is_that_of_all_states():
    spec = DataSpec((6,), Support("binary"))
    s = subject("energy/rbm", made_up(spec), stir=0.3, hidden=5, chains=20)
    states = torch.cartesian_prod(*[torch.tensor([0, 1], dtype=torch.uint8)] * 6)
    expected = float((-s.model.energy(states)).logsumexp(0))
    axes = log_zs(s).drawings[0].made.axes[0]
    drawn = next(line.get_ydata()[0] for line in axes.get_lines() if line.get_label() == "exact")
    assert drawn == pytest.approx(expected, abs=1e-4)  # float32


def test_an_unconditional_model_is_shown_labels_that_no_batch_holds():
    plain = sixfold.load_data("digits")
    free = plain.unconditional()
    assert torch.equal(free.valid.labels, plain.valid.cond)
    assert free.valid.batch(torch.arange(3), Draws(3))[1] is None
    s = subject("vae/vae", free, latent=2, width=8)
    found = next(d for d in shows.codes(s).drawings if d.name == "map")
    assert len(np.unique(found.made.axes[0].collections[0].get_facecolor(), axis=0)) == 10


# Who is shown.

TITLES = {
    "vae": {"Latent space"},
    "flow": {"Through the layers"},
    "autoregressive": {"Completions"},
    "gan": {"Latent walks"},
    "energy": {"Energy"},
    "diffusion": {"Noising and denoising"},
}
OPTIONS = {case.name.partition(":")[0]: case.options for case in reversed(CASES)}


@pytest.mark.parametrize("name", names())
def test_every_model_of_images_shows_what_its_family_is_about(name):
    data, binary = digits(), digits("digits:binary")
    try:
        s = subject(name, data, **OPTIONS.get(name, {}))
    except Unsupported:
        s = subject(name, binary, **OPTIONS.get(name, {}))
    found = list(sections(s))
    assert TITLES[entry(name).family] <= {section.title for section in found}
    assert not [section.note for section in found if section.note]
    assert all(d.caption and d.alt and d.made.axes for section in found for d in section.drawings)


PLANE = {
    "vae/iwae": {"map", "manifold", "interpolation"},
    "flow/realnvp": {"forward", "inverse", "volumes"},
    "autoregressive/made": {"conditionals"},
    "gan/gan": {"walks"},
    "energy/ebm": {"surface", "energies", "chains"},
    "diffusion/edm": {"noising", "denoising", "paths"},
}


@pytest.mark.parametrize("name", PLANE)
def test_every_family_shows_points(name):
    s = subject(name, few(sixfold.load_data("moons").unconditional(), 200), **OPTIONS.get(name, {}))
    assert {d.name for section in sections(s) for d in section.drawings} == PLANE[name]


@pytest.mark.parametrize("name", ["vae/vae", "flow/glow", "gan/gan", "autoregressive/made", "diffusion/edm"])
def test_conditional_models_are_shown_with_their_classes(name):
    s = subject(name, made_up(STAMP), **(OPTIONS[name] | ({"width": 8})))
    assert TITLES[entry(name).family] <= {section.title for section in sections(s) if section.drawings}


@pytest.mark.parametrize("spec", [CLASSES, VECTOR, CELLS], ids=told)
@pytest.mark.parametrize("name", ["vae/vae", "flow/realnvp", "gan/gan", "autoregressive/made", "diffusion/ddpm"])
def test_points_and_images_are_shown_under_every_condition(name, spec):
    s = subject(name, made_up(spec), **OPTIONS[name])
    titles = TITLES[entry(name).family] if spec.is_image or "auto" not in name else {"The second coordinate given the first"}
    assert titles <= {section.title for section in sections(s) if section.drawings}


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("autoregressive/made", DataSpec((3,), Support("tokens", 5)), set()),
        ("vae/vae", DataSpec((6,), Support("binary")), set()),
        ("gan/gan", DataSpec((5,), Support("real")), set()),
        ("diffusion/edm", DataSpec((5,), Support("real")), set()),
        ("flow/realnvp", DataSpec((5,), Support("real")), {"volumes"}),
        ("energy/ebm", DataSpec((1,), Support("real")), {"energies"}),
    ],
)
def test_what_has_no_picture_is_left_out(name, spec, expected):
    s = subject(name, made_up(spec), **OPTIONS.get(name, {}))
    assert {d.name for section in sections(s) for d in section.drawings} == expected


def test_one_datum_has_nothing_to_be_joined_with():
    s = subject("vae/vae", made_up(STAMP, 1), **OPTIONS["vae/vae"])
    assert {d.name for section in sections(s) for d in section.drawings} == {"manifold", "map", "traversals"}


def test_what_a_model_refuses_is_a_line_and_a_bug_is_none(tmp_path, monkeypatch):
    def refuse(s: Subject) -> Section:
        raise Unsupported("no such picture; got a test.")

    def fail(s: Subject) -> Section:
        raise ZeroDivisionError

    model = sixfold.fit("flow/realnvp", "moons", steps=2, width=8, folder=tmp_path / "run")
    folder, data = RunFolder(tmp_path / "run"), sixfold.load_data("moons").unconditional()
    monkeypatch.setattr(shows, "SHOWS", {"nothing": refuse})
    page = write_page(folder, model, data, {}).read_text()
    assert "no such picture; got a test." in page
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["model"] == "flow/realnvp"
    monkeypatch.setattr(shows, "SHOWS", {"nothing": fail})
    with pytest.raises(ZeroDivisionError):
        write_page(folder, model, data, {})
