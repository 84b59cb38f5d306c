"""Sums along an axis whose terms are multiplied on the way, in few passes."""

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import check_interrupt


def sum_discounted_from_end(terms: Array, factors: Array) -> Array:
    """Return R_k = terms_k + factors_k R_{k+1} along the last axis, R = terms at its end.

    Parameters
    ----------
    terms, factors
        Arrays whose last axis has one length n. The last factor is not used.

    Notes
    -----
    Let R_k be a sum of d terms from k on, and F_k the product of as many factors. Then R_k + F_k R_{k+d} is the sum of
    2 d terms and F_k F_{k+d} their product, so that log2 n passes suffice.
    """
    shape = np.broadcast_shapes(terms.shape, factors.shape)
    sums, products = (np.array(np.broadcast_to(array, shape)) for array in (terms, factors))
    distance = 1
    while distance < shape[-1]:
        check_interrupt()
        sums[..., :-distance] += products[..., :-distance] * sums[..., distance:]
        products[..., :-distance] *= products[..., distance:].copy()
        distance *= 2
    return sums
