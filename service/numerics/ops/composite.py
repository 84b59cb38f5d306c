"""Ops that are compositions of others.

A composite op has no numerics of its own. The graph puts its steps in its place, so that differences, sparsity,
rounding, kinks and bugs are those of the steps, and its backward pass is the chain of theirs. PyTorch's own function
stays the second opinion: every check compares it with the chain.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

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
        op_type = OP_REGISTRY[op_name]
        operands += (None,) * (len(op_type.slots) - len(operands))
        shapes = [self.get_shape(operand) for operand in operands]
        op = op_type(**attributes).resolve_shape_defaults(*shapes)
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
        names = [None if shape is None else f"operand {position}" for position, shape in enumerate(shapes)]
        known_shapes = {name: shape for name, shape in zip(names, shapes, strict=True) if name is not None}
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


def list_steps(
    op: CompositeOp,
    operands: Sequence[StepOperand],
    shapes: Mapping[str, Shape],
    last_name: str,
    make_name: Callable[[int], str],
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
    last_name
        Name of the last step, in place of its own.
    make_name
        Function that returns the name of a step, given its number, from 1.
    """
    expansion = Expansion({name: shapes[name] for name in operands if isinstance(name, str)}, make_name)
    last_step = op.expand(expansion, *operands)
    needed = _keep_needed_steps(expansion.steps, last_step)
    names = {step.name: last_name if step.name == last_step else step.name for step in needed}
    steps = [step._replace(name=names[step.name]) for step in needed]
    return steps, {names[step]: expansion.get_shape(step) for step in names}


def _keep_needed_steps(steps: Sequence[Step], last_step: str) -> list[Step]:
    """Return the steps that the last one needs, such as those of one output of several."""
    needed_names = {last_step}
    needed: list[Step] = []
    for step in reversed(steps):
        if step.name in needed_names:
            needed.append(step)
            needed_names.update(operand for operand in step.operands if isinstance(operand, str))
    return needed[::-1]
