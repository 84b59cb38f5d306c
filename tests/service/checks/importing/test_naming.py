"""Names of a file become names of a request."""

import numpy as np
import onnx
import pytest

from service.checks.importing.naming import NameTable, clean_name, make_value_name, name_anonymous_initialisers
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    make_file,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_names_follow_the_rule():
    nodes = [node("Exp", "x/1", "/m/Exp"), node("Sin", "/m/Exp", "m_Exp"), node("Cos", "m_Exp", "3")]
    imported = run_import(make_file(nodes, {"x/1": (FLOAT, [1])}, ["3"]))
    assert [entry["name"] for entry in imported.fields["model"]["nodes"]] == ["m.Exp", "m_Exp", "_3"]
    assert list(imported.tensors) == ["x.1"]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a/b::c", "a.b_c"),
        ("", "value"),
        ("...", "value"),
        ("3", "_3"),
        ("\u00e9t\u00e9", "t"),
        ("x" * 500, "x" * 120),
        ("/fc1/Gemm_output_0", "fc1.Gemm"),
        ("_output_0", "output_0"),
        ("/layers.0/mlp/mlp.1/Add", "layers.0.mlp.1.Add"),
    ],
)
def test_a_name_is_made_of_letters_digits_and_points(name, cleaned):
    assert clean_name(name) == cleaned


def test_a_name_that_exists_gets_a_number():
    table = NameTable()
    assert [table.make(name) for name in ("a", "a_2", "a", "a/", "b")] == ["a", "a_2", "a_3", "a_4", "b"]


def test_a_name_is_free_of_the_outputs_of_a_node():
    table = NameTable()
    assert table.make("top.values") == "top.values"
    assert table.make("top", ["values", "indices"]) == "top_2"
    assert table.make("top_2.indices") == "top_2.indices_2"
    assert table.make("top") == "top"


def test_a_value_has_the_path_of_its_module():
    linear = node("Gemm", "x w", "linear_1")
    assert make_value_name(linear, "linear_1") == "linear_1"
    linear.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'fc1', 'linear_1']")
    assert make_value_name(linear, "linear_1") == "fc1/linear_1"
    top = node("Exp", "x", "exp")
    top.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'exp']")
    assert make_value_name(top, "exp") == "exp"


def test_an_output_of_the_model_that_is_a_number_has_the_name_of_its_node():
    last = node("Add", "x w", "371")
    assert make_value_name(last, "371") == "371"
    last.name = "/head/Add"
    assert make_value_name(last, "371") == "/head/Add"
    imported = run_import(
        make_file([last], {"x": (FLOAT, [2])}, ["371"], {"w": np.zeros(2, np.float32)}), loss="head.Add"
    )
    assert imported.outputs == {"371": "head.Add"}


def test_an_anonymous_initialiser_is_named_after_its_reader():
    content = make_file(
        [node("MatMul", "x onnx::MatMul_7", "/fc1/MatMul_output_0"), node("MatMul", "/fc1/MatMul_output_0 own")],
        {"x": (FLOAT, [2, 3])},
        initialisers={"onnx::MatMul_7": np.zeros((3, 3), np.float32), "own": np.zeros((3, 2), np.float32)},
    )
    assert name_anonymous_initialisers(onnx.ModelProto.FromString(content).graph) == {
        "onnx::MatMul_7": "/fc1/MatMul/B",
    }
    assert list(run_import(content).weights) == ["fc1.MatMul.B", "own"]
