"""The problem of a check for the numerics: names, shapes, dtype, method."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import numpy as np

from schemas.check import CheckRequest, NodeBase
from schemas.datatype import BY_ANY_NAME, Array
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.recipe import RecipeSpec
from schemas.tensor import Tensor
from service.checks.common.candidate_precision import choose_precision, find_precision, make_recipe
from service.checks.graph import model_language
from service.numerics.core.batching import add_batch_axis, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import DTYPES, ComputeDtype, Precision
from service.numerics.core.recipe import EAGER_RECIPES, GRADIENT_PREFIX, Recipe
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import DifferenceMethod
from service.numerics.model.graph import Graph, InvalidModelError, NamedArrays

MAX_JOINT_DIRECTIONS = 100
"""Directions of all tensors together, at most."""

ParsedCheckRequest = CheckRequest[NodeBase]
NameChooser = Callable[[ParsedCheckRequest, Graph, list[PlacedError]], tuple[str, ...]]


@dataclass(frozen=True)
class Problem:
    """A request in the terms of the numerics.

    Attributes
    ----------
    request, graph
        The request and its model.
    dtype, leaves, float64_leaves
        The dtype, and every tensor and weight rounded to it, (1, ...): in the dtype, and widened to float64.
    names
        Names to differentiate by, each of one element at least.
    empty_names
        Further names of the request, of tensors without elements: there is nothing to judge at them.
    method
        Method of the finite difference.
    sampled_elements
        Flat indices of the differenced elements by name; names without a sample are absent.
    """

    request: ParsedCheckRequest
    graph: Graph
    dtype: ComputeDtype
    leaves: NamedArrays
    float64_leaves: NamedArrays
    names: tuple[str, ...]
    empty_names: tuple[str, ...]
    method: DifferenceMethod
    sampled_elements: Mapping[str, Array]

    def get_examined_elements(self, name: str) -> Array | None:
        """Return the flat indices of the differenced elements; None for all."""
        return self.sampled_elements.get(name)

    @property
    def projection_count(self) -> int | None:
        """Number of random directions of each tensor; None for a check by element."""
        spec = self.request.finite_difference
        return None if spec.method == "auto" else spec.projections

    @property
    def is_joint(self) -> bool:
        """True if each direction is one of all tensors together.

        Other methods than the adaptive one, and tolerances, are along directions of each tensor. So are so many
        directions that preparing one after the other would take longer than to move each tensor by itself.
        """
        spec, count = self.request.finite_difference, self.projection_count
        if count is None or count > MAX_JOINT_DIRECTIONS:
            return False
        return spec.joint and spec.method == "adaptive" and self.request.tolerance is None

    def without_joint_directions(self, names: Iterable[str] | None = None) -> "Problem":
        """Return the problem of some names, all by default, each with directions of its own."""
        problem = self.with_difference_settings(joint=False)
        return problem if names is None else replace(problem, names=tuple(names))

    def with_difference_settings(self, **settings: Any) -> "Problem":
        """Return the problem with other settings of the differences, by field of the request."""
        spec = self.request.finite_difference.model_copy(update=settings)
        return replace(self, request=self.request.model_copy(update={"finite_difference": spec}))

    @property
    def reported_names(self) -> tuple[str, ...]:
        """Names whose gradients the report shows: judged ones, and nodes if requested."""
        if "intermediates" not in self.request.include:
            return self.names
        graph = self.graph
        results = (name for name in graph.result_names if name in graph.shapes and name not in graph.leaf_kinds)
        return tuple(dict.fromkeys((*self.names, *results)))

    @property
    def candidate(self) -> Mapping[str, Tensor]:
        """The client's own gradients, by name."""
        return self.request.candidate or {}

    def get_recipe(self, name: str) -> Recipe:
        """Return the recipe by which the judged gradient was computed."""
        tensor = self.candidate.get(name)
        if tensor is None:
            return self.own_recipe
        if self.declared_recipe is not None:
            return self.declared_recipe
        name_of_arithmetic = cast("str | None", self.request.candidate_dtype)
        return EAGER_RECIPES[choose_precision(tensor, name_of_arithmetic, self.dtype.precision).name]

    @cached_attribute
    def declared_recipe(self) -> Recipe | None:
        """Recipe of the request; None if it names an arithmetic, or nothing."""
        spec = self.request.candidate_dtype
        return make_recipe(spec) if isinstance(spec, RecipeSpec) else None

    @property
    def has_casts(self) -> bool:
        """True if some judged gradient is rounded at other places than its operations."""
        return any(not self.get_recipe(name).is_uniform for name in self.names)

    @property
    def repeated_element_count(self) -> int:
        """Number of elements of all further runs of the candidate."""
        return sum(runs.array.size for runs in (self.request.repeats or {}).values())

    def get_precision(self, name: str) -> Precision:
        """Return the arithmetic by which an error of the judged gradient counts as large."""
        return self.get_recipe(name).judged

    @property
    def own_recipe(self) -> Recipe:
        """Recipe of our own gradients: that of eager kernels in the dtype."""
        return EAGER_RECIPES[self.dtype.precision.name]

    def with_candidate(self, candidate: Mapping[str, Array], datatype: str | None = None) -> "Problem":
        """Return the problem with other candidates, of whatever shape."""
        known = None if datatype is None else BY_ANY_NAME[datatype]
        tensors = {
            name: Tensor(np.asarray(gradient, np.float64), known, is_integral=False)
            for name, gradient in candidate.items()
        }
        return replace(self, request=self.request.model_copy(update={"candidate": tensors}))


