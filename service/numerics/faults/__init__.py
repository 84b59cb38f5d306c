"""The catalogue of bugs: each entry makes the gradient that its bug makes, and so recognises it."""

from service.numerics.faults import (
    added,
    arrangement,
    clip,
    moments,
    multiplied,
    numbers,
    own_softmax,
    reduction,
    scale,
    shift,
)
from service.numerics.faults.diagnosis import NO_TIME, UNKNOWN, diagnose
from service.numerics.faults.factors import digits
from service.numerics.faults.fault import BACKWARD, FAULTS
from service.numerics.faults.planting import Planted, catalogue, planted
from service.numerics.faults.scene import Scene
from service.numerics.faults.telling import Diagnosis

__all__ = [
    "BACKWARD",
    "FAULTS",
    "NO_TIME",
    "UNKNOWN",
    "Diagnosis",
    "Planted",
    "Scene",
    "catalogue",
    "diagnose",
    "digits",
    "planted",
]

_FAMILIES = (numbers, added, scale, clip, reduction, arrangement, shift, moments, multiplied, own_softmax)
