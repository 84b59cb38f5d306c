"""Backward passes as formulas, from which the bugs that people make are generated.

Most wrong backward passes are an edit of the right formula. So each term is left out, doubled and turned in sign. Each
factor is left out, squared, inverted and replaced by the quantities that are easily taken for it. Each reduction is
left out or replaced by another. An edit that makes the right formula, or another edit, in another order is left out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.ops.formula import (
    ONES,
    Expression,
    MatrixProduct,
    Product,
    Quantity,
    Reduction,
    Total,
    iterate_names,
    normalise,
    parse_formula,
)

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


TRANSPOSE = "T"
"""Function that exchanges the last two axes. It is never edited."""
EVERY_SLOT = "every"
"""Place of a wrong quantity that stands in several gradients at once."""


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
        The wrong formula, of a slot or of a definition; None for a name that stands for another in all of them.
    stand_ins
        Names that stand for others wherever these are used, in quantities too.
    """

    kind: str
    part: str
    clause: str
    formula: Expression | None
    stand_ins: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class BackwardForm:
    """The formulas of a backward pass.

    Attributes
    ----------
    gradients
        Formula of the gradient of each slot, by name of the slot.
    definitions
        Formulas of names in `gradients`, by name. An edit of one changes all gradients that use it.
    spellings
        Other right formulas of the gradient of a slot, by slot, whose edits are made as well.
    identities
        Formulas that a name is equal to, by name. They tell which edits of several spellings are equal.
    declared
        Wrong formulas, by slot, for which the op declares bugs by hand.
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
    multipliers
        Numbers that the op declares as multipliers of the gradient. They are edited there, and not here.
    published
        Name on the wire and clause of variants that have a name of their own, by key: "input:term_missing:mean(h)".
        The first variant of a name has the name as its key in `Op.bugs`.
    omitted
        Keys of variants that equal another one, another bug of the op, or the right gradient, at every point.
    """

    gradients: Mapping[str, str]
    definitions: Mapping[str, str] = field(default_factory=dict[str, str])
    spellings: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    identities: Mapping[str, str] = field(default_factory=dict[str, str])
    declared: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    look_alikes: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    stand_ins: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    alternatives: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    layouts: Collection[str] = ()
    upstream: Collection[str] = ("g",)
    multipliers: Collection[str] = ()
    published: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    omitted: Collection[str] = ()

    @cached_attribute
    def formulas(self) -> dict[str, Expression]:
        """Return the formula of each slot."""
        return {slot: parse_formula(text) for slot, text in self.gradients.items()}

    @cached_attribute
    def definition_formulas(self) -> dict[str, Expression]:
        """Return the formula of each name that is defined by one."""
        return {name: parse_formula(text) for name, text in self.definitions.items()}

    def list_slots_with(self, name: str) -> list[str]:
        """Return the slots whose gradients use a quantity, a reduction or a definition."""
        return [slot for slot, formula in self.formulas.items() if name in self._list_names(formula)]

    def _list_names(self, formula: Expression) -> set[str]:
        names = set(iterate_names(formula))
        for name, definition in self.definition_formulas.items():
            if name in names:
                names |= self._list_names(definition)
        return names

    def list_variants(self) -> dict[str, tuple[str, Variant]]:
        """Return the wrong formulas, each with its slot, its definition or `EVERY_SLOT`, by key.

        Raises
        ------
        ValueError
            If a name or an omission belongs to no variant.
        """
        variants: dict[str, tuple[str, Variant]] = {}
        for place, variant in self._iterate_variants():
            key = f"{place}:{variant.kind}:{variant.part}"
            while key in variants:
                key += " again"
            variants[key] = place, variant
        if unknown := {*self.published, *self.omitted} - variants.keys():
            raise ValueError(f"no variant has the key {sorted(unknown)}; there are {sorted(variants)}")
        return {key: variant for key, variant in variants.items() if key not in self.omitted}

    def _iterate_variants(self) -> Iterator[tuple[str, Variant]]:
        for place, formula in (*self.formulas.items(), *self.definition_formulas.items()):
            spellings = [parse_formula(text) for text in self.spellings.get(place, ())]
            known = {"", *map(self._normalise, (formula, *map(parse_formula, self.declared.get(place, ()))))}
            for spelling in (formula, *spellings):
                for variant in self._edit(spelling, lambda edited: edited):
                    assert variant.formula is not None
                    text = self._normalise(variant.formula)
                    if text not in known:
                        known.add(text)
                        yield place, variant
            for text, clause in self.alternatives.get(place, {}).items():
                yield place, Variant("wrong_formula", text, clause, parse_formula(text))
        for name, others in self.stand_ins.items():
            slots = self.list_slots_with(name)
            for other, clause in others.items() if slots else ():
                place = slots[0] if len(slots) == 1 else EVERY_SLOT
                yield place, Variant("wrong_factor", f"{other} for every {name}", clause, None, {name: other})

    def _normalise(self, formula: Expression) -> str:
        return normalise(formula, self._identity_formulas)

    @cached_attribute
    def _identity_formulas(self) -> dict[str, Expression]:
        return {name: parse_formula(text) for name, text in self.identities.items()}

    def describe_place(self, place: str) -> str:
        """Describe a slot or a definition with its formula, as the end of a clause; nothing for every slot."""
        if place in self.formulas:
            return f" in dL/d{place} = {self.write(self.formulas[place])}"
        if place in self.definitions:
            return f" in {place} = {self.write(self.definition_formulas[place])}"
        return ""

    def write(self, expression: Expression) -> str:
        """Write an expression as in a text, without the functions that only arrange elements."""
        match expression:
            case Quantity(name):
                return name
            case Reduction(function, argument):
                text = self.write(argument)
                if function == TRANSPOSE:
                    return f"{text}^T" if isinstance(argument, Quantity) else f"({text})^T"
                return text if function in self.layouts else f"{function}({text})"
            case MatrixProduct(left, right):
                return f"{self._write_factor(left)} @ {self._write_factor(right)}"
            case Product(factors):
                (first, is_divisor), *others = factors
                text = ("1 / " if is_divisor else "") + self._write_factor(first)
                return text + "".join(
                    (" / " if divides else " ") + self._write_factor(part, divides) for part, divides in others
                )
            case Total(terms):
                (first, is_negative), *others = terms
                text = f"-{self._write_factor(first)}" if is_negative else self.write(first)
                return text + "".join((" - " if minus else " + ") + self.write(part) for part, minus in others)

    def _write_factor(self, factor: Expression, is_divisor: bool = False) -> str:
        """Write a factor, in parentheses where it needs them."""
        inner = factor
        while isinstance(inner, Reduction) and inner.function in self.layouts:
            inner = inner.argument
        needs_parentheses = isinstance(inner, Total) or (is_divisor and isinstance(inner, Product))
        return f"({self.write(factor)})" if needs_parentheses else self.write(factor)

    def _edit(self, expression: Expression, rebuild: Callable[[Expression], Expression]) -> Iterator[Variant]:
        """Yield each edit of an expression, as one of the formula that `rebuild` puts it into."""
        match expression:
            case Quantity(name):
                yield from self._replace(name, "wrong_factor", rebuild, Quantity)
            case Reduction(function, argument):
                if function not in self.layouts and function != TRANSPOSE:
                    text = self.write(expression)
                    yield Variant(
                        "reduction_missing", text, f"{self.write(argument)} stood for {text}", rebuild(argument)
                    )
                    make_other = partial(_make_reduction, argument)
                    yield from self._replace(function, "wrong_reduction", rebuild, make_other, f" in {text}")
                yield from self._edit(argument, lambda changed: rebuild(Reduction(function, changed)))
            case MatrixProduct(left, right):
                yield from self._edit(left, lambda changed: rebuild(MatrixProduct(changed, right)))
                yield from self._edit(right, lambda changed: rebuild(MatrixProduct(left, changed)))
            case Product(factors):
                yield from self._edit_parts(factors, Product, rebuild, self._edit_factor)
            case Total(((term, True),)):
                yield Variant(
                    "term_sign", self.write(term), f"the sign of {self.write(term)} was left out", rebuild(term)
                )
                yield from self._edit(term, lambda changed: rebuild(Total(((changed, True),))))
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
        if isinstance(factor, Quantity) and (factor.is_number or factor.name in self.multipliers):
            return
        yield "factor_missing", "the factor {} was left out", [(Reduction(ONES, factor), False)]
        if isinstance(factor, Quantity) and factor.name not in self.upstream:
            yield "factor_squared", "the factor {} was applied twice", [(factor, is_divisor), (factor, is_divisor)]
            yield "factor_inverted", "the factor {} was inverted", [(factor, not is_divisor)]


def _make_reduction(argument: Expression, function: str) -> Expression:
    return Reduction(function, argument)
