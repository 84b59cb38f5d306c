"""Names of a request in messages."""

import reprlib

_QUOTED = reprlib.Repr()
_QUOTED.maxstring = 80


def quote(name: object) -> str:
    """Quote a name, cut in its middle to 80 characters; write a number as Python does."""
    return _QUOTED.repr(name)
