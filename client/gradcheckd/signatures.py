"""Parameters of a check, for functions that pass them on, so that their signatures show them."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar

from gradcheckd.function_evaluation import EvaluationProgress
from gradcheckd.progress import Progress

Tensors = Mapping[str, Any]
"""Arrays by name: of NumPy, torch, jax, or nested lists."""
DtypeLike = Any
"""The name of a datatype, or one of NumPy, torch or jax."""
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CheckParameters(TypedDict, total=False):
    """The parameters of `Service.check`, which documents them."""

    tensors: Tensors | None
    weights: Tensors | None
    model: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    candidate: Tensors | Callable[[], Tensors] | None
    with_respect_to: Sequence[str] | None
    candidate_dtype: DtypeLike | Mapping[str, Any] | None
    repeats: Mapping[str, Sequence[Any]] | int | None
    dtype: DtypeLike | None
    finite_difference: Mapping[str, Any] | None
    tolerance: Mapping[str, float] | None
    include: Sequence[str] | None
    seed: int | None
    progress: Progress | None


class FunctionOptions(TypedDict, total=False):
    """The parameters of `Service.check_function` beside function, point and gradients."""

    cotangents: Any
    directions: str | Mapping[str, Any] | None
    scale: Any
    bounds: Any
    tolerance: Mapping[str, float] | None
    seed: int | None
    evaluations: Literal["full", "few"] | None
    candidate_dtype: DtypeLike | None
    relative_error: float | None
    progress: EvaluationProgress | None


class FunctionParameters(FunctionOptions, total=False):
    """The parameters of `Service.check_function` behind the candidate."""

    vjp: Any
    jvp: Any
    jacobian: Any


def copy_signature(source: Callable[..., Any], without: Collection[str] = ()) -> Callable[[FunctionT], FunctionT]:
    """Give a function, at run time, the signature of the function that it passes its parameters to.

    Parameters
    ----------
    source
        Function that takes the parameters.
    without
        Names of parameters that are not passed on.
    """
    source_parameters = inspect.signature(source).parameters.values()

    def set_signature(function: FunctionT) -> FunctionT:
        signature = inspect.signature(function)
        kept_parameters = [
            parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD
        ]
        names = {*without, *(parameter.name for parameter in kept_parameters)}
        passed_parameters = [
            parameter
            for parameter in source_parameters
            if parameter.name not in names and parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        ]
        signed_function: Any = function
        signed_function.__signature__ = signature.replace(parameters=[*kept_parameters, *passed_parameters])
        return function

    return set_signature
