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

from benchmarks import kept, tables
from benchmarks.machine import machine, versions
from benchmarks.measuring import QUICK, Contender, Patience, in_turns, timed, warm
from schemas import binary
from schemas.datatype import BY_ANY_NAME, Array
from schemas.tensor import Encoding, Tensor, encode
from service.http.answers import json_answer
from service.http.parsing import parsed

ELEMENTS = 10**6
DTYPES = ("float64", "float32", "bfloat16")
WAYS = ("decode", "encode")
NOTE = (
    "Decoding ends with an array that has been checked, encoding with the bytes of an answer; the last of each type, "
    "Python's\n`json` and NumPy's `tolist`, checks nothing. Medians of one run in which all take turns; seconds are "
    "processor time."
)


class Form(NamedTuple):
    """A form of the wire: an array to bytes, and bytes to an array."""

    write: Callable[[Array, str], bytes]
    read: Callable[[bytes], Array]


def by_python(array: Array, dtype: str) -> bytes:
    return json.dumps({"w": array.astype(np.float64).tolist()}).encode()


def from_python(raw: bytes) -> Array:
    return np.array(json.loads(raw)["w"])


def as_json(encoding: Encoding, array: Array, dtype: str) -> bytes:
    return json_answer({"w": encode(array, encoding, BY_ANY_NAME[dtype])}).get_data()


def from_json(raw: bytes) -> Array:
    return Tensor.decode(cast("Any", parsed(raw, "The body", 64, 2**40))["w"]).array


def as_safetensors(array: Array, dtype: str) -> bytes:
    """Write the answer that has this tensor alone."""
    report: Any = {"gradients": {"w": {"analytic": encode(array, "binary", BY_ANY_NAME[dtype])}}, "intermediates": {}}
    return binary.encode(report)


def from_safetensors(raw: bytes) -> Array:
    """Read the request that has this tensor alone."""
    return Tensor.decode(binary.decode(raw).sections["weights"]["w"]).array


FORMS: Mapping[str, Form] = {
    "JSON, nested lists": Form(partial(as_json, "nested"), from_json),
    "JSON, base64": Form(partial(as_json, "b64"), from_json),
    "safetensors": Form(as_safetensors, from_safetensors),
    "json and NumPy": Form(by_python, from_python),
}


def tensor_of(dtype: str, elements: int) -> Array:
    """Numbers with all the digits that their type has; bfloat16 in the float32 that holds it."""
    wide = np.random.default_rng(0).normal(size=(elements // 1000, 1000))
    datatype = BY_ANY_NAME[dtype]
    if dtype == "bfloat16":
        wide = wide.astype(np.float32)
        return datatype.restored(datatype.stored_from(wide).tobytes()).reshape(wide.shape)
    return wide.astype(dtype)


def request_of(answer: bytes) -> bytes:
    """Bytes of the request that holds the tensor of an answer: of safetensors, under the name of a weight."""
    name = b'"gradients/w/analytic"'
    return answer.replace(name, b'"weights/w"'.ljust(len(name)), 1)


def contender(form: Form, dtype: str, elements: int) -> Contender:
    """Write and read in one turn; what was read is what was written."""
    array = tensor_of(dtype, elements)
    request = request_of(form.write(array, dtype))
    found: list[Array] = []

    def turn() -> Mapping[str, float]:
        encoding, _ = timed(lambda: form.write(array, dtype))
        decoding, read = timed(lambda: form.read(request))
        found[:] = [read]
        return {"decode": decoding, "encode": encoding}

    def finish() -> Mapping[str, Any]:
        assert np.array_equal(found[0], array)
        return {"bytes": len(request)}

    return Contender(turn, finish)


def measured(elements: int, patience: Patience) -> dict[str, Any]:
    """Figures of each form and type; all take turns."""
    taking_part = {(name, dtype): contender(form, dtype, elements) for dtype in DTYPES for name, form in FORMS.items()}
    for each in taking_part.values():
        warm(each, patience)
    in_turns(list(taking_part.values()))
    return {dtype: {name: dict(taking_part[name, dtype].rows) for name in FORMS} for dtype in DTYPES}


def markdown(result: Mapping[str, Any]) -> str:
    """The table that the README quotes."""
    rows = [
        [dtype, name, f"{row['decode']['bytes'] / 1e6:.1f} MB", *(tables.duration(row[way]["seconds"]) for way in WAYS)]
        for dtype, forms in result["dtypes"].items()
        for name, row in forms.items()
    ]
    head = [f"{result['elements']:,} elements", "form", "bytes", *WAYS]
    return f"{tables.table(head, rows)}\n\n{NOTE}\n\n{tables.origin(result)}\n"


def main() -> None:
    """Print the table, and keep it where all of it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the elements, briefly; nothing is kept")
    quick: bool = parser.parse_args().quick
    elements = ELEMENTS // 10 if quick else ELEMENTS
    result = {
        "elements": elements,
        "dtypes": measured(elements, QUICK if quick else Patience(4.0, 5, 50)),
        "machine": machine(),
        "versions": versions(("numpy", "orjson", "safetensors")),
    }
    print(markdown(result))
    if not quick:
        kept.keep("wire", result, markdown(result), markdown(result))


if __name__ == "__main__":
    main()
