"""What tensors take on their way in and out, in each form of the wire: `make bench`.

In: from the bytes of a body to an array that has been checked. Out: from an array to the bytes of an answer.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from benchmarks import saved_results, tables
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.timing import QUICK_BUDGET, Contender, MeasuringBudget, measure_seconds, run_in_turns, warm_up
from schemas import safetensors_body
from schemas.datatype import BY_ANY_NAME, Array
from schemas.tensor import Encoding, Tensor, encode_tensor
from service.http.body.json_parser import parse_json
from service.http.response.responses import make_json_response

ELEMENT_COUNT = 10**6
DTYPES = ("float64", "float32", "bfloat16")
DIRECTIONS = ("decode", "encode")
MEASUREMENT_NOTE = (
    "Decoding ends with an array that has been checked, encoding with the bytes of an answer; the last of each type, "
    "Python's\n`json` and NumPy's `tolist`, checks nothing. Medians of one run in which all take turns; seconds are "
    "processor time."
)


class WireFormat(NamedTuple):
    """A form of the wire: an array to bytes, and bytes to an array."""

    write: Callable[[Array, str], bytes]
    read: Callable[[bytes], Array]


def write_by_python(array: Array, dtype: str) -> bytes:
    return json.dumps({"w": array.astype(np.float64).tolist()}).encode()


def read_by_python(raw: bytes) -> Array:
    return np.array(json.loads(raw)["w"])


def write_json_tensor(encoding: Encoding, array: Array, dtype: str) -> bytes:
    return make_json_response({"w": encode_tensor(array, encoding, BY_ANY_NAME[dtype])}).get_data()


def read_json_tensor(raw: bytes) -> Array:
    return Tensor.decode(cast("Any", parse_json(raw, "The body", 64, 2**40))["w"]).array


def write_safetensors(array: Array, dtype: str) -> bytes:
    """Write the answer that has this tensor alone."""
    report: Any = {
        "gradients": {"w": {"analytic": encode_tensor(array, "binary", BY_ANY_NAME[dtype])}},
        "intermediates": {},
    }
    return safetensors_body.encode_report(report)


def read_safetensors(raw: bytes) -> Array:
    """Read the request that has this tensor alone."""
    return Tensor.decode(safetensors_body.decode_request(raw).sections["weights"]["w"]).array


WIRE_FORMATS: Mapping[str, WireFormat] = {
    "JSON, nested lists": WireFormat(partial(write_json_tensor, "nested"), read_json_tensor),
    "JSON, base64": WireFormat(partial(write_json_tensor, "b64"), read_json_tensor),
    "safetensors": WireFormat(write_safetensors, read_safetensors),
    "json and NumPy": WireFormat(write_by_python, read_by_python),
}


def make_tensor(dtype: str, elements: int) -> Array:
    """Numbers with all the digits that their type has; bfloat16 in the float32 that holds it."""
    wide = np.random.default_rng(0).normal(size=(elements // 1000, 1000))
    datatype = BY_ANY_NAME[dtype]
    if dtype == "bfloat16":
        wide = wide.astype(np.float32)
        return datatype.from_storage(datatype.to_storage(wide).tobytes()).reshape(wide.shape)
    return wide.astype(dtype)


def make_request(answer: bytes) -> bytes:
    """Bytes of the request that holds the tensor of an answer: of safetensors, under the name of a weight."""
    name = b'"gradients/w/analytic"'
    return answer.replace(name, b'"weights/w"'.ljust(len(name)), 1)


def make_contender(wire_format: WireFormat, dtype: str, elements: int) -> Contender:
    """Write and read in one turn; what was read is what was written."""
    array = make_tensor(dtype, elements)
    request = make_request(wire_format.write(array, dtype))
    readings: list[Array] = []

    def take_turn() -> Mapping[str, float]:
        encoding, _ = measure_seconds(lambda: wire_format.write(array, dtype))
        decoding, read = measure_seconds(lambda: wire_format.read(request))
        readings[:] = [read]
        return {"decode": decoding, "encode": encoding}

    def finish() -> Mapping[str, Any]:
        assert np.array_equal(readings[0], array)
        return {"bytes": len(request)}

    return Contender(take_turn, finish)


def measure_formats(elements: int, patience: MeasuringBudget) -> dict[str, Any]:
    """Figures of each form and type; all take turns."""
    taking_part = {
        (name, dtype): make_contender(form, dtype, elements) for dtype in DTYPES for name, form in WIRE_FORMATS.items()
    }
    for contender in taking_part.values():
        warm_up(contender, patience)
    run_in_turns(list(taking_part.values()))
    return {dtype: {name: dict(taking_part[name, dtype].rows) for name in WIRE_FORMATS} for dtype in DTYPES}


def write_markdown(result: Mapping[str, Any]) -> str:
    """The table that a document quotes."""
    rows = [
        [
            dtype,
            name,
            f"{row['decode']['bytes'] / 1e6:.1f} MB",
            *(tables.format_duration(row[way]["seconds"]) for way in DIRECTIONS),
        ]
        for dtype, forms in result["dtypes"].items()
        for name, row in forms.items()
    ]
    head = [f"{result['elements']:,} elements", "form", "bytes", *DIRECTIONS]
    return f"{tables.write_table(head, rows)}\n\n{MEASUREMENT_NOTE}\n\n{tables.describe_origin(result)}\n"


def main() -> None:
    """Print the table, and keep it where all of it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the elements, briefly; nothing is kept")
    quick: bool = parser.parse_args().quick
    elements = ELEMENT_COUNT // 10 if quick else ELEMENT_COUNT
    result = {
        "elements": elements,
        "dtypes": measure_formats(elements, QUICK_BUDGET if quick else MeasuringBudget(4.0, 5, 50)),
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "orjson", "safetensors")),
    }
    print(write_markdown(result))
    if not quick:
        saved_results.save_results("wire", result, write_markdown(result), write_markdown(result))


if __name__ == "__main__":
    main()
