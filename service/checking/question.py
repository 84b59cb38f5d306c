"""From a request to the terms of the numerics: names, shapes, dtype, method, and whether it is affordable."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from schemas.check import CheckRequest, NodeBase
from schemas.datatype import Array
from schemas.problem import InvalidRequestError, PlacedError, placed, shown
from schemas.tensor import Tensor
from service.checking import language
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import Method
from service.numerics.graph import Graph, Values
from service.numerics.precision import DTYPES, Dtype
from service.numerics.rounding import SWEEPS
from service.numerics.tiles import tiled

Request = CheckRequest[NodeBase]


@dataclass(frozen=True)
class Limits:
    """What one check may take.

    Attributes
    ----------
    names, nodes
        Tensors and weights; nodes of a model.
    elements
        Elements of all tensors and nodes together.
    work
        Multiply-adds.
    seconds
        Time for finite differences.
    """

    names: int = 1000
    nodes: int = 1000
    elements: int = 2**21
    work: int = 10**11
    seconds: float = 60.0


@dataclass(frozen=True)
class Problem:
    """What is to be checked, in the terms of the numerics.

    Attributes
    ----------
    leaves, wide
        Every tensor and weight, (1, ...), rounded to the dtype: in the dtype, and widened to float64.
    names
        What to differentiate by.
    """

    request: Request
    graph: Graph
    dtype: Dtype
    leaves: Values
    wide: Values
    names: tuple[str, ...]
    method: Method

    @property
    def reported(self) -> tuple[str, ...]:
        """Names whose gradients stand in the report: those judged, and with intermediates every node."""
        if "intermediates" not in self.request.include:
            return self.names
        return tuple(dict.fromkeys((*self.names, *(node.name for node in self.graph.nodes))))

    @property
    def candidate(self) -> Mapping[str, Tensor]:
        """The client's own gradients, by name."""
        return self.request.candidate or {}