def build_problem(
    request: ParsedCheckRequest, choose_names: NameChooser | None = None, most: int | None = None
) -> Problem:
    """Build the problem of a request.

    Parameters
    ----------
    request
        A request of valid form.
    choose_names
        Function that returns the names to differentiate by, given a request and its graph, and appends errors to a
        list. By default the names are those of the request, or else its weights.
    most
        Largest number of elements of a model's nodes together; None for no limit. A larger model gets no sample, which
        takes memory for each element: it is refused later.

    Raises
    ------
    InvalidRequestError
        With every error of the request.
    """
    errors = [*_find_name_clashes(request), *_find_weight_errors(request)]
    if errors:
        raise InvalidRequestError(errors)
    graph = model_language.build_graph(request)
    dtype = DTYPES[request.dtype]
    inputs = _find_input_precision(request)
    tensors = request.tensors | request.weights
    with np.errstate(over="ignore"):
        leaves = {
            name: add_batch_axis(_convert_leaf(tensor.array, graph.leaf_kinds.get(name), dtype, inputs))
            for name, tensor in iterate_interruptibly(tensors.items())
            if name in graph.shapes
        }
    wide = {
        name: leaf if name in graph.leaf_kinds else leaf.astype(np.float64, copy=False) for name, leaf in leaves.items()
    }
    errors = [
        error_at(f"a number too large for dtype {dtype.name}", _find_section(request, name), name)
        for name, leaf in iterate_interruptibly(leaves.items() if dtype.is_narrow else ())
        if not np.isfinite(leaf).all()
    ]
    errors += _find_candidate_errors(request, graph)
    errors += _find_cast_errors(request, graph)
    errors += _find_repeat_errors(request)
    errors += _find_requested_name_errors(request, graph)
    requested_names = (choose_names or _choose_names)(request, graph, errors)
    if errors:
        raise InvalidRequestError(errors)
    names = tuple(name for name in requested_names if name not in graph.empty_shapes)
    empty_names = tuple(name for name in requested_names if name in graph.empty_shapes)
    if not names:
        detail = (
            f"nothing to judge: {', '.join(map(quote_name, empty_names[:20]))} has no elements; name another tensor"
        )
        raise InvalidRequestError([error_at(detail, "with_respect_to")])
    # The cost of some ops is that of tables as long as their output.
    too_large = most is not None and (graph.count_node_elements() > most or graph.estimate_cost().largest_array > most)
    if graph.has_discrete_nodes and not too_large:
        _check_computed_values(request, graph, wide)
    elements: Mapping[str, Array] = (
        {} if too_large else sample_elements(request.finite_difference.sample, request.seed, graph, names)
    )
    return Problem(request, graph, dtype, leaves, wide, names, empty_names, _choose_method(request), elements)


