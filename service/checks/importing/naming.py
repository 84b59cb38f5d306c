"""Names of a file as names of a request."""

import re

_MAX_LENGTH = 120
_FOREIGN_CHARACTERS = re.compile(r"[^A-Za-z0-9_.]+")


class NameTable:
    """Names of a request, each made from a name of the file.

    Each run of other characters than letters, digits, `_` and `.` of ASCII becomes `_`, and those at either end are
    dropped. A name that is empty then is `value`, and one that begins with a digit gets `_` before it. The name ends
    after 120 characters. A name that exists gets `_2`, `_3`, ... in the order of the file.
    """

    def __init__(self) -> None:
        self._names = set[str]()
        self._next_number: dict[str, int] = {}

    def make(self, name: str) -> str:
        """Make a name that no other has."""
        base = clean_name(name)
        candidate = base
        while candidate in self._names:
            number = self._next_number[base] = self._next_number.get(base, 1) + 1
            candidate = f"{base}_{number}"
        self._names.add(candidate)
        return candidate


def clean_name(name: str) -> str:
    """Return a name of the file by the rule, whether or not another has it."""
    cleaned = _FOREIGN_CHARACTERS.sub("_", name[: 4 * _MAX_LENGTH]).strip("_.")[:_MAX_LENGTH] or "value"
    return f"_{cleaned}" if cleaned[0].isdigit() else cleaned
