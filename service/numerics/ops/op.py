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

from service.numerics.core.batching import Array, Shape, add_batch_axis, count_elements, flat_indices
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_elements
from service.numerics.ops.multipliers import Multiplier, MultiplierKind
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.softmax_leeway import compute_softmax_leeway
from service.numerics.ops.subgradient_choices import SubgradientChoices

Gradients = tuple[Array | None, ...]
DependencyLabels = Sequence[Array | None]
BackwardPass = Callable[..., Gradients]


class ShapeError(ValueError):
    """Shapes that an op does not take. The text says what it takes; the graph adds the node and what was given."""


WORK_PER_CALL = 5000
"""Multiply-adds in the time of one call of NumPy."""


class ProductExpansion(NamedTuple):
    """An op written out: each element of the output is a sum of products of elements of an operand, and a rest.

    `shape` is that of the output, or the same with axes split. For each product `indices` has the flat index of the
    operand's element in it, the operand's size for none, and `factors` what it is multiplied by; all of them broadcast
    to `shape`.
    """

    shape: Shape
    indices: Sequence[Array]
    factors: Sequence[Array]


class SensitiveArgument(NamedTuple):
    """What a function is taken of that has a scale of its own, however large its argument: a phase, an exponent.

    `values` are the arguments, behind a tile axis; `along` the axes along which they are exponents that are normalised
    together, None for a phase.
    """

    values: Array
    normalised_axes: int | tuple[int, ...] | None = None

    @property
    def leeway(self) -> Array | float:
        """How far each may move with what is seen on the way still being what is seen nearby: broadcasts to them."""
        return 1.0 if self.normalised_axes is None else compute_softmax_leeway(self.values, self.normalised_axes)

    @property
    def first_tile(self) -> "SensitiveArgument":
        """That of the first tile."""
        return SensitiveArgument(self.values[:1], self.normalised_axes)


class ComputeCost(NamedTuple):
    """What a forward pass takes: multiply-adds, elements of the largest array it makes, and calls beside these."""

    work: int
    largest_array: int
    calls: int = 1

    @property
    def total_work(self) -> int:
        """All of it in multiply-adds, of one evaluation by itself."""
        return self.work + WORK_PER_CALL * self.calls


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
class OpExample:
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

    input_shapes: tuple[Shape | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType[str, Any]({}))
    low: float = -2.0
    high: float = 2.0
    index_limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType[str, int]({}))
    sign_slots: tuple[str, ...] = ()
    bool_slots: tuple[str, ...] = ()


