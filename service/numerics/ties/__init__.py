"""Ties.

The search for one choice of local derivatives that explains all gradients.
"""

from collections.abc import Mapping

from service.numerics.ties.tie_point import TiePoint, find_tie_point
from service.numerics.ties.tie_status import JudgedRows, TieStatus

__all__ = ["JudgedRows", "TiePoint", "TieStatus", "find_tie_point", "judge_at_ties"]


def judge_at_ties(point: TiePoint, rows: Mapping[str, JudgedRows], seed: int) -> dict[str, TieStatus]:
    """Judge the numbers of one gradient source together."""
    # The solvers of SciPy take 25 MB, which a worker without a tie saves.
    from service.numerics.ties import joint_judgement

    return joint_judgement.judge_jointly(point, rows, seed)
