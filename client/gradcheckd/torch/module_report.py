"""The report of a module: that of its graph, with the lines of source of the nodes that it names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from gradcheckd.report import Report


@dataclass(frozen=True, eq=False)
class ModuleReport(Report):
    """The report of a check of a module.

    Attributes
    ----------
    places
        Line of source of each node that has one, "file.py:12", by the name of the node. The name begins with the path
        of its module.
    """

    places: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reread, (super().__reduce__(), dict(self.places))

    @property
    def named_places(self) -> Mapping[str, str]:
        """Return the lines of source of the nodes that the findings name, by node."""
        text = "\n".join(self._list_findings())
        return {name: place for name, place in self.places.items() if _is_named(name, text)}

    def _list_findings(self) -> Iterator[str]:
        for diagnoses in self.diagnoses.values():
            yield from (diagnosis.explanation for diagnosis in diagnoses)
        location: Mapping[str, Any] = self.raw.get("location") or {}
        for key in ("nodes", "right", "wrong"):
            yield from location.get(key, ())

    def text(self) -> str:
        """Return the report for a terminal, as the service writes it, with the lines of the nodes that it names."""
        text, places = super().text(), self.named_places
        if self.passed or not places:
            return text
        lines = [f"  {name}: {place}" for name, place in places.items()]
        return "\n".join([text.rstrip("\n"), "", "Source", *lines, ""])


def _is_named(name: str, text: str) -> bool:
    """Tell whether a text has a name that is no part of a longer one."""
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])(?!\.\w)", text) is not None


def add_places(report: Report, places: Mapping[str, str]) -> ModuleReport:
    """Return the report of a graph as that of a module."""
    return ModuleReport(
        **{entry.name: getattr(report, entry.name) for entry in fields(report)}, places=MappingProxyType(dict(places))
    )


def _reread(reduced: tuple[Any, tuple[Any, ...]], places: Mapping[str, str]) -> ModuleReport:
    read, arguments = reduced
    return replace(read(*arguments), places=places)
