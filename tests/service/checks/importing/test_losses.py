"""The loss is one output, or the sum of outputs times cotangents."""

import numpy as np

from tests.service.checks.importing.onnx_files import (
    FLOAT,
    evaluate,
    list_errors,
    make_file,
    node,
    run_import,
)


def test_an_output_is_contracted_with_random_numbers():
    imported = run_import(make_file([node("Exp", "x")], {"x": (FLOAT, [2, 3])}))
    values = evaluate(imported)
    np.testing.assert_allclose(values["loss"], (np.exp(values["x"]) * values["y_cotangent"]).sum(), rtol=1e-14)
    assert "random cotangents" in imported.note
    assert imported.fields["with_respect_to"] == ["x"]


def test_several_outputs_are_added():
    nodes = [node("Exp", "x", "a"), node("Sin", "x", "b")]
    values = evaluate(run_import(make_file(nodes, {"x": (FLOAT, [2])}, ["a", "b"])))
    parts = [(values[name] * values[f"{name}_cotangent"]).sum() for name in ("a", "b")]
    np.testing.assert_allclose(values["loss"], sum(parts), rtol=1e-14)


def test_one_output_of_one_element_is_the_loss():
    imported = run_import(make_file([node("ReduceSum", "x")], {"x": (FLOAT, [2, 3])}))
    assert [entry["op"] for entry in imported.fields["model"]["nodes"]] == ["sum"]
    assert imported.note.startswith("the loss is the output 'y'")


def test_integers_and_constants_do_not_count():
    nodes = [node("Exp", "x", "a"), node("Shape", "x", "b")]
    imported = run_import(make_file(nodes, {"x": (FLOAT, [2])}, ["a", "b"]))
    assert list(imported.outputs) == ["a"]
    assert "nothing to differentiate" in list_errors(make_file([node("Shape", "x")], {"x": (FLOAT, [2])}))["/graph"]
