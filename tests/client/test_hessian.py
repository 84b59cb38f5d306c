"""Second derivatives by differences of a gradient."""

from typing import Any

import numpy as np
import pytest
import torch

import gradcheckd
from gradcheckd import BlackBoxReport, Derivatives, RequestError, Service, TensorError

W, B = np.array([0.5, -1.5, 2.0]), np.array([0.25, 1.0])


def gradient(at: Any) -> Any:
    """Of sum(sin(w)) sum(b^2)."""
    w, b = at["w"], at["b"]
    return {"w": np.cos(w) * (b @ b), "b": 2 * b * np.sin(w).sum()}


def hessian(at: Any) -> Any:
    w, b = at["w"], at["b"]
    mixed = np.outer(np.cos(w), 2 * b)
    return {
        "w": {"w": np.diag(-np.sin(w)) * (b @ b), "b": mixed},
        "b": {"w": mixed.T.copy(), "b": 2 * np.eye(2) * np.sin(w).sum()},
    }


def hvp(at: Any, direction: Any) -> Any:
    rows = hessian(at)
    return {name: sum(row[other] @ direction[other] for other in row) for name, row in rows.items()}


POINT = {"w": W, "b": B}


def test_right_products_and_hessians_pass(service: Service) -> None:
    report = service.check_hessian(gradient, POINT, hvp)
    assert isinstance(report, BlackBoxReport)
    assert report.outcome == "pass"
    assert set(report.verdicts) == {"w", "b", "w/w", "w/b", "b/w", "b/b"}
    assert {test.outcome for test in report.dot_tests} == {"pass"}
    assert service.check_hessian(gradient, POINT, hessian=hessian).outcome == "pass"
    assert service.check_hessian(gradient, POINT, hessian=hessian(POINT), seed=3).outcome == "pass"


def test_a_wrong_product_is_named(service: Service) -> None:
    def compute_wrong_product(at: Any, direction: Any) -> Any:
        right = hvp(at, direction)
        return right | {"b": right["b"] - 1e-3 * direction["b"]}

    report = service.check_hessian(gradient, POINT, compute_wrong_product)
    assert {name for name, verdict in report.verdicts.items() if verdict.outcome == "fail"} == {"b", "b/b"}


def test_a_product_that_is_not_symmetric_fails(service: Service) -> None:
    def compute_asymmetric_product(at: Any, direction: Any) -> Any:
        return hvp(at, direction | {"b": 1.001 * direction["b"]}) | {"b": hvp(at, direction)["b"]}

    report = service.check_hessian(gradient, POINT, compute_asymmetric_product)
    assert "fail" in {test.outcome for test in report.dot_tests}


def test_a_wrong_element_of_a_hessian_is_named(service: Service) -> None:
    rows = hessian(POINT)
    rows["w"]["b"][2, 1] *= 1.0001
    report = service.check_hessian(gradient, POINT, hessian=rows)
    assert [name for name, verdict in report.verdicts.items() if verdict.outcome == "fail"] == ["w/b"]
    assert report.verdicts["w/b"].worst[0].index == (2, 1)


def test_hessian_without_a_candidate_has_its_bounds(service: Service) -> None:
    derivatives = service.check_hessian(gradient, POINT)
    assert isinstance(derivatives, Derivatives)
    for name, row in hessian(POINT).items():
        for other, right in row.items():
            assert (np.abs(derivatives.values[name][other] - right) <= derivatives.error_bounds[name][other]).all()


def test_gradients_of_torch_are_checked(url: str) -> None:
    point = torch.tensor(W, requires_grad=True)

    def torch_gradient(w: torch.Tensor) -> Any:
        return torch.autograd.grad((w**3).sum(), w)

    result = gradcheckd.check_hessian(torch_gradient, point, lambda w, direction: 6 * w * direction, url=url)
    assert result.outcome == "pass"
    wrong = gradcheckd.check_hessian(torch_gradient, point, lambda w, direction: 3 * w * direction, url=url)
    assert wrong.outcome == "fail"


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "both": (gradient, {"hvp": hvp, "hessian": hessian}, RequestError, "one at a time"),
    "arrays as hvp": (gradient, {"hvp": W}, RequestError, "Give arrays of second derivatives as hessian"),
    "no function": (POINT, {}, TensorError, "The gradient takes a point; dict was given"),
    "another shape": (
        lambda at: at | {"w": W[:2]},
        {},
        TensorError,
        r"of 'w' has shape \[2\]; the point has shape \[3\]",
    ),
    "another form": (lambda at: W, {}, TensorError, "The gradient is one ndarray; expected a mapping"),
}


@pytest.mark.parametrize(("given", "options", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_gradients_and_options_that_do_not_fit_the_point_are_refused(
    service: Service, given: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        service.check_hessian(given, POINT, **options)


def test_gradient_that_returns_none_is_reported(service: Service) -> None:
    with pytest.raises(gradcheckd.FunctionError, match="returned None at the base"):
        service.check_hessian(lambda at: None, POINT)
