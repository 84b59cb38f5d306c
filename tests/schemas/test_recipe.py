"""Recipes on the wire."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.recipe import CandidateArithmetic, RecipeSpec

ADAPTER = TypeAdapter(CandidateArithmetic)


def test_a_recipe_has_its_defaults():
    recipe = ADAPTER.validate_python({})
    assert isinstance(recipe, RecipeSpec)
    assert recipe.model_dump() == {
        "inputs": None,
        "accumulate": "FP32",
        "casts": "none",
        "output": None,
        "products": None,
    }


@pytest.mark.parametrize(
    "value", ["BF16", "bfloat16", {"casts": "every_node", "output": "FP16"}, {"casts": {"d:p": "FP8_E5M2"}}]
)
def test_names_and_recipes_are_taken(value):
    ADAPTER.validate_python(value)


@pytest.mark.parametrize(
    "value",
    ["FP8", 8, None, [], {"casts": []}, {"casts": {"": "BF16"}}, {"casts": "all"}, {"output": "FP8"}, {"cast": {}}],
)
def test_anything_else_is_refused(value):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(value)
