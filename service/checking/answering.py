"""What an answer takes, told before it is made: its text, and the arrays and objects that it is made of."""

from typing import NamedTuple

import orjson

from schemas.datatype import BY_ANY_NAME
from schemas.problem import InvalidRequestError, placed
from schemas.tensor import Encoding
from service.checking import language
from service.checking.question import Limits, Problem
from service.numerics.tiles import Shape, size

_DIGITS = 25
"""Characters of a float64 and the comma behind it, at most: the sign, 17 digits, a point, and an exponent of 5."""
_BRACKETS = 3
"""Of each list within a tensor, and the comma behind it."""
_OF_A_NAME = 6_000
"""Characters of what is said of one name beside its tensors, at most, its diagnoses aside: metrics, verdict, worst."""
_OF_A_DIRECTION, _OF_A_KINK = 200, 200
"""Characters of one direction and of one kink."""
_MOST_KINKS = 1000
_OBJECT = 1_000
"""Bytes of memory of what either is before it is written, at most: a dictionary, its numbers, its index."""
_NAMES = 6 * 8
"""Bytes for each character of a name: so many times it stands in an answer, each escaped."""


class Size(NamedTuple):
    """Bytes of an answer, those of its largest tensor, and of the objects that it is made of beside the arrays."""

    written: int
    largest: int
    objects: int


def size_of(problem: Problem, encoding: Encoding) -> Size:
    """What the answer of a check takes, at most."""
    shapes, include = problem.graph.shapes, problem.request.include
    tensors = [0]
    if "gradients" in include:
        tensors += [_gradients(problem, name, encoding) for name in problem.names]
    if "intermediates" in include:
        tensors += [3 * _tensor(problem, shapes[node.name], encoding) for node in problem.graph.listed[:-1]]
    entries = len(problem.names) * (problem.projections or 0)
    kinks = sum(min(_MOST_KINKS, size(shapes[name])) for name in problem.names) if _may_have_kinks(problem) else 0
    names = sum(map(len, shapes))
    model = len(orjson.dumps(language.resolved(problem.graph)))
    said = _OF_A_NAME * (1 + len(problem.names)) + _NAMES * names + model
    written = sum(tensors) + said + _OF_A_DIRECTION * entries + _OF_A_KINK * kinks
    return Size(written, max(tensors) // 3, 2 * said + _OBJECT * (entries + kinks))


def check_answer(problem: Problem, limits: Limits, encoding: Encoding) -> int:
    """Refuse an answer that is too large, before anything is computed, and return its bytes, at most."""
    smaller = "" if encoding == "binary" else ", ask for it in the safetensors format (Accept)"
    remedy = f"Leave `gradients` or `intermediates` out{smaller}, or name fewer tensors in `with_respect_to`"
    return checked_bytes(size_of(problem, encoding).written, limits, remedy, "include")


def checked_bytes(count: int, limits: Limits, remedy: str, *place: str) -> int:
    """Refuse an answer of so many bytes if they are too many, and return them."""
    if count > limits.answer_bytes:
        detail = f"the answer may take up to {count:.1e} bytes; the limit is {limits.answer_bytes:.1e}. {remedy}"
        raise InvalidRequestError([placed(detail, *place)], "over-budget")
    return count


def _may_have_kinks(problem: Problem) -> bool:
    return problem.projections is None and any(not node.op.analytic for node in problem.graph.nodes)


def _gradients(problem: Problem, name: str, encoding: Encoding) -> int:
    """Bytes of the gradients of one name: by hand, autograd, difference, bound, and those that are asked for."""
    shape = problem.graph.shapes[name]
    own, wide = _tensor(problem, shape, encoding), tensor_bytes(shape, encoding, 8)
    total = 2 * own + 2 * wide + (wide if "allowances" in problem.request.include else 0)
    candidate = problem.candidate.get(name)
    if candidate is not None:
        # Of whatever shape, and of no narrower type than it came in.
        total += tensor_bytes(candidate.array.shape, encoding, 8)
    return total


def _tensor(problem: Problem, shape: Shape, encoding: Encoding) -> int:
    return tensor_bytes(shape, encoding, BY_ANY_NAME[problem.dtype.name].stored.itemsize)


def tensor_bytes(shape: Shape, encoding: Encoding, width: int) -> int:
    """Bytes of a tensor, of numbers so wide, in an encoding, at most."""
    count = size(shape)
    if encoding == "nested":
        lists, within = 0, 1
        for length in shape:
            lists += within
            within *= length
        return _DIGITS * count + _BRACKETS * lists + _BRACKETS
    # Of each three bytes four characters; and what stands beside them.
    return (width * count if encoding == "binary" else 4 * (width * count + 2) // 3) + 200 + 24 * len(shape)
