"""Results of `make operators` by operator, in a file: a run that ends early goes on where it stopped."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.operator_checks import Judgement, SampleResult


@dataclass(frozen=True)
class OperatorResult:
    """Results of the small samples of an operator, or the error of the database.

    Attributes
    ----------
    name
        Name of the operator, with its variant.
    samples
        Results of its samples.
    failed_draw
        Error in place of samples; empty if there is none.
    """

    name: str
    samples: Sequence[SampleResult] = ()
    failed_draw: str = field(default="")


class ResultStore:
    """A file with a line for each operator of a section.

    Parameters
    ----------
    path
        The file, which need not exist; None to keep nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = {(section, result.name): result for section, result in _read_lines(path)}

    def get(self, section: str, operator: str) -> OperatorResult | None:
        """Return the results of an operator, if they are known."""
        return self._known.get((section, operator))

    def add(self, section: str, result: OperatorResult) -> None:
        """Add the results of an operator."""
        self._known[section, result.name] = result
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"section": section, **asdict(result)}) + "\n")


def _read_lines(path: Path | None) -> Iterator[tuple[str, OperatorResult]]:
    if path is None or not path.exists():
        return
    for line in path.read_text().splitlines():
        document: dict[str, Any] = json.loads(line)
        samples = tuple(_read_sample(sample) for sample in document["samples"])
        yield document["section"], OperatorResult(document["name"], samples, document["failed_draw"])


def _read_sample(document: dict[str, Any]) -> SampleResult:
    rights = {checker: Judgement(*judged) for checker, judged in document["rights"].items()}
    return SampleResult(**{**document, "rights": rights})
