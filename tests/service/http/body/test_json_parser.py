import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from service.http.body.json_parser import parse_json

MANY = 2**30

VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(alphabet='ab[]{}"\\\n\u00e9', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=2)
    ),
    max_leaves=10,
)


def measure_depth(value):
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(measure_depth, value.values() if isinstance(value, dict) else value), default=0)


@given(VALUES, st.booleans())
def test_nesting_depth_ignores_brackets_in_strings(value, spaced):
    raw = json.dumps(value, indent=1 if spaced else None, ensure_ascii=spaced).encode()
    assert parse_json(raw, "It", measure_depth(value), MANY) == value
    if measure_depth(value):
        with pytest.raises(BadRequest, match="It is nested deeper than the"):
            parse_json(raw, "It", measure_depth(value) - 1, MANY)


@pytest.mark.no_cover
def test_many_shallow_lists_are_not_deep():
    assert parse_json(b"[%b[]]" % (b"[]," * 10**5), "It", 2, MANY) == [[]] * (10**5 + 1)


@pytest.mark.parametrize(("raw", "words"), [(b"", "It is empty; it must be"), (b"{", "It is not JSON: ")])
def test_syntax_error_names_its_position(raw, words):
    with pytest.raises(BadRequest, match=words):
        parse_json(raw, "It", 9, MANY)


def test_excessive_json_is_refused_before_it_is_built():
    raw = b"[%b[]]" % (b"[]," * 1000)
    with pytest.raises(RequestEntityTooLarge) as info:
        parse_json(raw, "It", 9, 100_000)
    assert info.value.description == (
        "It would take about 1.6e+05 bytes of memory as 1002 lists, 0 objects and 1000 values behind commas; the limit "
        'is 1.0e+05. Tensors take less as "b64", and least in the safetensors format.'
    )
    assert len(parse_json(raw, "It", 9, 160_000)) == 1001


UNITS = {
    "lists": b"[],",
    "lists in lists": b"[[]],",
    "lists of one": b"[1],",
    "objects": b"{},",
    "objects of one": b'{"a":1},',
    "objects of a string": b'{"a":""},',
    "numbers": b"0.5,",
    "integers": b"999,",
    "small integers": b"0,",
    "strings": b'"ab",',
    "empty strings": b'"",',
    "nulls": b"null,",
    "wide strings": '"\U0001f600aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",'.encode(),
    "escaped": b'"\\ud83d\\ude00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",',
}
MEASURE = """
import os, re, sys
from pathlib import Path
from service.http.body.json_parser import _count_bytes, _estimate_parsed_bytes, parse_json
def kilobytes(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
def measure(unit):
    raw = b"[" + unit * (2**22 // len(unit)) + b"0]"
    parse_json(b"[" + unit * 9 + b"0]", "It", 9, 2**40)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = kilobytes("VmRSS")
    value = parse_json(raw, "It", 9, 2**40)
    return _estimate_parsed_bytes(raw, _count_bytes(raw)), 1024 * (kilobytes("VmHWM") - before)
for name in sys.argv[1:]:
    if os.fork():
        assert os.wait()[1] == 0
    else:
        print(*measure(bytes.fromhex(name)), flush=True)
        os._exit(0)
"""
AT_MOST = {"small integers": 3.0, "empty strings": 6.0, "nulls": 3.0}
"""What is estimated is up to so many times what is taken; other things twice."""


@pytest.fixture(scope="module")
def measured_bytes():
    """Estimated bytes, and those taken, by unit.

    Each is measured in a process of its own, of which the peak is known; without its first megabytes, which every
    parser takes. All are forks of one that has imported the parser and parsed nothing large.
    """
    command = [sys.executable, "-c", MEASURE, *(unit.hex() for unit in UNITS.values())]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: tuple(map(int, line.split())) for name, line in zip(UNITS, lines, strict=True)}


@pytest.mark.parametrize("name", UNITS)
def test_memory_estimate_is_no_less_than_the_peak(measured_bytes, name):
    estimate, taken = measured_bytes[name]
    assert taken <= estimate <= AT_MOST.get(name, 2.0) * taken
