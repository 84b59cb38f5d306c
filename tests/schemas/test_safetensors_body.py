"""The safetensors format: what is in it comes out, and what is not in it is said."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from schemas.datatype import DATATYPES
from schemas.problem_details import InvalidRequestError
from schemas.safetensors_body import NotSafetensorsError, decode_request, encode_report, reorder_header, to_safetensors
from schemas.tensor import Tensor
from tests.tensor_bodies import frame_body, make_bfloat16_entry, make_body, make_entry, read_body


def make_info(dtype: str, shape: Any, start: Any, stop: Any, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


def test_a_request_is_taken_apart() -> None:
    raw = make_body(
        {
            "weights/w": make_bfloat16_entry([[1, 2]]),
            "tensors/x": make_entry(np.arange(3)),
            "candidate/w": make_entry(np.float32(0.5)),
        },
        {"request": '{"seed": 1}', "format": "np"},
    )
    parts = decode_request(raw)
    assert parts.fields_text == '{"seed": 1}'
    joined = parts.merge_fields({"seed": 1})
    assert list(joined) == ["seed", "tensors", "weights", "candidate"]
    assert Tensor.decode(joined["tensors"]["x"]).array.tolist() == [0, 1, 2]
    assert Tensor.decode(joined["weights"]["w"]).array.tolist() == [[1, 2]]
    assert Tensor.decode(joined["candidate"]["w"]).array.tolist() == 0.5


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_the_other_fields_may_be_left_out(metadata: Any) -> None:
    parts = decode_request(make_body({}, metadata))
    assert (parts.fields_text, parts.merge_fields({})) == ("{}", {"tensors": {}, "weights": {}})


def test_names_keep_their_order_and_all_that_is_behind_the_first_slash() -> None:
    names = ["z", "a/b", "/", "weights/w", "é~", "", "m"]
    parts = decode_request(make_body({f"weights/{name}": make_entry(np.ones(1)) for name in names}))
    assert list(parts.sections["weights"]) == names


F64 = make_info("F64", [1], 0, 8)
NOT_IN_IT = {
    "nothing": (b"", "header too small"),
    "half a length": (b"\2\0\0", "header too small"),
    "a length alone": (frame_body({}, length=2)[:8], "header"),
    "a header too long": (frame_body({}, length=2**22 + 1), "said to have 4194305 bytes; at most 4194304 are taken"),
    "a header of all there is": (frame_body({}, length=2**64 - 1), "at most 4194304 are taken"),
    "a header longer than the body": (frame_body({}, length=3), "header"),
    "no JSON": (frame_body(b'{"weights/w": '), "EOF"),
    "a list": (frame_body([]), "invalid type"),
    "not UTF-8": (frame_body(b'{"weights/\xff": 1}'), "UTF-8"),
    "a byte order mark": (frame_body(b"\xef\xbb\xbf{}"), "JSON"),
    "deep": (frame_body(b"[" * 10_000), "JSON"),
    "deep inside": (frame_body(b'{"a":' * 10_000), "recursion"),
    "an entry of another type": (frame_body({"weights/w": None}), "TensorInfo"),
    "no shape": (
        frame_body({"weights/w": {"dtype": "F64", "data_offsets": [0, 8]}}, bytes(8)),
        "missing field `shape`",
    ),
    "a negative size": (frame_body({"weights/w": make_info("F64", [-1], 0, 8)}, bytes(8)), "integer `-1`"),
    "a fraction of a size": (frame_body({"weights/w": make_info("F64", [1.0], 0, 8)}, bytes(8)), "floating point"),
    "a dtype of nobody": (frame_body({"weights/w": make_info("F128", [1], 0, 8)}, bytes(8)), "unknown variant `F128`"),
    "truncated": (frame_body({"weights/w": F64}, bytes(7)), "not fully covered"),
    "too much": (frame_body({"weights/w": F64}, bytes(9)), "not fully covered"),
    "overlapping": (frame_body({"weights/a": F64, "weights/b": make_info("F64", [1], 4, 12)}, bytes(12)), "offset"),
    "a gap": (frame_body({"weights/a": F64, "weights/b": make_info("F64", [1], 12, 20)}, bytes(20)), "offset"),
    "out of range": (frame_body({"weights/w": make_info("F64", [1], 2**60, 2**60 + 8)}, bytes(8)), "offset"),
    "the other way round": (frame_body({"weights/w": make_info("F64", [1], 8, 0)}, bytes(8)), "offset"),
    "another size": (frame_body({"weights/w": make_info("F64", [2], 0, 8)}, bytes(8)), "invalid shape"),
    "overflow": (frame_body({"weights/w": make_info("F64", [2**40, 2**40], 0, 8)}, bytes(8)), "overflow"),
    "overflow of nothing": (frame_body({"weights/w": make_info("F64", [2**40, 2**40, 0], 0, 0)}), "overflow"),
    "twice": (frame_body(b'{"a/b":%b,"a/b":%b}' % ((json.dumps(F64).encode(),) * 2), bytes(8)), "'a/b' twice"),
    "the same entry twice": (frame_body(b'{"__metadata__":{"request":"{}","request":"{}"}}'), "'request' twice"),
    "metadata of numbers": (frame_body({"__metadata__": {"request": 1}}), "expected a string"),
    "half a surrogate pair": (frame_body(b'{"__metadata__":{"request":"\\ud800"}}'), "JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "words"), NOT_IN_IT.values(), ids=NOT_IN_IT)
def test_malformed_body_is_refused_with_its_reason(raw: bytes, words: str) -> None:
    with pytest.raises(NotSafetensorsError) as error:
        decode_request(raw)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "place"),
    [("w1", "/w1"), ("weight/w1", "/weight/w1"), ("tensors", "/tensors"), ("a/b/c", "/a/b~1c"), ("", "/")],
)  # fmt: skip
def test_tensor_of_no_section_is_reported_by_name(name: str, place: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        decode_request(make_body({"weights/w": make_entry(np.ones(1)), name: make_entry(np.ones(1))}))
    assert [entry["pointer"] for entry in error.value.errors] == [place]
    assert f"as in weights/w1; {name!r} is not" in error.value.errors[0]["detail"]


@pytest.mark.parametrize("section", ["tensors", "weights", "candidate"])
def test_tensors_do_not_stand_in_the_other_fields_too(section: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        decode_request(make_body({})).merge_fields({section: {}})
    (only,) = error.value.errors
    assert only["pointer"] == f"/{section}"
    assert f"tensors named {section}/..." in only["detail"]


@pytest.mark.parametrize("fields", [[], None, 1, "x"])
def test_the_other_fields_are_an_object(fields: Any) -> None:
    with pytest.raises(InvalidRequestError, match="must be a JSON object"):
        decode_request(make_body({})).merge_fields(fields)


JUDGED_SECTIONS = ("values", "candidate", "vjp", "jvp", "jacobian")


def test_products_of_outputs_are_named_by_output_and_tensor() -> None:
    names = ["values/y", "vjp/y/w", "vjp/y/a/b", "vjp/z/w", "jvp/y", "jacobian/y/w"]
    parts = decode_request(make_body({name: make_entry(np.ones(1)) for name in names}), JUDGED_SECTIONS)
    merged = parts.merge_fields({})
    assert {section: list(tensors) for section, tensors in merged.items()} == {
        "values": ["y"], "vjp": ["y", "z"], "jvp": ["y"], "jacobian": ["y"],
    }  # fmt: skip
    assert list(merged["vjp"]["y"]) == ["w", "a/b"]


@pytest.mark.parametrize("section", ["vjp", "jacobian"])
def test_a_product_without_its_tensor_is_refused_at_its_output(section: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        decode_request(make_body({f"{section}/y": make_entry(np.ones(1))}), JUDGED_SECTIONS)
    assert [entry["pointer"] for entry in error.value.errors] == [f"/{section}/y"]
    assert f"as in {section}/y/w1" in error.value.errors[0]["detail"]


def test_very_many_entries_are_refused_by_their_number() -> None:
    header = {f"weights/{number}": make_info("F64", [0], 0, 0) for number in range(10**5)}
    with pytest.raises(NotSafetensorsError, match="at most"):
        decode_request(frame_body(header))


VALID = make_body(
    {"weights/w": make_entry(np.ones((2, 2))), "tensors/x": make_bfloat16_entry([1, 2])}, {"request": "{}"}
)


@st.composite
def draw_mutated_body(draw: st.DrawFn) -> bytes:
    """A body that was one, with a few bytes changed, taken out or put in."""
    raw = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        stop = min(len(raw), start + draw(st.integers(0, 4)))
        raw[start:stop] = draw(st.binary(max_size=4) | st.sampled_from([b'"', b"}", b"9", b"[", b"-", b"\xff"]))
    return bytes(raw)


HEADER = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["F64", "BF16", "F4", "U8"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["weights/w", "dtype", "shape", "data_offsets", "__metadata__", "request"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def decode_or_refuse(raw: bytes) -> None:
    try:
        sections = decode_request(raw).sections
    except (NotSafetensorsError, InvalidRequestError):
        return
    assert sum(len(tensor.raw) for tensors in sections.values() for tensor in tensors.values()) <= len(raw)


@settings(max_examples=settings.default.max_examples * 3, deadline=None)
@given(st.binary(max_size=100) | draw_mutated_body() | st.builds(frame_body, HEADER, st.binary(max_size=16)))
def test_no_bytes_crash_the_parser(raw: bytes) -> None:
    decode_or_refuse(raw)


@pytest.mark.parametrize("length", range(len(VALID)))
def test_truncated_body_is_refused(length: int) -> None:
    with pytest.raises(NotSafetensorsError):
        decode_request(VALID[:length])


def make_float64_tensor(array: Any) -> Tensor:
    return Tensor(array, DATATYPES["FP64"], is_integral=False)


def make_report(**tensors: Any) -> Any:
    return {"outcome": "pass", "gradients": {"a/b": tensors}, "intermediates": {"a/b": tensors}, "loss": {"x": 0.1}}


@pytest.mark.parametrize("name", DATATYPES)
def test_a_report_reads_back_as_exactly_what_it_was(name: str) -> None:
    datatype = DATATYPES[name]
    array = np.array([[1, 0], [0, 0]], datatype.numpy_name if hasattr(np, datatype.numpy_name) else np.float32)
    entries, metadata = read_body(encode_report(make_report(analytic=Tensor(array.T, datatype, is_integral=False))))
    assert set(entries) == {"gradients/a/b/analytic", "intermediates/a/b/analytic"}
    assert json.loads(metadata["report"]) == {"outcome": "pass", "loss": {"x": 0.1}}
    dtype, shape, raw = entries["gradients/a/b/analytic"]
    assert (dtype, shape, raw) == (datatype.short_name, [2, 2], datatype.to_storage(array.T).tobytes())
    section = make_body({f"weights/{name}": (dtype, shape, raw)})
    np.testing.assert_array_equal(Tensor.decode(decode_request(section).sections["weights"][name]).array, array.T)


def test_nonfinite_numbers_and_scalars_are_written() -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0])
    number = Tensor(np.array(2.5), DATATYPES["FP32"], is_integral=False)
    report = make_report(analytic=make_float64_tensor(values), error_bound=number)
    entries, _ = read_body(encode_report(report))
    assert entries["gradients/a/b/analytic"][2] == struct.pack("<4d", *values)
    assert entries["gradients/a/b/error_bound"] == ("F32", [], struct.pack("<f", 2.5))


def test_the_same_report_is_the_same_bytes() -> None:
    report = make_report(**{route: make_float64_tensor(np.ones(2)) for route in "fabecd"})
    assert len({encode_report(report) for _ in range(20)}) == 1


def test_the_library_of_others_reads_and_writes_the_same() -> None:
    written = save({"weights/w": np.ones((2, 3), np.float32)}, {"request": "{}"})
    assert (
        decode_request(written).sections
        == decode_request(make_body({"weights/w": make_entry(np.ones((2, 3), np.float32))})).sections
    )
    report = load(encode_report(make_report(analytic=make_float64_tensor(np.arange(3.0)))))
    np.testing.assert_array_equal(report["gradients/a/b/analytic"], np.arange(3.0))


def test_tensors_may_be_listed_in_any_order() -> None:
    names = ["z", "ü\n", "a/b"]
    arrays = (np.arange(3.0), np.array([[1.5]], np.float32), np.array(2.0))
    tensors = {
        name: Tensor(array, DATATYPES[{"float64": "FP64", "float32": "FP32"}[array.dtype.name]], is_integral=False)
        for name, array in zip(names, arrays, strict=True)
    }
    raw = to_safetensors(tensors, {"x": 1})
    content = reorder_header(raw, names)
    length = int.from_bytes(content[:8], "little")
    assert list(json.loads(content[8 : 8 + length])) == ["__metadata__", *names]
    assert length % 8 == 0
    assert read_body(content) == read_body(raw)
    for name, array in load(content).items():
        assert np.array_equal(array, tensors[name].array)
    assert reorder_header(content, names) is content


def test_a_reason_of_the_library_is_not_passed_on_whole() -> None:
    long, short = "x" * 10**6, "x" * 40
    with pytest.raises(NotSafetensorsError) as of_long:
        decode_request(frame_body({"weights/w": make_info(long, [1], 0, 8)}))
    assert len(str(of_long.value)) <= 200
    assert "unknown variant" in str(of_long.value)
    with pytest.raises(NotSafetensorsError, match=f"`{short}`"):
        decode_request(frame_body({"weights/w": make_info(short, [1], 0, 8)}))
