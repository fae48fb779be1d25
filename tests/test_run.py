"""Runs and pictures: what a person finds in a run's folder, for every kind of data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import sixfold
from sixfold.core.errors import BadInput
from sixfold.core.spec import DataSpec, Support
from sixfold.plot.images import save_grid, tile, to_pixels
from sixfold.plot.plane import Window
from sixfold.run.folder import RunFolder, write_text
from sixfold.run.page import command_of
from sixfold.run.training import Settings

QUICK = {"steps": 3, "width": 8}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("flow/realnvp", "moons"),
        ("autoregressive/made", "mixture1d"),
        ("vae/vae", "digits:binary"),
        ("gan/gan", RNG.normal(size=(200, 3))),
        ("diffusion/ddpm", RNG.integers(0, 256, size=(60, 3, 6, 5)).astype(np.uint8)),
    ],
    ids=["plane", "line", "binary", "table", "colour"],
)
def test_a_run_of_every_kind_of_data_has_a_page(name, data, tmp_path):
    model = sixfold.fit(name, data, folder=tmp_path / "run", **QUICK)
    page = (tmp_path / "run" / "index.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert "http" not in page
    with Image.open(tmp_path / "run" / "look.png") as picture:
        assert len(set(picture.convert("L").resize((40, 20)).get_flattened_data())) > 3, "an empty picture"
    drawn = np.load(tmp_path / "run" / "samples.npy")
    assert drawn.shape[1:] == model.spec.shape
    assert torch.equal(sixfold.load(tmp_path / "run").sample(5, generator=torch.Generator().manual_seed(1)),
                       model.sample(5, generator=torch.Generator().manual_seed(1)))  # fmt: skip


def test_fit_leaves_the_callers_generator_alone():
    state = torch.get_rng_state()
    sixfold.fit("flow/realnvp", "moons", **QUICK)
    assert torch.equal(state, torch.get_rng_state())


def test_fit_depends_on_its_seed_alone():
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in sixfold.fit("flow/realnvp", "moons", seed=seed, **QUICK).parameters()])

    torch.manual_seed(5)
    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_conditional_fit_draws_the_class_that_is_asked_for():
    model = sixfold.fit("flow/realnvp", "moons", conditional=True, steps=150, width=16)
    draws = [model.sample(500, cond=label, generator=torch.Generator().manual_seed(0)) for label in (0, 1)]
    # The moons' mean heights are 2/pi and 1/2 - 2/pi; after a short training they are apart by at least half of that.
    assert abs(float(draws[0][:, 1].mean() - draws[1][:, 1].mean())) > 0.3


def test_numpy_is_taken_where_tensors_are():
    model = sixfold.fit("flow/realnvp", RNG.normal(size=(100, 2)).astype(np.float32), **QUICK)
    x = RNG.normal(size=(4, 2)).astype(np.float32)
    assert torch.equal(model.log_prob(x).nats, model.log_prob(torch.from_numpy(x)).nats)


def test_settings_are_sorted_into_model_and_recipe():
    chosen = Settings.of("flow/realnvp:deep", "moons", settings={"width": 8, "lr": 0.5, "minutes": 2.0})
    assert chosen.options == {"width": 8}
    assert (chosen.recipe.lr, chosen.recipe.minutes, chosen.recipe.steps) == (0.5, 2.0, None)


def test_unknown_setting_is_named_with_the_nearest():
    with pytest.raises(BadInput, match="Perhaps you meant 'couplings'"):
        sixfold.fit("flow/realnvp", "moons", coupling=3)


def test_the_command_of_a_run_gives_its_settings():
    config = {"settings": {"model": "gan/gan", "data": "my data.csv", "conditional": True, "lr": 0.1, "keep_best": False}}
    assert command_of(config) == "sixfold fit gan/gan --data 'my data.csv' --conditional --lr 0.1 --no-keep-best"


def test_a_damaged_configuration_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json cannot be read"):
        RunFolder.open(tmp_path).config()


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"st')
    assert RunFolder(tmp_path).metrics() == [{"step": 1}]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_fresh_folders_are_numbered(tmp_path):
    for expected in ("moons", "moons-2", "moons-3"):
        folder = RunFolder.fresh(tmp_path, "moons")
        assert folder.path.name == expected
        folder.write_config({})


@pytest.mark.parametrize(("levels", "value", "pixel"), [(2, 1, 255), (17, 8, 128), (256, 7, 7)])
def test_levels_become_grey_values(levels, value, pixel):
    spec = DataSpec((1, 2, 2), Support("levels", levels))
    assert (to_pixels(torch.full((1, 1, 2, 2), value, dtype=torch.uint8), spec) == pixel).all()


def test_tiles_stand_row_by_row(tmp_path):
    pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) + 10
    assert tile(pixels, columns=2, gap=0)[..., 0].tolist() == [[10, 11], [12, 255]]
    spec = DataSpec((3, 4, 6), Support("levels", 256))
    save_grid(torch.zeros(2, 3, 4, 6, dtype=torch.uint8), spec, tmp_path / "g.png", columns=2, zoom=2)
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.size == (2 * (2 * 7 + 1), 2 * (4 + 2))


def test_a_table_has_no_pixels():
    with pytest.raises(BadInput, match="only images"):
        to_pixels(torch.zeros(1, 3), DataSpec((3,), Support("real")))


def test_the_window_is_square_holds_the_bulk_and_its_grid_runs_along_x_first():
    x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.1])
    x[0] = torch.tensor([1e6, 0.0])
    window = Window.around(x)
    sides = [b - a for a, b in zip(window.low, window.high, strict=True)]
    assert sides[0] == pytest.approx(sides[1])
    assert sides[0] < 12
    grid = window.grid(4)
    assert torch.equal(grid[0, 1], grid[1, 1])
    assert grid[1, 0] - grid[0, 0] == pytest.approx(sides[0] / 4, rel=1e-5)
