"""Formulas of names, as trees: to parse, to evaluate, and to compare them.

A formula such as ``r * (h - mean(h) - z * mean(h * z))`` is a sum of terms, each a product of factors. Functions of one
argument reduce or arrange arrays, and are linear. ``a @ b`` is a product of matrices along the last two axes.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.core.batching import Array


class Scope(dict[str, Callable[..., Any]]):
    """The names in the formulas of a node at a point.

    Quantities are functions of nothing, and are computed once, when they are first needed. They may use one another.
    Reductions are functions of one array.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, Array] = {}
        self.known_parts: dict[int, Array | float] | None = None
        """Values of expressions by identity, of a scope that evaluates many formulas with parts in common."""

    def compute(self, name: str) -> Array:
        """Return a quantity."""
        if name not in self._values:
            self._values[name] = self[name]()
        return self._values[name]

    def add_quantities(self, **quantities: Callable[[], Array | float]) -> "Scope":
        """Add quantities, and return the scope."""
        self.update(quantities)
        return self

    def add_functions(self, **functions: Callable[[Array], Array]) -> "Scope":
        """Add reductions and layouts, and return the scope."""
        self.update(functions)
        return self


@dataclass(frozen=True)
class Quantity:
    """A named array, or a number."""

    name: str

    @property
    def is_number(self) -> bool:
        """Return whether it is a number."""
        return not self.name[0].isalpha()


@dataclass(frozen=True)
class Reduction:
    """A named function of one expression, linear in it."""

    function: str
    argument: "Expression"


@dataclass(frozen=True)
class MatrixProduct:
    """A product of two matrices."""

    left: "Expression"
    right: "Expression"


@dataclass(frozen=True)
class Product:
    """Factors, each with True for a divisor."""

    factors: tuple[tuple["Expression", bool], ...]


@dataclass(frozen=True)
class Total:
    """Terms of a sum, each with True for a negative one."""

    terms: tuple[tuple["Expression", bool], ...]


Expression = Quantity | Reduction | MatrixProduct | Product | Total
ONES = "ones"
"""Function that gives ones in the shape of its argument."""


def parse_formula(text: str) -> Expression:
    """Parse a formula of names, numbers, `+ - * / @`, parentheses and functions of one argument."""
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
        case ast.BinOp(left=left, op=ast.MatMult(), right=right):
            return MatrixProduct(_convert(left), _convert(right))
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
        case MatrixProduct(left, right):
            yield from iterate_names(left)
            yield from iterate_names(right)
        case Product(parts) | Total(parts):
            for part, _ in parts:
                yield from iterate_names(part)


def evaluate(expression: Expression, scope: Scope) -> Array | float:
    """Return the value of an expression."""
    known = scope.known_parts
    if known is None:
        return _evaluate_parts(expression, scope)
    value = known.get(id(expression))
    if value is None:
        value = known[id(expression)] = _evaluate_parts(expression, scope)
    return value


def _evaluate_parts(expression: Expression, scope: Scope) -> Array | float:
    match expression:
        case Quantity(name):
            return scope.compute(name) if name in scope else float(name)
        case Reduction(function, argument):
            value = np.asarray(evaluate(argument, scope))
            return np.ones_like(value) if function == ONES else scope[function](value)
        case MatrixProduct(left, right):
            return np.asarray(np.asarray(evaluate(left, scope)) @ np.asarray(evaluate(right, scope)))
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


Monomial = tuple[tuple[str, int], ...]
"""Names and functions with their powers, in order."""
Polynomial = dict[Monomial, float]


def normalise(expression: Expression, identities: Mapping[str, Expression] | None = None) -> str:
    """Return a text that is equal for expressions which are equal as polynomials.

    Functions, products of matrices and sums under a fraction bar count as one name.

    Parameters
    ----------
    expression
        Expression.
    identities
        Expressions that are equal to a name, by name; none by default.
    """
    return _write_polynomial(_expand(expression, identities or {}))


def _expand(expression: Expression, identities: Mapping[str, Expression]) -> Polynomial:
    match expression:
        case Quantity(name) if name in identities:
            return _expand(identities[name], identities)
        case Quantity(name):
            return {(): float(name)} if expression.is_number else _make_atom(name)
        case Reduction(function, _) if function == ONES:
            return {(): 1.0}
        case Reduction(function, argument):
            return _make_atom(f"{function}({_write_polynomial(_expand(argument, identities))})")
        case MatrixProduct(left, right):
            texts = (_write_polynomial(_expand(side, identities)) for side in (left, right))
            return _make_atom(f"({' @ '.join(texts)})")
        case Product(factors):
            return _expand_product(factors, identities)
        case Total(terms):
            return _expand_total(terms, identities)


def _expand_total(terms: Iterable[tuple[Expression, bool]], identities: Mapping[str, Expression]) -> Polynomial:
    total: Polynomial = {}
    for term, is_negative in terms:
        for monomial, number in _expand(term, identities).items():
            total[monomial] = total.get(monomial, 0.0) + (-number if is_negative else number)
    return {monomial: number for monomial, number in total.items() if number}


def _expand_product(factors: Iterable[tuple[Expression, bool]], identities: Mapping[str, Expression]) -> Polynomial:
    product: Polynomial = {(): 1.0}
    for factor, is_divisor in factors:
        if is_divisor and isinstance(factor, Product):
            # Each factor of a divisor may cancel.
            inverted = [(part, not divides) for part, divides in factor.factors]
            product = _multiply(product, _expand_product(inverted, identities))
            continue
        expanded = _expand(factor, identities)
        product = _multiply(product, _invert(expanded) if is_divisor else expanded)
    return product


def _make_atom(name: str, power: int = 1) -> Polynomial:
    return {((name, power),): 1.0}


def _multiply(first: Polynomial, second: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for left, left_number in first.items():
        for right, right_number in second.items():
            powers = dict(left)
            for name, power in right:
                powers[name] = powers.get(name, 0) + power
            monomial = tuple(sorted((name, power) for name, power in powers.items() if power))
            product[monomial] = product.get(monomial, 0.0) + left_number * right_number
    return {monomial: number for monomial, number in product.items() if number}


def _invert(polynomial: Polynomial) -> Polynomial:
    if len(polynomial) != 1:
        return _make_atom(f"({_write_polynomial(polynomial)})", -1)
    ((monomial, number),) = polynomial.items()
    return {tuple((name, -power) for name, power in monomial): 1 / number}


def _write_polynomial(polynomial: Polynomial) -> str:
    return " + ".join(
        " ".join([f"{number:g}", *(f"{name}^{power}" for name, power in monomial)])
        for monomial, number in sorted(polynomial.items())
    )
