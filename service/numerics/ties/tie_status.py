"""The numbers judged at ties, and their status after the joint judgement."""

from dataclasses import dataclass

from service.numerics.core.batching import Array, Shape, count_elements


@dataclass(frozen=True)
class TieStatus:
    """Masks of one shape over the elements of a gradient, or over directions.

    Attributes
    ----------
    excused
        True if one choice explains the element and all others, and derivatives close to the point reach it too.
    reachable
        True if the element may be right outside its one-sided derivatives: a choice explains it, or might.
    undecided
        True if the judgement does not know whether one choice explains the element together with the others.
    impossible
        True if no choice explains the element together with the others.
    """

    excused: Array
    reachable: Array
    undecided: Array
    impossible: Array

    def reshape_masks(self, shape: Shape) -> "TieStatus":
        """Return the status with masks of another shape."""
        return TieStatus(
            *(mask.reshape(shape) for mask in (self.excused, self.reachable, self.undecided, self.impossible))
        )

    def select_elements(self, examined: Array) -> "TieStatus":
        """Return the status of some elements, by flat index."""
        return TieStatus(
            *(mask.ravel()[examined] for mask in (self.excused, self.reachable, self.undecided, self.impossible))
        )


@dataclass(frozen=True)
class JudgedRows:
    """The judged numbers of one gradient: flat elements, or products with directions.

    Attributes
    ----------
    judged
        Judged numbers, shape (r,).
    allowed_error
        Allowed errors of the numbers on the pieces of the point, shape (r,).
    is_kink
        Mask of the numbers whose one-sided derivatives differ, shape (r,).
    is_examined
        Mask of the numbers that count, shape (r,).
    directions
        Directions of the inner products, shape (r, ...); None by default, for elements.
    """

    judged: Array
    allowed_error: Array
    is_kink: Array
    is_examined: Array
    directions: Array | None = None

    def select_rows(self, gradients: Array) -> Array:
        """Return the judged numbers of gradients of shape (K, ...), shape (K, r)."""
        flat = gradients.reshape(len(gradients), count_elements(gradients.shape[1:]))
        return flat if self.directions is None else flat @ self.directions.reshape(len(self.directions), -1).T
