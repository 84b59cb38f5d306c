import numpy as np
import pytest

from schemas.datatype import DATATYPES
from schemas.json_writer import write_json
from schemas.stored_result import encode_result, pack_result, unpack_result
from schemas.tensor import Tensor


def make_document():
    return {
        "outcome": "pass",
        "gradients": {
            "w/1": {"analytic": Tensor(np.array([1.0, np.nan]), DATATYPES["FP64"], is_integral=False)},
            "places": {"autograd": Tensor(np.float32(0.1).reshape(()), DATATYPES["FP32"], is_integral=False)},
        },
        "list": [{"w": Tensor(np.zeros((0, 2)), DATATYPES["FP64"], is_integral=False)}, 0.1, None],
        "cost": {"evaluations": np.int64(3), "seconds": 1e-300},
    }


def test_packed_result_is_unpacked_with_its_order():
    document = unpack_result(pack_result(make_document()))
    assert list(document) == list(make_document())
    assert list(document["gradients"]) == ["w/1", "places"]
    tensor = document["gradients"]["w/1"]["analytic"]
    assert np.array_equal(tensor.array, [1.0, np.nan], equal_nan=True)
    assert tensor.datatype == DATATYPES["FP64"]
    assert document["list"][0]["w"].array.shape == (0, 2)
    assert document["cost"] == {"evaluations": 3, "seconds": 1e-300}


@pytest.mark.parametrize("encoding", ["nested", "b64"])
def test_encoded_result_is_the_same_after_packing(encoding):
    direct, stored = (
        encode_result(document, encoding) for document in (make_document(), unpack_result(pack_result(make_document())))
    )
    assert write_json(direct) == write_json(stored)


def test_document_without_tensors_is_packed():
    assert unpack_result(pack_result({"outcome": "fail"})) == {"outcome": "fail"}
