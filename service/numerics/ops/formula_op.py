"""Ops that state formulas of their backward pass, from which their bugs are generated."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, sum_broadcast_axes
from service.numerics.ops.backward_form import EVERY_SLOT, BackwardForm, Variant
from service.numerics.ops.composite import CompositeOp
from service.numerics.ops.formula import Expression, Scope, evaluate
from service.numerics.ops.op import Gradients, Op, OpBug

Quantities = Mapping[str, Callable[[Any, Any, Any], Any]]
"""Functions of an op, its input and its output, by the names that they define in formulas."""
BroadcastQuantities = Mapping[str, Callable[[Any, Any, Any, Any], Any]]
"""The same of an op with two inputs."""


class FormulaBugs(Op):
    """An op that states the formulas of its backward pass in the textbook's form.

    The backward pass itself may be another form with the same values, such as one that does not cancel. A subclass
    declares `backward_form` and defines the names in it by `make_scope`. A slot without a formula has no such bugs.
    """

    backward_form: ClassVar[BackwardForm]

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        """Return the quantities and the functions of the formulas, by name."""
        raise NotImplementedError(f"{type(self).__name__} defines no names")

    def complete_scope(
        self, gradient: Array, output: Array, *inputs: Any, definitions: Mapping[str, Expression] | None = None
    ) -> Scope:
        """Return the scope with the names that formulas define."""
        scope = self.make_scope(gradient, output, *inputs)
        formulas = {**self.backward_form.definition_formulas, **(definitions or {})}
        scope.update({name: partial(_evaluate_array, formula, scope) for name, formula in formulas.items()})
        return scope.add_functions(T=_exchange_last_axes)

    def evaluate_formulas(
        self, formulas: Mapping[str, Expression], scope: Scope, inputs: Sequence[Array | None]
    ) -> Gradients:
        """Return the gradient of each slot by its formula, None for an input that is left out."""
        return tuple(
            None if array is None or slot.name not in formulas else _evaluate_array(formulas[slot.name], scope)
            for slot, array in zip(self.slots, inputs, strict=True)
        )

    def evaluate_right_formulas(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients by the right formulas."""
        scope = self.complete_scope(gradient, output, *inputs)
        return self.evaluate_formulas(self.backward_form.formulas, scope, inputs)

    @classmethod
    def generate_bugs(cls) -> dict[str, OpBug]:
        """Return the bugs that are edits of the formulas, by key."""
        form = cls.backward_form
        positions = {slot.name: position for position, slot in enumerate(cls.slots)}
        bugs: dict[str, OpBug] = {}
        # A bug that is declared by hand keeps its key.
        main_keys = {name: key for key, (name, _) in list(form.published.items())[::-1] if not hasattr(cls, name)}
        for key, (place, variant) in form.list_variants().items():
            slots = _list_changed_slots(form, place, variant)
            bug_name, clause = form.published.get(key, (variant.kind, variant.clause + form.describe_place(place)))
            change = FormulaChange(form, place, variant, slots)
            bugs[bug_name if main_keys.get(bug_name) == key else key] = OpBug(
                bug_name,
                partial(_run_alone, change),
                clause,
                partial(cls.has_variant, variant, [positions[slot] for slot in slots]),
                is_generated=key not in form.published,
                change=change,
            )
        return bugs

    @classmethod
    def has_variant(cls, variant: Variant, positions: Collection[int], shapes: tuple[Any, ...]) -> bool:
        """Return whether a variant is a bug of its own, given the shapes of the output and of the inputs.

        Parameters
        ----------
        variant
            The edit.
        positions
            Positions of the slots whose gradients it changes.
        shapes
            Shapes of the output and of the inputs, None for an input that is left out.
        """
        return any(shapes[1 + position] is not None for position in positions)


