"""Gradients of the caller that a function computes, in one run or several."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from gradcheckd.errors import RequestError
from gradcheckd.signatures import Tensors

Repeats = Mapping[str, Sequence[Any]]


def run_candidate(
    candidate: Tensors | Callable[[], Tensors] | None, repeats: Repeats | int | None
) -> tuple[Tensors | None, Repeats | None]:
    """Return the gradients of a first run, and those of the further runs by name.

    Parameters
    ----------
    candidate
        Gradients by name, or a function that computes them.
    repeats
        Gradients of further runs, or the number of further runs of a function.

    Raises
    ------
    RequestError
        Only one of the two is of the kind that goes with a function, or a run has other names than the first one.
    """
    if not callable(candidate):
        if isinstance(repeats, int):
            raise RequestError(
                f"repeats is {repeats}, a number of runs, and candidate is no function that could run again. Give a "
                'function as candidate, or the gradients of each run as repeats={"name": [array, ...]}.'
            )
        return candidate, repeats
    count = 0 if repeats is None else check_repeats(repeats)
    first, *others = [_run_once(candidate) for _ in range(1 + count)]
    for run in others:
        if run.keys() != first.keys():
            raise RequestError(
                f"The runs of the candidate return other names: {sorted(first)} at first, and then {sorted(run)}."
            )
    return first, {name: [run[name] for run in others] for name in first} if others else None


def check_repeats(repeats: object) -> int:
    """Return the number of further runs of a function.

    Raises
    ------
    RequestError
        The value is no such number.
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 0:
        raise RequestError(f"The candidate is a function: repeats is the number of its further runs, not {repeats!r}.")
    return repeats


def _run_once(candidate: Callable[[], Tensors]) -> Tensors:
    gradients: Any = candidate()
    if not isinstance(gradients, Mapping):
        raise RequestError(
            f"The function given as candidate returns {type(gradients).__qualname__}. It returns gradients by name, as "
            '{"w": array}.'
        )
    return cast("Tensors", gradients)
