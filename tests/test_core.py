"""The words that everything shares: specification, randomness, registry, signatures."""

import subprocess
import sys
import textwrap
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge

from sixfold.core.dataset import Dataset, Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, suggest
from sixfold.core.model import GenerativeModel, Player
from sixfold.core.registry import build, entry, model_class, names, recipe, split_name
from sixfold.core.signature import Count, Share, options, schema, validate
from sixfold.core.spec import Conditioning, DataSpec, Support
from sixfold.train.recipe import Recipe

POINTS = DataSpec((2,), Support("real"))
GREY = DataSpec((1, 2, 2), Support("levels", 17))
LABELLED = DataSpec((2,), Support("real"), Conditioning("classes", 3))
VECTORS = DataSpec((2,), Support("real"), Conditioning("vector", 2))


# --- specification -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "data", "says"),
    [
        (POINTS, torch.zeros(3), r"shape \(B, 2\); got \(3,\)"),
        (POINTS, torch.zeros(()), r"shape \(B, 2\); got \(\)"),
        (POINTS, torch.zeros(4, 3), r"got \(4, 3\)"),
        (POINTS, torch.zeros(4, 2, dtype=torch.int64), r"floating point.*int64.*\.float\(\)"),
        (POINTS, torch.tensor([[0.0, 1.0], [0.0, float("nan")]]), "row 1"),
        (POINTS, torch.tensor([[float("inf"), 1.0]]), "row 0"),
        (POINTS, [[1.0, 2.0], [3.0]], "regular array"),
        (POINTS, np.array([["a", "b"]]), "regular array"),
        (POINTS, np.array([[None, 1.0]], dtype=object), "array of object"),
        (GREY, torch.zeros(4, 4, dtype=torch.uint8), r"\(B, 1, 2, 2\); got \(4, 4\)"),
        (GREY, torch.zeros(1, 1, 2, 2), r"integers in \[0, 16\]; got torch.float32"),
        (GREY, torch.zeros(1, 1, 2, 2, dtype=torch.bool), "torch.bool"),
        (GREY, torch.zeros(1, 1, 2, 2, dtype=torch.complex64), "torch.complex64"),
        (GREY, torch.full((1, 1, 2, 2), 17), r"\[0, 16\]; got 17 to 17"),
        (GREY, torch.full((1, 1, 2, 2), -1), "got -1 to -1"),
        (GREY, np.full((1, 1, 2, 2), 300, np.uint16), "got 300 to 300"),
    ],
)
def test_wrong_data_are_refused_in_one_line(spec, data, says):
    with pytest.raises(BadInput, match=says) as error:
        spec.check(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_every_integer_type_holds_levels(dtype):
    x = np.arange(4, dtype=dtype).reshape(1, 1, 2, 2)
    checked = GREY.check(x)
    assert checked.dtype == torch.uint8
    assert checked.flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("support", "dtype"),
    [
        (Support("real"), torch.float32),
        (Support("binary"), torch.uint8),
        (Support("levels", 256), torch.uint8),
        (Support("levels", 257), torch.int64),
        (Support("tokens", 5000), torch.int64),
    ],
)
def test_dtype_holds_every_value(support, dtype):
    spec = DataSpec((3,), support)
    assert spec.dtype == dtype
    if support.discrete:
        assert int(torch.tensor(support.count - 1).to(dtype)) == support.count - 1


