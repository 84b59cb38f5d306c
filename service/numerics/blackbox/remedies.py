"""What mends that a candidate could not be judged, or what to look at first, by what the losses tell of themselves."""

from service.numerics.blackbox.difference import Along
from service.numerics.blackbox.kinks import Shape
from service.numerics.outcome import Cause, Outcome
from service.numerics.tiles import Array

_CONSTANT = (
    "The loss was the same at every point to which this tensor was moved: does it read what it is given? If it does, "
    "give a larger scale."
)
_DRAWN = (
    "At one point the loss was not the same each time: fix the seed of what it draws, have it keep nothing from one "
    "evaluation to the next, or average over more of its noise."
)
_SHAPES = {
    Shape.KINKED: "The loss has a kink here, as relu has at 0: move the point off it, or give a smaller scale.",
    Shape.JUMPING: (
        "The loss jumps within the steps that were taken, as a rounding, a comparison or a pole makes it: move the "
        "point away from that, or give a smaller scale."
    ),
    Shape.STAIRS: (
        "The loss is a staircase, as rounding to decimals makes it: its derivative is 0 nearly everywhere, and the "
        "slope through its stairs is not. Differences tell nothing of such a gradient."
    ),
    Shape.ROUGH: "The loss is not smooth over the steps that were taken, or noise alone: give a smaller scale.",
}
_REMEDIES = {
    Cause.TOO_UNCERTAIN: "Evaluate the loss in a more precise arithmetic, with less noise, or give a larger scale.",
    Cause.NO_REFERENCE: "Give a smaller scale, or move the point away from where the loss is not smooth.",
}
_ALONG = {Cause.EXCEEDS: 'Plan directions of kind "coordinates" to see which elements are wrong.'}


def remedy(cause: Cause, reference: Along, concerned: Array, *, random: bool, deterministic: bool) -> str:
    """Say what to do.

    Parameters
    ----------
    cause
        Why directions do not pass.
    reference
        What was differenced.
    concerned
        Which directions these are, (k,).
    random
        Whether they are random ones, and not elements.
    deterministic
        Whether the loss was the same each time at the base.
    """
    usual = (_ALONG if random else {}).get(cause) or _REMEDIES.get(cause) or cause.meaning.remedy
    if reference.constant[concerned].all():
        return _CONSTANT
    if cause.outcome == Outcome.FAIL:
        return usual
    if not deterministic:
        return _DRAWN
    shapes = reference.shape[concerned]
    return next((said for shape, said in _SHAPES.items() if (shapes == shape).any()), usual)
