"""Recipes: what plain names mean, and what tells recipes apart."""

import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.core.recipe import EAGER_RECIPES, Recipe, make_uniform_recipe

BF16, FP32, TF32 = PRECISIONS["BF16"], PRECISIONS["FP32"], PRECISIONS["TF32"]
FLASH = Recipe(judged=BF16, accumulate=FP32, output=BF16, casts={"o": BF16, "d:p": TF32}, inputs=BF16)


def test_wide_arithmetics_do_everything_themselves():
    for name in ("FP64", "FP32"):
        assert EAGER_RECIPES[name] == make_uniform_recipe(PRECISIONS[name])
        assert EAGER_RECIPES[name].is_uniform


@pytest.mark.parametrize("name", ["BF16", "FP16"])
def test_half_precision_accumulates_in_single_precision_and_rounds_everything(name):
    recipe = EAGER_RECIPES[name]
    assert (recipe.accumulate, recipe.output, recipe.every_cast) == (FP32, PRECISIONS[name], PRECISIONS[name])
    assert recipe.find_value_cast("anything") == recipe.leaf_precision == recipe.number_precision == PRECISIONS[name]
    assert not recipe.is_uniform


def test_tf32_rounds_factors_alone():
    recipe = EAGER_RECIPES["TF32"]
    assert (recipe.products, recipe.output, recipe.leaf_precision) == (TF32, FP32, FP32)
    assert recipe.find_value_cast("anything") is None
    assert recipe.coarsest_roundoff == TF32.unit_roundoff


def test_casts_are_found_by_the_name_of_their_place():
    assert FLASH.find_value_cast("o") == BF16
    assert FLASH.find_gradient_cast("p") == TF32
    assert FLASH.find_value_cast("p") is None
    assert FLASH.find_gradient_cast("o") is None
    assert FLASH.number_precision == FP32


def test_keys_tell_recipes_apart():
    others = [
        Recipe(judged=BF16, accumulate=FP32, output=BF16, casts={"o": BF16, "d:p": BF16}, inputs=BF16),
        Recipe(judged=BF16, accumulate=FP32, output=BF16, casts={"o": BF16}, inputs=BF16),
        Recipe(judged=BF16, accumulate=FP32, output=BF16, casts={"o": BF16, "d:p": TF32}),
        *EAGER_RECIPES.values(),
    ]
    assert len({recipe.key for recipe in (FLASH, *others)}) == len(others) + 1
    same = Recipe(judged=BF16, accumulate=FP32, output=BF16, casts={"d:p": TF32, "o": BF16}, inputs=BF16)
    assert same.key == FLASH.key


def test_a_recipe_is_described():
    assert FLASH.describe() == "BF16 inputs, FP32 accumulation, BF16 at o and output, TF32 at d:p"
    assert EAGER_RECIPES["BF16"].describe() == "FP32 accumulation, BF16 at every node and output"
    assert EAGER_RECIPES["TF32"].describe() == "TF32 factors of products, FP32 accumulation"