def test_empty_batches_are_data():
    assert POINTS.check(torch.zeros(0, 2)).shape == (0, 2)
    assert GREY.check(torch.zeros(0, 1, 2, 2, dtype=torch.uint8)).shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("spec", "cond", "says"),
    [
        (POINTS, 1, "unconditional but got cond"),
        (LABELLED, None, "classes of size 3; got none"),
        (LABELLED, torch.tensor([0, 3, 1, 0]), r"\[0, 2\]; got 0 to 3"),
        (LABELLED, torch.tensor([0, -1, 1, 0]), "got -1 to 1"),
        (LABELLED, torch.tensor([0, 1]), r"shape \(4,\)"),
        (LABELLED, torch.tensor([0.0, 1.0, 2.0, 0.0]), "integer labels"),
        (LABELLED, "cat", "regular array"),
        (VECTORS, torch.zeros(4, 3), r"\(4, 2\); got \(4, 3\)"),
        (VECTORS, torch.tensor([float("nan"), 0.0]), "finite vectors"),
        (VECTORS, None, "vector of size 2; got none"),
    ],
)
def test_wrong_conditions_are_refused_in_one_line(spec, cond, says):
    with pytest.raises(BadInput, match=says) as error:
        spec.check_cond(cond, 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "cond", "expected"),
    [
        (POINTS, None, None),
        (LABELLED, 2, [2, 2, 2]),
        (LABELLED, np.array([0, 1, 2], np.uint16), [0, 1, 2]),
        (VECTORS, [0.5, 1.5], [[0.5, 1.5]] * 3),
        (VECTORS, np.arange(6.0).reshape(3, 2), [[0, 1], [2, 3], [4, 5]]),
    ],
)
def test_one_condition_is_repeated_and_many_are_kept(spec, cond, expected):
    got = spec.check_cond(cond, 3)
    assert got is expected if expected is None else got.tolist() == expected


def test_condition_features_are_one_hot_or_the_vector():
    like = torch.zeros(1, dtype=torch.float64)
    onehot = LABELLED.cond.features(torch.tensor([2, 0]), like)
    assert onehot.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert onehot.dtype == torch.float64
    assert VECTORS.cond.features(torch.ones(1, 2), like).dtype == torch.float64
    assert POINTS.cond.features(None, like) is None


@pytest.mark.parametrize("spec", [POINTS, GREY, LABELLED, VECTORS, DataSpec((7,), Support("tokens", 300))])
def test_specification_round_trips_through_json(spec):
    assert DataSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataSpec((), Support("real")),
        lambda: DataSpec((2, 0), Support("real")),
        lambda: Support("real", 4),
        lambda: Support("levels"),
        lambda: Support("levels", 1),
        lambda: Support("binary", 3),
        lambda: Conditioning("classes"),
        lambda: Conditioning("none", 3),
        lambda: Conditioning("vector", -1),
    ],
)
def test_specifications_that_mean_nothing_are_refused(make):
    with pytest.raises(BadInput) as error:
        make()
    assert "\n" not in str(error.value)


# --- data ----------------------------------------------------------------------------------------------------------------


def dataset(cond):
    part = Split(torch.arange(12.0).reshape(6, 2), cond)
    return Dataset("made", POINTS, part, part, part, classes=("a", "b", "c"))


def test_labels_become_the_condition_and_leave_again():
    labelled = dataset(torch.tensor([0, 1, 2, 0, 1, 2])).conditional()
    assert labelled.spec.cond == Conditioning("classes", 3)
    assert labelled.unconditional().spec == POINTS
    assert labelled.unconditional().test.cond is None
    assert dataset(torch.zeros(6, 4)).conditional().spec.cond == Conditioning("vector", 4)


def test_data_without_labels_cannot_be_a_condition():
    with pytest.raises(BadInput, match="no labels"):
        dataset(None).conditional()


def test_random_rows_are_fixed_by_their_seed_and_differ_between_batches():
    split = Split(torch.full((50, 4), 0.5), draw=lambda x, draws: (draws.uniform(4) < x).to(torch.uint8))
    assert torch.equal(split.rows(20), split.rows(20))
    assert not torch.equal(split.rows(20), split.rows(20, seed=1))
    draws = Draws(50, generator=torch.Generator().manual_seed(0))
    first, _ = split.batch(torch.arange(50), draws)
    second, _ = split.batch(torch.arange(50), draws)
    assert not torch.equal(first, second)


# --- randomness ----------------------------------------------------------------------------------------------------------

DRAWS = {
    "normal": lambda d: d.normal(3),
    "uniform": lambda d: d.uniform(),
    "integers": lambda d: d.integers(1000, 2),
    "stratified": lambda d: d.stratified(),
}


def seeded(size, shard=(0, 1), **options):
    return Draws(size, generator=torch.Generator().manual_seed(5), shard=shard, **options)


