"""Texts of base64, beside `binascii`, which is strict to the letter."""

import binascii
from itertools import product

import numpy as np
import pytest

from schemas.base64_text import decode_base64_text, encode_base64_text


def _decode_strictly(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


def _decode(text: str) -> bytes | None:
    try:
        return bytes(decode_base64_text(text))
    except ValueError:
        return None


def _make_text(count: int) -> str:
    raw = np.random.default_rng(count).bytes(count)
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


@pytest.mark.parametrize("count", [*range(9), 4095, 4096, 4097, 4098, 98303, 98304, 98305, 98306, 196608, 200_001])
def test_every_length_is_encoded_and_decoded(count: int) -> None:
    raw = np.random.default_rng(count).bytes(count)
    assert encode_base64_text(raw) == _make_text(count)
    assert bytes(decode_base64_text(_make_text(count))) == raw


def test_every_short_text_is_taken_or_refused_to_the_letter() -> None:
    taken = 0
    for length in range(6):
        for characters in product("AB+/z=-_ \n\u00e9", repeat=length):
            text = "".join(characters)
            expected = _decode_strictly(text)
            assert _decode(text) == expected, text
            taken += expected is not None
    assert taken > 500


@pytest.mark.parametrize("position", [0, 65536, 131068, 131071, 131072, 262140, 262142, 262143])
@pytest.mark.parametrize("stray", ["=", "==", "-", "_", " ", "\n", "\u00e9"])
def test_a_stray_character_in_a_long_text_is_refused(position: int, stray: str) -> None:
    text = _make_text(196_608)
    changed = text[:position] + stray + text[position + len(stray) :]
    assert _decode(changed) == _decode_strictly(changed)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_text_without_its_end_is_refused(cut: int) -> None:
    for count in (100, 98_303, 98_304, 196_608):
        text = _make_text(count)[:-cut]
        assert _decode(text) == _decode_strictly(text)
