"""The arithmetic in which a candidate was computed."""

from schemas.datatype import BY_ANY_NAME
from schemas.recipe import RecipeSpec
from schemas.tensor import Tensor
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.core.recipe import EVERY_NODE, Recipe


def find_precision(name: str) -> Precision:
    """Return the arithmetic of a name on the wire, or of NumPy."""
    return PRECISIONS[name] if name in PRECISIONS else PRECISIONS[BY_ANY_NAME[name].name]


def choose_precision(candidate: Tensor, declared: str | None, default: Precision) -> Precision:
    """Return the precision of a candidate: as declared, or that of its datatype."""
    if declared is not None:
        return find_precision(declared)
    return default if candidate.datatype is None else PRECISIONS[candidate.datatype.name]


def make_recipe(spec: RecipeSpec) -> Recipe:
    """Return a recipe in the terms of the numerics.

    An error is judged as one of the coarsest arithmetic that the program stores in or multiplies in.
    """
    accumulate = find_precision(spec.accumulate)
    output = accumulate if spec.output is None else find_precision(spec.output)
    products = None if spec.products is None else find_precision(spec.products)
    named_casts = spec.casts if isinstance(spec.casts, dict) else {}
    casts = {name: find_precision(precision) for name, precision in named_casts.items()}
    places = [accumulate, output, *casts.values(), *([] if products is None else [products])]
    return Recipe(
        judged=max(places, key=lambda precision: precision.unit_roundoff),
        accumulate=accumulate,
        output=output,
        every_cast=output if spec.casts == EVERY_NODE else None,
        casts=casts,
        products=products,
        inputs=None if spec.inputs is None else find_precision(spec.inputs),
    )