def posed(request: Request) -> Problem:
    """Bring a request into the terms of the numerics.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    errors = [*_clashes(request), *_weight_errors(request)]
    if errors:
        raise InvalidRequestError(errors)
    graph = language.graph_of(request)
    dtype = DTYPES[request.dtype]
    tensors = request.tensors | request.weights
    with np.errstate(over="ignore"):
        leaves = {name: tiled(_leaf(tensor.array, graph.kinds.get(name), dtype)) for name, tensor in tensors.items()}
    wide = {name: leaf if name in graph.kinds else leaf.astype(np.float64) for name, leaf in leaves.items()}
    errors = [
        placed(f"a number too large for dtype {dtype.name}", _section(request, name), name)
        for name, leaf in leaves.items()
        if not np.isfinite(leaf).all()
    ]
    errors += _candidate_errors(request, graph)
    names = _names(request, graph, errors)
    if errors:
        raise InvalidRequestError(errors)
    return Problem(request, graph, dtype, leaves, wide, names, _method(request))


def _leaf(array: Array, kind: str | None, dtype: Dtype) -> Array:
    if kind is None:
        return dtype.rounded(array.astype(np.float64))
    return array.astype(np.int64 if kind == "index" else np.bool_)


def check_counts(body: object, limits: Limits) -> None:
    """Refuse more of anything than is taken, before each is looked at and each may be wrong.

    Raises
    ------
    InvalidRequestError
        With the counts and the limits.
    """
    if not isinstance(body, dict):
        return
    fields = cast("dict[str, Any]", body)
    graph: Any = fields.get("model")
    nodes: Any = cast("dict[str, Any]", graph).get("nodes") if isinstance(graph, dict) else None
    counts: list[tuple[int, int, tuple[str, ...]]] = [
        (_length(fields.get(name)), limits.names, (name,)) for name in (*_OF_TENSORS, "with_respect_to")
    ]
    counts.append((_length(nodes), limits.nodes, ("model", "nodes")))
    errors = [
        placed(f"{count} are more than the {limit} that are taken", *place)
        for count, limit, place in counts
        if count > limit
    ]
    rest = {name: value for name, value in fields.items() if name not in _OF_TENSORS}
    entries, most = _entries(rest), _ENTRIES_OF_NODE * limits.nodes
    if not errors and entries > most:
        errors = [placed(f"tensors aside, the request has {entries} entries; at most {most} are taken")]
    if errors:
        raise InvalidRequestError(errors)


_OF_TENSORS = ("tensors", "weights", "candidate")
_ENTRIES_OF_NODE = 40


def _length(value: object) -> int:
    return len(cast("list[Any]", value)) if isinstance(value, list | dict) else 0


def _entries(value: object) -> int:
    """Count the entries of lists and objects, nested ones too."""
    total = 0
    pending: list[Any] = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, list | dict):
            inside = list(cast("dict[str, Any]", here).values()) if isinstance(here, dict) else cast("list[Any]", here)
            total += len(inside)
            pending.extend(inside)
    return total


def _section(request: Request, name: str) -> str:
    return "weights" if name in request.weights else "tensors"


def _clashes(request: Request) -> Iterator[PlacedError]:
    for name in request.tensors.keys() & request.weights.keys():
        yield placed("there is a tensor of the same name; names are shared", "weights", name)


def _weight_errors(request: Request) -> Iterator[PlacedError]:
    for name, tensor in request.weights.items():
        if tensor.datatype is not None and tensor.datatype.kind != "float":
            yield placed(f"a weight must be of floats; datatype {tensor.datatype.name} was given", "weights", name)


def _candidate_errors(request: Request, graph: Graph) -> Iterator[PlacedError]:
    for name, tensor in (request.candidate or {}).items():
        if name not in graph.shapes:
            yield placed(f"there is no tensor, weight or node {shown(name)}; {_known(graph)}", "candidate", name)
        elif name == graph.loss:
            yield placed(_LOSS, "candidate", name)
        elif name in graph.kinds:
            yield placed(_NO_FLOATS, "candidate", name)
        elif tensor.datatype is not None and tensor.datatype.kind != "float":
            yield placed(f"a gradient is of floats; datatype {tensor.datatype.name} was given", "candidate", name)


_LOSS = "this is the loss; its gradient with respect to itself is 1"
_NO_FLOATS = "this tensor is not of floats, and has no gradient"


def _known(graph: Graph) -> str:
    names = [name for name in graph.shapes if name != graph.loss and name not in graph.kinds]
    return f"there are: {', '.join(map(shown, names[:20]))}{', ...' if len(names) > 20 else ''}"


def _names(request: Request, graph: Graph, errors: list[PlacedError]) -> tuple[str, ...]:
    """What to differentiate by; appends what is wrong with it."""
    asked = request.with_respect_to
    for position, name in enumerate(asked or ()):
        if name not in graph.shapes:
            unknown = f"there is no tensor, weight or node {shown(name)}; {_known(graph)}"
            errors.append(placed(unknown, "with_respect_to", position))
        elif name == graph.loss:
            errors.append(placed(_LOSS, "with_respect_to", position))
        elif name in graph.kinds:
            errors.append(placed(_NO_FLOATS, "with_respect_to", position))
    chosen: list[str] = [*(request.weights if asked is None else asked), *(request.candidate or {})]
    names = tuple(dict.fromkeys(chosen))
    if not names:
        errors.append(placed("nothing to judge: name a weight, a tensor or a node", "with_respect_to"))
    return names


def _method(request: Request) -> Method:
    spec = request.finite_difference
    if spec.method == "adaptive":
        if spec.step is not None:
            detail = "adaptive finds its own steps; a step goes with method central or forward"
            raise InvalidRequestError([placed(detail, "finite_difference", "step")])
        return finite_difference.ADAPTIVE
    named = finite_difference.central if spec.method == "central" else finite_difference.forward
    return named(spec.step)


def check_budget(problem: Problem, limits: Limits) -> None:
    """Refuse what would take too much, before anything is allocated."""
    graph = problem.graph
    once = graph.cost()
    elements = once.elements + sum(leaf.size for leaf in problem.leaves.values())
    if elements > limits.elements:
        detail = f"the model would hold {elements} elements at once; the limit is {limits.elements}"
        raise InvalidRequestError([placed(detail, "model")])
    work = 8 * (SWEEPS + 1) * once.work
    # Colours are counted only where what they are counted on is affordable.
    for colours in (_one_colour, finite_difference.colours):
        differences = sum(_difference_work(problem, name, colours) for name in problem.names)
        if work + differences > limits.work:
            detail = (
                f"the check would take about {work + differences:.1e} operations; the limit is {limits.work:.1e}. "
                "Name fewer or smaller tensors"
            )
            raise InvalidRequestError([placed(detail, "with_respect_to")])


def _one_colour(graph: Graph, leaves: Values, name: str) -> int:
    return 1


def _difference_work(problem: Problem, name: str, colours: Callable[[Graph, Values, str], int]) -> int:
    graph = problem.graph
    evaluations = finite_difference.evaluations(problem.method, colours(graph, problem.wide, name))
    return evaluations * graph.cost(graph.downstream([name])).work
