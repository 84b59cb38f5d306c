"""The arithmetic in which a candidate was computed."""

from schemas.datatype import BY_ANY_NAME
from schemas.tensor import Tensor
from service.numerics.core.precision import PRECISIONS, Precision


def choose_precision(candidate: Tensor, declared: str | None, default: Precision) -> Precision:
    """Return the precision of a candidate: as declared, or that of its datatype."""
    if declared is not None:
        return PRECISIONS[declared] if declared in PRECISIONS else PRECISIONS[BY_ANY_NAME[declared].name]
    return default if candidate.datatype is None else PRECISIONS[candidate.datatype.name]
