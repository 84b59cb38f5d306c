"""What is judged at ties, and where it stands with the choices there once all is judged together."""

from dataclasses import dataclass

from service.numerics.tiles import Array, Shape, size


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


@dataclass(frozen=True)
class Rows:
    """What is judged of one gradient: its elements, flat, or its inner products with directions, (r,) each.

    Attributes
    ----------
    judged, allowed
        The numbers, and what they may be off by on the pieces of the point.
    kinks
        Where the one-sided derivatives differ.
    examined
        Where they count.
    directions
        (r, ...), where the rows are inner products with these; None where they are elements.
    """

    judged: Array
    allowed: Array
    kinks: Array
    examined: Array
    directions: Array | None = None

    def of(self, gradients: Array) -> Array:
        """Rows of gradients, (K, ...): (K, r)."""
        flat = gradients.reshape(len(gradients), size(gradients.shape[1:]))
        return flat if self.directions is None else flat @ self.directions.reshape(len(self.directions), -1).T
