"""Remedies for a candidate that fails or is undecided, by its losses."""

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.kinks import LossShape
from service.numerics.core.batching import Array
from service.numerics.verdict.outcome import Cause, Outcome

_CONSTANT_LOSS_REMEDY = (
    "The loss was the same at every point to which this tensor was moved: does it read what it is given? If it does, "
    "give a larger scale."
)
_RANDOM_LOSS_REMEDY = (
    "At one point the loss was not the same each time: fix the seed of what it draws, have it keep nothing from one "
    "evaluation to the next, or average over more of its noise."
)
_REMEDY_BY_LOSS_SHAPE = {
    LossShape.KINKED: "The loss has a kink here, as relu has at 0: move the point off it, or give a smaller scale.",
    LossShape.JUMPING: (
        "The loss jumps within the steps that were taken, as a rounding, a comparison or a pole makes it: move the "
        "point away from that, or give a smaller scale."
    ),
    LossShape.STAIRS: (
        "The loss is a staircase, as rounding to decimals makes it: its derivative is 0 nearly everywhere, and the "
        "slope through its stairs is not. Differences tell nothing of such a gradient."
    ),
    LossShape.ROUGH: "The loss is not smooth over the steps that were taken, or noise alone: give a smaller scale.",
}
_REMEDY_BY_CAUSE = {
    Cause.TOO_UNCERTAIN: "Evaluate the loss in a more precise arithmetic, with less noise, or give a larger scale.",
    Cause.NO_REFERENCE: "Give a smaller scale, or move the point away from where the loss is not smooth.",
}
_DIRECTIONAL_REMEDY_BY_CAUSE = {
    Cause.EXCEEDS_ALLOWED_ERROR: 'Plan directions of kind "coordinates" to see which elements are wrong.'
}


def suggest_remedy(
    cause: Cause, reference: DirectionalDerivatives, concerned_lines: Array, *, random: bool, deterministic: bool
) -> str:
    """Return a remedy in words.

    Parameters
    ----------
    cause
        Cause of the outcome.
    reference
        Derivatives of the loss.
    concerned_lines
        Mask of the lines with that cause, (k,).
    random
        True for random directions, False for elements.
    deterministic
        True if the loss was the same each time at the base.
    """
    usual_remedy = (
        (_DIRECTIONAL_REMEDY_BY_CAUSE if random else {}).get(cause)
        or _REMEDY_BY_CAUSE.get(cause)
        or cause.description.remedy
    )
    if reference.is_constant[concerned_lines].all():
        return _CONSTANT_LOSS_REMEDY
    if cause.outcome == Outcome.FAIL:
        return usual_remedy
    if not deterministic:
        return _RANDOM_LOSS_REMEDY
    shapes = reference.loss_shape[concerned_lines]
    if (shapes == LossShape.ROUGH).any():
        # Another line of the same loss may show why it is not smooth.
        shapes = reference.loss_shape
    return next((remedy for shape, remedy in _REMEDY_BY_LOSS_SHAPE.items() if (shapes == shape).any()), usual_remedy)
