"""Products of a Jacobian that a client computed, and the Jacobian itself, against the outputs and tensors of a plan."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from schemas.plan import JudgeRequest
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name
from schemas.tensor import Tensor
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.outputs import Shapes
from service.checks.blackbox.plan_size import BINARY_SIZE_FACTOR, compute_most_numbers, count_tensor_numbers
from service.checks.blackbox.values import describe_unknown_output
from service.checks.common.limits import Limits

_MAX_LISTED_NAMES = 20
NestedTensors = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class GivenProducts:
    """The products of a request.

    Attributes
    ----------
    vjp, jacobian
        Vector-Jacobian products and Jacobians, by output, then by tensor.
    jvp
        Jacobian-vector products by output, (directions, ...).
    """

    vjp: NestedTensors = field(default_factory=dict[str, Mapping[str, Tensor]])
    jvp: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    jacobian: NestedTensors = field(default_factory=dict[str, Mapping[str, Tensor]])


def take_first_products(products: GivenProducts, plan: EvaluationPlan, first_plan: EvaluationPlan) -> GivenProducts:
    """Return the products of the directions of a first look."""
    rows: list[int] = []
    start = 0
    for name, lines in plan.layout.lines.items():
        rows += range(start, start + len(first_plan.layout.lines[name]))
        start += len(lines)
    jvp = {
        output: Tensor(tensor.array[rows], tensor.datatype, is_integral=tensor.is_integral)
        for output, tensor in products.jvp.items()
    }
    return replace(products, jvp=jvp)


def read_products(request: JudgeRequest, plan: EvaluationPlan, limits: Limits) -> GivenProducts:
    """Read the products of a request for a judgement of outputs.

    Parameters
    ----------
    request
        Request of valid form.
    plan
        Plan with outputs.
    limits
        Limits of the request.

    Raises
    ------
    InvalidRequestError
        All errors of names, shapes, datatypes and sizes.
    """
    products = GivenProducts(request.vjp or {}, request.jvp or {}, request.jacobian or {})
    checker = _ProductChecker(plan, {name: array.shape for name, array in plan.cotangents.items()})
    errors = [
        *checker.find_name_errors("vjp", products.vjp),
        *checker.find_name_errors("jacobian", products.jacobian),
        *checker.find_directional_errors(products.jvp),
    ]
    if products.vjp and products.jacobian:
        errors.append(error_at("is given beside `jacobian`, of which it is a product; give one of them", "vjp"))
    if products.jacobian and plan.random:
        detail = 'needs a plan with directions of kind "coordinates"; this one has random directions'
        errors.append(error_at(detail, "jacobian"))
    if errors:
        raise InvalidRequestError(errors)
    check_pair_count(products, limits)
    check_jacobian_size(plan, limits, "jacobian", products.jacobian)
    return products


def check_pair_count(products: GivenProducts, limits: Limits) -> None:
    """Refuse products of more pairs of an output and a tensor than names are taken.

    Raises
    ------
    InvalidRequestError
        The number of pairs, and the limit.
    """
    for field_name, nested in (("vjp", products.vjp), ("jacobian", products.jacobian)):
        count = sum(map(len, nested.values()))
        if count > limits.names:
            detail = f"{count} pairs of an output and a tensor are more than the {limits.names} that are taken"
            raise InvalidRequestError([error_at(detail, field_name)], "over-budget")


def check_jacobian_size(plan: EvaluationPlan, limits: Limits, field_name: str, outputs: Iterable[str]) -> None:
    """Refuse a Jacobian with more numbers than points may hold.

    Parameters
    ----------
    plan
        Plan of a loss, or of a function with outputs.
    limits
        Limits of the request.
    field_name
        Field of the request to blame.
    outputs
        Names of the outputs; none of a loss.

    Raises
    ------
    InvalidRequestError
        The estimate, and the limit.
    """
    columns = [point.values.size for point in plan.layout.points.values()]
    rows = [plan.cotangents[name].size for name in outputs] if plan.cotangents else [1]
    numbers = count_tensor_numbers([row * column for row in rows for column in columns])
    most = compute_most_numbers(limits, BINARY_SIZE_FACTOR)
    if numbers > most:
        detail = (
            f"the derivatives of these outputs by all tensors hold {numbers} numbers; at most {most} may. Check "
            "fewer or smaller outputs at once"
        )
        raise InvalidRequestError([error_at(detail, field_name)], "over-budget")


@dataclass(frozen=True)
class _ProductChecker:
    """Finds the errors of products against a plan."""

    plan: EvaluationPlan
    shapes: Shapes

    def find_name_errors(self, field_name: str, nested: NestedTensors) -> Iterator[PlacedError]:
        """Yield the errors of products by output and tensor."""
        points = self.plan.layout.points
        for output, tensors in nested.items():
            if output not in self.shapes:
                yield error_at(describe_unknown_output(output, self.shapes), field_name, output)
                continue
            for name in points:
                if name not in tensors:
                    yield error_at("is missing: the plan moves this tensor too", field_name, output, name)
            for name, tensor in tensors.items():
                if detail := self._describe_product_error(field_name, output, name, tensor):
                    yield error_at(detail, field_name, output, name)

    def _describe_product_error(self, field_name: str, output: str, name: str, tensor: Tensor) -> str:
        points = self.plan.layout.points
        if name not in points:
            known = ", ".join(map(quote_name, list(points)[:_MAX_LISTED_NAMES]))
            return f"there is no tensor {quote_name(name)} in the plan; there are: {known}"
        if field_name == "vjp":
            return _describe_mismatch(tensor, points[name].values.shape, "the point has")
        shape = (*self.shapes[output], *points[name].values.shape)
        return _describe_mismatch(tensor, shape, "output and tensor together have")

    def find_directional_errors(self, jvp: Mapping[str, Tensor]) -> Iterator[PlacedError]:
        """Yield the errors of Jacobian-vector products."""
        count = sum(map(len, self.plan.layout.lines.values()))
        for output, tensor in jvp.items():
            if output not in self.shapes:
                detail = describe_unknown_output(output, self.shapes)
            else:
                words = f"the plan has {count} directions, and so it must have"
                detail = _describe_mismatch(tensor, (count, *self.shapes[output]), words)
            if detail:
                yield error_at(detail, "jvp", output)


def _describe_mismatch(tensor: Tensor, shape: tuple[int, ...], words: str) -> str:
    if tensor.datatype is not None and tensor.datatype.kind != "float":
        return f"a derivative is of floats; datatype {tensor.datatype.name} was given"
    if tensor.array.shape != shape:
        return f"its shape is {list(tensor.array.shape)}; {words} {list(shape)}"
    return ""
