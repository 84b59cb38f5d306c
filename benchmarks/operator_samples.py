"""Functions of PyTorch's operator database, with small inputs: the samples that its own tests of gradients take."""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

SAMPLES = 2
"""Samples of each operator at most."""
MAX_NUMBERS = 100
"""Numbers of the inputs of a sample, and of its outputs, at most; torch's slow mode takes time for each."""
_EXAMINED_SAMPLES = 40
"""Samples of an operator that are looked at for small ones; some operators have thousands."""
_WIDER = {torch.float32: torch.float64}


@dataclass(frozen=True)
class Section:
    """A kind of check.

    Attributes
    ----------
    name
        Name in the tables.
    dtype
        Datatype of the samples.
    order
        1 for gradients, 2 for gradients of gradients.
    is_forward
        True for Jacobian-vector products by forward mode.
    scale_error
        Relative error that is planted in all elements.
    """

    name: str
    dtype: torch.dtype
    order: int = 1
    is_forward: bool = False
    scale_error: float = 1e-3

    def takes(self, operator: Any) -> bool:
        """Tell by the database's own flags whether an operator has these derivatives, and is not random."""
        return (
            operator.supports_autograd
            and not operator.has_nondeterministic_output
            and self.dtype in operator.supported_backward_dtypes("cpu")
            and (self.order == 1 or operator.supports_gradgrad)
            and (not self.is_forward or operator.supports_forward_ad)
        )


SECTIONS = (
    Section("float64", torch.float64),
    Section("second order", torch.float64, order=2),
    Section("forward mode", torch.float64, is_forward=True),
    Section("float32", torch.float32, scale_error=1e-2),
    Section("complex", torch.complex128),
    Section("complex, second order", torch.complex128, order=2),
)


@dataclass(frozen=True)
class OperatorSample:
    """A function of tensors that require a gradient.

    Attributes
    ----------
    name
        Name of the operator, and the number of the sample.
    function
        Takes the inputs, and returns a tensor or a tuple of tensors.
    inputs
        Its inputs.
    nondet_tol
        Largest difference of two backward passes that the database allows.
    reference
        The same sample in the wider datatype that decides whether the gradient is right; None where the datatype of
        the sample decides, or the operator does not take the wider one.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]
    nondet_tol: float
    reference: "OperatorSample | None" = None

    @property
    def seed(self) -> int:
        """Return a seed that depends on the name alone."""
        return zlib.crc32(self.name.encode())


def list_operators(section: Section, names: Sequence[str] = ()) -> list[Any]:
    """Return the operators of a section, all of them or those of some names, in the order of the database."""
    # Needs expecttest, and takes seconds.
    from torch.testing._internal.common_methods_invocations import op_db

    return [operator for operator in op_db if section.takes(operator) and (not names or operator.name in names)]


def draw_samples(operator: Any, section: Section, seed: int) -> Iterator[OperatorSample]:
    """Draw the first small samples of an operator.

    Raises
    ------
    Exception
        Any error of the database or of the operator.
    """
    set_seeds(operator, seed)
    count = 0
    raw_samples = operator.sample_inputs("cpu", section.dtype, requires_grad=True)
    for number, raw in enumerate(islice(raw_samples, _EXAMINED_SAMPLES)):
        sample = read_sample(operator, raw, f"{operator.formatted_name}[{number}]", section.dtype)
        if _is_fit(sample):
            yield sample
            count += 1
        if count == SAMPLES:
            return


def set_seeds(operator: Any, seed: int) -> None:
    """Seed all generators of random numbers that the database draws the samples of an operator from."""
    seed += zlib.crc32(operator.formatted_name.encode()) % 2**31
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the database draws from it
    random.seed(seed)


def read_sample(operator: Any, raw: Any, name: str, dtype: torch.dtype) -> OperatorSample:
    """Read a sample of the database as a function of the tensors that require a gradient."""
    arguments = [raw.input, list(raw.args), dict(raw.kwargs)]
    wider = _WIDER.get(dtype)
    reference = None
    if wider is not None:
        reference = _make_sample(operator, raw, name, _widen(arguments, dtype, wider), None)
    return _make_sample(operator, raw, name, arguments, reference)


def _make_sample(
    operator: Any, raw: Any, name: str, arguments: list[Any], reference: OperatorSample | None
) -> OperatorSample:
    call = operator.get_op()

    def evaluate(*inputs: torch.Tensor) -> Any:
        given = iter(inputs)
        first, others, named = (_replace_inputs(argument, given) for argument in arguments)
        output = operator.gradcheck_wrapper(call, first, *others, **named)
        if raw.output_process_fn_grad is not None:
            output = raw.output_process_fn_grad(output)
        if isinstance(output, list | tuple):
            return tuple(value for value in output if isinstance(value, torch.Tensor))
        return output

    inputs = tuple(_list_inputs(arguments))
    return OperatorSample(name, evaluate, inputs, float(operator.gradcheck_nondet_tol), reference)


def _list_inputs(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.requires_grad:
            yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _list_inputs(each)
    elif isinstance(value, dict):
        yield from _list_inputs(list(value.values()))


def _replace_inputs(value: Any, inputs: Iterator[torch.Tensor]) -> Any:
    """Return an argument with the tensors that require a gradient replaced by the next inputs."""
    if isinstance(value, torch.Tensor):
        return next(inputs) if value.requires_grad else value
    if isinstance(value, list | tuple):
        replaced = [_replace_inputs(each, inputs) for each in value]
        return replaced if isinstance(value, list) else tuple(replaced)
    if isinstance(value, dict):
        return {name: _replace_inputs(each, inputs) for name, each in value.items()}
    return value


def _widen(value: Any, dtype: torch.dtype, wider: torch.dtype) -> Any:
    """Return an argument with tensors of a datatype in a wider one."""
    if isinstance(value, torch.Tensor):
        if value.dtype != dtype:
            return value
        return value.detach().to(wider).requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        widened = [_widen(each, dtype, wider) for each in value]
        return widened if isinstance(value, list) else tuple(widened)
    if isinstance(value, dict):
        return {name: _widen(each, dtype, wider) for name, each in value.items()}
    return wider if value is dtype else value


def _is_fit(sample: OperatorSample) -> bool:
    """Tell whether a sample is small, has a gradient to judge, and has the same outputs twice."""
    if not 0 < sum(map(_count_numbers, sample.inputs)) <= MAX_NUMBERS:
        return False
    with torch.no_grad():
        first, second = (as_tensors(sample.function(*sample.inputs)) for _ in range(2))
    if not 0 < sum(map(_count_numbers, first)) <= MAX_NUMBERS:
        return False
    pairs = zip(first, second, strict=True)
    return all(torch.allclose(one, other, rtol=0, atol=0, equal_nan=True) for one, other in pairs)


def _count_numbers(tensor: torch.Tensor) -> int:
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def as_tensors(output: Any) -> tuple[torch.Tensor, ...]:
    """Return the output of a sample's function as a tuple."""
    return output if isinstance(output, tuple) else (output,)