class FormulaOp(FormulaBugs):
    """An op whose backward pass evaluates its formulas. There is no second one."""

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients by the formulas; see `Op`."""
        return self.evaluate_right_formulas(gradient, output, *inputs)


class UnaryFormula(FormulaBugs):
    """A function of one tensor, element by element, with a formula in g, the input x and the output y."""

    quantities: ClassVar[Quantities] = {}
    """Functions `(op, x, y)` of the other names in the formula."""

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        """Return the names of the formula."""
        (x,) = inputs
        quantities = {name: partial(compute, self, x, output) for name, compute in self.quantities.items()}
        return Scope().add_quantities(g=lambda: gradient, x=lambda: x, y=lambda: output, **quantities)


def declare_function_form(formula: str, derivative: str, **parts: Any) -> BackwardForm:
    """Return the form of a function of one tensor, without the bugs that all such functions declare.

    Parameters
    ----------
    formula
        Formula of the gradient.
    derivative
        The same without the incoming gradient, which `not_chained` forgets.
    parts
        Other parts of a `BackwardForm`.
    """
    declared = ("g", derivative, *parts.pop("declared", ()))
    return BackwardForm({"input": formula}, declared={"input": declared}, **parts)


class BroadcastFormula(FormulaBugs):
    """A function of two tensors with broadcasting, with formulas in g, the inputs a and b and the output y.

    `to_a` and `to_b` sum over the axes along which an input was broadcast.
    """

    quantities: ClassVar[BroadcastQuantities] = {}
    """Functions `(op, a, b, y)` of the other names in the formulas."""

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        """Return the names of the formulas."""
        first, second = inputs
        a, b = (_align_with(array, output) for array in inputs)
        quantities = {name: partial(compute, self, a, b, output) for name, compute in self.quantities.items()}
        scope = Scope().add_quantities(g=lambda: gradient, a=lambda: a, b=lambda: b, y=lambda: output, **quantities)
        return scope.add_functions(
            to_a=lambda array: _sum_to(array, output, first), to_b=lambda array: _sum_to(array, output, second)
        )

    @classmethod
    def has_variant(cls, variant: Variant, positions: Collection[int], shapes: tuple[Any, ...]) -> bool:
        """Return whether a variant is a bug of its own.

        A factor that is broadcast has bugs of its own, such as `channel_factor_missing`.
        """
        is_factor = variant.kind in ("factor_missing", "factor_squared", "factor_inverted")
        return not is_factor or all(shape == shapes[0] for shape in shapes[1:])


def _align_with(array: Array, output: Array) -> Array:
    return array.reshape(array.shape[0], *(1,) * (output.ndim - array.ndim), *array.shape[1:])


def _sum_to(array: Array, output: Array, operand: Array) -> Array:
    spread = np.broadcast_to(array, np.broadcast_shapes(array.shape, (1, *output.shape[1:])))
    return sum_broadcast_axes(spread, operand.shape[1:])


def _evaluate_array(formula: Expression, scope: Scope) -> Array:
    return np.asarray(evaluate(formula, scope))


def _exchange_last_axes(array: Array) -> Array:
    return np.swapaxes(array, -1, -2)


def _list_changed_slots(form: BackwardForm, place: str, variant: Variant) -> list[str]:
    """Return the slots whose gradients a variant changes."""
    if place in form.formulas:
        return [place]
    return form.list_slots_with(next(iter(variant.stand_ins)) if place == EVERY_SLOT else place)


@dataclass(frozen=True, eq=False)
class FormulaChange:
    """A wrong backward pass: an edit of the formulas of some slots.

    Attributes
    ----------
    form
        The right formulas.
    place, variant
        The edited place with its edit.
    slots
        Slots whose gradients it changes.
    """

    form: BackwardForm
    place: str
    variant: Variant
    slots: Sequence[str]

    def __call__(self, op: FormulaBugs, right: Gradients, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the right gradients, those of the slots with the edit."""
        with np.errstate(all="ignore"):
            return self.evaluate(op, right, self.make_scope(op, gradient, output, *inputs), inputs)

    def make_scope(self, op: FormulaBugs, gradient: Array, output: Array, *inputs: Any) -> Scope:
        formula = self.variant.formula
        definitions = {} if self.place not in self.form.definitions or formula is None else {self.place: formula}
        scope = op.complete_scope(gradient, output, *inputs, definitions=definitions)
        scope.update({name: scope[other] for name, other in self.variant.stand_ins.items()})
        return scope

    def evaluate(self, op: FormulaBugs, right: Gradients, scope: Scope, inputs: Sequence[Any]) -> Gradients:
        """Return the gradients; right ones where the shapes do not fit, as nobody wrote that formula here.

        A part of a formula, such as the mean of "g - mean(g)", is handed on to all elements.
        """
        formulas = {slot: self.form.formulas[slot] for slot in self.slots}
        if self.place in formulas and self.variant.formula is not None:
            formulas[self.place] = self.variant.formula
        try:
            wrong = op.evaluate_formulas(formulas, scope, inputs)
        except ValueError:
            return right
        return tuple(map(_choose_wrong, right, wrong))

    @property
    def is_edit_of_slot(self) -> bool:
        return self.place in self.form.formulas and self.variant.formula is not None


def iterate_changes(
    changes: Iterable[FormulaChange], op: FormulaBugs, right: Gradients, gradient: Array, output: Array, *inputs: Any
) -> Iterator[Gradients]:
    """Yield the wrong gradients of many changes at one point, which share their parts."""
    with np.errstate(all="ignore"):
        common_scope = op.complete_scope(gradient, output, *inputs)
        common_scope.known_parts = {}
        for change in changes:
            scope = common_scope if change.is_edit_of_slot else change.make_scope(op, gradient, output, *inputs)
            yield change.evaluate(op, right, scope, inputs)


def _run_alone(change: FormulaChange, op: FormulaBugs, gradient: Array, output: Array, *inputs: Any) -> Gradients:
    """Return the wrong gradients of the changed slots, beside the right ones of the others."""
    is_composite = isinstance(op, CompositeOp)
    right = (op.evaluate_right_formulas if is_composite else op.backward)(gradient, output, *inputs)
    return change(op, right, gradient, output, *inputs)


def _choose_wrong(right: Array | None, wrong: Array | None) -> Array | None:
    if right is None or wrong is None:
        return right
    if wrong.shape[1:] == right.shape[1:]:
        return wrong
    fits = wrong.ndim == right.ndim and all(
        size in (1, right_size) for size, right_size in zip(wrong.shape[1:], right.shape[1:], strict=True)
    )
    return np.broadcast_to(wrong, (len(wrong), *right.shape[1:])).copy() if fits else right
