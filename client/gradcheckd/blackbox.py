"""Requests for the check of a function that only the caller can evaluate: the plan, and the judgement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, cast

from gradcheckd import wire
from gradcheckd.arrays import Array, TypedTensor, to_tensor
from gradcheckd.connection import Connection
from gradcheckd.errors import GradcheckdError, ProblemError, RequestError, hide_frames
from gradcheckd.function_evaluation import PointValues
from gradcheckd.function_forms import TensorForm
from gradcheckd.progress import decode_array
from gradcheckd.wire import JSON, SAFETENSORS

__tracebackhide__ = hide_frames

_BOUND_SIDES = frozenset({"min", "max"})
PLAN_FIELD, REQUEST_FIELD, DIGEST_FIELD = "plan", "plan_request", "digest"


@dataclass(frozen=True)
class PlannedPoints:
    """The points of a plan: by name, stacked along the first axis.

    Attributes
    ----------
    source
        Fields of a judgement that the points follow from: `plan` of the service, to return unchanged, or `plan_request`
        and `digest` of points that were made here.
    evaluations
        Number of points.
    points
        Points by name, shape (evaluations, *tensor).
    cotangents
        Cotangents by output, of its shape; none without outputs.
    tangents
        Tangents by the tensor that they move, shape (directions, *tensor), in the order of the directions; none
        without outputs.
    scales
        Scales of the moves by name, each a number or of the tensor's shape.
    has_first_look
        True if some of the points come first, and others only if those do not suffice; False by default.
    """

    source: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Array]
    cotangents: Mapping[str, Array] = field(default_factory=dict[str, Array])
    tangents: Mapping[str, Array] = field(default_factory=dict[str, Array])
    scales: Mapping[str, Array] = field(default_factory=dict[str, Array])
    has_first_look: bool = False

    @property
    def is_made_here(self) -> bool:
        """Tell whether the points were made here, from the request for a plan."""
        return REQUEST_FIELD in self.source

    def has_points_of(self, other: "PlannedPoints") -> bool:
        """Tell whether another plan has the same points, cotangents and tangents, to the bit."""
        return self.evaluations == other.evaluations and all(
            ours.keys() == theirs.keys() and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
            for ours, theirs in (
                (self.points, other.points),
                (self.cotangents, other.cotangents),
                (self.tangents, other.tangents),
            )
        )


@dataclass(frozen=True)
class PlanParameters:
    """The parameters of a plan: its points follow from them.

    Attributes
    ----------
    point
        Point of the caller.
    outputs
        Outputs at the base, or None for a function that returns one number.
    cotangents
        Cotangents of the caller, by output; None for random ones.
    fields
        Other fields of the request.
    """

    point: TensorForm
    outputs: TensorForm | None = None
    cotangents: Mapping[str, TypedTensor] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


def request_plan(connection: Connection, parameters: PlanParameters) -> PlannedPoints:
    """Request the points at which to evaluate a function.

    Parameters
    ----------
    connection
        Connection to the service.
    parameters
        Parameters of the plan.

    Raises
    ------
    ProblemError
        The service refuses the request.
    RequestError
        The service is older, and knows no few evaluations.
    """
    point, outputs, fields = parameters.point, parameters.outputs, parameters.fields
    sections: dict[str, wire.Section] = {"point": point.tensors}
    if parameters.cotangents is not None:
        sections["cotangents"] = parameters.cotangents
    elif outputs is not None:
        fields = {**fields, "outputs": list_output_shapes(outputs)}
    body = wire.encode_body(fields, sections)
    try:
        content = connection.post("/v1/plan", body, SAFETENSORS)
    except ProblemError as error:
        if any(place["pointer"] == "/evaluations" for place in error.errors):
            raise RequestError(_describe_older_service(connection)) from error
        raise
    arrays, answer = wire.read_safetensors_report(content)
    with wire.UnexpectedAnswerGuard():
        plan = answer["plan"]
        return PlannedPoints(
            {PLAN_FIELD: plan},
            answer["evaluations"],
            {name: arrays[f"points/{name}"] for name in point.originals},
            {name: arrays[f"cotangents/{name}"] for name in outputs.originals} if outputs else {},
            {name: arrays[f"tangents/{name}"] for name in point.originals} if outputs else {},
            {name: decode_array(plan["scale"][name]) for name in point.originals},
            plan.get("first_evaluations") is not None,
        )


def list_output_shapes(outputs: TensorForm) -> dict[str, list[int]]:
    """List the shapes of outputs by name, as a request has them."""
    return {name: list(shape) for name, shape in outputs.shapes.items()}


def _describe_older_service(connection: Connection) -> str:
    try:
        version = f"interface {connection.get_json('/openapi.json')['info']['version']}"
    except (GradcheckdError, KeyError, TypeError):
        version = "an unknown version"
    try:
        own_version = metadata.version("gradcheckd")
    except metadata.PackageNotFoundError:
        own_version = "from its source"
    return (
        f"The service ({connection.url}, {version}) is older than this client (gradcheckd {own_version}): "
        'it takes no few evaluations first. Update the service, or give evaluations="full".'
    )


def encode_scales(scale: Any, point: TensorForm) -> dict[str, Any] | None:
    """Encode the scales of the moves for a request: by name, each a number or a tensor."""
    if scale is None:
        return None
    scale_by_name: Mapping[str, Any] = dict.fromkeys(point.originals, scale)
    if isinstance(scale, Mapping):
        scale_by_name = cast("Mapping[str, Any]", scale)
    elif point.kind == "tuple" and isinstance(scale, list | tuple):
        scale_by_name = point.flatten(scale, "scale")
    return {name: to_tensor(value, f"scale {name!r}").as_json() for name, value in scale_by_name.items()}


def encode_bounds(bounds: Any, point: TensorForm) -> dict[str, Any] | None:
    """Encode bounds for a request: by name, each with `min`, `max` or both, numbers or tensors.

    Raises
    ------
    RequestError
        The bounds have another form.
    """
    if bounds is None:
        return None
    bounds_by_name = _name_bounds(bounds, point)
    sides = list(cast("Mapping[str, Any]", bounds_by_name).values()) if isinstance(bounds_by_name, Mapping) else [None]
    if not all(isinstance(side, Mapping) for side in sides):
        example = (
            '{"min": 0, "max": 1}'
            if point.kind == "array"
            else f'{{{next(iter(point.originals))!r}: {{"min": 0, "max": 1}}}}'
        )
        raise RequestError(f"bounds have min, max or both, as in bounds={example}; {repr(bounds)[:40]} was given.")
    return {
        name: {side: to_tensor(bound, f"bounds {name!r}, {side}").as_json() for side, bound in sides.items()}
        for name, sides in cast("Mapping[str, Mapping[str, Any]]", bounds_by_name).items()
    }


def _name_bounds(bounds: Any, point: TensorForm) -> object:
    """Return bounds by name: those of one array, those of each of a tuple, or some by name already."""
    if point.kind == "array":
        return {next(iter(point.originals)): bounds}
    if point.kind == "tuple" and isinstance(bounds, Mapping) and _BOUND_SIDES.issuperset(cast("Any", bounds)):
        return dict.fromkeys(point.originals, cast("Any", bounds))
    if point.kind == "tuple" and isinstance(bounds, list | tuple):
        named = point.flatten(cast("Sequence[Any]", bounds), "bounds")
        return {name: sides for name, sides in named.items() if sides is not None}
    return cast("object", bounds)


def encode_judgement(
    plan: PlannedPoints, values: PointValues, products: Mapping[str, wire.Section], fields: Mapping[str, Any]
) -> wire.Body:
    """Encode the request for a judgement by the values at the points of a plan.

    Parameters
    ----------
    plan
        Plan of the values.
    values
        Values of the function.
    products
        Gradients and products to judge, by field of the request.
    fields
        Other fields of the request.
    """
    if values.outputs:
        return wire.encode_body({**plan.source, **fields}, {"values": values.outputs, **products})
    return wire.encode_body({**plan.source, "losses": values.losses, **fields}, products)


def request_judgement(
    connection: Connection, body: wire.Body, plan: PlannedPoints
) -> Mapping[str, Any] | PlannedPoints:
    """Request a judgement; return the report as the service sent it, or the plan with further points.

    Parameters
    ----------
    connection
        Connection to the service.
    body
        Request of `encode_judgement`.
    plan
        Plan of its values.

    Raises
    ------
    ProblemError
        The service refuses the request: a loss is not finite, a shape does not fit.
    """
    if not plan.has_first_look:
        content = connection.post("/v1/judge", body, JSON)
        with wire.UnexpectedAnswerGuard():
            return dict(wire.load_json(content))
    arrays, report = wire.read_safetensors_report(connection.post("/v1/judge", body, SAFETENSORS))
    with wire.UnexpectedAnswerGuard():
        if report["outcome"] != "more":
            return dict(report)
        points = {name: arrays[f"points/{name}"] for name in plan.points}
        source = {PLAN_FIELD: report["plan"]}
        return replace(plan, source=source, evaluations=report["evaluations"], points=points)


def request_derivatives(connection: Connection, body: wire.Body) -> tuple[Mapping[str, Array], Mapping[str, Any]]:
    """Request derivatives; return their arrays by name of the answer, and the report.

    Raises
    ------
    ProblemError
        The service refuses the request.
    """
    return wire.read_safetensors_report(connection.post("/v1/judge", body, SAFETENSORS))
