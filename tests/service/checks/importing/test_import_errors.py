"""Errors of a file are listed with their places."""

import numpy as np

from service.checks.importing.import_errors import ErrorList, ModelFileError, UnsupportedOperatorError
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    list_errors,
    make_file,
    node,
)


def test_every_unsupported_operator_is_listed_once_with_its_nodes():
    nodes = [
        node("Unique", "x", "a"),
        node("Unique", "a", "b"),
        node("NonMaxSuppression", "b k", "c"),
        node("Exp", "c"),
    ]
    errors = list_errors(make_file(nodes, {"x": (FLOAT, [2, 3])}, initialisers={"k": np.array([1])}))
    assert {pointer: detail.split(".")[0] for pointer, detail in errors.items()} == {
        "/graph/node/0": "Unique is not among the operators that are taken (2 nodes: 'a', 'b')",
        "/graph/node/2": "NonMaxSuppression is not among the operators that are taken",
    }


def test_the_nodes_of_one_operator_become_one_error_before_all_others():
    errors = ErrorList()
    assert not errors
    errors.add(ModelFileError("the input is wrong"), ("graph", "input", 0))
    for position in range(8):
        errors.add(UnsupportedOperatorError("TopK", "is not taken"), ("graph", "node", position), f"n{position}")
    assert errors
    unsupported, other = errors.to_request_error("Do this").errors
    assert unsupported["pointer"] == "/graph/node/0"
    assert unsupported["detail"] == "TopK is not taken (8 nodes: 'n0', 'n1', 'n2', 'n3', 'n4' and 3 more). Do this"
    assert (other["pointer"], other["detail"]) == ("/graph/input/0", "the input is wrong")
