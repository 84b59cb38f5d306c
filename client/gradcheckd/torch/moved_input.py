"""Inputs that a check moves: their numbers as real tensors, in the memory that the function reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradcheckd.arrays import Array
from gradcheckd.lazy_attribute import lazy_attribute
from gradcheckd.torch.torch_internals import COMPRESSED_LAYOUTS, MKLDNN, GradcheckError, has_no_memory

RealNumbers = Array | Tensor
"""Real numbers as an array of NumPy, which a check handles faster; as a tensor in bfloat16, which NumPy lacks."""

_PLAIN_DTYPES = frozenset({torch.float64, torch.float32, torch.float16})
"""Datatypes that NumPy has too, of real numbers."""


_ARRAY_DTYPES = _PLAIN_DTYPES | {torch.complex128, torch.complex64}


class UnjudgeableError(Exception):
    """An input that only torch's own comparison takes; the message says why."""


@dataclass(frozen=True)
class MovedInput:
    """One differentiable input of a function.

    Attributes
    ----------
    index
        Its number among the inputs.
    tensor
        Tensor of the caller, by which gradients are taken.
    memory
        Its stored numbers, detached, in the memory that the function reads. Functions may capture an input instead of
        reading their argument, as tests of modules do, so that a copy would not reach them.
    stored
        These numbers as real ones: complex ones have a last axis of real and imaginary part.
    positions
        Flat positions of the stored numbers in the dense tensor; None where all are stored in order.
    """

    index: int
    tensor: Tensor
    memory: Tensor
    stored: Tensor
    positions: Tensor | None

    @lazy_attribute
    def name(self) -> str:
        """Return the name of the input in reports."""
        return f"input{self.index}"

    @lazy_attribute
    def infinite(self) -> Tensor | None:
        """Return the mask of the numbers that no finite move changes; None where there is none."""
        mask = self.stored.isinf()
        return mask if bool(mask.any()) else None

    @lazy_attribute
    def base(self) -> Tensor:
        """Return the numbers that are moved: the stored ones, or, flat, those of them that are not infinite."""
        return self.stored if self.infinite is None else self.stored[~self.infinite]

    @lazy_attribute
    def base_numbers(self) -> RealNumbers:
        """Return a copy of the base as the check has it."""
        return copy_numbers(self.base)

    @lazy_attribute
    def _base_bytes(self) -> bytes:
        return self.base_numbers.tobytes() if isinstance(self.base_numbers, np.ndarray) else b""

    def is_at_base(self, numbers: RealNumbers) -> bool:
        """Tell whether numbers are those of the base."""
        if isinstance(numbers, np.ndarray):
            return numbers.tobytes() == self._base_bytes
        return torch.equal(numbers, self.base)

    @lazy_attribute
    def _array(self) -> Array | None:
        """Return the memory as an array of NumPy, into which all numbers are written; None where it is none."""
        if self.infinite is not None or not is_array_memory(self.memory):
            return None
        return (torch.view_as_real(self.memory) if self.memory.is_complex() else self.memory).numpy()

    def move(self, numbers: RealNumbers) -> None:
        """Write real numbers of the shape of the base into the memory."""
        if isinstance(numbers, np.ndarray) and self._array is not None:
            # Tensors take as long as a small function.
            np.copyto(self._array, numbers)
        else:
            self._write(as_numbers(numbers))

    def move_back(self) -> None:
        """Write the base into the memory."""
        self.move(self.base_numbers)

    def _write(self, numbers: Tensor) -> None:
        if self.infinite is not None:
            numbers = self.stored.masked_scatter(~self.infinite, numbers)
        self.memory.copy_(torch.view_as_complex(numbers) if self.memory.is_complex() else numbers)

    def read_gradient(self, gradient: Tensor | None, *, masked: bool) -> Tensor:
        """Return a gradient by this input as real numbers of the shape of the base; None is zero.

        Raises
        ------
        GradcheckError
            The gradient has another shape, or, if masked, numbers beside those of a sparse input.
        UnjudgeableError
            The gradient is not 0 where the input is infinite: of that no difference tells.
        """
        if gradient is None:
            return torch.zeros_like(self.base)
        if gradient.shape != self.tensor.shape:
            raise GradcheckError(
                f"Analytical gradient has incorrect size: {list(gradient.shape)}; input {self.index} has "
                f"{list(self.tensor.shape)}."
            )
        dense = gradient.detach().to_dense()
        if self.positions is None:
            return self._keep_moved(read_numbers(dense))
        flat = dense.reshape(-1)
        if masked and _has_numbers_beside(flat, self.positions):
            raise GradcheckError(
                f"The gradient by sparse input {self.index} has numbers where the input has none. With masked=True "
                "they must be 0; set masked=False for a function that treats missing elements as zeros."
            )
        return self._keep_moved(read_numbers(flat[self.positions]))

    def _keep_moved(self, gradient: Tensor) -> Tensor:
        if self.infinite is None:
            return gradient
        if gradient[self.infinite].ne(0).any():
            raise UnjudgeableError(
                f"the gradient by input {self.index} is not 0 where the input is infinite, and cannot be moved"
            )
        return gradient[~self.infinite]

    def make_tangent(self, numbers: RealNumbers) -> Tensor:
        """Return real numbers of the shape of the base as a tangent of the input."""
        tangent = as_numbers(numbers).to(self.memory.device)
        return torch.view_as_complex(tangent) if self.memory.is_complex() else tangent


