"""Recipes: where a program rounds, and to which arithmetic.

A kernel in bfloat16 does not compute in bfloat16. It reads rounded inputs, adds up in single precision, and rounds
again where it stores: the output, and what it hands to the next product of matrices. A recipe names these places, so
that a correct gradient may be off by their roundings and by nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.precision import PRECISIONS, Precision

RecipeKey = tuple[tuple[str | None, ...], tuple[tuple[str, str], ...]]
EVERY_NODE = "every_node"
GRADIENT_PREFIX = "d:"
"""Prefix of a cast of a gradient: "d:p" is that of the gradient at the node p."""


def _make_no_casts() -> Mapping[str, Precision]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Recipe:
    """The places where a program rounds.

    Attributes
    ----------
    judged
        Arithmetic of the result, by which an error counts as large.
    accumulate
        Arithmetic inside an operation.
    output
        Arithmetic to which the judged gradient itself is rounded.
    every_cast
        Arithmetic to which the output of every node and every gradient is rounded; None where `casts` lists them.
    casts
        Arithmetic to which a value or, behind "d:", a gradient is rounded, by the name of its node.
    products
        Arithmetic to which the factors of products of matrices are rounded; None for none.
    inputs
        Arithmetic to which the program's tensors were rounded, and with them those of the check; None if the check
        takes them as they are.
    """

    judged: Precision
    accumulate: Precision
    output: Precision
    every_cast: Precision | None = None
    casts: Mapping[str, Precision] = field(default_factory=_make_no_casts)
    products: Precision | None = None
    inputs: Precision | None = None

    @cached_attribute
    def key(self) -> "RecipeKey":
        """Names of all arithmetics and places, which tell recipes apart."""
        names = (self.judged, self.accumulate, self.output, self.every_cast, self.products, self.inputs)
        casts = sorted((name, precision.name) for name, precision in self.casts.items())
        return tuple(None if precision is None else precision.name for precision in names), tuple(casts)

    @cached_attribute
    def is_uniform(self) -> bool:
        """Tell whether one arithmetic does everything, so that only operations round."""
        return self.every_cast is None and not self.casts and self.products is None and self.output == self.accumulate

    @property
    def leaf_precision(self) -> Precision:
        """Arithmetic in which the program has its tensors."""
        return self.inputs or self.every_cast or self.accumulate

    @property
    def number_precision(self) -> Precision:
        """Arithmetic in which the program may have its constants: eager kernels take some in that of the tensors."""
        return self.every_cast or self.accumulate

    def bound_rounding_errors(self, precision: Precision, values: Array) -> Array:
        """Return the largest error of rounding each value to an arithmetic, at a place of this recipe.

        It is half the distance of the arithmetic's numbers there. A plain name stands for the kernels of a library,
        whose places nobody lists: there it is that of the upper end of a binade, up to twice as much.
        """
        if self.every_cast is None:
            return precision.compute_half_spacings(values)
        return precision.unit_roundoff * np.maximum(np.abs(values), 2.0**precision.min_exponent)

    @property
    def coarsest_roundoff(self) -> float:
        """Largest unit roundoff of all places."""
        places = (self.accumulate, self.output, self.every_cast, self.products, *self.casts.values())
        return max(precision.unit_roundoff for precision in places if precision is not None)

    def describe(self) -> str:
        """Describe the recipe: "BF16 inputs, FP32 accumulation, BF16 at p, d:p and output"."""
        parts = [] if self.inputs is None else [f"{self.inputs.name} inputs"]
        if self.products is not None:
            parts.append(f"{self.products.name} factors of products")
        parts.append(f"{self.accumulate.name} accumulation")
        places: dict[str, list[str]] = {}
        if self.every_cast is not None:
            places[self.every_cast.name] = ["every node"]
        for name, precision in self.casts.items():
            places.setdefault(precision.name, []).append(name)
        if self.output != self.accumulate:
            places.setdefault(self.output.name, []).append("output")
        return ", ".join(parts + [f"{name} at {_join_words(names)}" for name, names in places.items()])

    def find_value_cast(self, name: str) -> Precision | None:
        """Return the arithmetic to which the value of a node is rounded; None where it is not."""
        return self.every_cast or self.casts.get(name)

    def find_gradient_cast(self, name: str) -> Precision | None:
        """Return the arithmetic to which the gradient at a node is rounded; None where it is not named."""
        return self.casts.get(GRADIENT_PREFIX + name)


def _join_words(words: list[str]) -> str:
    """Join words, "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def make_uniform_recipe(precision: Precision) -> Recipe:
    """Return the recipe of one arithmetic for everything."""
    return Recipe(judged=precision, accumulate=precision, output=precision)


def _make_eager_recipe(name: str) -> Recipe:
    """Return what PyTorch's eager kernels do with tensors of an arithmetic.

    They accumulate in single precision at least, and round the output of every operation and every gradient.
    """
    precision, single = PRECISIONS[name], PRECISIONS["FP32"]
    if name == "TF32":
        return Recipe(judged=precision, accumulate=single, output=single, products=precision)
    if precision.unit_roundoff <= single.unit_roundoff:
        return make_uniform_recipe(precision)
    return Recipe(judged=precision, accumulate=single, output=precision, every_cast=precision)


EAGER_RECIPES: Mapping[str, Recipe] = MappingProxyType({name: _make_eager_recipe(name) for name in PRECISIONS})
"""Recipes of PyTorch's eager kernels, by the name of the arithmetic: the meaning of a plain name."""
