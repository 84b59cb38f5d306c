"""Nodes for the operators of ATen: importing a family registers its conversions."""

from gradcheckd.torch.aten_nodes import (
    attention,
    convolution,
    losses,
    normalisation,
    pointwise,
    pooling,
    powers,
    products,
    rearrangement,
    reductions,
    resampling,
    scattering,
    selection,
    shape,
)

__all__ = [
    "attention",
    "convolution",
    "losses",
    "normalisation",
    "pointwise",
    "pooling",
    "powers",
    "products",
    "rearrangement",
    "reductions",
    "resampling",
    "scattering",
    "selection",
    "shape",
]
