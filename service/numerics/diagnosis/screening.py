"""Wrong backward passes that cannot have made any candidate, told by one number each.

Let the backward pass of one node be off by D at its operands, all else being right. The gradient of a leaf w is then
off by J^T D, with the Jacobian J of the operands by w, and the candidate's own error c - g has to be that. For a random
direction r that implies r . (c - g) = (J r) . D. The tangents J r of all nodes come from one forward pass for each
candidate. So a wrong pass costs its own evaluation and a product, and no reverse sweep. A pass that fails the test is
no explanation; one that stands it is compared in full. Tangents count only where they agree with the right backward
passes: t = J r of a node and its gradient G fulfil G . t = sum of (right gradient) . (tangent) over the operands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.diagnosis.bug import BackwardOverride
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import fit_tolerance
from service.numerics.model.graph import Node
from service.numerics.ops.formula_op import FormulaBugs, FormulaChange, iterate_changes
from service.numerics.ops.op import Gradients, Op, OpBug

_COMPLEX_STEP = 1e-30
_DIFFERENCE_STEP = 1e-6
"""Step of a central difference, as a part of the largest element."""
_CHECK_TOLERANCE = 1e-6
"""Part of the sum of sizes up to which tangents agree with a backward pass."""
_SCREEN_TOLERANCE = 1e-5
"""Part of the sum of sizes that the error of a tangent may be."""
_MAX_TANGENT_ELEMENTS = 2**22
"""Elements of the tangents of all candidates."""


@dataclass(frozen=True)
class _NodePass:
    """The right backward pass of a node, with the tangents of its operands, (names, elements); None for unknown."""

    op: Op
    arrays: tuple[Any, ...]
    right: Gradients
    tangents: tuple[Array | None, ...]
    is_reliable: bool

    @cached_attribute
    def reaching_names(self) -> Array:
        """Return a mask of the names that reach the node."""
        parts = [tangent.any(axis=1) for tangent in self.tangents if tangent is not None]
        return np.any(parts, axis=0) if parts else np.zeros(1, np.bool_)


def _measure_rows(rows: Array) -> Array:
    """Return the norm of each row."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


