"""Rotary embeddings have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import (
    draw,
    find_refusal,
    make_operator_file,
    measure_operator_error,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases
POSITIONS = np.array([[0, 2, 1], [4, 3, 3]])
TABLES = [draw(5, 2), draw(5, 2, seed=1)]

CASES = {
    "four axes": ([draw(2, 3, 3, 4), *TABLES, POSITIONS], {}),
    "interleaved": ([draw(2, 3, 3, 4), *TABLES, POSITIONS], {"interleaved": 1}),
    "three axes": ([draw(2, 3, 12), *TABLES, POSITIONS], {"num_heads": 3}),
    "in part": ([draw(2, 3, 3, 6), *TABLES, POSITIONS], {"rotary_embedding_dim": 4}),
    "angles of each position": ([draw(2, 2, 3, 4), draw(2, 3, 2), draw(2, 3, 2, seed=1)], {}),
}


@pytest.mark.parametrize(("arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(arrays, options):
    assert measure_operator_error("RotaryEmbedding", *arrays, opset=23, **options) < 1e-10


def test_it_becomes_one_node():
    content = make_operator_file("RotaryEmbedding", [draw(2, 3, 3, 4), *TABLES, POSITIONS], 23)
    ops = [node["op"] for node in run_import(content).fields["model"]["nodes"]]
    assert ops.count("rotary_embedding") == 1


REFUSED = {
    "heads": ([draw(2, 3, 12), *TABLES, POSITIONS], {}, "needs num_heads"),
    "axes": ([draw(2, 3), *TABLES, POSITIONS], {}, "takes an input"),
    "tables": ([draw(2, 3, 3, 4), *TABLES], {}, "or position_ids"),
    "tables beside positions": ([draw(2, 3, 3, 4), draw(1, 5, 2), draw(1, 5, 2), POSITIONS], {}, "beside position_ids"),
}


@pytest.mark.parametrize(("arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(arrays, options, words):
    assert words in find_refusal("RotaryEmbedding", *arrays, opset=23, **options)