@pytest.mark.parametrize("kind", DRAWS)
def test_shares_are_the_rows_of_the_joint_batch(kind):
    joint = DRAWS[kind](seeded(12))
    shares = [DRAWS[kind](seeded(4, (rank, 3))) for rank in range(3)]
    assert torch.equal(torch.cat(shares), joint)


@pytest.mark.parametrize("kind", DRAWS)
def test_draws_with_a_generator_leave_the_global_one_alone(kind):
    before = torch.get_rng_state()
    DRAWS[kind](seeded(8))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["normal", "uniform", "stratified"])
def test_draws_have_the_dtype_that_was_asked_for(kind):
    assert DRAWS[kind](seeded(4, dtype=torch.float64)).dtype == torch.float64


def test_stratified_draws_fill_each_cell_once_in_random_order():
    u = seeded(64).stratified()
    cells = (u * 64).floor().long()
    assert sorted(cells.tolist()) == list(range(64))
    assert cells.tolist() != sorted(cells.tolist())


@pytest.mark.parametrize(
    ("window", "progress", "active"),
    [
        ((0.0, 1.0), 0.0, True),
        ((0.0, 1.0), 1.0, True),
        ((0.0, 0.5), 0.5, False),
        ((0.5, 1.0), 0.5, True),
        ((0.0, 0.5), 1.0, False),
    ],
)
def test_windows_are_half_open_and_the_last_one_is_closed(window, progress, active):
    assert Player([], window=window).active(progress) is active


# --- signatures ----------------------------------------------------------------------------------------------------------


class Documented:
    """Something with options.

    Args:
        spec: not an option.
        width: units, more is wider.
        share: of something,
            over two lines.
        mode: which way.
    """

    def __init__(
        self, spec, *, width: Count = 8, share: Share = 0.5, mode: Literal["a", "b"] = "a", free: float = 0.0
    ) -> None: ...


