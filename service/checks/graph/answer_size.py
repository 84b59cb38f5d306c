"""The size of an answer before it is made: its text, arrays and objects."""

from typing import NamedTuple

from schemas.datatype import BY_ANY_NAME
from schemas.tensor import Encoding
from service.checks.common.answer_bytes import check_answer_bytes, estimate_tensor_bytes
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.problem import Problem
from service.numerics.core.batching import Shape, count_elements

_CHARACTERS_PER_NAME = 6_000
"""Characters of one name's metrics, verdict and worst elements, at most, without its diagnoses and tensors."""
_CHARACTERS_PER_DIRECTION, _CHARACTERS_PER_KINK = 200, 200
"""Characters of one direction and of one kink."""
_MAX_KINKS = 1000
_BYTES_PER_OBJECT = 1_000
"""Bytes of memory of a direction or kink before it is written, at most: a dictionary, its numbers, its index."""
_BYTES_PER_NAME_CHARACTER = 6 * 8
"""Bytes for each character of a name: its occurrences in an answer times its escaped size."""

_BYTES_PER_LISTED_CHARACTER = 6
"""Bytes for each character of a name in a list, escaped."""


class AnswerSize(NamedTuple):
    """Bytes of an answer, of its largest tensor, and of the objects beside arrays."""

    written_bytes: int
    largest_tensor_bytes: int
    object_bytes: int


def estimate_answer_size(problem: Problem, encoding: Encoding) -> AnswerSize:
    """Return the size of the answer to a check, at most."""
    shapes, include = problem.graph.all_shapes, problem.request.include
    tensors = [0]
    if "gradients" in include:
        tensors += [_estimate_gradient_bytes(problem, name, encoding) for name in problem.names]
    if "intermediates" in include:
        tensors += [
            3 * _estimate_reported_tensor_bytes(problem, shapes[name], encoding)
            for name in problem.graph.result_names[:-1]
        ]
    entries = len(problem.names) * (problem.projection_count or 0)
    kinks = (
        sum(min(_MAX_KINKS, count_elements(shapes[name])) for name in problem.names) if _may_have_kinks(problem) else 0
    )
    names = sum(map(len, shapes))
    # A joint direction lists the names. Tensors that it does not decide have directions of their own.
    joint_count = (problem.projection_count or 0) if problem.is_joint else 0
    listed_bytes = joint_count * sum(_BYTES_PER_LISTED_CHARACTER * len(name) + len('"",') for name in problem.names)
    model = model_language.count_graph_bytes(problem.graph)
    text_bytes = _CHARACTERS_PER_NAME * (1 + len(problem.names)) + _BYTES_PER_NAME_CHARACTER * names + model
    entry_bytes = _CHARACTERS_PER_DIRECTION * (entries + joint_count) + _CHARACTERS_PER_KINK * kinks
    objects = entries + joint_count + kinks
    return AnswerSize(
        sum(tensors) + text_bytes + listed_bytes + entry_bytes,
        max(tensors) // 3,
        2 * text_bytes + _BYTES_PER_OBJECT * objects,
    )


def check_answer_size(problem: Problem, limits: Limits, encoding: Encoding) -> int:
    """Refuse an answer that is too large, and return its bytes, at most."""
    binary_remedy = "" if encoding == "binary" else ", ask for it in the safetensors format (Accept)"
    remedy = f"Leave `gradients` or `intermediates` out{binary_remedy}, or name fewer tensors in `with_respect_to`"
    return check_answer_bytes(estimate_answer_size(problem, encoding).written_bytes, limits, remedy, "include")


def _may_have_kinks(problem: Problem) -> bool:
    return problem.projection_count is None and any(not node.op.supports_complex_step for node in problem.graph.nodes)


def _estimate_gradient_bytes(problem: Problem, name: str, encoding: Encoding) -> int:
    """Return the bytes of the gradients of one name in the answer."""
    shape = problem.graph.shapes[name]
    reported_bytes, float64_bytes = (
        _estimate_reported_tensor_bytes(problem, shape, encoding),
        estimate_tensor_bytes(shape, encoding, 8),
    )
    total = 2 * reported_bytes + 2 * float64_bytes + (float64_bytes if "allowances" in problem.request.include else 0)
    candidate = problem.candidate.get(name)
    if candidate is not None:
        # Of whatever shape, and of no narrower type than it came in.
        total += estimate_tensor_bytes(candidate.array.shape, encoding, 8)
    return total


def _estimate_reported_tensor_bytes(problem: Problem, shape: Shape, encoding: Encoding) -> int:
    return estimate_tensor_bytes(shape, encoding, BY_ANY_NAME[problem.dtype.name].storage_dtype.itemsize)
