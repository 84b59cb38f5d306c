"""Functions with arrays, tuples or mappings of outputs: right products pass, and each wrong one is named."""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gradcheckd import (
    BlackBoxReport,
    Derivatives,
    FunctionError,
    GradientError,
    ProblemError,
    RequestError,
    Service,
    TensorError,
)
from gradcheckd.page import render_page

W, B = np.array([0.5, -1.5, 2.0]), np.array([[0.25, 1.0], [-0.5, 2.0], [1.5, -1.0]])


def function(w: Any, b: Any) -> Any:
    """An array of shape (2,) and a number."""
    return np.sin(w) @ b, float((w * w).sum() * b[0, 0])


def jacobian(point: Any) -> Any:
    w, b = point
    by_b = np.zeros((2, 3, 2))
    by_b[[0, 1], :, [0, 1]] = np.sin(w)
    number_by_b = np.zeros((3, 2))
    number_by_b[0, 0] = (w * w).sum()
    return ((np.cos(w)[:, None] * b).T, by_b), (2 * w * b[0, 0], number_by_b)


def vjp(point: Any, cotangents: Any) -> Any:
    rows = jacobian(point)
    return tuple(
        sum(
            np.tensordot(cotangent, row[place], np.ndim(cotangent))
            for cotangent, row in zip(cotangents, rows, strict=True)
        )
        for place in (0, 1)
    )


def jvp(point: Any, tangents: Any) -> Any:
    return tuple(
        sum(np.tensordot(part, tangent, tangent.ndim) for part, tangent in zip(row, tangents, strict=True))
        for row in jacobian(point)
    )


def spoil(result: Any, output: int | None, place: int, factor: float = 1.001) -> Any:
    """A result with one part times a factor: of one output, or of the only one."""
    if output is None:
        return tuple(part * factor if number == place else part for number, part in enumerate(result))
    return tuple(spoil(row, None, place, factor) if number == output else row for number, row in enumerate(result))


OTHERS = {"output0/input0": "pass", "output0/input1": "pass", "output1/input0": "pass", "output1/input1": "pass"}


def list_outcomes(report: BlackBoxReport) -> dict[str, str]:
    return {name: verdict.outcome for name, verdict in report.verdicts.items()}


@pytest.mark.parametrize("directions", ["random", "coordinates"])
def test_right_products_pass(service: Service, directions: str) -> None:
    report = service.check_function(function, (W, B), vjp=vjp, jvp=jvp, directions=directions)
    assert list_outcomes(report) == OTHERS | {"output0": "pass", "output1": "pass"}
    assert report.outcome == "pass"
    assert {test.name for test in report.dot_tests} == set(OTHERS)
    assert {test.outcome for test in report.dot_tests} == {"pass"}
    assert (report.rounds, report.exceptions) == (1, ())
    assert 0 <= report.noise < 1e-14
    assert report.text().startswith("gradcheckd: pass\n")


WRONG_VJPS = {f"output{output}/input{place}": (output, place) for output in (0, 1) for place in (0, 1)}


@pytest.mark.parametrize(("name", "place"), WRONG_VJPS.items())
def test_a_wrong_vjp_names_output_and_input(service: Service, name: str, place: tuple[int, int]) -> None:
    def wrong(point: Any, cotangents: Any) -> Any:
        is_wrong = np.any(cotangents[place[0]])
        return spoil(vjp(point, cotangents), None, place[1]) if is_wrong else vjp(point, cotangents)

    report = service.check_function(function, (W, B), vjp=wrong)
    assert list_outcomes(report) == OTHERS | {name: "fail"}
    assert name in report.text()
    with pytest.raises(GradientError, match=name):
        service.assert_function(function, (W, B), vjp=wrong)


@pytest.mark.parametrize("output", [0, 1])
def test_a_wrong_jvp_names_the_output(service: Service, output: int) -> None:
    report = service.check_function(
        function, (W, B), jvp=lambda point, tangents: spoil(jvp(point, tangents), None, output)
    )
    assert list_outcomes(report) == {"output0": "pass", "output1": "pass"} | {f"output{output}": "fail"}
    assert report.verdicts[f"output{output}"].worst[0].index is not None


@pytest.mark.parametrize(("name", "place"), WRONG_VJPS.items())
@pytest.mark.parametrize("is_function", [True, False])
def test_a_wrong_jacobian_names_output_and_input(
    service: Service, name: str, place: tuple[int, int], is_function: bool
) -> None:
    rows = spoil(jacobian((W, B)), *place)
    given: Any = (lambda point: rows) if is_function else rows
    report = service.check_function(function, (W, B), jacobian=given)
    assert list_outcomes(report) == OTHERS | {name: "fail"}
    named = {
        f"output{output}": {f"input{number}": part for number, part in enumerate(row)}
        for output, row in enumerate(rows)
    }
    assert list_outcomes(service.check_function(function, (W, B), jacobian=named)) == list_outcomes(report)


