"""Checks that an operator leaves tensors alone: its inputs, upstream gradients, saved tensors and outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.operator_case import OperatorCase, attempt
from gradcheckd.torch.operator_report import OperatorLine

INPUTS_IN_FORWARD = "inputs, after the forward pass"
INPUTS_IN_BACKWARD = "inputs, after the backward pass"
UPSTREAM = "upstream gradients, after the backward pass"
SAVED = "saved tensors, after the backward pass"
OUTPUTS = "outputs, after the backward pass"


class Snapshot:
    """Tensors with a copy of their bits.

    Parameters
    ----------
    tensors
        Tensors with their names.
    """

    def __init__(self, tensors: Sequence[tuple[str, Tensor]]) -> None:
        self._tensors = [(name, tensor.detach(), copy_bits(tensor)) for name, tensor in tensors]

    def check(self, name: str) -> OperatorLine:
        """Return a line that fails if a tensor has other bits now."""
        changed = [subject for subject, tensor, bits in self._tensors if not torch.equal(copy_bits(tensor), bits)]
        if changed:
            return OperatorLine(name, "fail", f"changed in place: {', '.join(changed)}")
        count = len(self._tensors)
        if not count:
            return OperatorLine(name, "not run", "there is none that autograd keeps")
        return OperatorLine(name, "pass", f"unchanged, to the bit: {count} tensor{'' if count == 1 else 's'}")


@dataclass
class SavedTensors:
    """Tensors that autograd saves during a forward pass."""

    tensors: list[Tensor] = field(default_factory=list[Tensor])

    def pack(self, tensor: Tensor) -> Any:
        """Keep a tensor, without the graph that it may be an output of."""
        self.tensors.append(tensor.detach())
        return len(self.tensors) - 1

    def unpack(self, index: int) -> Tensor:
        """Return a tensor for the backward pass: the very one, so that changes to it show."""
        return self.tensors[index]


def check_changes(case: OperatorCase) -> Iterator[OperatorLine]:
    """Yield a line for each kind of tensor that one forward and one backward pass may not change."""
    operator = case.operator
    inputs = operator.copy_inputs()
    snapshot = Snapshot([(f"input {index}", value) for index, value in enumerate(inputs) if isinstance(value, Tensor)])
    saved = SavedTensors()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
        outputs = operator.call(inputs)
    yield snapshot.check(INPUTS_IN_FORWARD)
    # Changes by the forward pass are not those of the backward pass.
    kept = {
        INPUTS_IN_BACKWARD: [
            (f"input {index}", value) for index, value in enumerate(inputs) if isinstance(value, Tensor)
        ],
        SAVED: [(f"saved tensor {index}", tensor) for index, tensor in enumerate(saved.tensors)],
        OUTPUTS: [(f"output {index}", tensor) for index, tensor in enumerate(outputs)],
    }
    upstream = {number: tensor.clone() for number, tensor in case.upstream.items()}
    kept[UPSTREAM] = [(f"upstream gradient {number}", tensor) for number, tensor in upstream.items()]
    snapshots = {name: Snapshot(tensors) for name, tensors in kept.items()}

    def run_backward() -> OperatorLine:
        operator.backward(outputs, inputs, upstream)
        return snapshots[UPSTREAM].check(UPSTREAM)

    yield attempt(UPSTREAM, run_backward)
    for name in (INPUTS_IN_BACKWARD, SAVED, OUTPUTS):
        yield snapshots[name].check(name)


def copy_bits(tensor: Tensor) -> Tensor:
    """Return a copy of the bits of a tensor, so that NaN is the same as itself and 0 is not -0."""
    dense = tensor.detach().to_dense().resolve_conj().resolve_neg()
    return dense.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
