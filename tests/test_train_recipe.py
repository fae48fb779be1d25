"""A recipe: layers of overrides, one budget, every field documented, every mistake named."""

import json

import pytest

from sixfold.core.errors import BadInput
from sixfold.core.signature import options
from sixfold.train.recipe import Recipe


def test_later_layers_win_and_a_later_budget_replaces_an_earlier_one():
    recipe = Recipe.of({"steps": 500, "lr": 2e-3, "batch": 64}, {"lr": 5e-4}, {"minutes": 2, "epochs": None})
    assert (recipe.lr, recipe.batch) == (5e-4, 64)
    assert (recipe.steps, recipe.epochs, recipe.minutes) == (None, None, 2.0)


def test_no_budget_is_the_default_number_of_steps():
    assert Recipe().steps == 2000


def test_json_gives_the_same_recipe_back():
    recipe = Recipe(epochs=3, betas=(0.0, 0.99), optimiser="adam", ema=0.5)
    assert Recipe.of(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_every_field_is_documented():
    assert [o.name for o in options(Recipe.__init__) if not o.doc] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rate": 1e-3}, "no 'learning_rate'"),
        ({"weigth_decay": 0.1}, "Perhaps you meant 'weight_decay'"),
        ({"lr": 0.0}, "greater than 0"),
        ({"lr": float("nan")}, "lr: .*nan"),
        ({"lr": float("inf")}, "lr: expected a finite number; got inf"),
        ({"batch": 2.5}, "batch: .*integer.*2.5"),
        ({"ema": 1.0}, "ema: a decay of 1"),
        ({"optimiser": "lion"}, "optimiser: .*'adamw'.*'lion'"),
        ({"steps": 5, "minutes": 1}, "one budget; got steps and minutes"),
        ({"betas": (0.9, 1.5)}, "betas"),
    ],
)
def test_mistakes_are_named_in_one_line(given, said):
    with pytest.raises(BadInput, match=said) as caught:
        Recipe.of(given)
    assert "\n" not in str(caught.value)