def test_products_that_contradict_each_other_are_named(service: Service) -> None:
    report = service.check_function(function, (W, B), vjp=lambda *both: spoil(vjp(*both), None, 0), jvp=jvp)
    assert {test.name for test in report.dot_tests if test.outcome == "fail"} == {"output0/input0", "output1/input0"}
    assert report.dot_tests[0].vjp == pytest.approx(1.001 * report.dot_tests[0].jvp)
    assert 0 < report.dot_tests[0].allowed < 1e-12


def test_cotangents_of_the_caller_are_used(service: Service) -> None:
    cotangents = (np.array([1.0, -2.0]), 3.0)
    products = tuple(vjp((W, B), pair) for pair in ((cotangents[0], 0.0), (np.zeros(2), cotangents[1])))
    report = service.check_function(function, (W, B), vjp=products, cotangents=cotangents)
    assert list_outcomes(report) == OTHERS
    wrong = service.check_function(function, (W, B), vjp=spoil(products, 1, 0), cotangents=cotangents)
    assert list_outcomes(wrong) == OTHERS | {"output1/input0": "fail"}
    calls: list[Any] = []
    service.check_function(function, (W, B), vjp=lambda p, c: calls.append(c) or vjp(p, c), cotangents=cotangents)
    assert [call.tolist() for call in calls[0]] == [[1.0, -2.0], 0.0]


def test_array_of_jvps_is_judged(service: Service) -> None:
    rows = jacobian((W, B))
    arrays = tuple(
        np.concatenate([np.moveaxis(part.reshape(*shape, -1), -1, 0) for part in row])
        for row, shape in zip(rows, ((2,), ()), strict=True)
    )
    report = service.check_function(function, (W, B), jvp=arrays, directions="coordinates")
    assert list_outcomes(report) == {"output0": "pass", "output1": "pass"}
    report = service.check_function(function, (W, B), jvp=spoil(arrays, None, 1), directions="coordinates")
    assert list_outcomes(report) == {"output0": "pass", "output1": "fail"}


def test_derivatives_have_the_forms_of_outputs_and_point(service: Service) -> None:
    derivatives = service.check_function(function, (W, B))
    assert isinstance(derivatives, Derivatives)
    for values, bounds, row in zip(derivatives.values, derivatives.error_bounds, jacobian((W, B)), strict=True):
        for value, bound, right in zip(values, bounds, row, strict=True):
            assert value.shape == bound.shape == right.shape
            assert (np.abs(value - right) <= bound + 1e-15).all()
            assert (bound < 1e-10).all()
    assert derivatives.evaluations > 9 * 14
    assert "no gradient was given" in str(derivatives)


def test_a_derivative_of_one_number_by_one_array_is_a_gradient(service: Service) -> None:
    derivatives = service.check_function(lambda w: float(np.sin(w).sum()), W)
    assert derivatives.values.shape == W.shape
    assert (np.abs(derivatives.values - np.cos(W)) <= derivatives.error_bounds).all()
    named = service.check_function(lambda at: {"a": np.sin(at["w"])}, {"w": W})
    assert named.values["a"]["w"] == pytest.approx(np.diag(np.cos(W)), abs=1e-12)


def test_derivatives_beside_a_kink_take_smaller_moves(service: Service) -> None:
    point = np.array([1.0, 3.0])
    derivatives = service.check_function(lambda w: np.abs(w - 0.999), point)
    assert derivatives.rounds > 1
    assert (np.abs(derivatives.values - np.eye(2)) <= derivatives.error_bounds).all()
    assert (derivatives.error_bounds < 1e-6).all()
    at_kink = service.check_function(lambda w: np.abs(w - [1.0, 0.0]), point)
    assert at_kink.error_bounds[0, 0] > 0.9
    assert at_kink.error_bounds[1, 1] < 1e-6


def test_outputs_without_a_value_are_missing(service: Service) -> None:
    def leave_out_values(w: Any) -> Any:
        if w[0] > 1.0625:
            raise ArithmeticError("too far")
        return {"a": w * w, "b": None if w[1] > 3.1 else np.log(3.2 - w)}

    point = np.array([1.0, 3.0])
    right = {"a": {"x": np.diag(2 * point)}, "b": {"x": np.diag(-1 / (3.2 - point))}}
    report = service.check_function(leave_out_values, point, jacobian=right, evaluations="full")
    assert (report.outcome, len(report.exceptions) > 0) == ("pass", True)
    wrong = right | {"b": {"x": 1.01 * right["b"]["x"]}}
    report = service.check_function(leave_out_values, point, jacobian=wrong)
    assert list_outcomes(report) == {"a/x": "pass", "b/x": "fail"}
    assert "ArithmeticError: too far" in report.text()


