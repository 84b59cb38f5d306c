"""The safetensors format as the library of that name has it."""

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from gradcheckd import RequestError, UnexpectedAnswerError
from gradcheckd.arrays import TypedTensor, to_tensor
from gradcheckd.wire import JSON, SAFETENSORS, encode_body, is_safetensors, read_safetensors_report, to_safetensors

DTYPES = st.sampled_from(["float64", "float32", "float16", "int64", "int32", "bool"])
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, max_side=4)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
TENSORS = st.dictionaries(NAMES, arrays_of.arrays(DTYPES, SHAPES), max_size=4)


def to_typed_tensor(value: Any) -> TypedTensor:
    taken = to_tensor(value, "x")
    assert isinstance(taken, TypedTensor)
    return taken


@given(TENSORS)
def test_the_library_reads_what_is_written(tensors: dict[str, np.ndarray]) -> None:
    content = to_safetensors({name: to_typed_tensor(tensor) for name, tensor in tensors.items()}, {"request": "{}"})
    assert is_safetensors(content)
    read = safetensors.numpy.load(content)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert read[name].tobytes() == tensor.tobytes()


@given(TENSORS)
def test_files_of_the_safetensors_library_are_read(tensors: dict[str, np.ndarray]) -> None:
    read, report = read_safetensors_report(safetensors.numpy.save(tensors, {"report": '{"outcome": "pass"}'}))
    assert report == {"outcome": "pass"}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert read[name].tobytes() == tensor.tobytes()
        assert not read[name].flags.writeable


def test_bfloat16_comes_back_in_float32() -> None:
    read, _ = read_safetensors_report(
        to_safetensors({"g": to_typed_tensor(torch.tensor([0.1], dtype=torch.bfloat16))}, {"report": "{}"})
    )
    assert read["g"].dtype == np.float32
    assert read["g"].tolist() == [0.10009765625]


def test_a_body_of_arrays_is_binary_and_one_with_a_list_is_json() -> None:
    array = {"w1": to_typed_tensor(np.ones(2, np.float32))}
    binary = encode_body({"seed": 1}, {"weights": array})
    assert binary.media_type == SAFETENSORS
    mixed = encode_body({"seed": 1}, {"weights": array, "tensors": {"y": to_tensor([0, 1], "y")}})
    assert mixed.media_type == JSON
    written = {"datatype": "FP32", "shape": [2], "b64": "AACAPwAAgD8="}
    assert json.loads(mixed.content) == {"seed": 1, "weights": {"w1": written}, "tensors": {"y": [0, 1]}}


DEEP: list[Any] = []
for _ in range(20_000):
    DEEP = [DEEP]


@pytest.mark.parametrize("field", [{1, 2}, float("nan"), np.float32("nan"), np.complex64(1), np.ones(1)], ids=repr)
def test_a_field_that_is_not_json_is_refused_with_its_place(field: Any) -> None:
    with pytest.raises(RequestError, match="The field /model/nodes/1/factor of the request is not JSON"):
        encode_body({"seed": 1, "model": {"nodes": [{}, {"name": "a", "factor": field}]}}, {})


def test_a_field_of_lists_without_end_is_refused() -> None:
    with pytest.raises(RequestError, match="The field /include/0/0/0/0/0 of the request is not JSON"):
        encode_body({"include": DEEP}, {})


def test_numbers_of_numpy_are_numbers() -> None:
    fields = {"seed": np.int64(3), "nodes": [{"dim": np.uint8(1), "eps": np.float32(0.5), "keep": np.bool_(True)}]}
    content = encode_body(fields, {"weights": {"w": to_tensor([1], "w")}}).content
    assert json.loads(content) == {
        "seed": 3,
        "nodes": [{"dim": 1, "eps": 0.5, "keep": True}],
        "weights": {"w": [1]},
    }


WHOLE = to_safetensors({"a": to_typed_tensor(np.ones(3))}, {"report": "{}"})


BROKEN = {
    "nothing": b"",
    "JSON": b"{}",
    "cut off": WHOLE[:-1],
    "cut off in the header": WHOLE[:60],
    "a datatype that there is not": WHOLE.replace(b"F64", b"F65"),
    "no report": WHOLE.replace(b"report", b"reqort"),
    "zeros": b"\0" * 9,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_malformed_answer_is_refused(content: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="answer is not as it should be"):
        read_safetensors_report(content)


@pytest.mark.parametrize("content", [b"", b'{"tensors": {}}', b"PK\3\4 and so on", b"[1]"])
def test_other_bytes_are_not_taken_for_safetensors(content: bytes) -> None:
    assert not is_safetensors(content)