def _check_computed_values(request: ParsedCheckRequest, graph: Graph, leaves: Mapping[str, Array]) -> None:
    """Refuse integers of nodes that an op does not take, as positions that repeat where elements are replaced."""
    known = {**leaves, **graph.evaluate_discrete_nodes(leaves)}
    try:
        graph.check_values({name: array[0] for name, array in known.items()})
    except InvalidModelError as errors:
        raise model_language.to_request_error(errors, request) from None


def sample_elements(count: int | None, seed: int, graph: Graph, names: tuple[str, ...]) -> Mapping[str, Array]:
    """Return flat indices of a sample of each name's elements; {} without a count."""
    if count is None:
        return {}
    generator = np.random.default_rng([seed, 0x5A])
    sizes = {name: count_elements(graph.shapes[name]) for name in names}
    return {name: np.sort(generator.choice(n, min(count, n), replace=False)) for name, n in sizes.items()}


def _find_input_precision(request: ParsedCheckRequest) -> Precision | None:
    """Return the arithmetic to which a recipe rounds all tensors; None without one."""
    recipe = request.candidate_dtype
    if not isinstance(recipe, RecipeSpec) or recipe.inputs is None:
        return None
    return find_precision(recipe.inputs)


def _convert_leaf(array: Array, kind: str | None, dtype: ComputeDtype, inputs: Precision | None) -> Array:
    if kind is None:
        array = array.astype(np.float64, copy=False)
        return dtype.round_array(array if inputs is None else inputs.round_tensor(array))
    return array.astype(np.int64 if kind == "index" else np.bool_, copy=False)


def _find_section(request: ParsedCheckRequest, name: str) -> str:
    return "weights" if name in request.weights else "tensors"


def _find_name_clashes(request: ParsedCheckRequest) -> Iterator[PlacedError]:
    for name in request.tensors.keys() & request.weights.keys():
        yield error_at("there is a tensor of the same name; names are shared", "weights", name)


def _find_weight_errors(request: ParsedCheckRequest) -> Iterator[PlacedError]:
    for name, tensor in request.weights.items():
        if tensor.datatype is not None and tensor.datatype.kind != "float":
            yield error_at(f"a weight must be of floats; datatype {tensor.datatype.name} was given", "weights", name)


def _find_candidate_errors(request: ParsedCheckRequest, graph: Graph) -> Iterator[PlacedError]:
    for name, tensor in iterate_interruptibly((request.candidate or {}).items()):
        if reason := why_not_differentiable(graph, name):
            yield error_at(reason, "candidate", name)
        elif tensor.datatype is not None and tensor.datatype.kind != "float":
            yield error_at(f"a gradient is of floats; datatype {tensor.datatype.name} was given", "candidate", name)
        elif not tensor.array.size and name not in graph.empty_shapes:
            detail = f"empty; {quote_name(name)} has shape {list(graph.shapes[name])}: send a gradient of that shape"
            yield error_at(detail, "candidate", name)


def _find_repeat_errors(request: ParsedCheckRequest) -> Iterator[PlacedError]:
    """Find runs of no candidate, or of another shape than it has."""
    candidate = request.candidate or {}
    for name, runs in iterate_interruptibly((request.repeats or {}).items()):
        if name not in candidate:
            yield error_at(
                "there is no candidate of this name whose runs these are; send one of them there", "repeats", name
            )
        elif runs.datatype is not None and runs.datatype.kind != "float":
            yield error_at(f"a gradient is of floats; datatype {runs.datatype.name} was given", "repeats", name)
        elif runs.array.shape[1:] != candidate[name].array.shape:
            detail = (
                f"each run has shape {list(runs.array.shape[1:])}, the candidate {list(candidate[name].array.shape)}; "
                "send a list of runs of the candidate's shape"
            )
            yield error_at(detail, "repeats", name)


def _find_cast_errors(request: ParsedCheckRequest, graph: Graph) -> Iterator[PlacedError]:
    """Find the casts of a recipe that name no place of the model."""
    recipe = request.candidate_dtype
    if not isinstance(recipe, RecipeSpec) or not isinstance(recipe.casts, dict):
        return
    places, node_names = dict.fromkeys(list_cast_places(graph)), {node.name for node in graph.listed_nodes}
    for name in iterate_interruptibly(recipe.casts):
        base = name.removeprefix(GRADIENT_PREFIX)
        if name in places:
            continue
        known = ", ".join(map(quote_name, islice(places, 20))) + (", ..." if len(places) > 20 else "")
        detail = f"there is no node {quote_name(base)} at which a program could round; there are: {known}"
        if base in graph.all_shapes and base not in node_names:
            detail = f"{quote_name(base)} is a tensor: inputs rounds tensors, and output rounds their gradients"
        yield error_at(detail, "candidate_dtype", "casts", name)


