"""Gradients and products of a caller, in every form, and what is wrong with others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradcheckd import FunctionError, RequestError, TensorError
from gradcheckd.arrays import TypedTensor, UntypedTensor
from gradcheckd.blackbox import PlannedPoints
from gradcheckd.function_forms import read_outputs, read_point
from gradcheckd.gradient_products import GradientArguments
from gradcheckd.product_forms import read_cotangents

W, B = np.array([1.0, 2.0, 3.0]), np.array(2.0)
COTANGENTS = {"output0": np.array([1.0, -1.0, 0.5]), "output1": np.array(0.25)}


def function(w: Any, b: Any) -> Any:
    return w * b, (w * w).sum()


def vjp(point: Any, cotangents: Any) -> Any:
    (w, b), (first, second) = point, cotangents
    return first * b + 2 * w * second, (first * w).sum()


def jvp(point: Any, tangents: Any) -> Any:
    (w, b), (dw, db) = point, tangents
    return dw * b + w * db, (2 * w * dw).sum()


def plan(tangents: dict[str, Any], cotangents: dict[str, Any] = COTANGENTS) -> PlannedPoints:
    return PlannedPoints({}, 0, {}, cotangents, tangents)


TANGENTS = {"input0": np.eye(3), "input1": np.ones(1)}


def list_numbers(product: Any) -> Any:
    return product.array.tolist() if isinstance(product, TypedTensor) else product.value


def compute(sources: GradientArguments, point: Any = (W, B), outputs: Any = None, planned: Any = None) -> Any:
    form = read_point(point)
    result = sources.compute_products(
        form, read_outputs(function(W, B) if outputs is None else outputs), planned or plan(TANGENTS)
    )
    return {
        field: {
            key: {name: list_numbers(product) for name, product in part.items()}
            if isinstance(part, dict)
            else list_numbers(part)
            for key, part in section.items()
        }
        for field, section in result.items()
    }


VJPS = {
    "output0": {"input0": [2.0, -2.0, 1.0], "input1": 0.5},
    "output1": {"input0": [0.5, 1.0, 1.5], "input1": 0.0},
}


def test_a_vjp_is_called_for_each_output_alone() -> None:
    calls: list[Any] = []

    def count_cotangents(point: Any, cotangents: Any) -> Any:
        calls.append([np.asarray(cotangent).tolist() for cotangent in cotangents])
        return vjp(point, cotangents)

    assert compute(GradientArguments(vjp=count_cotangents)) == {"vjp": VJPS}
    assert calls == [[[1.0, -1.0, 0.5], 0.0], [[0.0, 0.0, 0.0], 0.25]]


VJP_ARRAYS = {
    "by names": VJPS,
    "in the forms": tuple(tuple(part.values()) for part in VJPS.values()),
    "a form of names": [VJPS["output0"], VJPS["output1"]],
    "of some outputs": {"output1": VJPS["output1"]},
}


@pytest.mark.parametrize("products", VJP_ARRAYS.values(), ids=VJP_ARRAYS)
@pytest.mark.parametrize("field", ["vjp", "jacobian"])
def test_arrays_by_output_may_have_names_or_forms(products: Any, field: str) -> None:
    sources = GradientArguments(**{field: products})
    assert compute(sources)[field] == {name: VJPS[name] for name in compute(sources)[field]}
    assert "output1" in compute(sources)[field]


def test_a_jvp_is_called_for_each_direction() -> None:
    rows = [[[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0], [1.0, 2.0, 3.0]], [2.0, 4.0, 6.0, 0.0]]
    assert compute(GradientArguments(jvp=jvp)) == {"jvp": {"output0": rows[0], "output1": rows[1]}}
    arrays = (np.array(rows[0]), np.array(rows[1]))
    assert compute(GradientArguments(jvp=arrays)) == compute(GradientArguments(jvp=jvp))
    named = {"output1": arrays[1], "output0": arrays[0]}
    assert compute(GradientArguments(jvp=named)) == compute(GradientArguments(jvp=jvp))


def test_simple_forms_need_no_names() -> None:
    point, outputs = np.array([1.0, 2.0]), np.array([2.0, 4.0])
    planned = plan({"x": np.eye(2)}, {"y": np.array([1.0, 3.0])})
    sources = {
        "vjp": lambda at, cotangents: 2 * cotangents,
        "jvp": lambda at, tangents: 2 * tangents,
        "jacobian": lambda at: np.diag([2.0, 2.0]),
    }
    results = {
        field: compute(GradientArguments(**{field: source}), point, outputs, planned)
        for field, source in sources.items()
    }
    assert results == {
        "vjp": {"vjp": {"y": {"x": [2.0, 6.0]}}},
        "jvp": {"jvp": {"y": [[2.0, 0.0], [0.0, 2.0]]}},
        "jacobian": {"jacobian": {"y": {"x": [[2.0, 0.0], [0.0, 2.0]]}}},
    }
    array = GradientArguments(jacobian=np.diag([2.0, 2.0]))
    assert compute(array, point, outputs, planned) == results["jacobian"]


def test_torch_gets_tensors_in_its_datatypes_and_none_is_zero() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    b = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)

    def torch_vjp(point: Any, cotangents: Any) -> Any:
        assert [array.dtype for array in (*point, *cotangents)] == [torch.float32, torch.float64, torch.float32]
        return torch.autograd.grad(point[0] ** 2, point, cotangents, allow_unused=True)

    planned = plan({}, {"output0": np.array([1.0, 0.5])})
    products = compute(GradientArguments(vjp=torch_vjp), (w, b), (w.detach() ** 2,), planned)
    assert products == {"vjp": {"output0": {"input0": [2.0, 2.0], "input1": [0.0, 0.0]}}}


def test_numbers_without_a_datatype_stay_so() -> None:
    """Else the arithmetic of float32 code would seem to be float64."""
    point = np.array([1.0, 2.0], np.float32)
    planned = plan({"x": np.eye(2)}, {"y": np.array(1.0)})
    form, outputs = read_point(point), read_outputs(3.0)
    for jvp_of in (
        lambda at, tangents: float(tangents.sum()),
        lambda at, tangents: float(tangents[0]) or np.float32(0),
    ):
        product = GradientArguments(jvp=jvp_of).compute_products(form, outputs, planned)["jvp"]["y"]
        assert isinstance(product, UntypedTensor)
        assert len(product.value) == 2


def test_numbers_that_are_not_finite_are_spelled() -> None:
    returned = iter([float("nan"), np.float32(np.inf)])
    gradients = GradientArguments(jvp=lambda at, tangents: next(returned))
    planned = plan({"x": np.eye(2)}, {"y": np.array(1.0)})
    product = gradients.compute_products(read_point(np.ones(2)), read_outputs(3.0), planned)["jvp"]["y"]
    assert isinstance(product, UntypedTensor)
    assert product.value == ["NaN", "Infinity"]


def test_a_candidate_has_the_form_of_the_point() -> None:
    for candidate in ((W, B), lambda point: (point[0], point[1])):
        products = GradientArguments(candidate=candidate).compute_products(read_point((W, B)), None, plan({}))
        assert {name: list_numbers(product) for name, product in products["candidate"].items()} == {
            "input0": W.tolist(),
            "input1": 2.0,
        }


def change_point(point: Any, *further: Any) -> Any:
    point[0][:] = 0
    return vjp(point, *further) if further else function(*point)


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an array of integers": (
        {"vjp": lambda p, c: (W, 1 * np.arange(1))},
        TensorError,
        "vjp 'output0/input1': its datatype is INT64",
    ),
    "complex": ({"vjp": lambda p, c: (W * 1j, B)}, TensorError, "vjp 'output0/input0': its datatype is complex128"),
    "nothing": ({"vjp": lambda p, c: None}, TensorError, "The result of vjp for output 'output0' is None"),
    "nothing for a jvp": ({"jvp": lambda p, t: None}, TensorError, "The result of jvp is None"),
    "nothing for a jacobian": ({"jacobian": lambda p: None}, TensorError, "The jacobian is None"),
    "one gradient of two": (
        {"vjp": lambda p, c: W},
        TensorError,
        "for output 'output0' is one ndarray; expected a tuple of",
    ),
    "one output of two": ({"jacobian": (W,)}, TensorError, "The jacobian is a tuple of 1; expected a tuple of 2"),
    "no tangent of an output": (
        {"jvp": lambda p, t: W},
        TensorError,
        "The result of jvp is one ndarray; expected a tuple",
    ),
    "a jvp of another shape": (
        {"jvp": lambda p, t: (W[:2], B)},
        FunctionError,
        r"jvp returned shape \[2\] for output 'output0' along direction 0; the output has shape \[3\]",
    ),
    "changes in a vjp": ({"vjp": change_point}, FunctionError, "vjp changed its input 'input0' in place"),
    "changes in a jvp": ({"jvp": change_point}, FunctionError, "jvp changed its input 'input0' in place"),
    "changes in a jacobian": (
        {"jacobian": change_point},
        FunctionError,
        "jacobian changed its input 'input0' in place",
    ),
    "changes of cotangents": (
        {"vjp": lambda p, c: (np.multiply(c[0], 2, out=c[0]), B)},
        FunctionError,
        "vjp changed its input 'output0' in place",
    ),
}


@pytest.mark.parametrize(("given", "error", "message"), WRONG.values(), ids=WRONG)
def test_products_of_another_form_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute(GradientArguments(**given))
    assert W.tolist() == [1.0, 2.0, 3.0]


def test_an_error_of_a_product_has_a_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        compute(GradientArguments(vjp=lambda point, cotangents: 1 / 0))
    assert caught.value.__notes__ == ["gradcheckd: raised by vjp"]


EXCLUSIVE = {
    "candidate and vjp": {"candidate": W, "vjp": vjp},
    "candidate and jvp": {"candidate": W, "jvp": jvp},
    "vjp and jacobian": {"vjp": vjp, "jacobian": vjp},
}


@pytest.mark.parametrize("given", EXCLUSIVE.values(), ids=EXCLUSIVE)
def test_gradients_that_exclude_each_other_are_refused(given: Any) -> None:
    with pytest.raises(RequestError, match=r"Give it alone|one at a time"):
        GradientArguments(**given)


def test_directions_follow_from_the_gradients() -> None:
    elements = {"kind": "coordinates"}
    assert GradientArguments(vjp=vjp).choose_directions(None) is None
    assert GradientArguments(jacobian=W).choose_directions(None) == elements
    assert GradientArguments().choose_directions(None) == elements
    counted = {"kind": "coordinates", "count": 3}
    assert GradientArguments(jacobian=W).choose_directions(counted) == counted
    assert GradientArguments(candidate=W).choose_directions("random") == {"kind": "random"}
    with pytest.raises(RequestError, match='but a jacobian has directions="coordinates"'):
        GradientArguments(jacobian=W).choose_directions("random")
    with pytest.raises(RequestError, match='but derivatives have directions="coordinates"'):
        GradientArguments().choose_directions({"kind": "random", "count": 2})


@pytest.mark.parametrize("directions", [None, {"kind": "random"}, {"kind": "coordinates", "count": 1}])
def test_arrays_of_jvps_need_the_directions_of_all_elements(directions: Any) -> None:
    GradientArguments(jvp=jvp).refuse_unfit_arrays(directions, None)
    GradientArguments(jvp=W).refuse_unfit_arrays({"kind": "coordinates"}, None)
    with pytest.raises(RequestError, match='only directions="coordinates" can have'):
        GradientArguments(jvp=W).refuse_unfit_arrays(directions, None)


def test_arrays_of_vjps_need_their_cotangents() -> None:
    GradientArguments(vjp=vjp).refuse_unfit_arrays(None, None)
    GradientArguments(vjp=VJPS).refuse_unfit_arrays(None, COTANGENTS)
    with pytest.raises(RequestError, match=r"Give the cotangents that they belong to, too: cotangents=\.\.\."):
        GradientArguments(vjp=VJPS).refuse_unfit_arrays(None, None)


COTANGENT_FORMS: list[Callable[[], Any]] = [
    lambda: COTANGENTS,
    lambda: tuple(COTANGENTS.values()),
    lambda: ([1, -1, 0.5], 0.25),
]


@pytest.mark.parametrize("given", COTANGENT_FORMS)
def test_cotangents_have_the_form_of_the_outputs(given: Callable[[], Any]) -> None:
    read = read_cotangents(given(), read_outputs(function(W, B)))
    assert {name: tensor.array.tolist() for name, tensor in read.items()} == {
        name: array.tolist() for name, array in COTANGENTS.items()
    }


def test_cotangents_of_another_shape_are_refused() -> None:
    outputs = read_outputs(function(W, B))
    with pytest.raises(TensorError, match=r"cotangent of output 'output0' has shape \[2\]; the output has shape \[3\]"):
        read_cotangents((W[:2], B), outputs)
    with pytest.raises(TensorError, match=r"cotangent 'output1' is None\. Give zeros of its shape"):
        read_cotangents((W, None), outputs)