class OverrideScreen:
    """The screen of wrong backward passes against some candidates.

    Parameters
    ----------
    context
        The model and the candidates.
    suspects
        Wrong candidates of the right shape.
    names
        All candidates of the right shape.
    """

    def __init__(self, context: DiagnosisContext, suspects: Sequence[str], names: Sequence[str]) -> None:
        self._context = context
        elements = sum(map(count_elements, context.graph.shapes.values()))
        self._names = [*suspects, *(name for name in names if name not in suspects)]
        self._names = self._names[: max(1, _MAX_TANGENT_ELEMENTS // max(1, elements))]
        self._suspects = np.array([name in suspects for name in self._names])
        self._leaves_out_suspects = bool(suspects) and not set(suspects) <= set(self._names)
        self._results_by_node: dict[str, dict[int, Array]] = {}

    def may_match(self, override: BackwardOverride) -> bool:
        """Return whether an override may have made a candidate.

        Only bugs of ops are looked at. A generated bug of several nodes at once may not, either, where some candidate
        behind one of them alone shows that this one is right.
        """
        bug, nodes = override.op_bug, [*override.wrong_backward_by_node]
        if bug is None or self._leaves_out_suspects or not self._names:
            return True
        if len(nodes) == 1:
            reached = self._get_reached(nodes[0])
            return reached is None or bool((self._compare(bug, nodes[0]) & self._suspects & reached).any())
        return not bug.is_generated or self._may_match_together(bug, nodes)

    def _may_match_together(self, bug: OpBug, nodes: Sequence[str]) -> bool:
        counts = np.zeros(len(self._names), np.int64)
        reached_by_node: dict[str, Array] = {}
        for name in nodes:
            reached = self._get_reached(name)
            if reached is None:
                return True
            reached_by_node[name] = reached
            counts += reached
        for name, reached in reached_by_node.items():
            alone = reached & (counts == 1)
            if alone.any() and not self._compare(bug, name)[alone].all():
                return False
        return True

    def _get_reached(self, node_name: str) -> Array | None:
        """Return which names reach a node, None if its tangents are not reliable."""
        node_pass = self._node_passes.get(node_name)
        return None if node_pass is None or not node_pass.is_reliable else node_pass.reaching_names

    def _compare(self, bug: OpBug, node_name: str) -> Array:
        """Return which candidates' errors may be those of a node that alone has a bug."""
        if node_name not in self._results_by_node:
            # A wrong pass may divide by zero.
            with np.errstate(all="ignore"):
                self._results_by_node[node_name] = self._compare_bugs(self._node_passes[node_name])
        return self._results_by_node[node_name].get(id(bug), np.zeros(len(self._names), np.bool_))

    def _compare_bugs(self, node_pass: _NodePass) -> dict[int, Array]:
        """Compare all bugs of a node's op, by identity; those that change no known operand are left out."""
        op, arrays = node_pass.op, node_pass.arrays
        known = {slot.name for slot, tangent in zip(op.slots, node_pass.tangents, strict=False) if tangent is not None}
        shapes = tuple(None if array is None else array.shape[1:] for array in arrays[1:])
        bugs = [bug for bug in type(op).bugs.values() if not bug.is_declared_as_multiplier and bug.applies(shapes)]
        changes: dict[int, FormulaChange] = {}
        declared: list[OpBug] = []
        for bug in bugs:
            if not isinstance(bug.change, FormulaChange):
                declared.append(bug)
            elif not known.isdisjoint(bug.change.slots):
                changes[id(bug)] = bug.change
        results = [bug.backward(op, *arrays) for bug in iterate_interruptibly(declared)]
        if changes:
            assert isinstance(op, FormulaBugs)
            results += iterate_interruptibly(iterate_changes(changes.values(), op, node_pass.right, *arrays))
        keys = [*map(id, declared), *changes]
        return dict(zip(keys, self._compare_results(node_pass, results), strict=True))

    def _compare_results(self, node_pass: _NodePass, results: Sequence[Gradients]) -> Array:
        """Return which candidates' errors may be those of each wrong pass, (passes, names)."""
        products, sizes = np.zeros((len(results), len(self._names))), np.zeros((len(results), len(self._names)))
        for position, (tangents, right) in enumerate(zip(node_pass.tangents, node_pass.right, strict=True)):
            changed = [
                number for number, wrong in enumerate(results) if right is not None and wrong[position] is not right
            ]
            if tangents is None or right is None or not changed:
                continue
            changes = np.empty((len(changed), right[0].size))
            for row, number in enumerate(changed):
                wrong = results[number][position]
                changes[row] = (-right[0] if wrong is None else wrong[0] - right[0]).ravel()
            products[changed] += changes @ tangents.T
            sizes[changed] += np.outer(_measure_rows(changes), _measure_rows(tangents))
        errors, noise = self._candidate_errors
        # A comparison with NaN tells nothing.
        excess: Array = np.abs(products - errors) > _SCREEN_TOLERANCE * sizes + noise
        return ~excess

    @cached_attribute
    def _directions(self) -> dict[str, Array]:
        generator = np.random.default_rng(self._context.seed)
        return {name: generator.normal(size=self._context.get_right_gradient(name).shape) for name in self._names}

    @cached_attribute
    def _candidate_errors(self) -> tuple[Array, Array]:
        """Return r . (c - g) of each name, and the part of it that the arithmetic of a candidate explains."""
        errors, noise = np.zeros(len(self._names)), np.zeros(len(self._names))
        for number, name in enumerate(self._names):
            candidate, right = self._context.candidates[name], self._context.get_right_gradient(name)
            direction = self._directions[name]
            tolerance = min(fit_tolerance(self._context.precisions[name]), 0.5)
            sizes = np.linalg.norm(candidate), np.linalg.norm(right)
            largest = (sizes[0] + tolerance * sizes[1]) / (1 - tolerance)
            errors[number] = np.sum(direction * (candidate - right))
            noise[number] = np.linalg.norm(direction) * tolerance * (largest + sizes[1])
        return errors, noise

    @cached_attribute
    def _node_passes(self) -> Mapping[str, _NodePass]:
        """Return the right backward passes of the nodes behind the names, with the tangents of their operands."""
        context, graph = self._context, self._context.graph
        tangents: dict[str, Array | None] = {}
        for number, name in enumerate(self._names):
            own_tangents = np.zeros((len(self._names), *context.values[name].shape[1:]))
            own_tangents[number] = self._directions[name]
            tangents[name] = own_tangents
        passes: dict[str, _NodePass] = {}
        with np.errstate(all="ignore"):
            for node in iterate_interruptibly(graph.list_downstream_nodes(self._names)):
                if node.op.output_kind != "float":
                    continue
                passes[node.name] = node_pass = self._pass_node(node, tangents)
                own = None
                if node_pass.is_reliable:
                    own = self._differentiate(node, tangents, node_pass.arrays[2:])
                    if own is not None and not self._agrees(own, node_pass):
                        own = None
                if node.name in tangents and own is not None:
                    own = own + tangents[node.name]
                tangents[node.name] = own
        return passes

    def _pass_node(self, node: Node, tangents: Mapping[str, Array | None]) -> _NodePass:
        context = self._context
        inputs = context.graph.get_operand_arrays(node, context.values)
        arrays = (context.gradients[node.name], context.values[node.name], *inputs)
        right = node.op.backward(*arrays)
        of_operands: list[Array | None] = []
        is_reliable = True
        for operand, result in zip(node.operands, right, strict=True):
            tangent = tangents.get(operand) if isinstance(operand, str) else None
            is_reliable &= not (isinstance(operand, str) and operand in tangents and tangent is None)
            flat = None if tangent is None or result is None else tangent.reshape(len(tangent), -1)
            of_operands.append(flat)
        return _NodePass(node.op, arrays, right, tuple(of_operands), is_reliable)

    def _differentiate(
        self, node: Node, tangents: Mapping[str, Array | None], inputs: tuple[Array | None, ...]
    ) -> Array | None:
        """Return the tangent of a node, (names, ...), on its own pieces."""
        moves = [tangents.get(operand) if isinstance(operand, str) else None for operand in node.operands]
        if node.op.supports_complex_step:
            moved = node.op.forward(
                *(
                    array if move is None or array is None else array + 1j * _COMPLEX_STEP * move
                    for array, move in zip(inputs, moves, strict=True)
                )
            )
            result: Array = np.imag(moved) / _COMPLEX_STEP
        else:
            steps = self._choose_steps(inputs, moves)
            held = node.hold_branch(inputs)
            ends = [
                held.forward(
                    *(
                        array
                        if move is None or array is None
                        else array + sign * steps.reshape(-1, *(1,) * (move.ndim - 1)) * move
                        for array, move in zip(inputs, moves, strict=True)
                    )
                )
                for sign in (1, -1)
            ]
            result = (ends[0] - ends[1]) / (2 * steps.reshape(-1, *(1,) * (ends[0].ndim - 1)))
        shape = (len(self._names), *self._context.values[node.name].shape[1:])
        return np.broadcast_to(result, shape) if result.shape != shape else result

    def _choose_steps(self, inputs: Sequence[Array | None], moves: Sequence[Array | None]) -> Array:
        """Return a step for each name, small beside every input."""
        steps = np.full(len(self._names), np.inf)
        for array, move in zip(inputs, moves, strict=True):
            if array is not None and move is not None and move.size:
                size = float(np.max(np.abs(array), initial=0.0)) or 1.0
                largest = np.abs(move).reshape(len(move), -1).max(axis=1)
                steps = np.minimum(steps, np.where(largest > 0, _DIFFERENCE_STEP * size / largest, np.inf))
        return np.where(np.isfinite(steps), steps, 1.0)

    def _agrees(self, tangent: Array, node_pass: _NodePass) -> bool:
        """Return whether a node's tangents agree with its right backward pass."""
        gradient = node_pass.arrays[0]
        assert gradient is not None
        flat, upstream = tangent.reshape(len(tangent), -1), np.ravel(gradient[0])
        difference, sizes = flat @ upstream, np.abs(flat) @ np.abs(upstream)
        for of_operand, result in zip(node_pass.tangents, node_pass.right, strict=True):
            if of_operand is not None and result is not None:
                difference = difference - of_operand @ np.ravel(result[0])
                sizes = sizes + np.abs(of_operand) @ np.abs(np.ravel(result[0]))
        return bool(np.all(np.abs(difference) <= _CHECK_TOLERANCE * sizes))
