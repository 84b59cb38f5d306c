"""Parameters of a check, for functions that hand them on: so that they, too, say what they take."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from gradcheckd.blackbox import EvaluationProgress
from gradcheckd.progress import Progress

Tensors = Mapping[str, Any]
"""Arrays by name: of NumPy, torch, jax, or nested lists."""
DtypeLike = Any
"""The name of a datatype, or one of NumPy, torch or jax."""
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CheckParameters(TypedDict, total=False):
    """Those of `Service.check`, which says what they are."""

    tensors: Tensors | None
    weights: Tensors | None
    model: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    candidate: Tensors | None
    with_respect_to: Sequence[str] | None
    candidate_dtype: DtypeLike | None
    dtype: DtypeLike | None
    finite_difference: Mapping[str, Any] | None
    tolerance: Mapping[str, float] | None
    include: Sequence[str] | None
    seed: int | None
    progress: Progress | None


class FunctionParameters(TypedDict, total=False):
    """Those of `Service.check_function` behind the gradient."""

    directions: str | Mapping[str, Any] | None
    scale: Any
    bounds: Mapping[str, Any] | None
    tolerance: Mapping[str, float] | None
    seed: int | None
    candidate_dtype: DtypeLike | None
    relative_error: float | None
    progress: EvaluationProgress | None


def copy_signature(source: Callable[..., Any]) -> Callable[[FunctionT], FunctionT]:
    """Have a function say, where it is asked as it runs, that it takes what it hands on to another one."""
    theirs = inspect.signature(source).parameters.values()

    def set_signature(function: FunctionT) -> FunctionT:
        own = inspect.signature(function)
        kept = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        names = {each.name for each in kept}
        handed = [
            each for each in theirs if each.name not in names and each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
        ]
        spelling: Any = function
        spelling.__signature__ = own.replace(parameters=[*kept, *handed])
        return function

    return set_signature
