"""Ties: one choice of local derivatives that explains all judged gradients together, or none."""

from service.numerics.ties.joint import Rows, judge
from service.numerics.ties.point import Point, found
from service.numerics.ties.standing import Standing

__all__ = ["Point", "Rows", "Standing", "found", "judge"]