def read_numbers(tensor: Tensor) -> Tensor:
    """Return a dense tensor as real numbers, detached; complex ones get a last axis of real and imaginary part."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    return torch.view_as_real(plain) if plain.is_complex() else plain


def copy_numbers(tensor: Tensor) -> RealNumbers:
    """Return a copy of the numbers of a dense tensor as a check takes them."""
    if tensor.dtype in _PLAIN_DTYPES and tensor.layout == torch.strided and not has_no_memory(tensor):
        return np.array(tensor.numpy(force=True))
    numbers = read_numbers(tensor)
    if numbers.dtype == torch.bfloat16:
        return numbers.clone()
    # Tensors of zeros may have no memory.
    return np.array(numbers.to_dense().numpy(force=True))


def is_array_memory(memory: Tensor) -> bool:
    """Tell whether a tensor has numbers of its own, without a pending negation or conjugation, as NumPy has them."""
    return (
        memory.dtype in _ARRAY_DTYPES
        and memory.layout == torch.strided
        and memory.device.type == "cpu"
        and not (has_no_memory(memory) or memory.is_conj() or memory.is_neg())
    )


def as_numbers(numbers: RealNumbers) -> Tensor:
    """Return numbers of a check as a tensor, which may share their memory."""
    return torch.as_tensor(numbers)


def read_moved_input(index: int, tensor: Tensor, numerical: Tensor) -> MovedInput:
    """Read an input.

    Parameters
    ----------
    index
        Its number.
    tensor
        Tensor of the caller.
    numerical
        Tensor for the function at moved points: that of the caller, or, if sparse, one with all elements stored.

    Raises
    ------
    UnjudgeableError
        There is no memory to move in its layout.
    """
    if numerical.layout == MKLDNN:
        raise UnjudgeableError(f"input {index} has the layout of MKLDNN")
    memory = _get_stored_numbers(numerical)
    return MovedInput(index, tensor, memory, read_numbers(memory).clone(), _locate_numbers(numerical))


def _get_stored_numbers(tensor: Tensor) -> Tensor:
    if tensor.layout == torch.sparse_coo:
        return tensor._values().data
    return tensor.values().data if tensor.layout in COMPRESSED_LAYOUTS else tensor.data


def _locate_numbers(tensor: Tensor) -> Tensor | None:
    """Return the flat positions of the stored numbers of a sparse tensor in its dense form, in their shape."""
    if tensor.layout == torch.sparse_coo:
        positions = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape)
        return positions[tuple(tensor._indices())]
    if tensor.layout not in COMPRESSED_LAYOUTS:
        return None
    # Dense form of the numbers 1, 2, ...: where they end up.
    values = tensor.values()
    numbers = torch.arange(1, values.numel() + 1, dtype=torch.float64, device=values.device).reshape(values.shape)
    dense = _replace_values(tensor, numbers).to_dense().reshape(-1)
    stored = dense.nonzero().reshape(-1)
    return stored[dense[stored].argsort()].reshape(values.shape)


def _replace_values(tensor: Tensor, values: Tensor) -> Tensor:
    is_by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
    compressed, plain = (
        (tensor.crow_indices(), tensor.col_indices()) if is_by_row else (tensor.ccol_indices(), tensor.row_indices())
    )
    sparse: Any = torch
    return sparse.sparse_compressed_tensor(compressed, plain, values, tensor.shape, layout=tensor.layout)


def _has_numbers_beside(flat: Tensor, positions: Tensor) -> bool:
    rest = flat.clone()
    rest[positions.reshape(-1)] = 0
    return bool(rest.ne(0).any())
