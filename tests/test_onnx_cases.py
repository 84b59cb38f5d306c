"""A sample of ONNX's node cases is imported with the expected values; a wrong value is seen."""

import importlib
import warnings

import numpy as np
import pytest

from benchmarks.onnx_case_choice import choose_cases
from benchmarks.onnx_case_runs import NodeCase, run_case
from benchmarks.onnx_cases import count_results, find_reason, write_markdown

MODULES = ("averagepool", "conv", "gelu", "gemm", "groupnormalization", "layernormalization", "lstm", "softmax")


@pytest.fixture(scope="module")
def cases():
    """The cases of some operators, which their modules make when they load."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name in MODULES:
            importlib.import_module(f"{node.__name__}.{name}")
    return [
        NodeCase(case.name, case.model, list(case.data_sets[0][0]), list(case.data_sets[0][1]))
        for case in node._NodeTestCases
        if case.data_sets
    ]


@pytest.fixture(scope="module")
def results(cases):
    return [run_case(case) for case in choose_cases(cases)]


def test_the_cases_of_common_operators_are_imported_with_their_values(results):
    assert len(results) > 60
    assert {result.name for result in results if not result.agrees} <= {
        # Its expected values have four digits.
        "test_averagepool_2d_ceil_last_window_starts_on_pad",
    }


def test_a_wrong_value_is_seen(cases):
    (case,) = [case for case in cases if case.name == "test_gelu_tanh_1"]
    assert run_case(case).agrees
    wrong = case._replace(outputs=[case.outputs[0] + np.float32(1e-4)])
    assert not run_case(wrong).agrees
    longer = case._replace(outputs=[np.concatenate([case.outputs[0], case.outputs[0]])])
    assert run_case(longer).errors == {"y": np.inf}


def test_a_refusal_is_counted_by_its_operator(cases, results):
    (case,) = [case for case in cases if case.name == "test_gelu_tanh_1"]
    model = type(case.model)()
    model.CopyFrom(case.model)
    model.graph.node[0].op_type = "Frobnicate"
    refused = run_case(case._replace(model=model))
    assert find_reason(refused) == "Frobnicate"
    document = count_results([*results, refused], 1000)
    assert document["imported"] == len(results)
    assert document["missing"] == {"Frobnicate": 1}
    machine = {"machine": {"cpu": "a processor", "cores": 2}, "versions": {"onnx": "1"}}
    assert f"{100 * len(results) / (len(results) + 1):.1f} %" in write_markdown(document | machine)


def test_operators_without_a_derivative_do_not_count(cases):
    (case,) = [case for case in cases if case.name == "test_gelu_tanh_1"]
    model = type(case.model)()
    model.CopyFrom(case.model)
    model.graph.node[0].op_type = "Floor"
    assert choose_cases([case]) == [case]
    assert choose_cases([case._replace(model=model)]) == []
    assert choose_cases([case._replace(inputs=[np.full(3, np.nan, np.float32)])]) == []
