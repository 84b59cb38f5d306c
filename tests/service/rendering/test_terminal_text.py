import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.rendering.terminal_text import elide_middle, escape_text, measure_width, wrap_text
from tests.service.rendering.example_reports import NAME_STRATEGY

CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("encoder.layer[0]/weight:0", "encoder.layer[0]/weight:0"),
        ("größe", "größe"),
        ("名前", "名前"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\x9b"),
        ("\u202eabc", "\\u202eabc"),
        ("e\u0301", "e\\u0301"),
        ("\u05d0", "\\u05d0"),
        ("\u1161", "\\u1161"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("\u3000", "\\u3000"),
        ("\u3164", "\\u3164"),
        ("a\\nb", "a\\nb"),
    ],
)
def test_invisible_and_control_characters_are_escaped(text, shown):
    assert escape_text(text) == shown


@settings(deadline=None)
@given(NAME_STRATEGY)
def test_plain_text_is_unchanged(text):
    once = escape_text(text)
    assert escape_text(once) == once
    assert not [
        character
        for character in once
        if unicodedata.category(character) in CONTROL or unicodedata.combining(character)
    ]


@pytest.mark.parametrize(("text", "cells"), [("", 0), ("abc", 3), ("名前", 4), ("aé", 2), ("\U0001f600", 2)])
def test_text_width_counts_terminal_columns(text, cells):
    assert measure_width(text) == cells


def test_elided_text_keeps_both_ends():
    assert elide_middle("encoder.0.weight", 16) == "encoder.0.weight"
    assert elide_middle("encoder.0.weight", 11) == "enco...ight"
    assert elide_middle("名前名前", 7) == "名...前"


@settings(deadline=None)
@given(NAME_STRATEGY.map(escape_text), st.integers(4, 130))
def test_elided_text_fits_and_is_as_long_as_possible(text, cells):
    short = elide_middle(text, cells)
    assert measure_width(short) <= cells
    assert short == text or (measure_width(short) >= cells - 2 and "..." in short)


@settings(deadline=None)
@given(NAME_STRATEGY.map(escape_text), st.integers(4, 130))
def test_wrapped_text_fits_and_is_complete(text, cells):
    lines = wrap_text(text, cells)
    assert all(measure_width(line) <= cells for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_lines_are_broken_at_spaces():
    assert wrap_text("one two three", 8) == ["one two", "three"]
    assert wrap_text("a longerthanaline b", 6) == ["a", "longer", "thanal", "ine b"]
