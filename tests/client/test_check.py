"""A check by a real service, from arrays to a typed report."""

import dataclasses
import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradcheckd
import schemas.report
from gradcheckd import GradcheckdError, GradientError, ProblemError, Report, RequestError, Service
from gradcheckd.connection import URL_VARIABLE, RepeatableRequest
from tests.client.conftest import W1


def test_the_reference_example_passes_with_its_numbers(service: Service, reference_arrays: dict[str, Any]) -> None:
    report = service.check(**reference_arrays)
    assert (report.outcome, report.passed) == ("pass", True)
    assert report.loss.analytic == 2.3767862745225306
    assert report.gradients["w1"].analytic[0, 0] == -0.1342557202950444
    assert report.gradients["w1"].candidate is None
    assert report.gradients["w2"].finite_difference.shape == (4,)
    assert report.verdicts["w1"].elements == gradcheckd.Elements(4, 4, 0, 0, 0)
    assert report.verdicts["w1"].smallest_detectable_error < 1e-10
    assert report.discrepancies["w1"]["analytic_vs_autograd"].max_ulp <= 4
    assert report.diagnoses == {}
    assert str(report) == report.summary
    assert report.intermediates == {}


def test_a_discrepancy_has_every_metric_of_the_wire() -> None:
    names = [field.name for field in dataclasses.fields(gradcheckd.Discrepancy)]
    assert names == list(schemas.report.Metrics.__annotations__)


def test_a_wrong_gradient_fails_and_its_bug_is_named(service: Service, wrong_arrays: dict[str, Any]) -> None:
    report = service.check(**wrong_arrays)
    assert report.outcome == "fail"
    assert report.verdicts["w2"].outcome == "pass"
    verdict = report.verdicts["w1"]
    assert (verdict.outcome, verdict.elements.failed) == ("fail", 2)
    assert [diagnosis.name for diagnosis in report.diagnoses["w1"]] == ["transposed", "memory_order"]
    worst = verdict.worst[0]
    assert (worst.index, worst.route, worst.judged) == ((0, 1), "candidate", W1[1, 0])
    assert worst.ratio == pytest.approx(report.raw["verdicts"]["w1"]["worst"][0]["ratio"])
    assert report.gradients["w1"].candidate is not None
    assert report.gradients["w1"].candidate.tolist() == W1.T.tolist()


def test_a_report_is_not_to_be_changed(service: Service, reference_arrays: dict[str, Any]) -> None:
    report = service.check(**reference_arrays)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.outcome = "fail"  # type: ignore[misc]
    with pytest.raises(TypeError):
        report.verdicts["w1"] = None  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        report.gradients["w1"].analytic[0, 0] = 1


