"""The limits of one check.

Their defaults stand here alone, for Python and for the settings of the service.
"""

from dataclasses import dataclass

MAX_SMALL_BODY_BYTES = 2**18
"""Bytes of the largest body that may be a small check."""
MAX_SMALL_BYTES = 2**25
"""Largest memory estimate of a small check: twice that of the smallest model."""
MAX_SMALL_WORK = 5 * 10**7
"""Largest estimate of operations of a small check: some tenths of a second as a rule, with the diagnosis."""


@dataclass(frozen=True)
class Limits:
    """Limits of one check.

    Attributes
    ----------
    names
        Most tensors and weights of a request, and most candidates.
    nodes
        Most nodes of a model.
    dimensions
        Most dimensions of a tensor or node.
    elements
        Most elements of all tensors and nodes together.
    work
        Most multiply-adds, estimated.
    bytes
        Most bytes of memory beside those of the request, estimated.
    seconds
        Longest time for all of the check.
    answer_bytes
        Most bytes of the answer, estimated.
    processes
        Most processes that compute a large check together, this one included.
    """

    names: int = 1000
    nodes: int = 1000
    dimensions: int = 24
    elements: int = 2**21
    work: int = 10**11
    bytes: int = 2**30
    seconds: float = 60.0
    answer_bytes: int = 2**28
    processes: int = 1
