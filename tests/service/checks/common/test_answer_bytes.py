import base64

import numpy as np
import pytest

from schemas.json_writer import write_json
from schemas.problem_details import InvalidRequestError
from service.checks.common.answer_bytes import check_answer_bytes, estimate_tensor_bytes
from service.checks.common.limits import Limits


@pytest.mark.parametrize("shape", [(), (7,), (3, 1, 1, 2), (0, 4)])
def test_no_tensor_takes_more_bytes_than_estimated(shape):
    values = np.full(shape, -1.2345678901234567e-105)
    assert len(write_json({"w": values.tolist()})) - len(b'{"w":}') <= estimate_tensor_bytes(shape, "nested", 8)
    assert values.nbytes < estimate_tensor_bytes(shape, "binary", 8)
    assert len(base64.b64encode(values.tobytes())) < estimate_tensor_bytes(shape, "b64", 8)


def test_an_answer_over_the_limit_is_refused_with_the_remedy():
    assert check_answer_bytes(100, Limits(answer_bytes=100), "Ask for less", "include") == 100
    with pytest.raises(InvalidRequestError) as info:
        check_answer_bytes(101, Limits(answer_bytes=100), "Ask for less", "include")
    (error,) = info.value.errors
    assert (error["pointer"], info.value.reason) == ("/include", "over-budget")
    assert error["detail"] == "the answer may take up to 1.0e+02 bytes; the limit is 1.0e+02. Ask for less"
