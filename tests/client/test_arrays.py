"""Whatever holds numbers can be given for a tensor, and keeps its datatype."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gradcheckd import TensorError
from gradcheckd.arrays import TypedTensor, UntypedTensor, to_tensor

pytestmark = pytest.mark.covers_by_cases


class DlpackOnly:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class Broken:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("it is on another planet")


class Sentence:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("move it first.")


VALUES = [[1.0, -2.5, 0.1], [3.0, 4.0, 65504.0]]
BFLOAT16 = np.asarray(jnp.asarray(VALUES, dtype=jnp.bfloat16)).view(np.uint16)
GIVEN = {
    "numpy float64": (np.array(VALUES), "FP64"),
    "numpy float32": (np.array(VALUES, np.float32), "FP32"),
    "numpy float16": (np.array(VALUES, np.float16), "FP16"),
    "of the other endianness": (np.array(VALUES, ">f4"), "FP32"),
    "column by column": (np.asfortranarray(VALUES), "FP64"),
    "every other": (np.repeat(np.array(VALUES), 2, axis=0)[::2], "FP64"),
    "torch float32": (torch.tensor(VALUES), "FP32"),
    "torch float16": (torch.tensor(VALUES, dtype=torch.float16), "FP16"),
    "torch with a history": (torch.tensor(VALUES, dtype=torch.float64, requires_grad=True) * 1, "FP64"),
    "torch, transposed": (torch.tensor(VALUES).T.contiguous().T, "FP32"),
    "torch, with the negative bit": (torch.complex(torch.zeros(2, 3), -torch.tensor(VALUES)).conj().imag, "FP32"),
    "torch, with the conjugate bit": (torch.complex(torch.tensor(VALUES), torch.ones(2, 3)).conj().real, "FP32"),
    "torch, sparse": (torch.tensor(VALUES).to_sparse(), "FP32"),
    "torch, sparse, uncoalesced": (
        torch.tensor(VALUES).to_sparse() * 0.5 + torch.tensor(VALUES).to_sparse() / 2,
        "FP32",
    ),
    "torch, of oneDNN": (torch.tensor(VALUES).to_mkldnn(), "FP32"),
    "jax float32": (jnp.asarray(VALUES, dtype=jnp.float32), "FP32"),
    "DLPack alone": (DlpackOnly(np.array(VALUES)), "FP64"),
    "a list of arrays": ([np.array(row, np.float32) for row in VALUES], "FP32"),
    "a list of torch tensors": ([torch.tensor(row, requires_grad=True) for row in VALUES], "FP32"),
    "lists of numbers of NumPy": ([[np.float32(value) for value in row] for row in VALUES], "FP32"),
}


@pytest.mark.parametrize(("value", "datatype"), GIVEN.values(), ids=GIVEN)
def test_arrays_keep_numbers_shape_and_datatype(value: Any, datatype: str) -> None:
    taken = to_tensor(value, "x")
    assert isinstance(taken, TypedTensor)
    assert taken.datatype.name == datatype
    assert taken.array.flags.c_contiguous
    assert taken.array.tolist() == np.array(VALUES).astype(taken.array.dtype).tolist()
    restored = taken.datatype.from_storage(taken.array)
    assert restored.tolist() == taken.array.tolist()
    assert not restored.flags.writeable


BFLOAT16_GIVEN = {
    "torch": torch.tensor(VALUES, dtype=torch.bfloat16),
    "torch with a history": torch.tensor(VALUES, dtype=torch.bfloat16, requires_grad=True),
    "jax": jnp.asarray(VALUES, dtype=jnp.bfloat16),
    "a list": [torch.tensor(row, dtype=torch.bfloat16) for row in VALUES],
}


@pytest.mark.parametrize("value", BFLOAT16_GIVEN.values(), ids=BFLOAT16_GIVEN)
def test_bfloat16_travels_as_its_bits(value: Any) -> None:
    taken = to_tensor(value, "x")
    assert isinstance(taken, TypedTensor)
    assert taken.datatype.name == "BF16"
    assert (taken.array == BFLOAT16).all()
    restored = taken.datatype.from_storage(taken.array)
    assert restored.tolist() == torch.tensor(VALUES, dtype=torch.bfloat16).float().tolist()


WHOLE = {"int8": "INT64", "uint8": "INT64", "uint16": "INT64", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}


@pytest.mark.parametrize(("name", "datatype"), [("float8_e4m3fn", "FP8_E4M3"), ("float8_e5m2", "FP8_E5M2")])
def test_floats_of_8_bits_travel_as_their_bits(name: str, datatype: str) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    of_jax = np.arange(256, dtype=np.uint8).view(np.dtype(getattr(jnp, name)))
    for value in (every, of_jax, [every]):
        tensor = to_tensor(value, "x")
        assert isinstance(tensor, TypedTensor)
        assert tensor.datatype.name == datatype
        assert tensor.array.ravel().tolist() == list(range(256))
        restored = tensor.datatype.from_storage(tensor.array).ravel()
        np.testing.assert_array_equal(restored, every.float().numpy())
    with pytest.raises(TensorError, match=f"arrays of {name} among others"):
        to_tensor([every, torch.zeros(256)], "x")


def test_other_floats_of_8_bits_are_refused() -> None:
    with pytest.raises(TensorError, match="Float8_e8m0fnu"):
        to_tensor(torch.zeros(2).to(torch.float8_e8m0fnu), "x")


@pytest.mark.parametrize(("dtype", "datatype"), WHOLE.items())
def test_labels_stay_whole_numbers(dtype: str, datatype: str) -> None:
    taken = to_tensor(np.array([0, 1, 1], dtype), "y")
    assert isinstance(taken, TypedTensor)
    assert (taken.datatype.name, taken.array.tolist()) == (datatype, [0, 1, 1])


def test_zeros_of_torch_without_memory_are_read() -> None:
    """As forward mode returns them for outputs that do not depend on an input."""
    tensor = to_tensor(torch._efficientzerotensor(2, 3), "x")
    assert isinstance(tensor, TypedTensor)
    assert (tensor.array.tolist(), tensor.datatype.name) == ([[0.0] * 3] * 2, "FP32")


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), torch.tensor(0.5)], ids=repr)
def test_a_number_that_is_an_array_has_no_dimension(value: Any) -> None:
    taken = to_tensor(value, "x")
    assert isinstance(taken, TypedTensor)
    assert taken.array.shape == ()
    assert taken.as_json()["shape"] == []


BARE = [
    (2, 2),
    (0.5, 0.5),
    ([1, 2], [1, 2]),
    (([1, 2.5], (3, 4)), [[1, 2.5], [3, 4]]),
    ([math.nan, math.inf, -math.inf], ["NaN", "Infinity", "-Infinity"]),
    ([True, False], [True, False]),
]


@pytest.mark.parametrize(("value", "nested"), BARE, ids=repr)
def test_lists_and_numbers_stay_without_a_datatype(value: Any, nested: Any) -> None:
    taken = to_tensor(value, "x")
    assert isinstance(taken, UntypedTensor)
    assert taken.as_json() == nested


DEEP: list[Any] = []
for _ in range(20_000):
    DEEP = [DEEP]

REFUSED = {
    "lists in lists without end": (DEEP, "nested too deeply"),
    "no tensor": (object(), r"weights 'w1': object was given. A tensor is an array \(of NumPy"),
    "text among numbers": ([1, "2"], "str among numbers"),
    "complex numbers": (np.array([1j]), "datatype is complex128; one of .* Give its real part and its imaginary"),
    "more than 64 bits": (np.array([1], np.uint64), "datatype is uint64"),
    "text": (np.array(["a"]), "datatype is str"),
    "what cannot be read": (Broken(), "no NumPy array could be made of .*Broken: it is on another planet"),
    "what says so in a sentence": (Sentence(), r"move it first\. Give a NumPy array of it\.$"),
    "arrays of other shapes": ([np.zeros(2), np.zeros(3)], "the arrays of its list do not have one shape"),
    "bfloat16 among others": ([torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2)], "bfloat16 among others"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_unsendable_values_are_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message) as caught:
        to_tensor(value, "weights 'w1'")
    assert str(caught.value).startswith("weights 'w1': ")


def test_masked_numbers_are_refused() -> None:
    masked = np.ma.masked_greater(np.array([1.0, 2.0, 3.0]), 2.5)
    for value in (masked, [masked, masked], masked[2]):
        with pytest.raises(TensorError, match=r"w: a masked array was given, and its mask has no place on the wire\."):
            to_tensor(value, "w")
    whole = to_tensor(np.ma.array([1.0, 2.0]), "w")
    assert isinstance(whole, TypedTensor)
    assert np.array_equal(whole.array, [1.0, 2.0])
