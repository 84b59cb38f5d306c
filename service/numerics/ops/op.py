"""The interface of an op, and the registry of ops.

One declaration of an op yields its validation on the wire, its entry in `GET /v1/ops`, the three gradients, the
rounding allowance and its tests. An op is a frozen dataclass. Its fields are its attributes, with their limits as
`Annotated` metadata and their defaults those of PyTorch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, cast, dataclass_transform, get_origin

import numpy as np

from service.numerics.core.batching import Array, Shape, add_batch_axis, count_elements, flat_indices
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_elements
from service.numerics.ops.multipliers import Multiplier, MultiplierKind
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.softmax_leeway import compute_softmax_leeway
from service.numerics.ops.subgradient_choices import SubgradientChoices

Gradients = tuple[Array | None, ...]
DependencyLabels = Sequence[Array | None]
BackwardPass = Callable[..., Gradients]


DtypeName = Literal["float64", "float32", "float16", "bfloat16"]
"""Dtype that an op may name. It is that of the model, and a node has none of its own."""


class ShapeError(ValueError):
    """Shapes or values that an op does not take.

    The text is a noun phrase for the shapes that the op takes. The graph completes the sentence with the node and the
    shapes of its operands.
    """


WORK_PER_CALL = 5000
"""Multiply-adds that take as long as one call of NumPy."""


class ProductExpansion(NamedTuple):
    """An op written out as sums of products of one operand's elements with factors.

    Each element of the output is such a sum, plus a part that the operand does not enter.

    Attributes
    ----------
    shape
        Shape of the output, or the same with axes split.
    indices
        Flat indices of the operand's elements, one array for each product, broadcastable to `shape`. The operand's size
        stands for no element.
    factors
        Factors of these elements, one array for each product, broadcastable to `shape`.
    """

    shape: Shape
    indices: Sequence[Array]
    factors: Sequence[Array]


class SensitiveArgument(NamedTuple):
    """A phase or an exponent, whose scale is its own however large the argument is.

    Attributes
    ----------
    values
        Arguments of the function, behind a tile axis.
    normalised_axes
        Axes along which exponents are normalised together; None for a phase.
    """

    values: Array
    normalised_axes: int | tuple[int, ...] | None = None

    @property
    def leeway(self) -> Array | float:
        """Return the safe move of each argument, broadcastable to `values`.

        Within it, a function sees on the way only values like those nearby.
        """
        return 1.0 if self.normalised_axes is None else compute_softmax_leeway(self.values, self.normalised_axes)

    @property
    def first_tile(self) -> "SensitiveArgument":
        """Return the argument of the first tile."""
        return SensitiveArgument(self.values[:1], self.normalised_axes)


class ComputeCost(NamedTuple):
    """Multiply-adds, elements of the largest array and calls of a forward pass."""

    work: int
    largest_array: int
    calls: int = 1

    @property
    def total_work(self) -> int:
        """Return the multiply-adds of one evaluation by itself, calls included."""
        return self.work + WORK_PER_CALL * self.calls


@dataclass(frozen=True)
class Slot:
    """One input of an op, by PyTorch's parameter name.

    Attributes
    ----------
    name
        PyTorch's name of the parameter.
    optional
        True if a node may leave the input out.
    variadic
        True if the slot takes any number of tensors, at least one. Only the last slot may.
    kinds
        Kinds of values that the slot takes: `float`, `index` (integers) or `bool`. A bare list of integers becomes the
        first.
    """

    name: str
    optional: bool
    variadic: bool
    kinds: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Slot":
        """Parse `name`, `name?` (optional) or `name*` (variadic), then `:kind|kind`."""
        name, _, kinds = text.partition(":")
        return cls(
            name.rstrip("?*"), name.endswith("?"), name.endswith("*"), tuple(kinds.split("|")) if kinds else ("float",)
        )


@dataclass(frozen=True)
class OpExample:
    """An example of an op for the tests.

    Attributes
    ----------
    input_shapes
        Shapes of the inputs in slot order, None for an input that is left out.
    attributes
        Attributes of the op.
    low, high
        Range of the floats.
    index_limits
        Number of values that an index may have, by slot.
    sign_slots
        Slots whose values are 1 and -1.
    bool_slots
        Slots that take floats as well, but get booleans in this example.
    diagonal
        Number added to the diagonal of each square matrix.
    """

    input_shapes: tuple[Shape | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType[str, Any]({}))
    low: float = -2.0
    high: float = 2.0
    index_limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType[str, int]({}))
    sign_slots: tuple[str, ...] = ()
    bool_slots: tuple[str, ...] = ()
    diagonal: float = 0.0


class _Immutable:
    """A base whose instances keep their attributes.

    A frozen dataclass guards its own instances, and leaves those of a subclass that is none to its bases.
    """

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")


@dataclass(frozen=True, kw_only=True)
class Op(_Immutable, ABC):
    """A function of tensors with its derivative by hand and its rounding.

    Arrays come in slot order, None for an optional input that was left out. Each has its declared shape behind one tile
    axis of length K or 1, and so have results. Any real dtype goes through unchanged.

    The docstring of a registered op is its derivation, which `GET /v1/ops` serves as it stands. So it has no sections.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    slots: ClassVar[tuple[Slot, ...]]
    examples: ClassVar[tuple[OpExample, ...]]
    output_kind: ClassVar[str] = "float"
    """Kind of the output: `float`, `index` (integers) or `bool`. An output that is no float has no gradient."""
    positional: ClassVar[tuple[str, ...]] = ()
    """Parameters that a text may give without names, in PyTorch's order; by default the inputs, then the attributes."""
    bugs: ClassVar[Mapping[str, "OpBug"]]
    """Wrong backward passes, by method, that tests must catch and the diagnosis names: see `declare_bug`."""
    linear_in: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """Slots in which the op is linear, each with the slots that are jointly linear with it: 0 in its response."""
    multiplying_slots: ClassVar[Mapping[str, MultiplierKind]] = MappingProxyType({})
    """Slots whose values multiply or divide the gradients of others."""
    product_slots: ClassVar[tuple[str, ...]] = ()
    """Slots whose values are factors of a product of matrices or of a convolution, which TF32 rounds."""
    casts_own_gradient: ClassVar[bool] = False
    """True if `backward_with_errors` itself rounds the incoming gradient where that is a factor of a product."""
    inner_casts: ClassVar[tuple[str, ...]] = ()
    """Places inside the op at which kernels round: a recipe names one as `node.place`."""
    ends_in_sum: ClassVar[bool] = False
    """True if the output is a sum of terms that follow from the inputs alone."""
    supports_extended_precision: ClassVar[bool] = True
    """True if `forward` computes in extended precision for inputs of that precision."""
    numpy_calls: ClassVar[int] = 1
    """Calls of NumPy in `forward`, each over about as many elements as the largest array has."""
    scratch_arrays: ClassVar[int] = 0
    """Arrays, beyond a few, of the size of the largest in `estimate_cost`, that the passes hold at once."""
    supports_complex_step: ClassVar[bool] = False
    """True if `forward` takes complex arrays for floats and is analytic in each at its real points."""

    @classmethod
    def generate_bugs(cls) -> Mapping[str, "OpBug"]:
        """Return bugs that follow from the form of the backward pass, by key.

        The default is none.
        """
        return {}

    @property
    def largest_power(self) -> float:
        """Return the largest power, up or down, that a pass takes of a number.

        It is the power in the textbook's form. The default is a cube: a normalisation takes that power of its inverse
        length.
        """
        return 3.0

    @abstractmethod
    def infer_output_shape(self, *shapes: Any) -> Shape:
        """Return the shape of the output, without the tile axis, or raise ShapeError."""

    @abstractmethod
    def forward(self, *inputs: Any) -> Array:
        """Return the output."""

    @abstractmethod
    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradient of the loss for each input, from that for the output.

        The docstring of the class is the derivation.
        """

    def backward_by_output(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients as programs do that keep the output alone, rounded to the dtype of the tensors.

        The default is `backward`. An op overrides it whose own pass takes the input, since the output has no digits
        left where the derivative is small.
        """
        return self.backward(gradient, output, *inputs)

    def count_stored_terms(self, position: int, *inputs: Any) -> int:
        """Return the number of terms of an input's gradient that PyTorch stores in the dtype of the tensors.

        They are added up in that dtype, too. The default is 1: the gradient itself.
        """
        return 1

    def measure_stored_sums(self, position: int, gradient: Array, output: Array, *inputs: Any) -> Array | None:
        """Return the root of the sum of squares of the partial sums that are stored, of the first tile.

        The default is None: nothing is known but the size of all terms.
        """
        return None

    def backward_for(self, wanted: Sequence[bool], gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients as `backward` does, of the wanted inputs at least.

        The default computes all of them. An op that saves work returns None for the others.
        """
        return self.backward(gradient, output, *inputs)

    @abstractmethod
    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        """Return the output of the same function in PyTorch, without a tile axis."""

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        """Return the rounding of the output, or None where the op only moves values.

        The default is that of one sum over everything.
        """
        magnitude = np.abs(self.forward(*map(_take_absolute_or_none, inputs)))
        return Rounding(magnitude, _count_largest_input(inputs))

    def estimate_implemented_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        """Return the rounding of the output in the form that `forward` computes.

        The default is that of the textbook's form.
        """
        return self.estimate_forward_rounding(output, *inputs)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        """Return the rounding of each input's gradient, None where values only move.

        The default is that of one sum over everything.
        """
        magnitudes = self.backward(np.abs(gradient), np.abs(output), *map(_take_absolute_or_none, inputs))
        terms = max(_count_largest_input(inputs), _count_elements_per_batch(output))
        return tuple(None if magnitude is None else Rounding(np.abs(magnitude), terms) for magnitude in magnitudes)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        """Return the output with the errors of an arithmetic.

        The default adds the error of the output as a whole: see `estimate_forward_rounding`.
        """
        output = self.forward(*inputs)
        return errors.add_rounding_error(
            output,
            (self.estimate_implemented_rounding if errors.as_implemented else self.estimate_forward_rounding)(
                output, *inputs
            ),
        )

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of an arithmetic.

        The default adds the error of each gradient as a whole: see `estimate_backward_rounding`.
        """
        results = self.backward(gradient, output, *inputs)
        roundings = self.estimate_backward_rounding(gradient, output, *inputs)
        return tuple(
            None if result is None else errors.add_rounding_error(result, rounding)
            for result, rounding in zip(results, roundings, strict=True)
        )

    @property
    def may_have_pieces(self) -> bool:
        """Return whether `select_branch` may return anything."""
        return type(self).select_branch is not Op.select_branch

    @property
    def may_have_sensitive_argument(self) -> bool:
        """Return whether `get_sensitive_argument` may return anything."""
        return type(self).get_sensitive_argument is not Op.get_sensitive_argument

    def select_branch(self, *inputs: Any) -> Array | None:
        """Return the piece of each element at a point, or None for an op of one piece."""
        return None

    def select_branch_beside(self, branch: Array, *inputs: Any) -> Array:
        """Return the pieces that a small move to `inputs` leads to.

        The default is the pieces at the inputs.

        Parameters
        ----------
        branch
            Pieces at the point that is left.
        inputs
            Inputs of `forward` after the move.
        """
        base_branch = self.select_branch(*inputs)
        assert base_branch is not None
        return base_branch

    def find_changed_pieces(self, branch: Array, other: Array) -> Array:
        """Return the mask of the elements that are on another piece, of the shape to which both broadcast.

        NaN is on one piece with NaN.
        """
        return (other != branch) & ~((other != other) & (branch != branch))

    def forward_on_branch(self, branch: Array, *inputs: Any) -> Array:
        """Return the output on the pieces of `branch`, continued beyond their ends.

        The continuation is smooth, and its derivative is that of `backward`.
        """
        raise NotImplementedError(f"{self.name} has one piece")

    def measure_argument(self, position: int, array: Array) -> Array | None:
        """Return the size of the sum by which the pieces of an input are told apart, (1, ...), or None.

        That sum is off by one unit roundoff of the size, and a smaller move of the input does not change it. None, the
        default, is for an input that is compared itself.
        """
        return None

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], *inputs: Any) -> SubgradientChoices | None:
        """Return the choices of a backward pass at kinks, (1, ...), or None for none.

        The default is None: the op has one piece.

        Parameters
        ----------
        input_errors
            Largest error of each input, None for an exact one. Within these errors a near tie counts as a tie.
        inputs
            Inputs of `forward`.
        """
        return None

    def estimate_rounding_on_branch(self, branch: Array, output: Array, *inputs: Any) -> Rounding | None:
        """Return the rounding of the output on the pieces that `branch` names."""
        return self.estimate_forward_rounding(output, *inputs)

    def compute_terms_on_branch(self, branch: Array, output: Array | None, *inputs: Any) -> Array:
        """Return the terms of the output on the pieces that `branch` names."""
        return self.split_terms(output, *inputs)

    def compute_linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        """Return the change of the output for a move of one input by `direction`.

        Parameters
        ----------
        position
            Position of the input, in a slot of `linear_in`.
        direction
            Move of that input, (K, ...).
        inputs
            Inputs of `forward`.
        """
        zero_slots = self.linear_in[self.get_slot(position).name]
        moved_inputs = list(inputs)
        for index, array in enumerate(inputs):
            if array is not None and self.get_slot(index).name in zero_slots:
                moved_inputs[index] = np.zeros_like(array[:1])
        moved_inputs[position] = direction
        return self.forward(*moved_inputs)

    def expand_products(self, position: int, *inputs: Any) -> ProductExpansion | None:
        """Return the op written out by the operand at `position`, or None.

        Products are faster than responses one by one. The default is None.
        """
        return None

    def expand_selection(self, position: int, *inputs: Any) -> ProductExpansion:
        """Return the products of an op that selects elements of one operand.

        Each element of its output is one element of the operand at `position`, or none.
        """
        operand = inputs[position]
        numbers = self.compute_linear_response(position, 1.0 + add_batch_axis(flat_indices(operand[0])), *inputs)[
            0
        ].astype(np.int64)
        return ProductExpansion(numbers.shape, [np.where(numbers == 0, operand[0].size, numbers - 1)], [np.ones(())])

    def get_sensitive_argument(self, *inputs: Any) -> SensitiveArgument | None:
        """Return the inner argument that has a scale of its own, or None.

        Such an argument turns a phase, or lets one element take over from another.
        """
        return None

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        """Return the multipliers of the gradient on its way back, at a point (1, ...).

        The default is none.
        """
        return ()

    def get_slot(self, position: int) -> Slot:
        """Return the slot of the operand at a position."""
        return self.slots[min(position, len(self.slots) - 1)]

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        """Return for each element of the output the least label that reaches it.

        An element that no label reaches gets infinity. By default every label reaches every element.

        Parameters
        ----------
        values
            Labels of each input, (K, ...); None for an input that is left out or not of floats.
        inputs
            Inputs of `forward`, (1, ...).
        """
        shape = self.infer_output_shape(*get_declared_shapes(inputs))
        smallest_label = take_elementwise_min(*map(take_min_over_elements, drop_missing(values)))
        return np.broadcast_to(smallest_label.reshape(-1, *(1,) * len(shape)), (len(smallest_label), *shape))

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        """Return for each term the least label that reaches it, (K, n).

        Parameters
        ----------
        output_labels
            Labels of the output, as `propagate_dependencies` returns them.
        values
            Labels of each input, (K, ...); None for an input that is left out or not of floats.
        inputs
            Inputs of `forward`, (1, ...).
        """
        return output_labels.reshape(output_labels.shape[0], -1)

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:  # an op may override it
        """Refuse values that do not fit, such as an index out of range, by ShapeError.

        Values come without a tile axis; None for an input that a node computes.
        """

    def resolve_dtype_defaults(self, epsilon: float) -> "Op":
        """Return the op with the defaults of a dtype spelled out.

        Parameters
        ----------
        epsilon
            Machine epsilon of the dtype in which PyTorch computes.
        """
        return self

    def resolve_shape_defaults(self, *shapes: Shape | None) -> "Op":
        """Return the op with the defaults that follow from input shapes spelled out.

        By default there are none.
        """
        return self

    def select_form(self, *shapes: Shape | None) -> "Op":
        """Return the op that computes these operands: the op itself, or a form of it.

        A form with other numerics, such as a power with a tensor as exponent, is a class of its own: see
        `register_form`. It takes the operands of its slots, which are the first. The default is the op itself.
        """
        return self

    def round_constants(self, nearest: Callable[[float], float]) -> "Op":
        """Return the op with the constants rounded that bound or replace elements.

        By default there are none.
        """
        return self

    def map_float_attributes(self, change: Callable[[float], float]) -> "Op":
        """Return the op with every float attribute changed."""
        attributes = {attribute.name: getattr(self, attribute.name) for attribute in fields(cast("Any", self))}
        changed_attributes = {name: change(number) for name, number in attributes.items() if isinstance(number, float)}
        return replace(cast("Any", self), **changed_attributes) if changed_attributes else self

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        """Return the estimated cost of a forward pass.

        The default is one operation for each element in each call.
        """
        largest = max(count_elements(shape) for shape in (output, *shapes) if shape is not None)
        return ComputeCost(self.numpy_calls * largest, largest, self.numpy_calls)

    def count_propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the most elements through which propagating one label goes.

        The default is the size of the largest array.
        """
        return max(count_elements(shape) for shape in (output, *shapes) if shape is not None)

    def estimate_longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the multiply-adds of PyTorch's longest call, which nothing interrupts.

        The default is the work of a forward pass; a call of the backward pass is of the same order.
        """
        return self.estimate_cost(output, *shapes).work

    def split_terms(self, output: Array | None, *inputs: Any) -> Array:
        """Return terms, (tiles, n), whose sum is the output of an op that ends in a sum.

        The default is the output itself. An op that `ends_in_sum` needs no output.
        """
        assert output is not None
        return output.reshape(output.shape[0], -1)

    def estimate_terms_rounding(self, terms: Array, *inputs: Any) -> Rounding | None:
        """Return the rounding of the terms beyond that of the inputs, or None for none."""
        return None


