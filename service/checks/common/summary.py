"""One sentence for a person: the outcome, the worst that was found, what a pass is worth."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.problem_details import escape_name
from schemas.tensor import encode_number
from service.numerics.verdict.disagreement import Partition
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, SampleMissRate
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit


def summarize(
    outcome: Outcome,
    verdicts: Mapping[str, GradientVerdict],
    disagreements: Mapping[str, Sequence[Partition]] | None = None,
    names_without_candidate: Sequence[str] = (),
) -> str:
    """Sum up the verdicts of a check, by name.

    Parameters
    ----------
    outcome, verdicts
        Of all, and of each.
    disputes
        Where our own routes disagree among themselves, which comes first.
    own
        Names of which our own gradients were judged, though candidates were given for others.
    """
    said = [_describe_disagreements(disagreements, verdicts)] if disagreements else []
    said.append(_summarize_verdicts(outcome, verdicts))
    if names_without_candidate:
        said.append(
            f"No candidate was given for {_join_names(names_without_candidate)}: there our own gradients were judged."
        )
    return " ".join(said)


def _describe_disagreements(
    disputes: Mapping[str, Sequence[Partition]], verdicts: Mapping[str, GradientVerdict]
) -> str:
    name, (side, *_) = next(iter(disputes.items()))
    which = "are told apart by no third" if not side.agreeing and len(side.dissenting) == 2 else "all disagree"
    said = (
        f"{_join_route_names(side.agreeing)} agree and {_join_route_names(side.dissenting)} does not"
        if side.agreeing
        else f"{_join_route_names(side.dissenting)} {which}"
    )
    found = verdicts[name]
    total = (
        len(found.direction_results)
        if found.direction_results is not None
        else found.element_count - found.unexamined_count
    )
    others = f" (and there is more of it in {len(disputes) - 1} other)" if len(disputes) > 1 else ""
    return (
        f"OUR OWN ROUTES DISAGREE: at {side.element_count} of {total} {_name_units([found])} of {escape_name(name)} {said}{others}. "
        "This is a fault of this service, and no candidate is failed there: please report it with the request."
    )


def _join_route_names(names: Sequence[str]) -> str:
    *first, last = (name.replace("_", " ") for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _summarize_verdicts(outcome: Outcome, verdicts: Mapping[str, GradientVerdict]) -> str:
    leading = {name: each for name, each in verdicts.items() if each.outcome == outcome}
    if outcome == Outcome.PASS:
        return _describe_pass(leading)
    count, total = _count_outcome(list(leading.values()), outcome)
    text = (
        f"{outcome.wire_name}: {count} of {total} {_name_units(list(leading.values()))} of {_join_names(list(leading))}"
    )
    if found := _find_worst(leading, outcome):
        return f"{text}; {_describe_worst(*found, directional=next(iter(leading.values())).direction_results is not None)}."
    # Its remedy is a sentence of its own, and stands in the verdict.
    cause, _, _ = next(iter(leading.values())).reason.partition(". ")
    return f"{text}. {cause.removesuffix('.')}."


def _find_worst(verdicts: Mapping[str, GradientVerdict], outcome: Outcome) -> tuple[str, ElementResult] | None:
    """Name and element of the largest ratio, NaN before all; of directions the first; None where none is known."""
    found = [
        (name, worst)
        for name, each in verdicts.items()
        if (
            worst := next(
                (one for one in each.direction_results or each.worst_elements if one.outcome == outcome), None
            )
        )
    ]
    if not found or next(iter(verdicts.values())).direction_results is not None:
        return next(iter(found), None)
    return max(found, key=lambda each: np.inf if np.isnan(each[1].error_ratio) else each[1].error_ratio)


def _describe_pass(verdicts: Mapping[str, GradientVerdict]) -> str:
    found, names = list(verdicts.values()), _join_names(list(verdicts))
    if found[0].direction_results is not None:
        count = len(found[0].direction_results)
        one = f"{count} random direction{'s' if count != 1 else ''}{' each' if len(found) > 1 else ''}"
        agrees = (
            f"the gradient along {one} of {names} agrees with the finite difference{_describe_miss_probability(found)}"
        )
        return f"pass: {agrees}.{_describe_zero_gradients(verdicts)}"
    count, _ = _count_outcome(found, Outcome.PASS)
    text = f"pass: all {count} {_name_units(found)} of {names} agree with the finite difference{_describe_detectable_error(found)}{_describe_miss_probability(found)}"
    return f"{text}{_describe_largest_ratio(verdicts)}.{_describe_zero_gradients(verdicts)}{_describe_unpromised(verdicts)}"


def _describe_detectable_error(verdicts: Sequence[GradientVerdict]) -> str:
    """The error that is found in every element that counts, and which do not."""
    counted = [each for each in verdicts if np.isfinite(each.smallest_detectable_error)]
    if not counted:
        return ""
    worth = _round_up(max(each.smallest_detectable_error for each in counted))
    others = [
        f"{count} {what}"
        for what, count in (
            ("negligible", sum(verdict.negligible_count for verdict in counted)),
            ("at kinks", sum(verdict.kink_count for verdict in counted)),
        )
        if count
    ]
    but = f" in any but {' and '.join(others)}" if others else ""
    return f"; a relative error of {worth} would have been found{but}"


def _round_up(number: float) -> str:
    """Two digits, rounded up: what is less might be missed."""
    text = f"{number:.1e}"
    return text if float(text) >= number else f"{float(text) + 10.0 ** (int(text.partition('e')[2]) - 1):.1e}"


def _describe_zero_gradients(verdicts: Mapping[str, GradientVerdict]) -> str:
    """Say so of gradients that are 0 as far as can be told: nothing is relative to that."""
    found = {name: each.zero_tolerance for name, each in verdicts.items() if each.zero_tolerance is not None}
    if not found:
        return ""
    within = f"Within its bounds, {_round_up(max(found.values()))} at most,"
    return f" {within} the gradient of {_join_names(list(found))} is 0: no relative error of that can be told."


def _describe_unpromised(verdicts: Mapping[str, GradientVerdict]) -> str:
    """Say so of gradients of which nothing is said by the error that is found."""
    names = [
        name
        for name, each in verdicts.items()
        if each.negligible_count and each.zero_tolerance is None and not np.isfinite(each.smallest_detectable_error)
    ]
    if not names:
        return ""
    return (
        f" What was looked at of {_join_names(names)} is negligible: no error of that would have been found for sure."
    )


def _describe_largest_ratio(verdicts: Mapping[str, GradientVerdict]) -> str:
    """How near the worst element that passes came to failing; nothing where there is no difference at all."""
    found = _find_worst(verdicts, Outcome.PASS)
    if found is None or not found[1].error_ratio:
        return ""
    name, worst = found
    # Only at a kink does an element pass that is farther off than is allowed.
    off = f"off by {worst.error_ratio:.2g} of what is allowed" if worst.error_ratio <= 1 else "at a kink"
    return f"; the worst is {_format_element(name, worst)}, {off}"


def _describe_miss_probability(verdicts: Sequence[GradientVerdict]) -> str:
    """How probably an error was missed, in the tensor where that is worst."""
    along = [each.detection_limit for each in verdicts if isinstance(each.detection_limit, NormDetectionLimit)]
    if along:
        worst = max(along, key=lambda each: each.relative_l2)
        if not np.isfinite(worst.relative_l2):
            return ", which rules no error out"
        return (
            f"; an error of {_round_up(worst.relative_l2)} of a gradient's norm would have been missed with "
            f"probability {worst.probability:.1g}"
        )
    most = max(
        (each.detection_limit.probability for each in verdicts if isinstance(each.detection_limit, SampleMissRate)),
        default=0,
    )
    probability = f"{most:.3g}" if most < 0.9995 else "above 0.999"
    return f" in those; a single wrong element would have been missed with probability {probability}" if most else ""


def _name_units(verdicts: Sequence[GradientVerdict]) -> str:
    if verdicts[0].direction_results is not None:
        return "directions"
    return "examined elements" if any(each.unexamined_count for each in verdicts) else "elements"


def _count_outcome(verdicts: Sequence[GradientVerdict], outcome: Outcome) -> tuple[int, int]:
    """How many elements, or directions, have the outcome, and of how many that were looked at."""
    if verdicts[0].direction_results is not None:
        outcomes = [one.outcome for each in verdicts for one in each.direction_results or ()]
        return outcomes.count(outcome), len(outcomes)
    return sum(each.outcome_counts[outcome] for each in verdicts), sum(
        each.element_count - each.unexamined_count for each in verdicts
    )


def _describe_worst(name: str, worst: ElementResult, *, directional: bool) -> str:
    if directional:
        place = f"the first is direction {worst.index[0]} of {escape_name(name)}"
        return f"{place}, along which the {worst.source} gradient is {_format_value(worst.judged_value)} and {_describe_reference(worst)}"
    place = f"the worst is {_format_element(name, worst)}"
    return f"{place}, where the {worst.source} gradient is {_format_value(worst.judged_value)} and {_describe_reference(worst)}"


def _format_element(name: str, worst: ElementResult) -> str:
    return escape_name(name) + "".join(f"[{i}]" for i in worst.index)


def _format_value(value: float) -> str:
    return f"{value:.10g}" if np.isfinite(value) else str(encode_number(value))


def _describe_reference(worst: ElementResult) -> str:
    if not (np.isfinite(worst.reference) and np.isfinite(worst.error_bound)):
        return "no finite difference with a bound could be had"
    return f"the finite difference {_format_value(worst.reference)} +- {worst.error_bound:.1g}"


def _join_names(names: Sequence[str]) -> str:
    text = ", ".join(map(escape_name, names[:5]))
    return text + (f" and {len(names) - 5} more" if len(names) > 5 else "")
