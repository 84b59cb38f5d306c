"""The bytes of an answer before it is made: those of its tensors, and their limit."""

from schemas.problem_details import InvalidRequestError, error_at
from schemas.tensor import Encoding
from service.checks.common.limits import Limits
from service.numerics.core.batching import Shape, count_elements

_CHARACTERS_PER_NUMBER = 25
"""Characters of a float64 and the comma behind it, at most: the sign, 17 digits, a point, and an exponent of 5."""
_CHARACTERS_PER_LIST = 3
"""Characters of each list within a tensor, and the comma behind it."""


def check_answer_bytes(count: int, limits: Limits, remedy: str, *path: str) -> int:
    """Refuse an answer of so many bytes if they are too many, and return them."""
    if count > limits.answer_bytes:
        detail = f"the answer may take up to {count:.1e} bytes; the limit is {limits.answer_bytes:.1e}. {remedy}"
        raise InvalidRequestError([error_at(detail, *path)], "over-budget")
    return count


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
