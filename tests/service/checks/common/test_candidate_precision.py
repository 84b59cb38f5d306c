import pytest

from schemas.tensor import Tensor
from service.checks.common.candidate_precision import choose_precision
from service.numerics.core.precision import PRECISIONS

BARE, FLOAT16 = Tensor.decode([1.0]), Tensor.decode({"datatype": "FP16", "shape": [1], "data": [1.0]})


@pytest.mark.parametrize(
    ("candidate", "declared", "name"),
    [
        (BARE, None, "FP64"),
        (FLOAT16, None, "FP16"),
        (FLOAT16, "FP32", "FP32"),
        (FLOAT16, "TF32", "TF32"),
        (BARE, "bfloat16", "BF16"),
    ],
)
def test_a_declared_arithmetic_comes_before_that_of_the_datatype(candidate, declared, name):
    assert choose_precision(candidate, declared, PRECISIONS["FP64"]) is PRECISIONS[name]
