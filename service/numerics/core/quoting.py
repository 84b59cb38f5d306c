"""Names of a request in messages."""

import reprlib

_NAME_REPR = reprlib.Repr()
_NAME_REPR.maxstring = 80


def quote_name(name: object) -> str:
    """Quote a name, cut in its middle to 80 characters; write a number as Python does."""
    return _NAME_REPR.repr(name)
