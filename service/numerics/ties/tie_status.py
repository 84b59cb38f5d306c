"""What is judged at ties, and where it stands with the choices there once all is judged together."""

from dataclasses import dataclass

from service.numerics.core.batching import Array, Shape, count_elements


@dataclass(frozen=True)
class TieStatus:
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

    def reshape_to(self, shape: Shape) -> "TieStatus":
        """The same of another shape."""
        return TieStatus(
            *(each.reshape(shape) for each in (self.excused, self.reachable, self.undecided, self.impossible))
        )

    def select_elements(self, examined: Array) -> "TieStatus":
        """The same of some elements, by flat index."""
        return TieStatus(
            *(each.ravel()[examined] for each in (self.excused, self.reachable, self.undecided, self.impossible))
        )


@dataclass(frozen=True)
class JudgedRows:
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
    allowed_error: Array
    is_kink: Array
    is_examined: Array
    directions: Array | None = None

    def rows_of(self, gradients: Array) -> Array:
        """Rows of gradients, (K, ...): (K, r)."""
        flat = gradients.reshape(len(gradients), count_elements(gradients.shape[1:]))
        return flat if self.directions is None else flat @ self.directions.reshape(len(self.directions), -1).T
