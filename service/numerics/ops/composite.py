"""Ops that are compositions of others.

A composite op has no numerics of its own. The graph puts its steps in its place, so that differences, sparsity,
rounding, kinks and bugs are those of the steps, and its backward pass is the chain of theirs. PyTorch's own function
stays the second opinion: every check compares it with the chain.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, NoReturn

from service.numerics.core.batching import Shape
from service.numerics.ops.op import OP_REGISTRY, Op

StepOperand = str | float | None


class Step(NamedTuple):
    """One step of a composite op: a node in the making."""

    name: str
    op: Op
    operands: tuple[StepOperand, ...]


class Expansion:
    """The steps of a composite op, written down one by one.

    Parameters
    ----------
    shapes
        Shape of each operand, by name.
    make_name
        Function that returns the name of a step, given its number, from 1.
    """

    def __init__(self, shapes: Mapping[str, Shape], make_name: Callable[[int], str]) -> None:
        self._shapes = dict(shapes)
        self._make_name = make_name
        self.steps: list[Step] = []

    def __call__(self, op_name: str, *operands: StepOperand, **attributes: Any) -> str:
        """Add a step and return its name.

        Parameters
        ----------
        op_name
            Name of the op, which may be composite.
        operands
            Operands in slot order. Optional ones at the end may be left out.
        attributes
            Attributes of the op.
        """
        return self.apply(OP_REGISTRY[op_name](**attributes), *operands)

    def apply(self, op: Op, *operands: StepOperand) -> str:
        """Add a step of an op, which need not be registered, and return its name."""
        operands += (None,) * (len(op.slots) - len(operands))
        shapes = [self.get_shape(operand) for operand in operands]
        selected = op.resolve_shape_defaults(*shapes).select_form(*shapes)
        if not isinstance(selected, type(op)):
            operands, shapes = operands[: len(selected.slots)], shapes[: len(selected.slots)]
        op = selected
        if isinstance(op, CompositeOp):
            return op.expand(self, *operands)
        step = Step(self._make_name(len(self.steps) + 1), op, operands)
        self._shapes[step.name] = op.infer_output_shape(*shapes)
        self.steps.append(step)
        return step.name

    def get_shape(self, operand: StepOperand) -> Any:
        """Return the shape of an operand or a step, None for an operand that is left out."""
        return self._shapes[operand] if isinstance(operand, str) else None if operand is None else ()


class CompositeOp(Op):
    """An op whose steps are other ops.

    A subclass declares slots, attributes, examples and `torch_forward` as any op does, and writes its steps in
    `expand`. Shapes and all else follow.
    """

    @abstractmethod
    def expand(self, step: Expansion, *operands: Any) -> str:
        """Add the steps by calls of `step(op_name, *operands, **attributes)`, and return the name of the last.

        Parameters
        ----------
        step
            Expansion, which knows the shape of each operand and step: `step.get_shape(name)`.
        operands
            Names, constants, or None for an optional operand, in slot order.
        """

    def infer_output_shape(self, *shapes: Any) -> Shape:
        """Return the shape of the last step."""
        names, known_shapes = _name_operands(shapes)
        expansion = Expansion(known_shapes, str)
        resolved_op = self.resolve_shape_defaults(*shapes)
        assert isinstance(resolved_op, CompositeOp)
        return expansion.get_shape(resolved_op.expand(expansion, *names))

    def forward(self, *inputs: Any) -> NoReturn:
        """Refuse: the graph evaluates the steps."""
        raise TypeError(f"{self.name} is composite: a graph evaluates its steps")

    def backward(self, gradient: Any, output: Any, *inputs: Any) -> NoReturn:
        """Refuse: the graph goes back through the steps."""
        raise TypeError(f"{self.name} is composite: a graph goes back through its steps")


class SeveralOutputsOp(CompositeOp):
    """An op whose outputs are used by name: `top.values`, or `parts.0` where PyTorch returns a tuple without names.

    Each output is a composition of its own, and only those in use are computed. `torch_forward` returns all of them,
    in the order of `list_outputs`. An op may have one output for some attributes, as `max` without `dim`: it is a
    composite op then, and `list_outputs` returns nothing.
    """

    output_names: ClassVar[tuple[str, ...]] = ()
    """Names of the outputs; none where their number follows from the shapes."""
    output_kinds: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Kinds of the outputs that are no floats, by name."""

    def list_outputs(self, *shapes: Any) -> tuple[str, ...]:
        """Return the names of the outputs, none for a node that is its only output.

        Shapes that do not fit raise ShapeError.
        """
        return self.output_names

    @property
    def has_several_outputs(self) -> bool:
        """Return whether the outputs are used by name."""
        return True

    @abstractmethod
    def expand_output(self, step: Expansion, output: str, *operands: Any) -> str:
        """Add the steps of one output, and return the name of the last, which is a step of this output alone."""

    def expand(self, step: Expansion, *operands: Any) -> str:
        """Add the steps of the only output."""
        raise TypeError(f"{self.name} has several outputs")

    def infer_output_shapes(self, *shapes: Any) -> dict[str, Shape]:
        """Return the shapes of all outputs by name, or raise ShapeError."""
        names, known_shapes = _name_operands(shapes)
        op = self.resolve_shape_defaults(*shapes)
        assert isinstance(op, SeveralOutputsOp)
        output_shapes: dict[str, Shape] = {}
        for output in op.list_outputs(*shapes):
            expansion = Expansion(known_shapes, str)
            output_shapes[output] = expansion.get_shape(op.expand_output(expansion, output, *names))
        return output_shapes


