"""What an op declares, and the registry of the ops there are.

From the one declaration of an op come its validation on the wire, its entry in `GET /v1/ops`, the three gradients,
the rounding allowance and its tests. An op is a frozen dataclass: its fields are its attributes, with their limits
as `Annotated` metadata and their defaults those of PyTorch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, cast, dataclass_transform

import numpy as np

from service.numerics.ops.choices import Choices
from service.numerics.ops.errors import Errors, Rounding
from service.numerics.ops.leeway import leeway
from service.numerics.ops.multiplier import Kind, Multiplier
from service.numerics.reach import given, joined, least_of_all
from service.numerics.tiles import Array, Shape, numbered, size, tiled

Gradients = tuple[Array | None, ...]
Spreading = Sequence[Array | None]
Backward = Callable[..., Gradients]


class ShapeError(ValueError):
    """Shapes that an op does not take. The text says what it takes; the graph adds the node and what was given."""


CALL = 5000
"""Multiply-adds in the time of one call of NumPy."""


class Products(NamedTuple):
    """An op written out: each element of the output is a sum of products of elements of an operand, and a rest.

    `shape` is that of the output, or the same with axes split. For each product `indices` has the flat index of the
    operand's element in it, the operand's size for none, and `factors` what it is multiplied by; all of them broadcast
    to `shape`.
    """

    shape: Shape
    indices: Sequence[Array]
    factors: Sequence[Array]


class Argument(NamedTuple):
    """What a function is taken of that has a scale of its own, however large its argument: a phase, an exponent.

    `values` are the arguments, behind a tile axis; `along` the axes along which they are exponents that are normalised
    together, None for a phase.
    """

    values: Array
    along: int | tuple[int, ...] | None = None

    @property
    def leeway(self) -> Array | float:
        """How far each may move with what is seen on the way still being what is seen nearby: broadcasts to them."""
        return 1.0 if self.along is None else leeway(self.values, self.along)

    @property
    def first(self) -> "Argument":
        """That of the first tile."""
        return Argument(self.values[:1], self.along)


class Cost(NamedTuple):
    """What a forward pass takes: multiply-adds, elements of the largest array it makes, and calls beside these."""

    work: int
    elements: int
    calls: int = 1

    @property
    def at_once(self) -> int:
        """All of it in multiply-adds, of one evaluation by itself."""
        return self.work + CALL * self.calls


@dataclass(frozen=True)
class Slot:
    """One input of an op, by PyTorch's parameter name.

    Attributes
    ----------
    optional
        It may be left out.
    variadic
        It takes any number of tensors, at least one; only the last slot may.
    kinds
        What it takes: `float`, `index` (integers) or `bool`; the first is what a bare list of integers becomes.
    """

    name: str
    optional: bool
    variadic: bool
    kinds: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Slot":
        """Read `name`, `name?` if it may be left out, `name*` if there may be several, and `:kind|kind` behind."""
        name, _, kinds = text.partition(":")
        return cls(
            name.rstrip("?*"), name.endswith("?"), name.endswith("*"), tuple(kinds.split("|")) if kinds else ("float",)
        )


@dataclass(frozen=True)
class Case:
    """An example of an op for the tests.

    Attributes
    ----------
    shapes
        Of the inputs in slot order, None where one is left out.
    attributes
        Of the op.
    low, high
        Between which the floats lie.
    below
        Number of values that an index may have, by slot.
    signs
        Slots whose values are 1 and -1.
    bools
        Slots that take floats too, but here truths.
    """

    shapes: tuple[Shape | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType[str, Any]({}))
    low: float = -2.0
    high: float = 2.0
    below: Mapping[str, int] = field(default_factory=lambda: MappingProxyType[str, int]({}))
    signs: tuple[str, ...] = ()
    bools: tuple[str, ...] = ()


class Op(ABC):
    """A function of tensors, its derivative by hand, and what is known of both.

    Arrays come in slot order, None for an optional input that was left out, each with its declared shape behind one
    tile axis of length K or 1; results likewise. Any real dtype goes through unchanged.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    slots: ClassVar[tuple[Slot, ...]]
    cases: ClassVar[tuple[Case, ...]]
    mutants: ClassVar[Mapping[str, "Mutant"]]
    """Wrong backward passes, by method, that the tests must catch and the diagnosis names: those marked `@mutant`."""
    linear_in: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """Slots in which it is linear, each with those that are 0 in its response: what it is jointly linear in."""
    multiplies: ClassVar[Mapping[str, Kind]] = MappingProxyType({})
    """Slots whose values multiply, or divide, the gradients of others."""
    ends_in_sum: ClassVar[bool] = False
    """Its terms follow from its inputs alone."""
    extended: ClassVar[bool] = True
    """Its `forward` computes in extended precision where its inputs are of it."""
    passes: ClassVar[int] = 1
    """Calls of NumPy that `forward` makes, each over about as many elements as the largest array has."""
    scratch: ClassVar[int] = 0
    """Arrays, beyond a few, as large as the largest of its `cost`, that its passes hold at once on their way."""
    analytic: ClassVar[bool] = False
    """`forward` takes complex arrays for its floats, and is analytic in each at the real points that it takes."""

    @property
    def power(self) -> float:
        """Largest power, up or down, that a pass takes of a number, as written in a textbook.

        Default: a cube, as a normalisation takes of the inverse of its length.
        """
        return 3.0

    @abstractmethod
    def output_shape(self, *shapes: Any) -> Shape:
        """Shape of the output, without the tile axis; ShapeError for inputs that do not fit."""

    @abstractmethod
    def forward(self, *inputs: Any) -> Array:
        """The output."""

    @abstractmethod
    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The gradient of the loss for each input, from that for the output. The derivation is the class's text."""

    @abstractmethod
    def twin(self, torch: Any, *inputs: Any) -> Any:
        """The same function in PyTorch, on tensors without a tile axis."""

    def rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the output; None where the op only moves values. Default: one sum over everything."""
        magnitude = np.abs(self.forward(*map(_absolute, inputs)))
        return Rounding(magnitude, _largest(inputs))

    def own_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the output in the form in which `forward` has it, where that is not the textbook's."""
        return self.rounding(output, *inputs)

    def backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        """Rounding of each input's gradient, None where values only move. Default: one sum over everything."""
        magnitudes = self.backward(np.abs(gradient), np.abs(output), *map(_absolute, inputs))
        terms = max(_largest(inputs), _elements(output))
        return tuple(None if each is None else Rounding(np.abs(each), terms) for each in magnitudes)

    def forward_with_errors(self, errors: Errors, *inputs: Any) -> Array:
        """The output, with the errors of an arithmetic. Default: those of the output as a whole, see `rounding`."""
        output = self.forward(*inputs)
        return errors.perturbed(output, (self.own_rounding if errors.own else self.rounding)(output, *inputs))

    def backward_with_errors(self, errors: Errors, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The gradients, with the errors of an arithmetic. Default: of each as a whole, see `backward_rounding`."""
        results = self.backward(gradient, output, *inputs)
        roundings = self.backward_rounding(gradient, output, *inputs)
        return tuple(
            None if result is None else errors.perturbed(result, rounding)
            for result, rounding in zip(results, roundings, strict=True)
        )

    def branch(self, *inputs: Any) -> Array | None:
        """Which of its pieces a piecewise op is on at a point, element by element. Default: it has one piece."""
        return None

    def branch_beside(self, own: Array, *inputs: Any) -> Array:
        """Which of its pieces a small move from a point leads to, where it is on `own`. Default: that of the inputs."""
        taken = self.branch(*inputs)
        assert taken is not None
        return taken

    def along(self, branch: Array, *inputs: Any) -> Array:
        """Continue the piece that `branch` names beyond where it ends, smoothly; its derivative is `backward`'s."""
        raise NotImplementedError(f"{self.name} has one piece")

    def choices(self, off: Sequence[Array | None], *inputs: Any) -> Choices | None:
        """What its backward pass may choose at kinks, (1, ...); None where there are none. Default: it has one piece.

        Parameters
        ----------
        off
            What each input may be off by, None where it is exact: within that a tie is one.
        inputs
            What `forward` is given.
        """
        return None

    def rounding_along(self, branch: Array, output: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the output, on the pieces that `branch` names."""
        return self.rounding(output, *inputs)

    def terms_along(self, branch: Array, output: Array | None, *inputs: Any) -> Array:
        """Terms of the output, on the pieces that `branch` names."""
        return self.terms(output, *inputs)

    def response(self, position: int, direction: Array, *inputs: Any) -> Array:
        """What the output moves by when the input at `position`, one of `linear_in`, moves by `direction`."""
        with_it = self.linear_in[self.slot(position).name]
        given = list(inputs)
        for other, each in enumerate(inputs):
            if each is not None and self.slot(other).name in with_it:
                given[other] = np.zeros_like(each[:1])
        given[position] = direction
        return self.forward(*given)

    def products(self, position: int, *inputs: Any) -> Products | None:
        """Write the op out by the operand at `position`: faster than its responses one by one. Default: it is not."""
        return None

    def moved(self, position: int, *inputs: Any) -> Products:
        """Write the op out where each element of its output is one of the operand at `position`, or none of them."""
        operand = inputs[position]
        numbers = self.response(position, 1.0 + tiled(numbered(operand[0])), *inputs)[0].astype(np.int64)
        return Products(numbers.shape, [np.where(numbers == 0, operand[0].size, numbers - 1)], [np.ones(())])

    def argument(self, *inputs: Any) -> Argument | None:
        """What inside it turns, or has one element take over from another, on a scale of its own. Default: nothing."""
        return None

    def multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        """Declare what multiplies the gradient on its way back, at a point (1, ...). Default: nothing does."""
        return ()

    def slot(self, position: int) -> Slot:
        """Slot of the operand at a position."""
        return self.slots[min(position, len(self.slots) - 1)]

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        """Spread values to the output: for each element the least of all that reach it, infinity where none does.

        Default: everything reaches everything.

        Parameters
        ----------
        values
            Of each input, (K, ...); None for one that is left out or not of floats.
        inputs
            What `forward` is given, (1, ...).
        """
        shape = self.output_shape(*shapes_of(inputs))
        everything = joined(*map(least_of_all, given(values)))
        return np.broadcast_to(everything.reshape(-1, *(1,) * len(shape)), (len(everything), *shape))

    def spread_terms(self, reached: Array, values: Spreading, *inputs: Any) -> Array:
        """Spread values to the terms, (K, n), given what `spread` returned."""
        return reached.reshape(reached.shape[0], -1)

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:  # noqa: B027  # an offer
        """Refuse values that do not fit, such as an index out of range: ShapeError.

        Values come without a tile axis; None for what a node computes.
        """

    def in_dtype(self, epsilon: float) -> "Op":
        """Spell out what is left open, given the machine epsilon of the dtype that is computed in."""
        return self

    def spelled_out(self, *shapes: Shape | None) -> "Op":
        """Spell out the attributes that are left open and follow from the shapes of the inputs. Default: none does."""
        return self

    def rounded(self, nearest: Callable[[float], float]) -> "Op":
        """Round the numbers that stand beside elements of the input, as bounds or for them. Default: none does."""
        return self

    def with_numbers(self, change: Callable[[float], float]) -> "Op":
        """Change every attribute that is a float."""
        given = {each.name: getattr(self, each.name) for each in fields(cast("Any", self))}
        changed = {name: change(number) for name, number in given.items() if isinstance(number, float)}
        return replace(cast("Any", self), **changed) if changed else self

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        """Estimate what a forward pass takes. Default: one operation for each element in each pass."""
        largest = max(size(shape) for shape in (output, *shapes) if shape is not None)
        return Cost(self.passes * largest, largest, self.passes)

    def spreading(self, output: Shape, *shapes: Shape | None) -> int:
        """Elements through which spreading one label goes, at most. Default: those of the largest array."""
        return max(size(shape) for shape in (output, *shapes) if shape is not None)

    def longest_call(self, output: Shape, *shapes: Shape | None) -> int:
        """Multiply-adds of the longest call of PyTorch, which nothing can interrupt. Default: those of a forward pass.

        That of the backward pass is of its order.
        """
        return self.cost(output, *shapes).work

    def terms(self, output: Array | None, *inputs: Any) -> Array:
        """Terms, (tiles, n), whose sum is the output of an op that ends in a sum. Default: the output itself.

        Those of an op that `ends_in_sum` need no output.
        """
        assert output is not None
        return output.reshape(output.shape[0], -1)

    def terms_rounding(self, terms: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the terms beyond that of the inputs; None where they are the output itself."""
        return None


def shapes_of(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Declared shapes of arrays behind a tile axis, None for what is left out."""
    return tuple(None if each is None else each.shape[1:] for each in inputs)


Method = TypeVar("Method", bound=Callable[..., Gradients])


Applies = Callable[[tuple[Any, ...]], bool]


class Mutant(NamedTuple):
    """A backward pass with a mistake that is easily made.

    Attributes
    ----------
    fault
        Name of the mistake, on the wire.
    backward
        The wrong pass: `backward(op, gradient, output, *inputs)`.
    text
        What was done, as a clause.
    applies
        Whether it does anything, given the shapes of the output and of the inputs, None for one that is left out.
    declared
        It follows from what multiplies the gradient, which the op declares as well: it is told from there.
    at_ties
        Whether it shows at ties alone.
    """

    fault: str
    backward: Backward
    text: str
    applies: Applies
    declared: bool = False
    at_ties: bool = False


def mutant(wrong: Method) -> Method:
    """Mark a method as a backward pass with a mistake of the method's name; its docstring says what was done."""
    return mutant_of(wrong.__name__)(wrong)


def _always(shapes: tuple[Any, ...]) -> bool:
    return True


def mutant_of(
    fault: str, applies: Applies = _always, *, declared: bool = False, at_ties: bool = False
) -> Callable[[Method], Method]:
    """Mark a method as one more way to make the mistake of the name given, where it applies; see `Mutant`."""

    def mark(wrong: Method) -> Method:
        if not wrong.__doc__:
            raise ValueError(f"{wrong.__name__}: the docstring of a mutant says what was done")
        text = wrong.__doc__.strip().rstrip(".")
        _MUTANTS[wrong] = Mutant(fault, wrong, f"{text[:1].lower()}{text[1:]}", applies, declared, at_ties)
        return wrong

    return mark


_MUTANTS: dict[Callable[..., Gradients], Mutant] = {}


def _mutants(cls: type[Op]) -> Mapping[str, Mutant]:
    methods = {name: each for name in dir(cls) if isinstance(each := getattr(cls, name), FunctionType)}
    return MappingProxyType({name: _MUTANTS[each] for name, each in methods.items() if each in _MUTANTS})


def _absolute(array: Array | None) -> Array | None:
    return None if array is None else np.abs(array)


def _elements(array: Array) -> int:
    return size(array.shape[1:])


def _largest(inputs: tuple[Array | None, ...]) -> int:
    return max(_elements(array) for array in inputs if array is not None)


REGISTRY: dict[str, type[Op]] = {}

OpClass = TypeVar("OpClass", bound=type[Op])


class _Decorator(Protocol):
    def __call__(self, cls: OpClass, /) -> OpClass: ...


@dataclass_transform(kw_only_default=True, frozen_default=True)
def op(name: str) -> _Decorator:
    """Make a class an op: a frozen dataclass, registered under `name`."""

    def register(cls: OpClass) -> OpClass:
        if name in REGISTRY:
            raise ValueError(f"an op named {name!r} is registered already")
        cls.name = name
        cls.slots = tuple(map(Slot.parse, cls.inputs))
        cls.mutants = _mutants(cls)
        if any(slot.variadic for slot in cls.slots[:-1]):
            raise ValueError(f"{name}: only the last slot may take several tensors")
        declared: Any = dataclass(frozen=True, kw_only=True)(cls)
        REGISTRY[name] = declared
        return declared

    return register
