"""The error on a wrong gradient, with the output and the input, and the report below."""

from collections.abc import Iterator
from typing import Any

from gradcheckd.errors import shorten_text
from gradcheckd.report import BlackBoxReport
from gradcheckd.report_parts import Verdict
from gradcheckd.torch.torch_function import TorchFunction
from gradcheckd.torch.torch_internals import GradcheckError

_MAX_FINDINGS = 3
_MAX_LINES = 25
_COMPLEX_NOTE = "Complex tensors have a last index of 0 (real part) or 1 (imaginary part)."

_OWN_PHRASES = (
    (
        'Plan directions of kind "coordinates" to see which elements are wrong.',
        'Check it within gradcheckd.torch.use_directions("coordinates") to see which elements are wrong.',
    ),
)
"""Advice of the service, and how to follow it here."""


class GradientMismatchError(GradcheckError):
    """A gradient that differs from the finite difference; a `torch.autograd.gradcheck.GradcheckError`.

    Attributes
    ----------
    report
        Report of the check.
    """

    def __init__(self, message: str, report: BlackBoxReport) -> None:
        self.report = report
        super().__init__(message)


def describe_mismatch(report: BlackBoxReport, function: TorchFunction) -> str:
    """Return the findings of a report that fails, and the report, in at most 25 lines."""
    findings = [
        _describe_verdict(name, verdict, function)
        for name, verdict in report.verdicts.items()
        if verdict.outcome == "fail"
    ]
    findings += list(_describe_dot_tests(report))
    lines = findings[:_MAX_FINDINGS]
    if len(findings) > _MAX_FINDINGS:
        lines.append(f"... and {len(findings) - _MAX_FINDINGS} more")
    lines += [_COMPLEX_NOTE] if function.has_complex_tensors else []
    head = "\n".join(lines)
    return f"{head}\n\n{shorten_text(report.text(), _MAX_LINES - 1 - head.count(chr(10)) - 1)}"


def _describe_verdict(name: str, verdict: Verdict, function: TorchFunction) -> str:
    output, _, moved = name.partition("/")
    finding = verdict.pattern or verdict.reason
    for phrase, own_phrase in _OWN_PHRASES:
        finding = finding.replace(phrase, own_phrase)
    if function.is_constant:
        return f"Numerical gradient for function expected to be zero, since no output requires a gradient: {finding}"
    if moved:
        return f"Jacobian mismatch for {_spell(output)} with respect to {_spell(moved)}: {finding}"
    moved_names = function.tangent_inputs
    names = {
        moved_names[judged.index[0]]: None
        for judged in verdict.worst
        if judged.outcome == "fail" and judged.index and judged.index[0] < len(moved_names)
    }
    inputs = " and ".join(map(_spell, names)) or "the inputs"
    return f"Jacobian computed with forward mode mismatch for {_spell(output)} with respect to {inputs}: {finding}"


def _describe_dot_tests(report: BlackBoxReport) -> Iterator[str]:
    for test in report.dot_tests:
        if test.outcome == "fail":
            output, _, moved = test.name.partition("/")
            yield (
                f"Forward and backward mode differ for {_spell(output)} with respect to {_spell(moved)}: "
                f"{test.jvp:.17g} and {test.vjp:.17g} along the same direction."
            )


def _spell(name: str) -> str:
    """Return "output0" as "output 0", as torch's errors have it."""
    for prefix in ("output", "input"):
        if name.startswith(prefix):
            return f"{prefix} {name.removeprefix(prefix)}"
    return name


def hide_frames(excinfo: Any) -> bool:
    """Tell pytest to leave out the frames of a module that has this as `__tracebackhide__`, on a wrong gradient."""
    return excinfo is not None and isinstance(excinfo.value, GradientMismatchError)
