"""Ties: one choice of local derivatives that explains all judged gradients together, or none."""

from collections.abc import Mapping

from service.numerics.ties.point import Point, found
from service.numerics.ties.standing import Rows, Standing

__all__ = ["Point", "Rows", "Standing", "found", "judge"]


def judge(point: Point, rows: Mapping[str, Rows], seed: int) -> dict[str, Standing]:
    """Judge numbers of one route together; see `joint.judge`."""
    # The solvers of SciPy take 25 MB, which a worker that meets no tie does without.
    from service.numerics.ties import joint

    return joint.judge(point, rows, seed)