@pytest.mark.parametrize("progress", [None, lambda *_: None], ids=["at once", "by lines"])
def test_the_text_is_that_of_the_service_and_came_with_the_report(
    url: str, wrong_arrays: dict[str, Any], progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = gradcheckd.check(url=url, progress=progress, **wrong_arrays)
    asked: list[str] = []
    ask = RepeatableRequest.__call__
    monkeypatch.setattr(RepeatableRequest, "__call__", lambda *given: asked.append(given[-1]) or ask(*given))
    assert report.text().startswith("gradcheckd: fail\n")
    assert "probable bug: transposed" in report.text()
    assert asked == []
    # Also when the connection has been closed.
    assert report.markdown().startswith("## gradcheckd: fail\n")
    assert asked == ["text/markdown"]


def test_progress_gives_the_same_report(service: Service, wrong_arrays: dict[str, Any]) -> None:
    told: list[tuple[str, int, int]] = []
    report = service.check(**wrong_arrays, progress=lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2] == report.raw["cost"]["loss_evaluations"]
    other = service.check(**wrong_arrays)
    assert drop_timings(report) == drop_timings(other)
    for name, gradient in report.gradients.items():
        for route, array in vars(gradient).items():
            assert np.array_equal(array, getattr(other.gradients[name], route))


def drop_timings(report: Report) -> Any:
    return {name: value for name, value in report.raw.items() if name not in ("cost", "gradients", "intermediates")}


FIELDS: dict[str, dict[str, Any]] = {
    "a preset, by its name": {"model": "conv_tanh_scale_sigmoid"},
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "a sample": {"finite_difference": {"sample": 2}, "seed": 7},
    "directions": {"finite_difference": {"projections": 3}},
    "names": {"with_respect_to": ["L1", "w2"]},
    "a tolerance": {"tolerance": {"rtol": 1e-3}},
    "all there is": {"include": ["gradients", "allowances", "intermediates"]},
    "a field that this client does not know": {"encoding": "b64"},
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("progress", [None, lambda *_: None], ids=["", "with progress"])
def test_client_sends_every_field(
    service: Service, reference_arrays: dict[str, Any], fields: dict[str, Any], progress: Any
) -> None:
    report = service.check(**reference_arrays, **fields, progress=progress)
    # Of 8 bits not every element can be told here, with every seed.
    assert report.outcome in ({"pass", "inconclusive"} if fields.get("dtype") == "bfloat16" else {"pass"})
    assert set(report.verdicts) == set(fields.get("with_respect_to", ["w1", "w2"]))
    if "dtype" in fields:
        assert report.gradients["w1"].analytic.dtype == np.float32
    if "include" in fields:
        assert report.gradients["w1"].allowed is not None
        assert report.intermediates["L1"]["value"].shape == (4,)
    if "finite_difference" in fields:
        assert report.verdicts["w1"].missed is not None
        for direction in report.verdicts["w1"].directions:
            assert (direction.index, direction.ratio < 1) == (None, True)


@pytest.mark.parametrize(
    ("rows", "spec", "choice"),
    [(500, None, {"method": "adaptive"}), (499, None, None), (500, {"sample": 1}, None)],
    ids=["large", "small", "a choice of its own"],
)
def test_auto_is_the_method_of_large_weights(service: Service, rows: int, spec: Any, choice: Any) -> None:
    nodes = [{"name": "z", "op": "linear", "inputs": ["x", "w"]}, {"name": "loss", "op": "sum", "inputs": ["z"]}]
    tensors, weights = {"x": np.ones((1, 100))}, {"w": np.ones((rows, 100))}
    report = service.check(tensors=tensors, weights=weights, model=nodes, finite_difference=spec, include=[])
    assert report.passed
    assert report.raw.get("finite_difference") == choice


def test_a_graph_may_be_given_by_its_nodes(service: Service) -> None:
    nodes = [{"name": "p", "op": "mul", "inputs": ["x", "w"]}, {"name": "loss", "op": "sum", "inputs": ["p"]}]
    for model in (nodes, {"nodes": nodes}):
        report = service.check(tensors={"x": np.ones(3)}, weights={"w": np.ones(3)}, model=model)
        assert report.gradients["w"].analytic.tolist() == [1, 1, 1]


MAKERS = {
    "lists": lambda values: np.asarray(values).tolist(),
    "float32": lambda values: np.asarray(values, np.float32),
    "torch": lambda values: torch.tensor(values, requires_grad=True),
    "torch bfloat16": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "jax": jnp.asarray,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_arrays_of_anyone_are_judged_by_their_own_rounding(
    service: Service, reference_arrays: dict[str, Any], make: Any
) -> None:
    # At a point that every datatype holds exactly.
    point = {"w1": [[0.125, -0.125], [0.25, 0.0625]], "w2": [0.5, -0.25, 0.25, 0.5]}
    exact = service.check(
        tensors=reference_arrays["tensors"], weights={name: np.array(values) for name, values in point.items()}
    )
    given = {
        "tensors": {name: make(tensor.tolist()) for name, tensor in reference_arrays["tensors"].items()},
        "weights": {name: make(values) for name, values in point.items()},
        "candidate": {name: make(gradient.analytic.tolist()) for name, gradient in exact.gradients.items()},
    }
    # A convolution in bfloat16 adds rounded terms on a CPU: not every element can be told here.
    assert service.check(**given).outcome == ("inconclusive" if "bfloat16" in str(given["weights"]) else "pass")
    given["candidate"]["w2"] = make((-exact.gradients["w2"].analytic).tolist())
    report = service.check(**given)
    assert report.outcome == "fail"
    named = [diagnosis.name for diagnosis in report.diagnoses["w2"]]
    assert "sign_flipped" in named or "bfloat16" in str(given["weights"]), "4 elements of 8 bits do not name a bug"


@pytest.mark.parametrize("labels", [[0, 2, 1], np.array([0, 2, 1]), np.array([0, 2, 1], np.uint8)], ids=repr)
def test_integer_labels_stay_integers(service: Service, labels: Any) -> None:
    nodes = [{"name": "loss", "op": "cross_entropy", "inputs": ["z", "y"]}]
    report = service.check(tensors={"y": labels}, weights={"z": np.eye(3)}, model=nodes)
    assert report.outcome == "pass"


def test_nonfinite_values_arrive_as_numbers(service: Service, reference_arrays: dict[str, Any]) -> None:
    wrong = reference_arrays | {"candidate": {"w2": np.array([np.nan, np.inf, 0, 0])}}
    report = service.check(**wrong)
    assert np.isnan(report.verdicts["w2"].worst[0].judged)
    assert report.verdicts["w2"].worst[0].index == (0,)
    kinked = [{"name": "a", "op": "abs", "inputs": ["w"]}, {"name": "loss", "op": "sum", "inputs": ["a"]}]
    (kink,) = service.check(weights={"w": np.array([0.0, 1.0])}, model=kinked).verdicts["w"].kinks
    assert (kink.index, kink.left, kink.right) == ((0,), -1, 1)


def test_names_with_slashes_are_restored(service: Service) -> None:
    nodes = [{"name": "loss", "op": "sum", "inputs": ["layer/0/w"]}]
    report = service.check(weights={"layer/0/w": np.ones(2)}, model=nodes)
    assert report.gradients["layer/0/w"].analytic.tolist() == [1, 1]


def test_a_gradient_that_is_right_is_asserted(service: Service, reference_arrays: dict[str, Any]) -> None:
    assert service.assert_gradients(**reference_arrays, candidate={"w1": W1}).passed


def test_the_error_of_an_assertion_is_the_report_for_reading(
    url: str, wrong_arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, url)
    with pytest.raises(AssertionError, match="probable bug: transposed") as caught:
        gradcheckd.assert_gradients(**wrong_arrays)
    assert isinstance(caught.value, GradientError)
    assert caught.value.report.outcome == "fail"
    first, blank, second, *_ = str(caught.value).splitlines()
    assert first == f"w1 transposed or memory_order: {caught.value.report.summary}"
    assert "w1" in first
    assert blank == ""
    assert second.startswith("w1: probable bug: transposed \N{EM DASH} ")


def test_inconclusive_report_is_no_pass_to_an_assertion(service: Service, reference_arrays: dict[str, Any]) -> None:
    with pytest.raises(GradientError, match=r"^inconclusive: "):
        service.assert_gradients(
            **reference_arrays, candidate={"w1": W1}, finite_difference={"method": "central", "step": 100}
        )


@pytest.mark.parametrize("given", [{}, {"candidate": None}, {"candidate": {}}], ids=repr)
def test_an_assertion_about_nothing_is_refused(
    service: Service, reference_arrays: dict[str, Any], given: dict[str, Any]
) -> None:
    with pytest.raises(RequestError, match=r'candidate=\{"name": array\}; .* use check'):
        service.assert_gradients(**reference_arrays, **given)


def test_a_request_that_is_refused_says_where_and_what_to_do(
    service: Service, reference_arrays: dict[str, Any]
) -> None:
    del reference_arrays["tensors"]["x"]
    with pytest.raises(ProblemError) as caught:
        service.check(**reference_arrays, moodel="lenet")
    problem = caught.value
    assert (problem.status, problem.title) == (422, "Invalid request")
    assert problem.errors[0]["pointer"] == "/moodel"
    assert str(problem).splitlines() == [
        "Invalid request (422)",
        "  /moodel: unknown field 'moodel'; did you mean 'model'?",
        "Fix the fields listed above.",
    ]


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "a candidate that is an array": ({"candidate": np.ones(2)}, r"candidate is a mapping .* \(ndarray\) was given"),
    "weights in a list": ({"weights": [np.ones(2)]}, r'weights=\{"w": array\}; .* \(list\) was given'),
    "a name that is none": ({"weights": {1: np.ones(2)}}, "as a name 1 was given"),
    "a model that is a function": ({"model": abs}, "model is the name of a preset, a text with a node a line, a graph"),
    "a name instead of names": ({"with_respect_to": "w1"}, "with_respect_to is a list of names"),
    "a number instead of names": ({"include": 1}, "include is a list of names"),
    "a datatype that is none": ({"dtype": abs}, "datatype is a name, as 'float32'"),
    "a field that is not JSON": ({"tolerance": {"rtol": abs}}, "The field /tolerance/rtol of the request"),
}


@pytest.mark.parametrize(("given", "message"), KINDS.values(), ids=KINDS)
def test_arguments_of_another_kind_are_refused_by_name(
    service: Service, reference_arrays: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(GradcheckdError, match=message):
        service.check(**reference_arrays | given)
    with pytest.raises(GradcheckdError, match=message):
        service.assert_gradients(**{"candidate": {"w1": W1}} | reference_arrays | given)


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("float32"), torch.float32, jnp.float32, "float32"], ids=repr)
def test_a_datatype_may_be_that_of_a_library(service: Service, reference_arrays: dict[str, Any], dtype: Any) -> None:
    report = service.check(**reference_arrays, dtype=dtype, candidate={"w1": W1.tolist()}, candidate_dtype=dtype)
    assert report.gradients["w1"].analytic.dtype == np.float32


def test_numbers_of_numpy_are_taken_for_fields(service: Service, reference_arrays: dict[str, Any]) -> None:
    assert service.check(**reference_arrays, seed=np.int64(7), finite_difference={"sample": np.int32(2)}).passed


def test_closed_service_says_that_it_is_closed(url: str) -> None:
    with Service(url) as service:
        pass
    with pytest.raises(RequestError, match="has been closed"):
        service.models()


def test_client_lists_ops_presets_and_bugs(service: Service) -> None:
    assert "lenet" in [model["name"] for model in service.models()]
    assert "conv2d" in [op["name"] for op in service.ops()]
    request = next(model["request"] for model in service.models() if model["name"] == "mlp_classifier")
    assert service.check(**request).passed
    assert json.dumps(request)
