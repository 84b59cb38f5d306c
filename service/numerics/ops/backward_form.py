"""Backward passes as formulas, from which the bugs that people make are generated.

A formula such as ``r * (h - mean(h) - z * mean(h * z))`` is a sum of terms, each a product of factors, with reductions
as functions. The backward pass evaluates it as it stands, and there is no second one. Most wrong backward passes are
an edit of it. So each term is left out, doubled and turned in sign. Each factor is left out, squared, inverted and
replaced by the quantities that are easily taken for it. Each reduction is left out or replaced by another.
"""

import ast
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.ops.op import Gradients, Op, OpBug


class Scope(dict[str, Callable[..., Array]]):
    """The names in the formulas of a node at a point.

    Quantities are functions of nothing, and are computed once, when they are first needed. They may use one another.
    Reductions are functions of one array.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, Array] = {}

    def compute(self, name: str) -> Array:
        """Return a quantity."""
        if name not in self._values:
            self._values[name] = self[name]()
        return self._values[name]

    def add_quantities(self, **quantities: Callable[[], Array]) -> "Scope":
        """Add quantities, and return the scope."""
        self.update(quantities)
        return self

    def add_functions(self, **functions: Callable[[Array], Array]) -> "Scope":
        """Add reductions and layouts, and return the scope."""
        self.update(functions)
        return self


GENERATED_BUGS: Mapping[str, str] = MappingProxyType(
    {
        "term_missing": "a term of the gradient was left out",
        "term_doubled": "a term of the gradient was counted twice",
        "term_sign": "a term of the gradient had the wrong sign",
        "factor_missing": "a factor was left out of a term of the gradient",
        "factor_squared": "a factor was applied twice in a term of the gradient",
        "factor_inverted": "a factor was inverted in a term of the gradient",
        "wrong_factor": "a factor of the gradient was taken for another quantity",
        "wrong_formula": "the gradient of another function was used, or the incoming one handed on",
        "reduction_missing": "a sum or a mean in the gradient was left out",
        "wrong_reduction": "a sum or a mean in the gradient was taken over other elements, or for the other",
    }
)
"""Names on the wire of generated bugs without a name of their own, with their meaning."""


@dataclass(frozen=True)
class Quantity:
    """A named array, or a number."""

    name: str


@dataclass(frozen=True)
class Reduction:
    """A named function of one expression, linear in it."""

    function: str
    argument: "Expression"


@dataclass(frozen=True)
class Product:
    """Factors, each with True for a divisor."""

    factors: tuple[tuple["Expression", bool], ...]


@dataclass(frozen=True)
class Total:
    """Terms of a sum, each with True for a negative one."""

    terms: tuple[tuple["Expression", bool], ...]


Expression = Quantity | Reduction | Product | Total
_ONES = "ones"
"""Function that gives ones in the shape of its argument."""


def parse_formula(text: str) -> Expression:
    """Parse a formula of names, numbers, `+ - * /`, parentheses and functions of one argument."""
    return _convert(ast.parse(text, mode="eval").body)


def _convert(node: ast.expr) -> Expression:
    match node:
        case ast.Name(id=name):
            return Quantity(name)
        case ast.Constant(value=int() | float() as number):
            return Quantity(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Total(((_convert(operand), True),))
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]):
            return Reduction(function, _convert(argument))
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as operation, right=right):
            first = _convert(left)
            factors = first.factors if isinstance(first, Product) else ((first, False),)
            return Product((*factors, (_convert(right), isinstance(operation, ast.Div))))
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as operation, right=right):
            first = _convert(left)
            terms = first.terms if isinstance(first, Total) else ((first, False),)
            return Total((*terms, (_convert(right), isinstance(operation, ast.Sub))))
        case _:
            raise ValueError(f"a formula has no {ast.unparse(node)!r}")


def iterate_names(expression: Expression) -> Iterator[str]:
    """Yield the quantities and functions of an expression."""
    match expression:
        case Quantity(name):
            yield name
        case Reduction(function, argument):
            yield function
            yield from iterate_names(argument)
        case Product(parts) | Total(parts):
            for part, _ in parts:
                yield from iterate_names(part)


def evaluate(expression: Expression, scope: Scope) -> Array | float:
    """Return the value of an expression."""
    match expression:
        case Quantity(name):
            return scope.compute(name) if name in scope else float(name)
        case Reduction(function, argument):
            value = np.asarray(evaluate(argument, scope))
            return np.ones_like(value) if function == _ONES else scope[function](value)
        case Product(factors):
            (first, is_divisor), *others = factors
            product = 1 / evaluate(first, scope) if is_divisor else evaluate(first, scope)
            for factor, is_divisor in others:
                product = product / evaluate(factor, scope) if is_divisor else product * evaluate(factor, scope)
            return product
        case Total(terms):
            (first, is_negative), *others = terms
            total = -evaluate(first, scope) if is_negative else evaluate(first, scope)
            for term, is_negative in others:
                total = total - evaluate(term, scope) if is_negative else total + evaluate(term, scope)
            return total


@dataclass(frozen=True)
class Variant:
    """A wrong formula.

    Attributes
    ----------
    kind
        Kind of the edit, one of `GENERATED_BUGS`.
    part
        The edited part, as in a text.
    clause
        A clause that describes the edit: "the term mean(h) was left out".
    formula
        The wrong formula.
    stand_ins
        Names that stand for others wherever these are used, in quantities too.
    """

    kind: str
    part: str
    clause: str
    formula: Expression
    stand_ins: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class BackwardForm:
    """The formulas of a backward pass.

    Attributes
    ----------
    gradients
        Formula of the gradient of each slot, by name of the slot.
    look_alikes
        Names that are easily taken for a quantity or a reduction, each with a clause: "eps was left out".
    stand_ins
        Look-alikes that take the place of a name wherever it is used, also inside other quantities, each with a clause.
    alternatives
        Other formulas that are written for the gradient of a slot, each with a clause, by slot.
    layouts
        Functions that only arrange elements, or sum over the axes of a broadcast. They are not edited.
    upstream
        Quantities that hold the incoming gradient. They are not squared or inverted.
    published
        Name on the wire and clause of variants that have a name of their own, by key: "input:term_missing:mean(h)".
        The first variant of a name has the name as its key in `Op.bugs`.
    omitted
        Keys of variants that equal another one, or the right gradient, at every point.
    """

    gradients: Mapping[str, str]
    look_alikes: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    stand_ins: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    alternatives: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    layouts: Collection[str] = ()
    upstream: Collection[str] = ("g",)
    published: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    omitted: Collection[str] = ()

    @cached_attribute
    def formulas(self) -> dict[str, Expression]:
        """Return the formula of each slot."""
        return {slot: parse_formula(text) for slot, text in self.gradients.items()}

    def list_variants(self) -> dict[str, tuple[str, Variant]]:
        """Return the wrong formulas, each with its slot, by key.

        Raises
        ------
        ValueError
            If a name or an omission belongs to no variant.
        """
        variants: dict[str, tuple[str, Variant]] = {}
        for slot, formula in self.formulas.items():
            for variant in (*self._edit(formula, lambda edited: edited), *self._iterate_whole_variants(slot, formula)):
                key = f"{slot}:{variant.kind}:{variant.part}"
                while key in variants:
                    key += " again"
                variants[key] = slot, variant
        if unknown := {*self.published, *self.omitted} - variants.keys():
            raise ValueError(f"no variant has the key {sorted(unknown)}; there are {sorted(variants)}")
        return {key: variant for key, variant in variants.items() if key not in self.omitted}

    def _iterate_whole_variants(self, slot: str, formula: Expression) -> Iterator[Variant]:
        """Yield the variants that are no edit of one place: other formulas, and other quantities everywhere."""
        for text, clause in self.alternatives.get(slot, {}).items():
            yield Variant("wrong_formula", text, clause, parse_formula(text))
        used_names = set(iterate_names(formula))
        for name, others in self.stand_ins.items():
            for other, clause in others.items() if name in used_names else ():
                yield Variant("wrong_factor", f"{other} for every {name}", clause, formula, {name: other})

    def write(self, expression: Expression) -> str:
        """Write an expression as in a text, without the functions that only arrange elements."""
        match expression:
            case Quantity(name):
                return name
            case Reduction(function, argument):
                text = self.write(argument)
                return text if function in self.layouts else f"{function}({text})"
            case Product(factors):
                (first, is_divisor), *others = factors
                text = ("1 / " if is_divisor else "") + self._write_factor(first)
                return text + "".join(
                    (" / " if divides else " ") + self._write_factor(part) for part, divides in others
                )
            case Total(terms):
                (first, is_negative), *others = terms
                text = ("-" if is_negative else "") + self.write(first)
                return text + "".join((" - " if minus else " + ") + self.write(part) for part, minus in others)

    def _write_factor(self, factor: Expression) -> str:
        return f"({self.write(factor)})" if isinstance(factor, Total) else self.write(factor)

    def _edit(self, expression: Expression, rebuild: Callable[[Expression], Expression]) -> Iterator[Variant]:
        """Yield each edit of an expression, as one of the formula that `rebuild` puts it into."""
        match expression:
            case Quantity(name):
                yield from self._replace(name, "wrong_factor", rebuild, Quantity)
            case Reduction(function, argument):
                if function not in self.layouts:
                    text = self.write(expression)
                    yield Variant(
                        "reduction_missing", text, f"{self.write(argument)} stood for {text}", rebuild(argument)
                    )
                    make_other = partial(_make_reduction, argument)
                    yield from self._replace(function, "wrong_reduction", rebuild, make_other, f" in {text}")
                yield from self._edit(argument, lambda changed: rebuild(Reduction(function, changed)))
            case Product(factors):
                yield from self._edit_parts(factors, Product, rebuild, self._edit_factor)
            case Total(terms):
                yield from self._edit_parts(terms, Total, rebuild, self._edit_term)

    def _replace(
        self,
        name: str,
        kind: str,
        rebuild: Callable[[Expression], Expression],
        make: Callable[[str], Expression],
        place: str = "",
    ) -> Iterator[Variant]:
        for other, clause in self.look_alikes.get(name, {}).items():
            yield Variant(kind, f"{other} for {name}{place}", clause, rebuild(make(other)))

    def _edit_parts(
        self,
        parts: tuple[tuple[Expression, bool], ...],
        make: Callable[[tuple[tuple[Expression, bool], ...]], Expression],
        rebuild: Callable[[Expression], Expression],
        edit_part: Callable[[Expression, bool], Iterator[tuple[str, str, list[tuple[Expression, bool]]]]],
    ) -> Iterator[Variant]:
        """Yield the edits of each term of a sum, or factor of a product, and those inside each."""
        for position, (part, flag) in enumerate(parts):

            def put(changed: list[tuple[Expression, bool]], position: int = position) -> Expression:
                return rebuild(make((*parts[:position], *changed, *parts[position + 1 :])))

            if len(parts) > 1:
                for kind, clause, changed in edit_part(part, flag):
                    yield Variant(kind, self.write(part), clause.format(self.write(part)), put(changed))
            yield from self._edit(part, lambda changed, put=put, flag=flag: put([(changed, flag)]))

    def _edit_term(self, term: Expression, sign: bool) -> Iterator[tuple[str, str, list[tuple[Expression, bool]]]]:
        yield "term_missing", "the term {} was left out", []
        yield "term_doubled", "the term {} was counted twice", [(term, sign), (term, sign)]
        yield "term_sign", "the term {} had the wrong sign", [(term, not sign)]

    def _edit_factor(
        self, factor: Expression, is_divisor: bool
    ) -> Iterator[tuple[str, str, list[tuple[Expression, bool]]]]:
        yield "factor_missing", "the factor {} was left out", [(Reduction(_ONES, factor), False)]
        if isinstance(factor, Quantity) and factor.name not in self.upstream:
            yield "factor_squared", "the factor {} was applied twice", [(factor, is_divisor), (factor, is_divisor)]
            yield "factor_inverted", "the factor {} was inverted", [(factor, not is_divisor)]


def _make_reduction(argument: Expression, function: str) -> Expression:
    return Reduction(function, argument)


class FormulaOp(Op):
    """An op whose backward pass is a `BackwardForm`.

    A subclass declares `backward_form` and defines the names in it by `make_scope`.
    """

    backward_form: ClassVar[BackwardForm]

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        """Return the quantities and the functions of the formulas, by name."""
        raise NotImplementedError(f"{type(self).__name__} defines no names")

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients by the formulas; see `Op`."""
        scope = self.make_scope(gradient, output, *inputs)
        return self.evaluate_formulas(self.backward_form.formulas, scope, inputs)

    def evaluate_formulas(
        self, formulas: Mapping[str, Expression], scope: Scope, inputs: Sequence[Array | None]
    ) -> Gradients:
        """Return the gradient of each slot by its formula, None for an input that is left out."""
        return tuple(
            None if array is None or slot.name not in formulas else np.asarray(evaluate(formulas[slot.name], scope))
            for slot, array in zip(self.slots, inputs, strict=True)
        )

    @classmethod
    def generate_bugs(cls) -> dict[str, OpBug]:
        """Return the bugs that are edits of the formulas, by key."""
        form = cls.backward_form
        formulas = form.formulas
        positions = {slot.name: position for position, slot in enumerate(cls.slots)}
        bugs: dict[str, OpBug] = {}
        main_keys = {name: key for key, (name, _) in list(form.published.items())[::-1]}
        for key, (slot, variant) in form.list_variants().items():
            place = f" in dL/d{slot} = {form.write(formulas[slot])}"
            bug_name, clause = form.published.get(key, (variant.kind, variant.clause + place))
            bugs[bug_name if main_keys.get(bug_name) == key else key] = OpBug(
                bug_name,
                partial(_run_variant, formulas | {slot: variant.formula}, slot, variant.stand_ins),
                clause,
                partial(_has_operand, positions[slot]),
                is_generated=key not in form.published,
            )
        return bugs


def _has_operand(position: int, shapes: tuple[Any, ...]) -> bool:
    return shapes[1 + position] is not None


def _run_variant(
    formulas: Mapping[str, Expression],
    slot: str,
    stand_ins: Mapping[str, str],
    op: FormulaOp,
    gradient: Array,
    output: Array,
    *inputs: Any,
) -> Gradients:
    """Return the gradients, that of one slot by a wrong formula, or with other quantities."""
    scope = op.make_scope(gradient, output, *inputs)
    with np.errstate(all="ignore"):
        if not stand_ins:
            return op.evaluate_formulas(formulas, scope, inputs)
        right = op.evaluate_formulas(formulas, scope, inputs)
        wrong_scope = op.make_scope(gradient, output, *inputs)
        wrong_scope.update({name: wrong_scope[other] for name, other in stand_ins.items()})
        wrong = op.evaluate_formulas({slot: formulas[slot]}, wrong_scope, inputs)
        return tuple(right[position] if result is None else result for position, result in enumerate(wrong))