def test_options_are_read_from_the_signature():
    found = {o.name: o for o in options(Documented.__init__)}
    assert list(found) == ["width", "share", "mode", "free"]
    assert found["share"].doc == "of something, over two lines."
    assert found["free"].doc == ""
    assert found["width"].default == 8
    assert found["width"].annotation == Annotated[int, Ge(1)]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"widht": 3}, "no option 'widht'. Perhaps you meant 'width'"),
        ({"zzz": 3}, "Known: free, mode, share, width"),
        ({"width": 0}, "width: .*greater than or equal to 1; got 0 .*default is 8"),
        ({"width": 2.5}, "width: .*integer.*got 2.5"),
        ({"width": "wide"}, "width: .*got 'wide'"),
        ({"share": 1.5}, "share: .*less than or equal to 1; got 1.5"),
        ({"share": float("nan")}, "share: .*got nan"),
        ({"mode": "c"}, "mode: .*'a' or 'b'; got 'c'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(values, says):
    with pytest.raises(BadInput, match=says) as error:
        validate(Documented.__init__, values, owner="thing")
    assert "\n" not in str(error.value)


def test_validated_options_are_complete_and_converted():
    assert validate(Documented.__init__, {"width": "3"}, owner="thing") == {"width": 3, "share": 0.5, "mode": "a", "free": 0.0}


def test_schema_is_what_a_form_needs():
    form = schema(Documented.__init__).model_json_schema()["properties"]
    assert form["width"] == {
        "default": 8,
        "description": "units, more is wider.",
        "minimum": 1,
        "title": "Width",
        "type": "integer",
    }
    assert form["mode"]["enum"] == ["a", "b"]


# --- registry ------------------------------------------------------------------------------------------------------------

THIRD_PARTY = textwrap.dedent('''
    """A third party's model.

    Source:  nowhere, by nobody.
    """
    import torch
    from sixfold.core.model import GenerativeModel, Terms
    from sixfold.core.signature import Count

    class Model(GenerativeModel):
        """One.

        Args:
            width: more is wider.
        """

        def __init__(self, spec, *, width: Count = 3) -> None:
            super().__init__(spec)
            self.p = torch.nn.Parameter(torch.zeros(width))

        def loss(self, batch, player):
            return Terms(self.p.sum().expand(len(batch.x)))

        def sample(self, num, *, cond=None, generator=None):
            return torch.zeros(num, *self.spec.shape)

    PRESETS = {"wide": {"width": 9, "recipe": {"steps": 7}}}
    RECIPE = {"steps": 5, "lr": 0.5}
''')


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    (tmp_path / "their_models.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    yield "their_models:Model"
    sys.modules.pop("their_models", None)


def test_third_parties_are_built_by_module_and_class(third_party):
    model = build(third_party, POINTS)
    assert (model.name, model.options) == (third_party, {"width": 3})
    assert entry(third_party).summary == "A third party's model."
    assert entry(third_party).source == "nowhere, by nobody."
    assert entry(third_party).family == "third party"


def test_presets_are_overridden_by_options_and_override_the_recipe(third_party):
    assert build(f"{third_party}:wide", POINTS).p.shape == (9,)
    assert build(f"{third_party}:wide", POINTS, width=2).p.shape == (2,)
    assert recipe(third_party) == {"steps": 5, "lr": 0.5}
    assert recipe(f"{third_party}:wide") == {"steps": 7, "lr": 0.5}


def test_a_presets_budget_replaces_that_of_its_file(tmp_path, monkeypatch):
    presets = '{"long": {"recipe": {"minutes": 10.0}}, "both": {"recipe": {"minutes": 1.0, "epochs": 2.0}}, "wide": {"width": 9}}'
    text = THIRD_PARTY.partition("PRESETS = ")[0] + f'PRESETS = {presets}\nRECIPE = {{"steps": 5, "lr": 0.5}}\n'
    (tmp_path / "their_budgets.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    assert recipe("their_budgets:Model:long") == {"minutes": 10.0, "lr": 0.5}
    assert recipe("their_budgets:Model:wide") == {"steps": 5, "lr": 0.5}
    assert Recipe.of(recipe("their_budgets:Model:long"), {"steps": 3}).minutes is None
    with pytest.raises(BadInput, match="one budget; got epochs and minutes"):
        Recipe.of(recipe("their_budgets:Model:both"))


def test_unknown_presets_are_answered_with_the_nearest(third_party):
    with pytest.raises(BadInput, match=r"no preset 'wid'. Perhaps you meant 'wide'"):
        build(f"{third_party}:wid", POINTS)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("flow/realnvpp", "Perhaps you meant 'flow/realnvp'"),
        ("realnvp", "Perhaps you meant 'flow/realnvp'"),
        ("", "unknown model ''"),
        ("nowhere.at.all:Model", "no module 'nowhere.at.all'"),
        ("json:JSONDecoder", "no subclass of GenerativeModel"),
        ("json:Nothing", "no subclass of GenerativeModel; got None"),
        ("sys:Model", "no source"),
        (":Model", "full name"),
        (".x:Model", "full name"),
    ],
)
def test_unknown_models_are_answered_in_one_line(name, says):
    with pytest.raises(BadInput, match=says) as error:
        model_class(name)
    assert "\n" not in str(error.value)


def test_a_module_that_fails_inside_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "their_broken.py").write_text("import something_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_that_is_not_there"):
        model_class("their_broken:Model")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("flow/realnvp", ("flow/realnvp", "")),
        ("flow/realnvp:deep", ("flow/realnvp", "deep")),
        ("their.module:Model", ("their.module:Model", "")),
        ("their.module:Model:deep", ("their.module:Model", "deep")),
    ],
)
def test_names_split_into_model_and_preset(name, parts):
    assert split_name(name) == parts


@pytest.mark.parametrize("name", names())
def test_every_model_file_holds_one_public_model_with_summary_and_recipe(name):
    found = entry(name)
    assert model_class(name).__module__ == "sixfold.models." + name.replace("/", ".")
    assert found.summary
    assert found.source
    assert {"lr", "batch"} <= set(found.recipe)


def test_listing_imports_nothing_heavy():
    code = "import sys; from sixfold.core.registry import names, entries; names(presets=True); entries(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pydantic", "scipy", "matplotlib"} & set(loaded)


