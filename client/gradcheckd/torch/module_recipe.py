"""The recipe of a module's gradients: where its kernels round, and to which arithmetic."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from gradcheckd.arrays import encode_recipe
from gradcheckd.errors import RequestError
from gradcheckd.torch.module_request import Request

EAGER, FLASH = "eager", "flash"
ATTENTION_OPS = ("attention", "scaled_dot_product_attention", "windowed_attention")
"""Ops of the graph that flash kernels compute, with the places p and ds inside."""
_UNIT_ROUNDOFFS = {
    "FP64": 2.0**-53,
    "FP32": 2.0**-24,
    "TF32": 2.0**-11,
    "FP16": 2.0**-11,
    "BF16": 2.0**-8,
    "FP8_E4M3": 2.0**-4,
    "FP8_E5M2": 2.0**-3,
}
_ARITHMETIC_FIELDS = ("accumulate", "output", "products")


def choose_arithmetic(request: Request, recipe: Any, candidate_dtype: Any) -> Any:
    """Return the arithmetic of a module's gradients as `candidate_dtype` has it: a name, or a recipe.

    Parameters
    ----------
    request
        The module's graph, and the arithmetic in which the module computes.
    recipe
        "eager", "flash" or a mapping; None for that of `candidate_dtype`.
    candidate_dtype
        Arithmetic; None for that of the module.

    Raises
    ------
    RequestError
        Both are given, or the recipe has no meaning.
    TensorError
        A value of the recipe is no datatype.
    """
    if recipe is None:
        return encode_recipe(candidate_dtype) or request.arithmetic
    if isinstance(recipe, Mapping):
        if candidate_dtype is not None:
            raise RequestError("A recipe that is a mapping says all: leave candidate_dtype out.")
        return encode_recipe(cast("Mapping[str, object]", recipe))
    arithmetic = encode_recipe(candidate_dtype) or request.arithmetic
    if not isinstance(arithmetic, str) or recipe not in (EAGER, FLASH):
        raise RequestError(
            f"The recipe is {recipe!r}. Give {EAGER!r} or {FLASH!r}, with candidate_dtype for another arithmetic than "
            "that of the module, or a mapping with inputs, accumulate, casts, output and products."
        )
    # What is no coarser than single precision is not rounded on the way.
    is_narrow = find_unit_roundoff(arithmetic) > _UNIT_ROUNDOFFS["FP32"] and arithmetic != "TF32"
    return _make_flash_recipe(request, arithmetic) if recipe == FLASH and is_narrow else arithmetic


def _make_flash_recipe(request: Request, arithmetic: str) -> dict[str, Any]:
    """Return the recipe of one fused kernel.

    It computes in single precision, and stores its gradients in the arithmetic. In between it rounds the outputs of
    attention, and the factors of the products within.
    """
    names = [node["name"] for node in request.model["nodes"] if node["op"] in ATTENTION_OPS]
    places = [place for name in names for place in (name, f"{name}.p", f"{name}.ds")]
    return {"accumulate": "FP32", "casts": dict.fromkeys(places, arithmetic), "output": arithmetic}


def find_unit_roundoff(arithmetic: Any) -> float:
    """Return the unit roundoff of the coarsest arithmetic of a name or recipe."""
    names = [arithmetic] if isinstance(arithmetic, str) else list(_iterate_arithmetics(arithmetic))
    return max((_UNIT_ROUNDOFFS.get(name, _UNIT_ROUNDOFFS["BF16"]) for name in names), default=_UNIT_ROUNDOFFS["FP32"])


def _iterate_arithmetics(recipe: Mapping[str, Any]) -> Iterator[str]:
    casts = recipe.get("casts")
    if isinstance(casts, Mapping):
        yield from cast("Mapping[str, str]", casts).values()
    yield from (recipe[name] for name in _ARITHMETIC_FIELDS if isinstance(recipe.get(name), str))
