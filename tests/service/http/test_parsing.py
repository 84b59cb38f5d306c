import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from service.http.parsing import parsed

VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(alphabet='ab[]{}"\\\n\u00e9', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=2)
    ),
    max_leaves=10,
)


def depth(value):
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@given(VALUES, st.booleans())
def test_depth_is_that_of_the_value_whatever_its_strings_hold(value, spaced):
    raw = json.dumps(value, indent=1 if spaced else None, ensure_ascii=spaced).encode()
    assert parsed(raw, "It", depth(value)) == value
    if depth(value):
        with pytest.raises(BadRequest, match="It is nested deeper than the"):
            parsed(raw, "It", depth(value) - 1)


def test_many_shallow_lists_are_not_deep():
    assert parsed(b"[%b[]]" % (b"[]," * 10**5), "It", 2) == [[]] * (10**5 + 1)


@pytest.mark.parametrize(("raw", "words"), [(b"", "It is empty; it must be"), (b"{", "It is not JSON: ")])
def test_what_is_wrong_is_said_of_where_it_stands(raw, words):
    with pytest.raises(BadRequest, match=words):
        parsed(raw, "It", 9)
