"""The summary of a check: the outcome, the worst element, the limits of a pass."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.problem_details import escape_name
from schemas.tensor import encode_number
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, SampleMissRate
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit

_COARSE_ERROR = 0.1
"""Relative error beyond which a pass that may miss it says so first."""


def summarize(outcome: Outcome, verdicts: Mapping[str, GradientVerdict]) -> str:
    """Sum up the verdicts of a check, by name.

    Parameters
    ----------
    outcome
        Outcome of the check.
    verdicts
        Verdicts by name.
    """
    deciding_verdicts = {name: verdict for name, verdict in verdicts.items() if verdict.outcome == outcome}
    if outcome == Outcome.PASS:
        return _describe_pass(deciding_verdicts)
    count, total = _count_outcome(list(deciding_verdicts.values()), outcome)
    text = (
        f"{outcome.wire_name}: {count} of {total} {name_units(list(deciding_verdicts.values()))} of "
        f"{join_names(list(deciding_verdicts))}"
    )
    if named_result := _find_worst(deciding_verdicts, outcome):
        is_directional = next(iter(deciding_verdicts.values())).direction_results is not None
        return f"{text}; {_describe_worst(*named_result, directional=is_directional)}."
    # The remedy is a sentence of its own, and stands in the verdict.
    cause, _, _ = next(iter(deciding_verdicts.values())).reason.partition(". ")
    return f"{text}. {cause.removesuffix('.')}."


def _find_worst(verdicts: Mapping[str, GradientVerdict], outcome: Outcome) -> tuple[str, ElementResult] | None:
    """Return name and element of the largest ratio; of directions, the first."""
    worst_by_name: dict[str, ElementResult] = {}
    for name, verdict in verdicts.items():
        results = verdict.direction_results or verdict.worst_elements
        worst = next((result for result in results if result.outcome == outcome), None)
        if worst is not None:
            worst_by_name[name] = worst
    if not worst_by_name or next(iter(verdicts.values())).direction_results is not None:
        return next(iter(worst_by_name.items()), None)
    return max(worst_by_name.items(), key=lambda item: _rank_ratio(item[1].error_ratio))


def _rank_ratio(ratio: float) -> float:
    return np.inf if np.isnan(ratio) else ratio


def _describe_pass(verdicts: Mapping[str, GradientVerdict]) -> str:
    passing_verdicts, names = list(verdicts.values()), join_names(list(verdicts))
    zeros = _describe_zero_gradients(verdicts)
    if passing_verdicts[0].direction_results is not None:
        count = len(passing_verdicts[0].direction_results)
        directions = f"{count} random direction{'s' if count != 1 else ''}"
        if len(passing_verdicts) > 1:
            is_joint = all(verdict.is_joint for verdict in passing_verdicts)
            directions, names = (directions, f"{names} together") if is_joint else (f"{directions} each", names)
        miss_text = _describe_miss_probability(passing_verdicts)
        return f"pass: the gradient along {directions} of {names} agrees with the finite difference{miss_text}.{zeros}"
    count, _ = _count_outcome(passing_verdicts, Outcome.PASS)
    agreement = f"all {count} {name_units(passing_verdicts)} of {names} agree with the finite difference"
    detection, miss = _describe_detectable_error(passing_verdicts), _describe_miss_probability(passing_verdicts)
    if _find_detectable_error(passing_verdicts) > _COARSE_ERROR:
        # A pass that says little says so first.
        text = f"{detection}{miss}; a smaller one may have been missed; {agreement}"
    else:
        text = "; ".join(filter(None, (agreement, detection))) + miss
    return f"pass: {text}{_describe_largest_ratio(verdicts)}.{zeros}{_describe_unpromised(verdicts)}"


def _find_detectable_error(verdicts: Sequence[GradientVerdict]) -> float:
    """Return the largest of the smallest detectable errors; 0 where no verdict has one."""
    errors = [verdict.smallest_detectable_error for verdict in verdicts]
    return max((error for error in errors if np.isfinite(error)), default=0.0)


def _describe_detectable_error(verdicts: Sequence[GradientVerdict]) -> str:
    """Name the error that is found in every element that counts, and the others."""
    promised_verdicts = [verdict for verdict in verdicts if np.isfinite(verdict.smallest_detectable_error)]
    if not promised_verdicts:
        return ""
    detectable_error = _round_up(_find_detectable_error(promised_verdicts))
    exceptions = [
        f"{count} {kind}"
        for kind, count in (
            ("negligible", sum(verdict.negligible_count for verdict in promised_verdicts)),
            ("at kinks", sum(verdict.kink_count for verdict in promised_verdicts)),
        )
        if count
    ]
    exception_text = f" in any but {' and '.join(exceptions)}" if exceptions else ""
    return f"a relative error of {detectable_error} would have been found{exception_text}"


def _round_up(number: float) -> str:
    """Format a number with two digits, rounded up."""
    text = f"{number:.1e}"
    return text if float(text) >= number else f"{float(text) + 10.0 ** (int(text.partition('e')[2]) - 1):.1e}"


def _describe_zero_gradients(verdicts: Mapping[str, GradientVerdict]) -> str:
    """Name the gradients that are 0 within their bounds."""
    tolerances = {
        name: verdict.zero_tolerance for name, verdict in verdicts.items() if verdict.zero_tolerance is not None
    }
    if not tolerances:
        return ""
    names, bound = join_names(list(tolerances)), _round_up(max(tolerances.values()))
    return f" The gradient of {names} is 0 within its error bounds, {bound} at most: it has no relative error."


def _describe_unpromised(verdicts: Mapping[str, GradientVerdict]) -> str:
    """Name the gradients that no promise covers."""
    names = [
        name
        for name, verdict in verdicts.items()
        if verdict.negligible_count
        and verdict.zero_tolerance is None
        and not np.isfinite(verdict.smallest_detectable_error)
    ]
    if not names:
        return ""
    return f" Every compared element of {join_names(names)} is negligible: an error in it may have been missed."


def _describe_largest_ratio(verdicts: Mapping[str, GradientVerdict]) -> str:
    """Say how much of the allowed error the worst passing element uses."""
    named_result = _find_worst(verdicts, Outcome.PASS)
    if named_result is None or not named_result[1].error_ratio:
        return ""
    name, worst = named_result
    element = _format_element(name, worst)
    # An element passes with more than the allowed error at a kink alone.
    if worst.error_ratio > 1:
        return f"; the worst is {element}, at a kink"
    return f"; the largest error is {_format_percentage(worst.error_ratio)} of the allowed error, at {element}"


def _format_percentage(ratio: float) -> str:
    percentage = 100 * ratio
    return f"{percentage:.0f} %" if percentage >= 10 else f"{percentage:.2g} %"


def _describe_miss_probability(verdicts: Sequence[GradientVerdict]) -> str:
    """Name the probability of a missed error, in the tensor where it is largest."""
    limits = [verdict.detection_limit for verdict in verdicts]
    norm_limits = [limit for limit in limits if isinstance(limit, NormDetectionLimit)]
    if norm_limits:
        worst = max(norm_limits, key=lambda limit: limit.relative_l2)
        if not np.isfinite(worst.relative_l2):
            return ", which rules no error out"
        return (
            f"; an error of {_round_up(worst.relative_l2)} of a gradient's norm would have been missed with "
            f"probability {worst.probability:.1g}"
        )
    largest_probability = max((limit.probability for limit in limits if isinstance(limit, SampleMissRate)), default=0)
    probability = f"{largest_probability:.3g}" if largest_probability < 0.9995 else "above 0.999"
    return (
        f" in those; a single wrong element would have been missed with probability {probability}"
        if largest_probability
        else ""
    )


def name_units(verdicts: Sequence[GradientVerdict]) -> str:
    """Name the units that were judged: directions, or elements."""
    if verdicts[0].direction_results is not None:
        return "directions"
    return "examined elements" if any(verdict.unexamined_count for verdict in verdicts) else "elements"


def _count_outcome(verdicts: Sequence[GradientVerdict], outcome: Outcome) -> tuple[int, int]:
    """Return the number of elements, or directions, with an outcome, and of all."""
    if verdicts[0].direction_results is not None:
        outcomes = [result.outcome for verdict in verdicts for result in verdict.direction_results or ()]
        return outcomes.count(outcome), len(outcomes)
    count = sum(verdict.outcome_counts[outcome] for verdict in verdicts)
    return count, sum(verdict.element_count - verdict.unexamined_count for verdict in verdicts)


def _describe_worst(name: str, worst: ElementResult, *, directional: bool) -> str:
    location = (
        f"the first is direction {worst.index[0]} of {escape_name(name)}, along which"
        if directional
        else f"the worst is {_format_element(name, worst)}, where"
    )
    value = _format_value(worst.judged_value)
    return f"{location} the {worst.source} gradient is {value} and {_describe_reference(worst)}"


def _format_element(name: str, worst: ElementResult) -> str:
    return escape_name(name) + "".join(f"[{i}]" for i in worst.index)


def _format_value(value: float) -> str:
    return f"{value:.10g}" if np.isfinite(value) else str(encode_number(value))


def _describe_reference(worst: ElementResult) -> str:
    if not (np.isfinite(worst.reference) and np.isfinite(worst.error_bound)):
        return "there is no finite difference with a bound"
    return f"the finite difference {_format_value(worst.reference)} ± {worst.error_bound:.1g}"


def join_names(names: Sequence[str]) -> str:
    """List the first names, and count the others."""
    text = ", ".join(map(escape_name, names[:5]))
    return text + (f" and {len(names) - 5} more" if len(names) > 5 else "")
