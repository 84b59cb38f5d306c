"""Labels: which part of a tensor reaches what.

A label is a positive integer that stands for some elements of a tensor, 0 for none of them, `CONFLICT` for several
labels at once. Spread through an op, labels say of each element of the output which one label reaches it. A spread
may say that a label reaches more than it does, never less. So elements that share no output can be moved in one
evaluation and told apart again (Curtis, Powell and Reid, J. Inst. Maths Applics 13 (1974) 117-119).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from service.numerics.tiles import Array

Labels = npt.NDArray[np.int64]

CONFLICT = -1
_UNSEEN = np.iinfo(np.int64).max


def merged(labels: Labels, over: int | tuple[int, ...]) -> Labels:
    """What reaches a result of everything along some axes, which stay with length 1."""
    smallest = np.where(labels == 0, _UNSEEN, labels).min(axis=over, keepdims=True, initial=_UNSEEN)
    largest = labels.max(axis=over, keepdims=True, initial=CONFLICT)
    one = np.where(smallest == largest, largest, CONFLICT)
    return np.where(smallest == _UNSEEN, 0, one)


def merged_all(labels: Labels) -> Labels:
    """What reaches a result of everything behind the tile axis, (K, 1)."""
    return merged(labels.reshape(labels.shape[0], -1), 1)


def joined(*labels: Labels) -> Labels:
    """What reaches a result of elements side by side, with the broadcasting of NumPy."""
    first, *others = labels
    for other in others:
        clash = (first != other) & (first != 0) & (other != 0)
        first = np.where(clash, CONFLICT, np.where(first == 0, other, first))
    return first


def carried(linear: Callable[[Array], Array], labels: Labels) -> Labels:
    """Spread through a linear map whose coefficients for one output are all of one sign, or 0.

    Each bit of the labels goes through the map as zeros and ones, and so does its complement among the labelled: an
    output at which both arrive is reached by labels that differ in that bit. All of them go side by side, behind the
    tile axis.

    Parameters
    ----------
    linear
        From (K, ...) to (K, ...).
    labels
        (1, ...).
    """
    clear = np.where(labels == CONFLICT, 0, labels)
    bits = np.arange(max(1, int(clear.max(initial=0)).bit_length()))
    ones = (clear >> bits.reshape(-1, *(1,) * (labels.ndim - 1))) & 1
    planes = np.concatenate([ones, (1 - ones) * (clear != 0), labels == CONFLICT]).astype(np.float64)
    arrived = linear(planes) != 0
    with_bit, without_bit, conflict = arrived[: len(bits)], arrived[len(bits) : -1], arrived[-1:]
    clash = (with_bit & without_bit).any(axis=0, keepdims=True) | conflict
    values = (with_bit * (1 << bits).reshape(-1, *(1,) * (arrived.ndim - 1))).sum(axis=0, keepdims=True)
    return np.where(clash, CONFLICT, values)