class Op(ABC):
    """A function of tensors, its derivative by hand, and what is known of both.

    Arrays come in slot order, None for an optional input that was left out, each with its declared shape behind one
    tile axis of length K or 1; results likewise. Any real dtype goes through unchanged.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    slots: ClassVar[tuple[Slot, ...]]
    examples: ClassVar[tuple[OpExample, ...]]
    bugs: ClassVar[Mapping[str, "OpBug"]]
    """Wrong backward passes, by method, that the tests must catch and the diagnosis names: those marked `@mutant`."""
    linear_in: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """Slots in which it is linear, each with those that are 0 in its response: what it is jointly linear in."""
    multiplying_slots: ClassVar[Mapping[str, MultiplierKind]] = MappingProxyType({})
    """Slots whose values multiply, or divide, the gradients of others."""
    ends_in_sum: ClassVar[bool] = False
    """Its terms follow from its inputs alone."""
    supports_extended_precision: ClassVar[bool] = True
    """Its `forward` computes in extended precision where its inputs are of it."""
    numpy_calls: ClassVar[int] = 1
    """Calls of NumPy that `forward` makes, each over about as many elements as the largest array has."""
    scratch_arrays: ClassVar[int] = 0
    """Arrays, beyond a few, as large as the largest of its `cost`, that its passes hold at once on their way."""
    supports_complex_step: ClassVar[bool] = False
    """`forward` takes complex arrays for its floats, and is analytic in each at the real points that it takes."""

    @property
    def largest_power(self) -> float:
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
    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        """The same function in PyTorch, on tensors without a tile axis."""

    def forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the output; None where the op only moves values. Default: one sum over everything."""
        magnitude = np.abs(self.forward(*map(_take_absolute_or_none, inputs)))
        return Rounding(magnitude, _count_largest_input(inputs))

    def implemented_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the output in the form in which `forward` has it, where that is not the textbook's."""
        return self.forward_rounding(output, *inputs)

    def backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        """Rounding of each input's gradient, None where values only move. Default: one sum over everything."""
        magnitudes = self.backward(np.abs(gradient), np.abs(output), *map(_take_absolute_or_none, inputs))
        terms = max(_count_largest_input(inputs), _count_elements_per_batch(output))
        return tuple(None if each is None else Rounding(np.abs(each), terms) for each in magnitudes)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """The output, with the errors of an arithmetic. Default: those of the output as a whole, see `rounding`."""
        output = self.forward(*inputs)
        return errors.add_rounding_error(
            output, (self.implemented_rounding if errors.as_implemented else self.forward_rounding)(output, *inputs)
        )

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The gradients, with the errors of an arithmetic. Default: of each as a whole, see `backward_rounding`."""
        results = self.backward(gradient, output, *inputs)
        roundings = self.backward_rounding(gradient, output, *inputs)
        return tuple(
            None if result is None else errors.add_rounding_error(result, rounding)
            for result, rounding in zip(results, roundings, strict=True)
        )

    def select_branch(self, *inputs: Any) -> Array | None:
        """Which of its pieces a piecewise op is on at a point, element by element. Default: it has one piece."""
        return None

    def select_branch_beside(self, own: Array, *inputs: Any) -> Array:
        """Which of its pieces a small move from a point leads to, where it is on `own`. Default: that of the inputs."""
        taken = self.select_branch(*inputs)
        assert taken is not None
        return taken

    def forward_on_branch(self, branch: Array, *inputs: Any) -> Array:
        """Continue the piece that `branch` names beyond where it ends, smoothly; its derivative is `backward`'s."""
        raise NotImplementedError(f"{self.name} has one piece")

    def subgradient_choices(self, input_errors: Sequence[Array | None], *inputs: Any) -> SubgradientChoices | None:
        """What its backward pass may choose at kinks, (1, ...); None where there are none. Default: it has one piece.

        Parameters
        ----------
        off
            What each input may be off by, None where it is exact: within that a tie is one.
        inputs
            What `forward` is given.
        """
        return None

    def rounding_on_branch(self, branch: Array, output: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the output, on the pieces that `branch` names."""
        return self.forward_rounding(output, *inputs)

    def terms_on_branch(self, branch: Array, output: Array | None, *inputs: Any) -> Array:
        """Terms of the output, on the pieces that `branch` names."""
        return self.split_terms(output, *inputs)

    def linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        """What the output moves by when the input at `position`, one of `linear_in`, moves by `direction`."""
        with_it = self.linear_in[self.slot_at(position).name]
        given = list(inputs)
        for other, each in enumerate(inputs):
            if each is not None and self.slot_at(other).name in with_it:
                given[other] = np.zeros_like(each[:1])
        given[position] = direction
        return self.forward(*given)

    def expand_products(self, position: int, *inputs: Any) -> ProductExpansion | None:
        """Write the op out by the operand at `position`: faster than its responses one by one. Default: it is not."""
        return None

    def expand_selection(self, position: int, *inputs: Any) -> ProductExpansion:
        """Write the op out where each element of its output is one of the operand at `position`, or none of them."""
        operand = inputs[position]
        numbers = self.linear_response(position, 1.0 + add_batch_axis(flat_indices(operand[0])), *inputs)[0].astype(
            np.int64
        )
        return ProductExpansion(numbers.shape, [np.where(numbers == 0, operand[0].size, numbers - 1)], [np.ones(())])

    def sensitive_argument(self, *inputs: Any) -> SensitiveArgument | None:
        """What inside it turns, or has one element take over from another, on a scale of its own. Default: nothing."""
        return None

    def gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        """Declare what multiplies the gradient on its way back, at a point (1, ...). Default: nothing does."""
        return ()

    def slot_at(self, position: int) -> Slot:
        """Slot of the operand at a position."""
        return self.slots[min(position, len(self.slots) - 1)]

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        """Spread values to the output: for each element the least of all that reach it, infinity where none does.

        Default: everything reaches everything.

        Parameters
        ----------
        values
            Of each input, (K, ...); None for one that is left out or not of floats.
        inputs
            What `forward` is given, (1, ...).
        """
        shape = self.output_shape(*get_declared_shapes(inputs))
        everything = take_elementwise_min(*map(take_min_over_elements, drop_missing(values)))
        return np.broadcast_to(everything.reshape(-1, *(1,) * len(shape)), (len(everything), *shape))

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        """Spread values to the terms, (K, n), given what `spread` returned."""
        return output_labels.reshape(output_labels.shape[0], -1)

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:  # noqa: B027  # an offer
        """Refuse values that do not fit, such as an index out of range: ShapeError.

        Values come without a tile axis; None for what a node computes.
        """

    def resolve_dtype_defaults(self, epsilon: float) -> "Op":
        """Spell out what is left open, given the machine epsilon of the dtype that is computed in."""
        return self

    def resolve_shape_defaults(self, *shapes: Shape | None) -> "Op":
        """Spell out the attributes that are left open and follow from the shapes of the inputs. Default: none does."""
        return self

    def round_constants(self, nearest: Callable[[float], float]) -> "Op":
        """Round the numbers that stand beside elements of the input, as bounds or for them. Default: none does."""
        return self

    def map_float_attributes(self, change: Callable[[float], float]) -> "Op":
        """Change every attribute that is a float."""
        given = {each.name: getattr(self, each.name) for each in fields(cast("Any", self))}
        changed = {name: change(number) for name, number in given.items() if isinstance(number, float)}
        return replace(cast("Any", self), **changed) if changed else self

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        """Estimate what a forward pass takes. Default: one operation for each element in each pass."""
        largest = max(count_elements(shape) for shape in (output, *shapes) if shape is not None)
        return ComputeCost(self.numpy_calls * largest, largest, self.numpy_calls)

    def propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        """Elements through which spreading one label goes, at most. Default: those of the largest array."""
        return max(count_elements(shape) for shape in (output, *shapes) if shape is not None)

    def longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        """Multiply-adds of the longest call of PyTorch, which nothing can interrupt. Default: those of a forward pass.

        That of the backward pass is of its order.
        """
        return self.estimate_cost(output, *shapes).work

    def split_terms(self, output: Array | None, *inputs: Any) -> Array:
        """Terms, (tiles, n), whose sum is the output of an op that ends in a sum. Default: the output itself.

        Those of an op that `ends_in_sum` need no output.
        """
        assert output is not None
        return output.reshape(output.shape[0], -1)

    def terms_rounding(self, terms: Array, *inputs: Any) -> Rounding | None:
        """Rounding of the terms beyond that of the inputs; None where they are the output itself."""
        return None


def get_declared_shapes(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Declared shapes of arrays behind a tile axis, None for what is left out."""
    return tuple(None if each is None else each.shape[1:] for each in inputs)


BackwardMethod = TypeVar("BackwardMethod", bound=Callable[..., Gradients])


ShapeCondition = Callable[[tuple[Any, ...]], bool]


class OpBug(NamedTuple):
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

    bug_name: str
    backward: BackwardPass
    explanation: str
    applies: ShapeCondition
    is_declared_as_multiplier: bool = False
    shows_only_at_ties: bool = False


def declare_bug(wrong_backward: BackwardMethod) -> BackwardMethod:
    """Mark a method as a backward pass with a mistake of the method's name; its docstring says what was done."""
    return declare_bug_named(wrong_backward.__name__)(wrong_backward)


def _applies_to_any_shape(shapes: tuple[Any, ...]) -> bool:
    return True


def declare_bug_named(
    bug_name: str,
    applies: ShapeCondition = _applies_to_any_shape,
    *,
    is_declared_as_multiplier: bool = False,
    shows_only_at_ties: bool = False,
) -> Callable[[BackwardMethod], BackwardMethod]:
    """Mark a method as one more way to make the mistake of the name given, where it applies; see `Mutant`."""

    def mark(wrong: BackwardMethod) -> BackwardMethod:
        if not wrong.__doc__:
            raise ValueError(f"{wrong.__name__}: the docstring of a mutant says what was done")
        text = wrong.__doc__.strip().rstrip(".")
        _BUG_BY_METHOD[wrong] = OpBug(
            bug_name, wrong, f"{text[:1].lower()}{text[1:]}", applies, is_declared_as_multiplier, shows_only_at_ties
        )
        return wrong

    return mark


_BUG_BY_METHOD: dict[Callable[..., Gradients], OpBug] = {}


def _collect_bugs(cls: type[Op]) -> Mapping[str, OpBug]:
    methods = {name: each for name in dir(cls) if isinstance(each := getattr(cls, name), FunctionType)}
    return MappingProxyType({name: _BUG_BY_METHOD[each] for name, each in methods.items() if each in _BUG_BY_METHOD})


def _take_absolute_or_none(array: Array | None) -> Array | None:
    return None if array is None else np.abs(array)


def _count_elements_per_batch(array: Array) -> int:
    return count_elements(array.shape[1:])


def _count_largest_input(inputs: tuple[Array | None, ...]) -> int:
    return max(_count_elements_per_batch(array) for array in inputs if array is not None)


OP_REGISTRY: dict[str, type[Op]] = {}

OpClassT = TypeVar("OpClassT", bound=type[Op])


class _OpDecorator(Protocol):
    def __call__(self, cls: OpClassT, /) -> OpClassT: ...


@dataclass_transform(kw_only_default=True, frozen_default=True)
def register_op(name: str) -> _OpDecorator:
    """Make a class an op: a frozen dataclass, registered under `name`."""

    def register(cls: OpClassT) -> OpClassT:
        if name in OP_REGISTRY:
            raise ValueError(f"an op named {name!r} is registered already")
        cls.name = name
        cls.slots = tuple(map(Slot.parse, cls.inputs))
        cls.bugs = _collect_bugs(cls)
        if any(slot.variadic for slot in cls.slots[:-1]):
            raise ValueError(f"{name}: only the last slot may take several tensors")
        declared: Any = dataclass(frozen=True, kw_only=True)(cls)
        OP_REGISTRY[name] = declared
        return declared

    return register
