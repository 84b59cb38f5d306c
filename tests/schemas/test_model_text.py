import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.model_text import (
    MAX_TEXT_LENGTH,
    Argument,
    InvalidTextError,
    NameReference,
    is_model_text,
    parse_model_text,
    write_name,
    write_value,
)

pytestmark = pytest.mark.covers_by_cases


def parse_arguments(text):
    (call,) = parse_model_text(f"y = op({text})")
    return [argument.value for argument in call.arguments]


def collect_messages(text):
    with pytest.raises(InvalidTextError) as error:
        parse_model_text(text)
    return error.value.messages


def test_line_is_a_name_an_op_and_arguments():
    (call,) = parse_model_text("  h.0 = linear( x,w , bias = `my b` )  # as in torch\r")
    assert (call.name, call.op) == ("h.0", "linear")
    assert call.arguments == [
        Argument(None, NameReference("x"), (1, 17)),
        Argument(None, NameReference("w"), (1, 19)),
        Argument("bias", NameReference("my b"), (1, 23)),
    ]


def test_empty_lines_and_comments_are_no_nodes():
    assert [call.name for call in parse_model_text("\n# a = b(c)\n a = f(x)\n\n\tb = f(a) #\n")] == ["a", "b"]


VALUES = {
    "1": 1, "-2": -2, "+3": 3, "1_000": 1000, "1.": 1.0, ".5": 0.5, "1e-3": 1e-3, "-2.5E+2": -250.0,
    "True": True, "False": False, "None": None, "[]": [], "()": [], "(1, 2)": [1, 2], "[1, (2, [3]),]": [1, [2, [3]]],
    '"a#b"': "a#b", "'it\"s'": 'it"s', r'"a\"b\\c\n\x41\u00e9\U0001f600"': 'a"b\\c\nAé😀',
    "x": NameReference("x"), "top.values": NameReference("top.values"), "größe": NameReference("größe"),
    r"`a\`b`": NameReference("a`b"),
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_value_is_read(text):
    (value,) = parse_arguments(text)
    assert value == VALUES[text]
    assert type(value) is type(VALUES[text])


BAD_LINES = {
    "=": "1, column 1: a line is `name = op(...)`; it begins with `=`",
    "y =": "1, column 4: `=` is followed by an op, as in `h = linear(x, w, b)`, not by the end of the line",
    "y = f(x": "1, column 8: arguments are separated by commas, and `)` ends them; here stands the end of the line",
    "y = f(x]": "here stands `]`",
    "y = f(x) g": "1, column 10: a line ends behind `)`; here stands `g`",
    "y = f(x, , z)": "1, column 10: a value is missing: here stands `,`",
    "y = a + b": "here stands `+`: write `add(...)`",
    "y = a ** 2": "here stands `**`: write `pow(...)`",
    "y = -a": "write `neg(...)`",
    "y = f(a @ b)": "write `matmul(...)`",
    "y = f(g(x))": "1, column 7: a node is one call; write `g(...)` in a line of its own, and its name here",
    "a, b = f(x)": "a node has one name, and an op one output",
    "f(x, y=2)": "1, column 1: the node has no name; write `loss = f(...)`",
    "None = f(x)": "`None` is a value; put it in backquotes",
    "y = f(`x)": "a ` without its end on this line",
    "y = f('x)": "a ' without its end on this line",
    "y = f(2=x)": "before `=` stands the name of a parameter",
    "y = f(`a`=x)": "before `=` stands the name of a parameter",
    "y = f([[[[[1]]]]])": "brackets are nested at most 4 deep",
    "y = f(1__0)": "`1__0` is no number",
    "y = f(x; z)": 'here stands ";"',
    "y = f(x\u00a0)": 'here stands "\\u00a0"',
    r"y = f('\ud800')": "half a surrogate pair is no character",
    f"y = f({'9' * 401})": "a number has at most 400 characters",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_line_is_refused_with_its_place(line):
    (message,) = collect_messages(line)
    assert message.startswith("line 1, column ")
    assert BAD_LINES[line] in message


def test_each_bad_line_has_its_message():
    messages = collect_messages("a = f(x)\nb = \nc = f(a)\nd = f(")
    assert [message.partition(":")[0] for message in messages] == ["line 2, column 5", "line 4, column 7"]
    assert len(collect_messages("a = \n" * 1000)) == 100


def test_text_is_bounded():
    assert collect_messages("#" * (MAX_TEXT_LENGTH + 1)) == (
        f"the text has {MAX_TEXT_LENGTH + 1} characters; at most {MAX_TEXT_LENGTH} are taken",
    )
    for hard_text in ("y = f(" + "[" * 10**5, "y = f(" + "x=" * 10**5, "y = f('" + "\\" * 10**5, "y = " + "a." * 10**5):
        assert len(collect_messages(hard_text)) == 1


def test_text_is_told_from_a_name_by_its_sign():
    assert is_model_text("y = f(x)")
    assert not any(map(is_model_text, ("lenet", "", None, 3, ["="])))


@given(st.text(min_size=1))
def test_any_name_is_written_so_that_it_is_read_again(name):
    line = f"{write_name(name)} = f({write_name(name)})"
    (call,) = parse_model_text(line)
    assert (call.name, call.arguments[0].value) == (name, NameReference(name))
    # A terminal shows some characters as escapes of Python's.
    shown = "".join(c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    assert parse_model_text(shown)[0].name == name


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(JSON_VALUES)
def test_any_value_is_written_so_that_it_is_read_again(value):
    text = write_value(value)
    if "[[[[[" not in text.replace(" ", ""):
        try:
            (read,) = parse_arguments(text)
        except InvalidTextError as error:
            assert "nested" in error.messages[0]  # noqa: PT017  # deeper lists are no value of an attribute
        else:
            assert json.dumps(read) == json.dumps(value)


@given(st.text(alphabet="ab_.1 =(),[]'\"`#\\\n-+e\u00e9*", max_size=60))
def test_no_text_is_more_than_refused(text):
    try:
        parse_model_text(text)
    except InvalidTextError as error:
        assert all(message.startswith("line ") for message in error.messages)  # noqa: PT017
