"""The text of a model: a node a line, `h = linear(x, w, b)`.

Here is the grammar alone. The ops tell an operand from an attribute: see `service/checks/graph/text_form.py`.

A line is empty, a comment behind `#`, or `name = op(argument, ...)`. An argument is a value, or `parameter=value`. A
value is a name, a number, a string in quotes, `True`, `False`, `None`, or values in brackets. A name that is no word
stands in backquotes.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, cast

from schemas.problem_details import PlacedError, error_at

MAX_TEXT_LENGTH = 2**20
"""Most characters of a text, which are read within a second."""
_MAX_DEPTH = 4
_MAX_NUMBER_LENGTH = 400
_MAX_LINE_ERRORS = 100
_WORD = r"[^\W\d]\w*(?:\.\w+)*"
_PLAIN_NAME = re.compile(_WORD)
_KEYWORDS: dict[str, bool | None] = {"True": True, "False": False, "None": None}
_TOKEN = re.compile(
    rf"""[ \t\r]*(?:
      (?P<name>{_WORD})
    | (?P<number>[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`(?:[^`\\]|\\.)*`)
    | (?P<sign>[=(),\[\]])
    | (?P<end>(?:\#.*)?\Z)
    )""",
    re.VERBOSE,
)
_BLANK = re.compile(r"[ \t\r]*")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)")
_ESCAPED_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "@": "matmul", "**": "pow"}


class Place(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int

    def describe(self) -> str:
        """Return the place for a sentence."""
        return f"line {self.line}, column {self.column}"


class NameReference(NamedTuple):
    """A name without quotes: a tensor, a weight or a node."""

    name: str


class Argument(NamedTuple):
    """An argument of a call; a positional one has no keyword."""

    keyword: str | None
    value: Any
    place: Place


@dataclass(frozen=True)
class Call:
    """A line: a name, an op, and its arguments."""

    name: str
    op: str
    arguments: Sequence[Argument]
    name_place: Place
    op_place: Place


class TextNodes(list[dict[str, Any]]):
    """The nodes of a text, with the places of their parts."""

    def __init__(self, nodes: Sequence[dict[str, Any]], places: Sequence[Mapping[str, Place]]) -> None:
        super().__init__(nodes)
        self.places = places

    def move_errors(self, errors: Sequence[PlacedError]) -> list[PlacedError]:
        """Return the errors with those at nodes moved to their lines."""
        return [self._move_error(error) for error in errors]

    def _move_error(self, error: PlacedError) -> PlacedError:
        _, field, *parts = (*error["pointer"].split("/"), "")
        if field != "model" or not parts[0].isdecimal():
            return error
        places = self.places[int(parts[0])]
        place = next((places[part] for part in reversed(parts[1:]) if part in places), places["op"])
        return error_at(f"{place.describe()}: {error['detail']}", "model")


class LineError(ValueError):
    """A line that cannot be read, with the place."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(f"{place.describe()}: {message}")


class InvalidTextError(ValueError):
    """All lines that cannot be read."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("; ".join(messages))
        self.messages = tuple(messages)


def is_model_text(model: object) -> bool:
    """Tell a text from a preset's name: a text has a `=`."""
    return isinstance(model, str) and "=" in model


def parse_model_text(text: str) -> list[Call]:
    """Parse a text to its calls, in order.

    Raises
    ------
    InvalidTextError
        One message for each line that cannot be read, the first 100 at most.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidTextError([f"the text has {len(text)} characters; at most {MAX_TEXT_LENGTH} are taken"])
    calls, messages = list[Call](), list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if call := _LineParser(line, number).parse_line():
                calls.append(call)
        except LineError as error:
            messages.append(str(error))
            if len(messages) == _MAX_LINE_ERRORS:
                break
    if messages:
        raise InvalidTextError(messages)
    return calls


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


class _LineParser:
    """A parser of one line by recursive descent, of bounded depth."""

    def __init__(self, line: str, number: int) -> None:
        self._line = line
        self._number = number
        self._token = self._read_token(0)

    def parse_line(self) -> Call | None:
        """Parse the line; None if it is empty or a comment."""
        if self._token.kind == "end":
            return None
        name, name_place = self._parse_target()
        op, op_place = self._parse_op()
        arguments = list(self._parse_arguments())
        if self._token.kind != "end":
            self._refuse_rest()
        return Call(name, op, arguments, name_place, op_place)

    def _parse_target(self) -> tuple[str, Place]:
        place = self._place
        if self._token.kind not in ("name", "quoted"):
            self._fail(f"a line is `name = op(...)`; it begins with {self._describe_token()}")
        name = self._take_name()
        if self._is_sign(","):
            self._fail("a node has one name, and an op one output")
        if self._is_sign("("):
            self._fail(f"the node has no name; write `loss = {name}(...)`", place)
        self._expect("=", f"a line is `name = op(...)`; behind `{name}` stands {self._describe_token()}")
        return name, place

    def _parse_op(self) -> tuple[str, Place]:
        place = self._place
        if self._token.kind != "name":
            token = "`-`: write `neg(...)`" if self._line.startswith("-", self._token.start) else self._describe_token()
            self._fail(f"`=` is followed by an op, as in `h = linear(x, w, b)`, not by {token}")
        op = self._token.text
        self._advance()
        self._expect("(", f"the inputs of `{op}` stand in parentheses, `{op}(...)`; here stands", rest=True)
        return op, place

    def _parse_arguments(self) -> Iterator[Argument]:
        while not self._is_sign(")"):
            yield self._parse_argument()
            if not self._is_sign(")"):
                self._expect(",", "arguments are separated by commas, and `)` ends them; here stands", rest=True)
        self._advance()

    def _parse_argument(self) -> Argument:
        place = self._place
        is_name = self._token.kind == "name"
        value = self._parse_value(0)
        if not self._is_sign("="):
            return Argument(None, value, place)
        if not is_name or not isinstance(value, NameReference):
            self._fail("before `=` stands the name of a parameter", place)
        self._advance()
        return Argument(value.name, self._parse_value(0), place)

    def _parse_value(self, depth: int) -> Any:
        kind, text, _ = self._token
        if kind == "sign" and text in "([":
            return self._parse_list(depth)
        if kind == "number":
            value = self._convert_number(text)
        elif kind == "string":
            value = self._unescape(text[1:-1])
        elif kind == "quoted" or (kind == "name" and text not in _KEYWORDS):
            return self._parse_reference()
        elif kind == "name":
            value = _KEYWORDS[text]
        else:
            self._fail(f"a value is missing: here stands {self._describe_token()}")
        self._advance()
        return value

    def _parse_reference(self) -> NameReference:
        place = self._place
        name = self._take_name()
        if self._is_sign("("):
            self._fail(f"a node is one call; write `{name}(...)` in a line of its own, and its name here", place)
        return NameReference(name)

    def _parse_list(self, depth: int) -> list[Any]:
        if depth == _MAX_DEPTH:
            self._fail(f"brackets are nested at most {_MAX_DEPTH} deep")
        opening = self._token.text
        closing = ")" if opening == "(" else "]"
        self._advance()
        values: list[Any] = []
        while not self._is_sign(closing):
            values.append(self._parse_value(depth + 1))
            if not self._is_sign(closing):
                self._expect(",", f"values are separated by commas, and `{closing}` ends them; here stands", rest=True)
        self._advance()
        return values

    def _convert_number(self, text: str) -> int | float:
        if len(text) > _MAX_NUMBER_LENGTH:
            self._fail(f"a number has at most {_MAX_NUMBER_LENGTH} characters")
        try:
            return int(text) if re.fullmatch(r"[+-]?[\d_]+", text) else float(text)
        except ValueError:
            self._fail(f"`{text}` is no number")

    def _take_name(self) -> str:
        kind, text, _ = self._token
        if kind == "name" and text in _KEYWORDS:
            self._fail(f"`{text}` is a value; put it in backquotes if a tensor has this name")
        name = text if kind == "name" else self._unescape(text[1:-1])
        self._advance()
        return name

    def _unescape(self, text: str) -> str:
        unescaped = _ESCAPE.sub(_replace_escape, text)
        if any("\ud800" <= character <= "\udfff" for character in unescaped):
            self._fail("half a surrogate pair is no character")
        return unescaped

    def _refuse_rest(self) -> NoReturn:
        self._fail(f"a line ends behind `)`; here stands {self._describe_token()}")

    @property
    def _place(self) -> Place:
        return Place(self._number, self._token.start + 1)

    def _is_sign(self, text: str) -> bool:
        return self._token.kind == "sign" and self._token.text == text

    def _expect(self, sign: str, message: str, *, rest: bool = False) -> None:
        if not self._is_sign(sign):
            self._fail(f"{message} {self._describe_token()}" if rest else message)
        self._advance()

    def _describe_token(self) -> str:
        kind, text, start = self._token
        if kind == "end":
            return "the end of the line"
        if kind != "other":
            return f"`{_shorten(text)}`"
        operator = next((sign for sign in ("**", *_OPERATORS) if self._line.startswith(sign, start)), None)
        if operator is not None:
            return f"`{operator}`: write `{_OPERATORS[operator]}(...)`"
        if text in "\"'`":
            return f"a {text} without its end on this line"
        return json.dumps(text, ensure_ascii=not text.isprintable())

    def _advance(self) -> None:
        self._token = self._read_token(self._token.start + len(self._token.text))

    def _read_token(self, position: int) -> _Token:
        match = _TOKEN.match(self._line, position)
        if match is None:
            start = cast("re.Match[str]", _BLANK.match(self._line, position)).end()
            return _Token("other", self._line[start], start)
        kind = cast("str", match.lastgroup)
        return _Token(kind, match[kind], match.start(kind))

    def _fail(self, message: str, place: Place | None = None) -> NoReturn:
        raise LineError(message, place or self._place)


def _replace_escape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED_CHARACTERS.get(code, code)


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"


def write_name(name: str) -> str:
    """Write a name, in backquotes unless it is a word of ASCII, or several with points between them."""
    if name.isascii() and _PLAIN_NAME.fullmatch(name) and name not in _KEYWORDS:
        return name
    return "`" + json.dumps(name, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("`", "\\`") + "`"


def write_value(value: object) -> str:
    """Write the value of an attribute."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, cast('Sequence[object]', value)))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def write_operand(operand: object) -> str:
    """Write an operand: a name, a number, nothing, or a list of them."""
    if isinstance(operand, list | tuple):
        return f"[{', '.join(map(write_operand, cast('Sequence[object]', operand)))}]"
    return write_name(operand) if isinstance(operand, str) else repr(operand)
