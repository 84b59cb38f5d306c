"""One sentence for a person: the outcome, the worst that was found, what a pass is worth."""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.problem import plain
from schemas.tensor import spelled
from service.numerics.dispute import Side
from service.numerics.outcome import Outcome
from service.numerics.projection import Missed
from service.numerics.verdict import Verdict, Worst, WrongElements


def summary(
    outcome: Outcome,
    verdicts: Mapping[str, Verdict],
    disputes: Mapping[str, Sequence[Side]] | None = None,
    own: Sequence[str] = (),
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
    said = [_disputed(disputes, verdicts)] if disputes else []
    said.append(_of_verdicts(outcome, verdicts))
    if own:
        said.append(f"No candidate was given for {_listed(own)}: there our own gradients were judged.")
    return " ".join(said)


def _disputed(disputes: Mapping[str, Sequence[Side]], verdicts: Mapping[str, Verdict]) -> str:
    name, (side, *_) = next(iter(disputes.items()))
    which = "are told apart by no third" if not side.agree and len(side.alone) == 2 else "all disagree"
    said = (
        f"{_routes(side.agree)} agree and {_routes(side.alone)} does not"
        if side.agree
        else f"{_routes(side.alone)} {which}"
    )
    found = verdicts[name]
    total = len(found.directions) if found.directions is not None else found.total - found.not_examined
    others = f" (and there is more of it in {len(disputes) - 1} other)" if len(disputes) > 1 else ""
    return (
        f"OUR OWN ROUTES DISAGREE: at {side.elements} of {total} {_what([found])} of {plain(name)} {said}{others}. "
        "This is a fault of this service, and no candidate is failed there: please report it with the request."
    )


def _routes(names: Sequence[str]) -> str:
    *first, last = (name.replace("_", " ") for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _of_verdicts(outcome: Outcome, verdicts: Mapping[str, Verdict]) -> str:
    leading = {name: each for name, each in verdicts.items() if each.outcome == outcome}
    if outcome == Outcome.PASS:
        return _passed(leading)
    count, total = _counts(list(leading.values()), outcome)
    text = f"{outcome.text}: {count} of {total} {_what(list(leading.values()))} of {_listed(list(leading))}"
    if found := _worst(leading, outcome):
        return f"{text}; {_shown(*found, along=next(iter(leading.values())).directions is not None)}."
    # Its remedy is a sentence of its own, and stands in the verdict.
    cause, _, _ = next(iter(leading.values())).reason.partition(". ")
    return f"{text}. {cause.removesuffix('.')}."


def _worst(verdicts: Mapping[str, Verdict], outcome: Outcome) -> tuple[str, Worst] | None:
    """Name and element of the largest ratio, NaN before all; of directions the first; None where none is known."""
    found = [
        (name, worst)
        for name, each in verdicts.items()
        if (worst := next((one for one in each.directions or each.worst if one.outcome == outcome), None))
    ]
    if not found or next(iter(verdicts.values())).directions is not None:
        return next(iter(found), None)
    return max(found, key=lambda each: np.inf if np.isnan(each[1].ratio) else each[1].ratio)


def _passed(verdicts: Mapping[str, Verdict]) -> str:
    found, names = list(verdicts.values()), _listed(list(verdicts))
    if found[0].directions is not None:
        count = len(found[0].directions)
        one = f"{count} random direction{'s' if count != 1 else ''}{' each' if len(found) > 1 else ''}"
        agrees = f"the gradient along {one} of {names} agrees with the finite difference{_missed(found)}"
        return f"pass: {agrees}.{_nothing(verdicts)}"
    count, _ = _counts(found, Outcome.PASS)
    text = (
        f"pass: all {count} {_what(found)} of {names} agree with the finite difference{_worth(found)}{_missed(found)}"
    )
    return f"{text}{_nearest(verdicts)}.{_nothing(verdicts)}{_not_vouched(verdicts)}"


def _worth(found: Sequence[Verdict]) -> str:
    """The error that is found in every element that counts, and which do not."""
    counted = [each for each in found if np.isfinite(each.smallest_detectable_error)]
    if not counted:
        return ""
    worth = _at_least(max(each.smallest_detectable_error for each in counted))
    others = [
        f"{count} {what}"
        for what in ("negligible", "at_kinks")
        if (count := sum(getattr(each, what) for each in counted))
    ]
    but = f" in any but {' and '.join(others).replace('_', ' ')}" if others else ""
    return f"; a relative error of {worth} would have been found{but}"


def _at_least(number: float) -> str:
    """Two digits, rounded up: what is less might be missed."""
    text = f"{number:.1e}"
    return text if float(text) >= number else f"{float(text) + 10.0 ** (int(text.partition('e')[2]) - 1):.1e}"


def _nothing(verdicts: Mapping[str, Verdict]) -> str:
    """Say so of gradients that are 0 as far as can be told: nothing is relative to that."""
    found = {name: each.nothing for name, each in verdicts.items() if each.nothing is not None}
    if not found:
        return ""
    within = f"Within its bounds, {_at_least(max(found.values()))} at most,"
    return f" {within} the gradient of {_listed(list(found))} is 0: no relative error of that can be told."


def _not_vouched(verdicts: Mapping[str, Verdict]) -> str:
    """Say so of gradients of which nothing is said by the error that is found."""
    names = [
        name
        for name, each in verdicts.items()
        if each.negligible and each.nothing is None and not np.isfinite(each.smallest_detectable_error)
    ]
    if not names:
        return ""
    return f" What was looked at of {_listed(names)} is negligible: no error of that would have been found for sure."


def _nearest(verdicts: Mapping[str, Verdict]) -> str:
    """How near the worst element that passes came to failing; nothing where there is no difference at all."""
    found = _worst(verdicts, Outcome.PASS)
    if found is None or not found[1].ratio:
        return ""
    name, worst = found
    # Only at a kink does an element pass that is farther off than is allowed.
    off = f"off by {worst.ratio:.2g} of what is allowed" if worst.ratio <= 1 else "at a kink"
    return f"; the worst is {_element(name, worst)}, {off}"


def _missed(found: Sequence[Verdict]) -> str:
    """How probably an error was missed, in the tensor where that is worst."""
    along = [each.missed for each in found if isinstance(each.missed, Missed)]
    if along:
        worst = max(along, key=lambda each: each.relative_l2)
        if not np.isfinite(worst.relative_l2):
            return ", which rules no error out"
        return (
            f"; an error of {_at_least(worst.relative_l2)} of a gradient's norm would have been missed with "
            f"probability {worst.probability:.1g}"
        )
    most = max((each.missed.probability for each in found if isinstance(each.missed, WrongElements)), default=0)
    probability = f"{most:.3g}" if most < 0.9995 else "above 0.999"
    return f" in those; a single wrong element would have been missed with probability {probability}" if most else ""


def _what(found: Sequence[Verdict]) -> str:
    if found[0].directions is not None:
        return "directions"
    return "examined elements" if any(each.not_examined for each in found) else "elements"


def _counts(found: Sequence[Verdict], outcome: Outcome) -> tuple[int, int]:
    """How many elements, or directions, have the outcome, and of how many that were looked at."""
    if found[0].directions is not None:
        outcomes = [one.outcome for each in found for one in each.directions or ()]
        return outcomes.count(outcome), len(outcomes)
    return sum(each.counts[outcome] for each in found), sum(each.total - each.not_examined for each in found)


def _shown(name: str, worst: Worst, *, along: bool) -> str:
    if along:
        place = f"the first is direction {worst.index[0]} of {plain(name)}"
        return f"{place}, along which the {worst.route} gradient is {_figure(worst.judged)} and {_of_reference(worst)}"
    place = f"the worst is {_element(name, worst)}"
    return f"{place}, where the {worst.route} gradient is {_figure(worst.judged)} and {_of_reference(worst)}"


def _element(name: str, worst: Worst) -> str:
    return plain(name) + "".join(f"[{i}]" for i in worst.index)


def _figure(value: float) -> str:
    return f"{value:.10g}" if np.isfinite(value) else str(spelled(value))


def _of_reference(worst: Worst) -> str:
    if not (np.isfinite(worst.reference) and np.isfinite(worst.error_bound)):
        return "no finite difference with a bound could be had"
    return f"the finite difference {_figure(worst.reference)} +- {worst.error_bound:.1g}"


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(map(plain, names[:5]))
    return text + (f" and {len(names) - 5} more" if len(names) > 5 else "")