@pytest.mark.parametrize(
    ("got", "known", "says"),
    [("stpes", ["steps", "lr"], "Perhaps you meant 'steps'."), ("q", ["b", "a"], "Known: a, b."), ("q", [], "None are known.")],
)
def test_suggestions(got, known, says):
    assert suggest(got, known) == says


# --- streams of samples ---------------------------------------------------------------------------------------------------


class Dice(GenerativeModel):
    """Points that tell their condition, and a sampler of four steps with three parts each; keeps what it was asked for."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("at", torch.zeros(()))
        self.asked = []

    def loss(self, batch, player):
        raise AssertionError("not trained here")

    def sample(self, num, *, cond=None, generator=None, shift=0.0):
        self.asked.append(num)
        for _ in self.told(range(4), 4):
            for _ in range(2):  # the same parts once more, told alike
                list(self.told(range(3), 3))
        label = 0 if cond is None else cond.unsqueeze(1)
        return self.draws(num, generator).normal(2) + shift + 100 * label


@pytest.mark.parametrize(("num", "at_once", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (0, 4, [0])])
def test_a_stream_has_all_draws_in_batches(num, at_once, sizes):
    model = Dice(POINTS)
    assert [tuple(x.shape) for x in model.stream(num, at_once=at_once)] == [(size, 2) for size in sizes]
    assert model.asked == sizes


def test_a_stream_of_one_batch_is_the_sample_and_more_draws_begin_with_the_same():
    model = Dice(POINTS)
    (one,) = model.stream(40, at_once=40, generator=torch.Generator().manual_seed(1), shift=3.0)
    assert torch.equal(one, model.sample(40, generator=torch.Generator().manual_seed(1), shift=3.0))
    few, many = (torch.cat(list(model.stream(num, at_once=20, generator=torch.Generator().manual_seed(1)))) for num in (40, 90))
    assert torch.equal(many[:40], few)


def test_a_stream_is_lazy_and_holds_one_batch():
    model = Dice(POINTS)
    stream = model.stream(10**9, at_once=5)
    assert model.asked == []
    next(stream)
    next(stream)
    assert model.asked == [5, 5]


@pytest.mark.parametrize(("cond", "labels"), [(2, [2] * 7), (torch.tensor([0, 1, 2, 2, 0, 0, 1]), [0, 1, 2, 2, 0, 0, 1])])
def test_a_stream_deals_out_the_condition(cond, labels):
    drawn = torch.cat(list(Dice(LABELLED).stream(7, at_once=3, cond=cond)))
    assert (drawn[:, 0] / 100).round().long().tolist() == labels


def test_a_stream_refuses_at_once_what_cannot_be():
    with pytest.raises(BadInput, match="at_once must be at least 1; got 0"):
        Dice(POINTS).stream(5, at_once=0)
    with pytest.raises(BadInput, match="labels of shape"):
        Dice(LABELLED).stream(5, cond=torch.zeros(4, dtype=torch.long))


def test_nested_steps_tell_the_share_of_all_draws():
    told = []
    model = Dice(POINTS)
    list(model.stream(10, at_once=4, watch=told.append))
    assert told[-1] == 1.0
    # Of 4, 4 and 2 draws with 12 parts each; the ends of steps and batches are told by the inner loops and the outer.
    expected = [start + size * part / 12 for start, size in ((0, 4), (4, 4), (8, 2)) for part in range(1, 13)]
    assert list(dict.fromkeys(round(share * 10, 9) for share in told)) == pytest.approx(expected)


def test_who_watched_one_stream_is_not_told_of_another_or_of_what_failed():
    told = []
    model = Dice(POINTS)
    stream = model.stream(10, at_once=5, watch=told.append)
    next(stream)
    before = list(told)
    model.sample(5)
    assert told == before
    with pytest.raises(TypeError):
        list(model.stream(10, watch=told.append, shitf=1.0))
    model.sample(5)
    assert told == before


@pytest.mark.parametrize(("shape", "expected"), [((2,), 10_000), ((1, 28, 28), 334), ((3, 32, 32), 85), ((3, 1024, 1024), 1)])
def test_larger_data_are_drawn_fewer_at_once(shape, expected):
    assert Dice(DataSpec(shape, Support("real"))).at_once == expected
