"""The size of an answer before it is made: its text, arrays and objects."""

from typing import NamedTuple

import orjson

from schemas.datatype import BY_ANY_NAME
from schemas.problem_details import InvalidRequestError, error_at
from schemas.tensor import Encoding
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.problem import Problem
from service.numerics.core.batching import Shape, count_elements

_CHARACTERS_PER_NUMBER = 25
"""Characters of a float64 and the comma behind it, at most: the sign, 17 digits, a point, and an exponent of 5."""
_CHARACTERS_PER_LIST = 3
"""Characters of each list within a tensor, and the comma behind it."""
_CHARACTERS_PER_NAME = 6_000
"""Characters of one name's metrics, verdict and worst elements, at most, without its diagnoses and tensors."""
_CHARACTERS_PER_DIRECTION, _CHARACTERS_PER_KINK = 200, 200
"""Characters of one direction and of one kink."""
_MAX_KINKS = 1000
_BYTES_PER_OBJECT = 1_000
"""Bytes of memory of a direction or kink before it is written, at most: a dictionary, its numbers, its index."""
_BYTES_PER_NAME_CHARACTER = 6 * 8
"""Bytes for each character of a name: its occurrences in an answer times its escaped size."""


class AnswerSize(NamedTuple):
    """Bytes of an answer, of its largest tensor, and of the objects beside arrays."""

    written_bytes: int
    largest_tensor_bytes: int
    object_bytes: int


def estimate_answer_size(problem: Problem, encoding: Encoding) -> AnswerSize:
    """Return the size of the answer to a check, at most."""
    shapes, include = problem.graph.shapes, problem.request.include
    tensors = [0]
    if "gradients" in include:
        tensors += [_estimate_gradient_bytes(problem, name, encoding) for name in problem.names]
    if "intermediates" in include:
        tensors += [
            3 * _estimate_reported_tensor_bytes(problem, shapes[node.name], encoding)
            for node in problem.graph.listed_nodes[:-1]
        ]
    entries = len(problem.names) * (problem.projection_count or 0)
    kinks = (
        sum(min(_MAX_KINKS, count_elements(shapes[name])) for name in problem.names) if _may_have_kinks(problem) else 0
    )
    names = sum(map(len, shapes))
    model = len(orjson.dumps(model_language.graph_to_dict(problem.graph)))
    text_bytes = _CHARACTERS_PER_NAME * (1 + len(problem.names)) + _BYTES_PER_NAME_CHARACTER * names + model
    written_bytes = sum(tensors) + text_bytes + _CHARACTERS_PER_DIRECTION * entries + _CHARACTERS_PER_KINK * kinks
    return AnswerSize(written_bytes, max(tensors) // 3, 2 * text_bytes + _BYTES_PER_OBJECT * (entries + kinks))


def check_answer_size(problem: Problem, limits: Limits, encoding: Encoding) -> int:
    """Refuse an answer that is too large, and return its bytes, at most."""
    binary_remedy = "" if encoding == "binary" else ", ask for it in the safetensors format (Accept)"
    remedy = f"Leave `gradients` or `intermediates` out{binary_remedy}, or name fewer tensors in `with_respect_to`"
    return check_answer_bytes(estimate_answer_size(problem, encoding).written_bytes, limits, remedy, "include")


def check_answer_bytes(count: int, limits: Limits, remedy: str, *path: str) -> int:
    """Refuse an answer of so many bytes if they are too many, and return them."""
    if count > limits.answer_bytes:
        detail = f"the answer may take up to {count:.1e} bytes; the limit is {limits.answer_bytes:.1e}. {remedy}"
        raise InvalidRequestError([error_at(detail, *path)], "over-budget")
    return count


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


def estimate_tensor_bytes(shape: Shape, encoding: Encoding, width: int) -> int:
    """Return the bytes of an encoded tensor, at most."""
    count = count_elements(shape)
    if encoding == "nested":
        lists, rows = 0, 1
        for length in shape:
            lists += rows
            rows *= length
        return _CHARACTERS_PER_NUMBER * count + _CHARACTERS_PER_LIST * lists + _CHARACTERS_PER_LIST
    # Of each three bytes four characters; and what stands beside them.
    return (width * count if encoding == "binary" else 4 * (width * count + 2) // 3) + 200 + 24 * len(shape)