def get_declared_shapes(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return shapes without the tile axis, None for inputs that are left out."""
    return tuple(None if array is None else array.shape[1:] for array in inputs)


BackwardMethod = TypeVar("BackwardMethod", bound=Callable[..., Gradients])


ShapeCondition = Callable[[tuple[Any, ...]], bool]


class OpBug(NamedTuple):
    """A backward pass with an easily made bug.

    Attributes
    ----------
    bug_name
        Name of the bug, on the wire.
    backward
        The wrong pass: `backward(op, gradient, output, *inputs)`.
    explanation
        A clause that describes the bug: "the sign was left out".
    applies
        Condition on which the bug changes anything, given the shapes of the output and of the inputs. None stands for
        an input that is left out.
    is_declared_as_multiplier
        True if the bug follows from a multiplier of the gradient that the op declares. The diagnosis then explains it
        from there.
    shows_only_at_ties
        True if the bug shows at ties alone.
    is_generated
        True if the bug follows from the formula of the backward pass, and has no name of its own.
    change
        The wrong pass beside the right results: `change(op, right, gradient, output, *inputs)`; None for a pass that
        stands alone.
    """

    bug_name: str
    backward: BackwardPass
    explanation: str
    applies: ShapeCondition
    is_declared_as_multiplier: bool = False
    shows_only_at_ties: bool = False
    is_generated: bool = False
    change: Callable[..., Gradients] | None = None


def declare_bug(explanation: str) -> Callable[[BackwardMethod], BackwardMethod]:
    """Mark a method as a backward pass with the bug of the method's name.

    Parameters
    ----------
    explanation
        A clause that describes the bug: "the sign was left out".
    """

    def mark(wrong_backward: BackwardMethod) -> BackwardMethod:
        return declare_bug_named(wrong_backward.__name__, explanation)(wrong_backward)

    return mark


def _applies_to_any_shape(shapes: tuple[Any, ...]) -> bool:
    return True


def declare_bug_named(
    bug_name: str,
    explanation: str,
    applies: ShapeCondition = _applies_to_any_shape,
    *,
    is_declared_as_multiplier: bool = False,
    shows_only_at_ties: bool = False,
) -> Callable[[BackwardMethod], BackwardMethod]:
    """Mark a method as one more way to make the bug `bug_name`: see `OpBug`."""

    def mark(wrong_backward: BackwardMethod) -> BackwardMethod:
        _BUG_BY_METHOD[wrong_backward] = OpBug(
            bug_name, wrong_backward, explanation, applies, is_declared_as_multiplier, shows_only_at_ties
        )
        return wrong_backward

    return mark


_BUG_BY_METHOD: dict[Callable[..., Gradients], OpBug] = {}


def _collect_bugs(cls: type[Op]) -> Mapping[str, OpBug]:
    methods = {name: method for name in dir(cls) if isinstance(method := getattr(cls, name), FunctionType)}
    return MappingProxyType(
        {name: _BUG_BY_METHOD[method] for name, method in methods.items() if method in _BUG_BY_METHOD}
    )


class _OpBugs(Mapping[str, OpBug]):
    """The bugs of an op, by key, collected when they are first needed: there are thousands."""

    def __init__(self, op: type[Op]) -> None:
        self._op = op

    @cached_attribute
    def _bugs(self) -> dict[str, OpBug]:
        declared, generated = _collect_bugs(self._op), self._op.generate_bugs()
        if twice := declared.keys() & generated.keys():
            raise TypeError(f"{self._op.__name__} has two bugs by each of the keys {sorted(twice)}")
        return {**declared, **generated}

    def __getitem__(self, key: str) -> OpBug:
        return self._bugs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bugs)

    def __len__(self) -> int:
        return len(self._bugs)


def _take_absolute_or_none(array: Array | None) -> Array | None:
    return None if array is None else np.abs(array)


def _count_elements_per_batch(array: Array) -> int:
    return count_elements(array.shape[1:])


def _count_largest_input(inputs: tuple[Array | None, ...]) -> int:
    return max(_count_elements_per_batch(array) for array in inputs if array is not None)


OP_REGISTRY: dict[str, type[Op]] = {}
STEP_OPS: dict[str, type[Op]] = {}
"""Ops that only composite ops have as steps, by name. No request can name them."""

OpClassT = TypeVar("OpClassT", bound=type[Op])


def _has_attributes(cls: type[Op]) -> bool:
    annotations = [vars(base).get("__annotations__", {}).values() for base in cls.__mro__]
    return any(get_origin(annotation) is not ClassVar for values in annotations for annotation in values)


class _OpDecorator(Protocol):
    def __call__(self, cls: OpClassT, /) -> OpClassT: ...


def _complete_op_class(cls: type[Op], name: str) -> Any:
    """Return a class as an op: a frozen dataclass with its name, slots and bugs.

    One without attributes has the methods of `Op`, which is one already: to write them anew takes a millisecond, and
    there are hundreds of ops.
    """
    cls.name = name
    cls.slots = tuple(map(Slot.parse, cls.inputs))
    cls.bugs = _OpBugs(cls)
    if any(slot.variadic for slot in cls.slots[:-1]):
        raise ValueError(f"{name}: only the last slot may take several tensors")
    return dataclass(frozen=True, kw_only=True)(cls) if _has_attributes(cls) else cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
def register_op(name: str) -> _OpDecorator:
    """Return a decorator that makes a class an op, registered under `name`.

    The class becomes a frozen dataclass.
    """

    def register(cls: OpClassT) -> OpClassT:
        if name in OP_REGISTRY:
            raise ValueError(f"an op named {name!r} is registered already")
        op_class: Any = _complete_op_class(cls, name)
        OP_REGISTRY[name] = op_class
        return op_class

    return register


@dataclass_transform(kw_only_default=True, frozen_default=True)
def declare_step_op(name: str) -> _OpDecorator:
    """Return a decorator that makes a class an op for steps of composite ops, described as `name`.

    The class becomes a frozen dataclass.
    """

    def declare(cls: OpClassT) -> OpClassT:
        op_class: Any = _complete_op_class(cls, name)
        STEP_OPS[name] = op_class
        return op_class

    return declare


OP_FORMS: dict[tuple[str, str], type[Op]] = {}
"""Forms of ops, by the name of the op and that of the form."""


def make_form(name: str, form: str, **attributes: Any) -> Op:
    """Return a form of an op with some attributes."""
    return OP_FORMS[name, form](**attributes)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def register_form(name: str, form: str) -> _OpDecorator:
    """Return a decorator that makes a class a form of the op `name`, which `select_form` of that op returns.

    A form has no name of its own on the wire.
    """

    def register(cls: OpClassT) -> OpClassT:
        op_class: Any = _complete_op_class(cls, name)
        OP_FORMS[name, form] = op_class
        return op_class

    return register
