"""What is written late is what would have been written at once."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.datatype import DATATYPES
from schemas.json_writer import DeferredPart, defer_tensor, write_json
from schemas.tensor import encode_tensor

ROOT = Path(__file__).parents[2]
LARGEST = float(np.finfo(np.float64).max)
NUMBERS = st.floats(allow_nan=False) | st.sampled_from(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, LARGEST, -LARGEST, float(np.nextafter(LARGEST, 0)), 5e-324, 1e17, 1.5]
)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def encode_at_once(array: Any, encoding: Any) -> Any:
    return json.loads(orjson.dumps(encode_tensor(array, encoding), option=orjson.OPT_SERIALIZE_NUMPY))


@given(arrays.arrays(np.float64, SHAPES, elements=NUMBERS), st.sampled_from(["nested", "b64"]))
def test_an_array_that_is_written_late_is_the_same_text(array: Any, encoding: Any) -> None:
    assert json.loads(write_json({"x": defer_tensor(array, encoding)}))["x"] == encode_at_once(array, encoding)


@pytest.mark.parametrize("name", ["FP32", "FP16", "BF16"])
@pytest.mark.parametrize("encoding", ["nested", "b64"])
def test_narrow_tensor_is_written_in_its_encoding(name: str, encoding: Any) -> None:
    array = np.array(
        [[1.5, np.inf], [np.nan, -np.inf]], np.float32 if name == "BF16" else DATATYPES[name].storage_dtype
    )
    tensor = json.loads(write_json({"x": defer_tensor(array, encoding, DATATYPES[name])}))["x"]
    assert tensor == json.loads(orjson.dumps(encode_tensor(array, encoding, DATATYPES[name])))


def test_deferred_parts_may_hold_deferred_parts() -> None:
    document = {"points": [DeferredPart(lambda: {"w": defer_tensor(np.array([1.0, np.inf]), "nested")})]}
    assert json.loads(write_json(document)) == {"points": [{"w": [1.0, "Infinity"]}]}


def test_unencodable_value_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        write_json({"x": object()})


def measure_peak(make: Any) -> int:
    tracemalloc.start()
    try:
        made = make()
        return tracemalloc.get_traced_memory()[1] - len(made)
    finally:
        tracemalloc.stop()


@pytest.mark.no_cover
@pytest.mark.long
def test_writer_holds_the_text_of_one_array_at_a_time() -> None:
    array = np.full(100_000, np.nan)
    array[::2] = np.random.default_rng(0).normal(size=50_000)
    late = {str(number): defer_tensor(array, "nested") for number in range(10)}
    # Beside the text itself: what it may grow by, and one array.
    assert measure_peak(lambda: write_json(late)) < 15e6
    assert (
        measure_peak(lambda: orjson.dumps({str(number): encode_tensor(array, "nested") for number in range(10)})) > 30e6
    ), "the negative control"


@pytest.mark.parametrize("count", [*range(150, 180), 2**14 - 1, 2**14, 2**14 + 1])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1), (1, 1, -1)])
def test_arrays_are_written_as_lists_of_any_length(count: int, shape: tuple[int, ...]) -> None:
    array = np.full(count, -1.2345678901234567e-105).reshape(shape)
    assert write_json({"x": array}) == orjson.dumps({"x": array.tolist()})


WRITING = """
import sys
import numpy as np
import orjson
from schemas.json_writer import write_json
theirs = lambda document: orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
write = write_json if sys.argv[1] == "ours" else theirs
for count in range(100, 400):
    for _ in range(20):
        text = write({"x": np.full(count, -1.2345678901234567e-105)})
        others = [bytes(len(text)) for _ in range(3)]
"""


def test_writer_stays_within_its_buffer() -> None:
    """Under an allocator that looks, where there is one: orjson's own way with arrays does not pass it."""
    environment = os.environ | {"MALLOC_CHECK_": "3", "LD_PRELOAD": "libc_malloc_debug.so.0"}
    command = [sys.executable, "-c", WRITING, "ours"]
    assert subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_numbers_of_numpy_are_numbers() -> None:
    document = {"a": np.float64(1.5), "b": np.int64(2), "c": np.bool_(True), "d": np.array(2.5)}
    assert json.loads(write_json(document)) == {"a": 1.5, "b": 2, "c": True, "d": 2.5}