def list_cast_places(graph: Graph) -> list[str]:
    """Return the places that the casts of a recipe may name: values, gradients, and places inside ops."""
    places: list[str] = []
    for name in graph.result_names:
        if name in graph.shapes and name not in graph.leaf_kinds:
            places += [name, GRADIENT_PREFIX + name]
    for node in graph.nodes:
        places += [f"{graph.get_listed_name(node.name)}.{place}" for place in node.op.inner_casts]
    return places


def why_not_differentiable(graph: Graph, name: str) -> str | None:
    """Return the reason why a name has no gradient; None if it has one."""
    is_known = name in graph.all_shapes and graph.is_public(name)
    if is_known and name != graph.loss_name and name not in (graph.leaf_kinds | graph.empty_kinds):
        if name in graph.empty_shapes or name in graph.names_with_gradient:
            return None
        return (
            f"the loss depends on {quote_name(name)} through integers or truths alone, through which no gradient "
            "flows: it is 0; send it among the tensors, and leave it out here"
        )
    names = [
        public_name
        for public_name in graph.public_names
        if public_name != graph.loss_name
        and public_name not in graph.leaf_kinds
        and public_name in graph.names_with_gradient
    ]
    known_names = f"{', '.join(map(quote_name, names[:20]))}{', ...' if len(names) > 20 else ''}"
    if not is_known:
        return f"there is no tensor, weight or node {quote_name(name)}; there are: {known_names}"
    if name == graph.loss_name:
        return f"this is the loss; its gradient with respect to itself is 1; name another: {known_names}"
    return f"this tensor is not of floats, and has no gradient; name another: {known_names}"


def _find_requested_name_errors(request: ParsedCheckRequest, graph: Graph) -> Iterator[PlacedError]:
    for position, name in enumerate(iterate_interruptibly(request.with_respect_to or ())):
        if reason := why_not_differentiable(graph, name):
            yield error_at(reason, "with_respect_to", position)


def _choose_names(request: ParsedCheckRequest, graph: Graph, errors: list[PlacedError]) -> tuple[str, ...]:
    """Return the names to differentiate by, and append an error if there are none."""
    requested_names = request.with_respect_to
    chosen_names: list[str] = [
        *(request.weights if requested_names is None else requested_names),
        *(request.candidate or {}),
    ]
    if requested_names is None:
        errors += [
            error_at(reason, "weights", name)
            for name in iterate_interruptibly(request.weights)
            if (reason := why_not_differentiable(graph, name))
        ]
    names = tuple(dict.fromkeys(chosen_names))
    if not names:
        errors.append(error_at("nothing to judge: name a weight, a tensor or a node", "with_respect_to"))
    return names


def _choose_method(request: ParsedCheckRequest) -> DifferenceMethod:
    spec = request.finite_difference
    if spec.sample is not None and spec.projections is not None:
        detail = "sample takes elements, projections take directions instead of elements; give one of them"
        raise InvalidRequestError([error_at(detail, "finite_difference", "projections")])
    if spec.method == "auto" and spec.sample is not None:
        detail = "auto chooses between all elements and random directions; a sample goes with another method"
        raise InvalidRequestError([error_at(detail, "finite_difference", "sample")])
    if "joint" in spec.model_fields_set and spec.projections is None and spec.method != "auto":
        detail = "joint says how random directions move the tensors; give it together with projections"
        raise InvalidRequestError([error_at(detail, "finite_difference", "joint")])
    if spec.method in ("adaptive", "auto"):
        if spec.step is not None:
            detail = f"{spec.method} finds its own steps; a step goes with method central or forward"
            raise InvalidRequestError([error_at(detail, "finite_difference", "step")])
        return finite_difference.ADAPTIVE_METHOD
    make_method = (
        finite_difference.make_central_method if spec.method == "central" else finite_difference.make_forward_method
    )
    return make_method(spec.step)