def _name_operands(shapes: Sequence[Any]) -> tuple[list[str | None], dict[str, Shape]]:
    """Return a name for each operand, None for one that is left out, and the shapes by name."""
    names = [None if shape is None else f"operand {position}" for position, shape in enumerate(shapes)]
    return names, {name: shape for name, shape in zip(names, shapes, strict=True) if name is not None}


def name_output(node_name: str, output: str) -> str:
    """Return the name of an output of a node."""
    return f"{node_name}.{output}"


def list_steps(
    op: CompositeOp,
    operands: Sequence[StepOperand],
    shapes: Mapping[str, Shape],
    node_name: str,
    make_name: Callable[[int], str],
    wanted_outputs: Sequence[str] = (),
) -> tuple[list[Step], dict[str, Shape]]:
    """Return the steps of an op in order of evaluation, and their shapes. Steps that nothing needs are left out.

    Parameters
    ----------
    op
        Composite op, with the defaults of shapes spelled out.
    operands
        Its operands in slot order.
    shapes
        Shapes of the operands, by name.
    node_name
        Name of the node: that of the last step, in place of its own.
    make_name
        Function that returns the name of a step, given its number, from 1.
    wanted_outputs
        Outputs in use of a node with several: the steps that these follow from, each named after the node and the
        output.
    """
    expansion = Expansion({name: shapes[name] for name in operands if isinstance(name, str)}, make_name)
    if wanted_outputs:
        assert isinstance(op, SeveralOutputsOp)
        public_names = {
            op.expand_output(expansion, output, *operands): name_output(node_name, output) for output in wanted_outputs
        }
    else:
        public_names = {op.expand(expansion, *operands): node_name}
    needed = _keep_needed_steps(expansion.steps, public_names)
    names = {step.name: public_names.get(step.name, step.name) for step in needed}
    steps = [
        step._replace(
            name=names[step.name],
            operands=tuple(names.get(x, x) if isinstance(x, str) else x for x in step.operands),
        )
        for step in needed
    ]
    return steps, {names[step]: expansion.get_shape(step) for step in names}


def _keep_needed_steps(steps: Sequence[Step], last_steps: Iterable[str]) -> list[Step]:
    """Return the steps that the last ones need, such as those of one output of several."""
    needed_names = set(last_steps)
    needed: list[Step] = []
    for step in reversed(steps):
        if step.name in needed_names:
            needed.append(step)
            needed_names.update(operand for operand in step.operands if isinstance(operand, str))
    return needed[::-1]
