"""Where an element stands with the choices at ties, once all are judged together."""

from dataclasses import dataclass

from service.numerics.tiles import Array, Shape


@dataclass(frozen=True)
class Standing:
    """Of each element of a gradient, or of each direction, truths of one shape.

    Attributes
    ----------
    excused
        One choice explains it and all others, and derivatives found close to the point reach it too.
    reachable
        It may be right though outside its one-sided derivatives: a choice explains it, or might.
    undecided
        Whether one choice explains it together with the others is not known.
    impossible
        No choice explains it together with the others.
    """

    excused: Array
    reachable: Array
    undecided: Array
    impossible: Array

    def shaped(self, shape: Shape) -> "Standing":
        """The same of another shape."""
        return Standing(
            *(each.reshape(shape) for each in (self.excused, self.reachable, self.undecided, self.impossible))
        )

    def at(self, examined: Array) -> "Standing":
        """The same of some elements, by flat index."""
        return Standing(
            *(each.ravel()[examined] for each in (self.excused, self.reachable, self.undecided, self.impossible))
        )