def test_an_output_that_is_not_finite_at_the_point_is_inconclusive(service: Service) -> None:
    report = service.check_function(lambda w: np.array([w[0], np.nan]), np.ones(1), jacobian=np.array([[1.0], [1.0]]))
    assert report.outcome == "inconclusive"


def make_torch_vjp(torch_function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def torch_vjp(point: Any, cotangents: Any) -> Any:
        tensors = [tensor.detach().requires_grad_() for tensor in point]
        outputs = torch_function(*tensors)
        return torch.autograd.grad(outputs, tensors, cotangents, allow_unused=True)

    return torch_vjp


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_torch_functions_are_checked(service: Service, dtype: torch.dtype) -> None:
    def torch_function(w: Any, b: Any) -> Any:
        assert w.dtype == b.dtype == dtype
        return torch.sin(w) @ b, (w * w).sum()

    point = torch.tensor(W, dtype=dtype, requires_grad=True), torch.tensor(B, dtype=dtype).T.contiguous().T
    right = make_torch_vjp(torch_function)
    directions = "coordinates" if dtype != torch.bfloat16 else "random"
    report = service.check_function(torch_function, point, vjp=right, directions=directions)
    assert report.outcome != "fail"
    if dtype == torch.float64:
        assert report.outcome == "pass"
    wrong = service.check_function(
        torch_function, point, vjp=lambda *both: [-product if product is not None else None for product in right(*both)]
    )
    assert wrong.outcome == "fail"


def test_jax_functions_are_checked(service: Service) -> None:
    point = {"w": jnp.asarray(W), "b": jnp.asarray(B)}

    def jax_function(at: Any) -> Any:
        return {"a": jnp.sin(at["w"]) @ at["b"], "n": jnp.sum(at["w"] ** 2)}

    def jax_vjp(at: Any, cotangents: Any) -> Any:
        return jax.vjp(jax_function, at)[1](cotangents)[0]

    def jax_jvp(at: Any, tangents: Any) -> Any:
        return jax.jvp(jax_function, (at,), (tangents,))[1]

    report = service.check_function(jax_function, point, vjp=jax_vjp, jvp=jax_jvp)
    assert {"a/w", "a/b", "n/w", "n/b", "a", "n"} == set(report.verdicts)
    assert report.outcome != "fail"
    wrong = service.check_function(jax_function, point, jvp=lambda *both: jax.tree.map(jnp.negative, jax_jvp(*both)))
    assert list_outcomes(wrong) == {"a": "fail", "n": "fail"}


def test_lists_have_the_arithmetic_of_the_point(service: Service) -> None:
    """As floats of Python, float32 derivatives would be judged as float64."""
    point = W.astype(np.float32)

    def sum_squares(w: Any) -> float:
        return float((w * w).sum(dtype=np.float32))

    report = service.check_function(sum_squares, point, jvp=lambda at, tangents: float(np.float32(2) * (at @ tangents)))
    assert report.outcome != "fail"
    report = service.check_function(sum_squares, point, jvp=lambda at, tangents: float(-2 * (at @ tangents)))
    assert report.outcome == "fail"


def test_a_report_of_outputs_goes_to_another_process_and_on_a_page(service: Service) -> None:
    report = service.check_function(function, (W, B), vjp=lambda *both: spoil(vjp(*both), None, 1), jvp=jvp)
    other: BlackBoxReport = pickle.loads(pickle.dumps(report))
    assert (other.verdicts, other.dot_tests, other.text()) == (report.verdicts, report.dot_tests, report.text())
    assert "output0/input1" in render_page(report)
    assert report.markdown().startswith("## gradcheckd: fail")


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "candidate": ({"candidate": (W, B)}, TensorError, "give vjp, jvp or jacobian"),
    "random jacobian": ({"jacobian": jacobian, "directions": "random"}, RequestError, "a jacobian has directions"),
    "shape": ({"jacobian": (jacobian((W, B))[0], (W[:2], B))}, ProblemError, "/jacobian/output1/input0"),
    "cotangent": ({"vjp": vjp, "cotangents": (W, 1.0)}, TensorError, "cotangent of output 'output0' has shape"),
    "direction": ({"jvp": lambda p, t: (W, 1.0)}, FunctionError, "along direction 0; the output has shape"),
}


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_do_not_fit_the_function_are_refused(
    service: Service, given: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        service.check_function(function, (W, B), **given)


def test_an_assertion_needs_a_gradient(service: Service) -> None:
    with pytest.raises(RequestError, match="assert_function was given no gradient of yours"):
        service.assert_function(function, (W, B))
