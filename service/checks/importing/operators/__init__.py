"""The operators of ONNX by family, a function each; importing this package registers them."""

from service.checks.importing.operators import (
    activation,
    arithmetic,
    attention,
    convolution,
    index,
    loss,
    normalization,
    pooling,
    product,
    recurrent,
    reduction,
    resize,
    scatter,
    shape,
    transform,
)

__all__ = [
    "activation",
    "arithmetic",
    "attention",
    "convolution",
    "index",
    "loss",
    "normalization",
    "pooling",
    "product",
    "recurrent",
    "reduction",
    "resize",
    "scatter",
    "shape",
    "transform",
]
