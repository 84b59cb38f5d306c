"""The ops of the model language: one family a file, one class an op. Importing the families fills the registry."""

from service.numerics.ops import conv, elementwise, loss, shape
from service.numerics.ops.op import REGISTRY, Op

__all__ = ["REGISTRY", "Op", "conv", "elementwise", "loss", "shape"]
