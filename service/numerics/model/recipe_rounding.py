"""The rounding errors of a recipe: casts at its places, beside the errors of its operations.

A cast is off by half the spacing of the arithmetic's numbers at most, by `Recipe.bound_rounding_errors`. Its error is
drawn from the uniform distribution over this range. Three properties make it the error of a cast and not of an
operation:

- It is a function of run, place and number: equal numbers round alike, however often and wherever they stand. Sums of
  n equal numbers are off by n times the error of each, and a number that a backward pass computes again is rounded as
  it was.
- A number of the arithmetic that nothing has moved stays as it is.
- Numbers nearer to each other than the spacing round to the same number or to neighbours. In half of the runs all
  numbers are therefore rounded to the numbers of the arithmetic, moved by a random part of their distance, one for each
  run, place and binade. The larger one of the two spreads counts. In one of eight such runs nothing is moved: two near
  numbers seldom round to neighbours, but always so in a program in which they do. The errors of such a run count
  twice at least: 6 root mean squares of 32 runs, 4 of which have the error e, are 2.1 e or more.

Numbers count as equal whose distance is at most an eighth of the spacing. They become one number: what is left of their
difference is lost, as by a rounding to the same number. A sum of several gradients, and the errors of operations, are
those of `SharedRounding` in the arithmetic that accumulates.

Source: Parker, Monte Carlo Arithmetic (1997), section 4, for random rounding; Steele, Lea and Flood, Fast splittable
pseudorandom number generators (OOPSLA 2014), figure 16, for the mixing function.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.core.recipe import Recipe
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.monte_carlo import ALIKE_BITS, ROUNDING_SWEEPS, SharedRounding, round_bits
from service.numerics.ops.op import BackwardPass, Gradients, Op
from service.numerics.ops.rounding_errors import Rounding


class RecipeRounding(SharedRounding):
    """An observer that adds the errors of a recipe, of one round of sweeps.

    Parameters
    ----------
    recipe
        The recipe.
    graph
        The model, in which names are found.
    generator
        Source of all random numbers.
    shifts_grids
        True to round to the numbers of an arithmetic, all moved by a random part of their distance; False, the default,
        to draw an error for each number.
    """

    def __init__(
        self, recipe: Recipe, graph: Graph, generator: np.random.Generator, *, shifts_grids: bool = False
    ) -> None:
        super().__init__(recipe.accumulate, generator)
        # Casts are as large as they are: nothing is scaled.
        self._amplitude = recipe.accumulate.unit_roundoff
        self.spread_scale = 1.0
        self._recipe = recipe
        self._shifts_grids = shifts_grids
        self._names = graph.composite_names
        self._leaf_uses = _count_leaf_uses(graph)
        self._run_keys = generator.integers(2**64, size=ROUNDING_SWEEPS, dtype=np.uint64)
        self._node_name = ""
        self._has_factors = False
        self._moved: list[Array] = []
        self._is_cast: dict[str, bool] = {}

    def perturb_leaves(self, leaves: Mapping[str, Array]) -> NamedArrays:
        """Round each leaf to the arithmetic in which the program has its tensors.

        Those of `inputs` have been rounded for all: numbers with a scale are not numbers of the arithmetic itself.
        """
        self._is_cast = dict.fromkeys(leaves, True)
        return {name: self._cast_leaf(name, leaf) if leaf.dtype.kind == "f" else leaf for name, leaf in leaves.items()}

    def _cast_leaf(self, name: str, leaf: Array) -> Array:
        """Round a leaf, and once more if the recipe names it among the casts."""
        if self._recipe.inputs is None:
            leaf = self.cast_array(f"value {name}", leaf, self._recipe.leaf_precision)
        precision = self._recipe.casts.get(name)
        return leaf if precision is None else self.cast_array(f"further value {name}", leaf, precision)

    def forward(self, node: Node, inputs: tuple[Array | None, ...]) -> Array:
        """Evaluate a node, and round what it stores."""
        self._begin(node)
        output = super().forward(node, self._round_factors(node, inputs))
        precision = self._recipe.find_value_cast(node.name)
        if precision is None or output.dtype.kind != "f":
            return output
        self._is_cast[node.name] = True
        moves_casts = all(self._is_cast.get(name, False) for name in node.source_names)
        if moves_casts and self._is_moved(output):
            return output
        return self.cast_array(f"value {node.name}", output, precision)

    def backward(
        self, node: Node, node_backward: BackwardPass, gradient: Array, output: Array, inputs: tuple[Array | None, ...]
    ) -> Gradients:
        """Return the gradients of a node's inputs, and round what is stored."""
        precision = self._recipe.find_gradient_cast(node.name)
        if precision is not None:
            gradient = self.cast_array(f"gradient {node.name}", gradient, precision)
        self._begin(node)
        factors = self._round_factors(node, inputs)
        if self._recipe.products is not None and node.op.product_slots and not node.op.casts_own_gradient:
            gradient = self.cast_array(f"factor gradient {node.name}", gradient, self._recipe.products)
        if self._recipe.find_value_cast(node.name) is not None and node_backward == node.op.backward:
            node_backward = self._choose_backward(node)
        results = super().backward(node, node_backward, gradient, output, factors)
        if self._recipe.every_cast is None:
            return results
        results = self._round_stored_terms(node, results, self._recipe.every_cast, gradient, output, inputs)
        return tuple(
            self._round_result(node, position, result, self._recipe.every_cast)
            for position, result in enumerate(results)
        )

    @staticmethod
    def _choose_backward(node: Node) -> BackwardPass:
        """Return the backward pass of programs that keep the rounded output of a node."""
        takes_output = type(node.op).backward_by_output is not Op.backward_by_output
        return node.op.backward_by_output if takes_output else node.op.backward

    def _round_stored_terms(
        self,
        node: Node,
        results: Gradients,
        precision: Precision,
        gradient: Array,
        output: Array,
        inputs: tuple[Array | None, ...],
    ) -> Gradients:
        """Round the terms of gradients that are stored and added up one by one."""
        counts = [
            1 if result is None else node.op.count_stored_terms(position, *inputs)
            for position, result in enumerate(results)
        ]
        if max(counts, default=1) == 1:
            return results
        roundings = node.op.estimate_backward_rounding(gradient, output, *inputs)
        rounded = list(results)
        for position, (result, rounding, count) in enumerate(zip(results, roundings, counts, strict=True)):
            if result is None or rounding is None or count == 1:
                continue
            sums = node.op.measure_stored_sums(position, gradient, output, *inputs)
            sizes = math.sqrt(count) * rounding.magnitude if sums is None else sums
            rounded[position] = self._add_errors(result, sizes, count, precision)
        return tuple(rounded)

    def _add_errors(self, array: Array, sizes: Array, count: int, precision: Precision) -> Array:
        """Add the errors of a sum of terms that are rounded, as are the sums."""
        unit = precision.unit_roundoff / self._amplitude
        return self(array, (sizes + math.sqrt(count) * 2.0**precision.min_exponent) * unit)

    def _round_result(self, node: Node, position: int, result: Array | None, precision: Precision) -> Array | None:
        """Round one of the gradients that a node hands back, but one that is the answer: that is rounded last."""
        operand = node.operands[position]
        is_answer = isinstance(operand, str) and self._leaf_uses.get(operand) == 1
        if result is None or is_answer or self._is_moved(result):
            return result
        return self.cast_array(f"gradient {node.name} {position}", result, precision)

    def operation(self, result: Array) -> Array:
        """Add the error of the sum of two contributions to one gradient, and round it."""
        total = super().operation(result)
        if self._recipe.every_cast is None:
            return total
        return self.cast_array("sum", total, self._recipe.every_cast)

    def cast(self, place: str, array: Array) -> Array:
        """Round an array inside an op, if the recipe names the place, as "att.p"."""
        name = f"{self._node_name}.{place}"
        precision = self._recipe.find_value_cast(name) or (self._recipe.products if self._has_factors else None)
        return array if precision is None else self.cast_array(f"value {name}", array, precision)

    def cast_factor(self, place: str, array: Array) -> Array:
        """Round an array inside an op to the arithmetic of factors."""
        precision = self._recipe.products
        return array if precision is None else self.cast_array(f"factor {self._node_name}.{place}", array, precision)

    def add_rounding_error(self, array: Array, rounding: Rounding | None) -> Array:
        """Return an array with errors added; note one whose values only moved."""
        if rounding is None:
            self._moved.append(array)
        return super().add_rounding_error(array, rounding)

    def cast_array(self, place: str, array: Array, precision: Precision) -> Array:
        """Return an array (K or 1, ...) rounded at a place at random, (K, ...); itself where no number rounds.

        A cast to 8 bits has a scale for the tensor, by which its largest number becomes that of the arithmetic.
        """
        base = np.asarray(array[0], np.float64)
        largest = float(np.abs(base).max(initial=0.0, where=np.isfinite(base))) if precision.is_scaled else 0.0
        if not largest or precision.fits(base):
            return self._cast_unscaled(place, array, base, precision)
        scale = precision.largest_number / largest
        return self._cast_unscaled(place, array * scale, base * scale, precision) / scale

    def _cast_unscaled(self, place: str, array: Array, base: Array, precision: Precision) -> Array:
        stays = precision.is_representable(base)
        if len(array) > 1:
            stays &= (array[1:] == base).all(axis=0)
        stays |= ~np.isfinite(base)
        if stays.all():
            return array
        rounded = np.repeat(array, ROUNDING_SWEEPS + 1, axis=0) if len(array) == 1 else array.copy()
        swept = array[1:] if len(array) > 1 else array
        swept = np.where(np.isfinite(swept), swept, 0.0)
        find_moves = self._shift_grids if self._shifts_grids and not precision.is_scaled else self._draw_moves
        with np.errstate(invalid="ignore"):
            rounded[1:] += np.where(stays, 0.0, find_moves(place, base, swept, precision))
        return np.where(np.abs(base) > precision.largest_number, np.copysign(np.inf, rounded), rounded)

    def _draw_moves(self, place: str, base: Array, swept: Array, precision: Precision) -> Array:
        """Return random errors of numbers that stand in sweeps, (sweeps, ...); those of equal ones are equal."""
        common_sizes = find_common_sizes(base, precision)
        errors = self._recipe.bound_rounding_errors(precision, swept) * self._draw_errors(place, common_sizes)
        return np.copysign(1.0, base) * (errors + (common_sizes - np.abs(base)))

    def _shift_grids(self, place: str, base: Array, swept: Array, precision: Precision) -> Array:
        """Return errors of rounding to the numbers of each binade, moved by a random part of their distance."""
        spacings = 2 * precision.compute_half_spacings(swept)
        sizes = np.abs(swept) / spacings
        shifts = self._draw_errors(place, precision.compute_half_spacings(base)) / 2
        # The program itself rounds by grids that nothing has moved.
        shifts[0] = 0.0
        return np.copysign(spacings, swept) * (np.rint(sizes + shifts) - shifts - sizes)

    def _draw_errors(self, place: str, sizes: Array) -> Array:
        """Return errors between -1 and 1, (sweeps, ...), of sizes (...): the same for the same size."""
        bits = np.ascontiguousarray(sizes).ravel().view(np.uint64)
        digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
        keys = self._run_keys ^ np.uint64(int.from_bytes(digest, "little"))
        mixed = _mix_bits(_mix_bits(bits) + keys[:, None])
        return ((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1).reshape(len(keys), *sizes.shape)

    def _begin(self, node: Node) -> None:
        self._node_name = self._names.get(node.name, node.name)
        self._has_factors = bool(node.op.product_slots)
        self._moved = []

    def _is_moved(self, result: Array) -> bool:
        return any(result is moved for moved in self._moved)

    def _round_factors(self, node: Node, inputs: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
        """Round the operands of a product of matrices that are multiplied."""
        precision = self._recipe.products
        if precision is None or not node.op.product_slots:
            return inputs
        return tuple(
            self.cast_array(f"factor {operand}", array, precision)
            if array is not None and slot.name in node.op.product_slots
            else array
            for array, slot, operand in zip(inputs, node.operand_slots, node.operands, strict=True)
        )


def find_common_sizes(base: Array, precision: Precision) -> Array:
    """Return the size that stands for all that a precision can hardly tell apart, within an eighth of its spacing."""
    dropped = PRECISIONS["FP64"].significand_bits - precision.significand_bits - ALIKE_BITS
    return round_bits(np.abs(base), max(0, dropped)).reshape(base.shape)


def _count_leaf_uses(graph: Graph) -> dict[str, int]:
    """Return how often nodes read each leaf."""
    nodes = {node.name for node in graph.nodes}
    uses: dict[str, int] = {}
    for node in graph.nodes:
        for name in node.source_names:
            if name not in nodes:
                uses[name] = uses.get(name, 0) + 1
    return uses


def _mix_bits(bits: Array) -> Array:
    """Mix the bits of integers of 64 bits, so that neighbours are apart."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
