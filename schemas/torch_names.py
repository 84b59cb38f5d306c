"""Names that a user of PyTorch may write for an op or a parameter, for the suggestions of errors.

Nothing is translated silently: an error names the op that exists here.
"""

import re
from collections.abc import Iterable, Mapping

_DIMENSION_SUFFIX = re.compile(r"[123]d$")
_OPS_BY_ALIAS = {
    "absolute": "abs",
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "associativescan": "linear_scan",
    "bceloss": "binary_cross_entropy",
    "bcewithlogitsloss": "binary_cross_entropy_with_logits",
    "bmm": "matmul",
    "broadcastto": "expand",
    "clampmax": "clamp",
    "clampmin": "clamp",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "dense": "linear",
    "divide": "div",
    "dot": "matmul",
    "expandas": "expand",
    "expit": "sigmoid",
    "expm": "matrix_exp",
    "greater": "gt",
    "greaterequal": "ge",
    "hstack": "cat",
    "inverse": "inv",
    "less": "lt",
    "lessequal": "le",
    "linalgcholesky": "cholesky",
    "linalgdet": "det",
    "linalgeigvalsh": "eigvalsh",
    "linalginv": "inv",
    "linalgmatrixexp": "matrix_exp",
    "linalgmatrixnorm": "matrix_norm",
    "linalgmatrixpower": "matrix_power",
    "linalgslogdet": "slogdet",
    "linalgsolve": "solve",
    "linalgsolvetriangular": "solve_triangular",
    "linalgsvdvals": "svdvals",
    "logistic": "sigmoid",
    "maskedselect": "take",
    "mm": "matmul",
    "moveaxis": "permute",
    "movedim": "permute",
    "multiply": "mul",
    "mv": "matmul",
    "negative": "neg",
    "norm": "vector_norm",
    "notequal": "ne",
    "partition": "sort",
    "power": "pow",
    "ravel": "flatten",
    "reshapeas": "reshape",
    "sdpa": "scaled_dot_product_attention",
    "subtract": "sub",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "swish": "silu",
    "t": "transpose",
    "takealongdim": "gather",
    "tensorsplit": "split",
    "triangularsolve": "solve_triangular",
    "truedivide": "div",
    "unflatten": "reshape",
    "view": "reshape",
    "viewas": "reshape",
    "vstack": "cat",
}
"""Ops by names of PyTorch, NumPy and others, in small letters without underscores."""
_PARAMETERS_BY_ALIAS: Mapping[str, tuple[str, ...]] = {
    "a_max": ("max",),
    "a_min": ("min",),
    "axes": ("dims", "dim"),
    "axis": ("dim", "dims", "start_dim"),
    "axis0": ("dim0",),
    "axis1": ("dim1",),
    "ddof": ("correction",),
    "dim": ("dims",),
    "dims": ("dim",),
    "epsilon": ("eps",),
    "keep_dim": ("keepdim",),
    "keepdims": ("keepdim",),
    "newshape": ("shape",),
    "p": ("ord", "exponent"),
    "shape": ("size", "normalized_shape"),
    "size": ("shape",),
    "size_average": ("reduction",),
    "slope": ("negative_slope",),
    "unbiased": ("correction",),
}


def suggest_op(name: str, known_names: Iterable[str]) -> str | None:
    """Return the op that a name of PyTorch stands for, as `nn.GELU`, `F.softmax` or `x.view`; None if there is none."""
    by_key = {_make_key(known): known for known in known_names}
    key = _make_key(name[:200].rsplit(".", 1)[-1])
    bare_key = _DIMENSION_SUFFIX.sub("", key)
    for candidate in (key, bare_key, key.removesuffix("loss"), _make_key(_OPS_BY_ALIAS.get(key, ""))):
        if candidate in by_key:
            return by_key[candidate]
    return None


def _make_key(name: str) -> str:
    return name.lower().replace("_", "")


def suggest_parameter(name: str, known_names: Iterable[str]) -> str | None:
    """Return the parameter that a name of NumPy or PyTorch stands for; None if there is none."""
    known = set(known_names)
    return next((candidate for candidate in _PARAMETERS_BY_ALIAS.get(name, ()) if candidate in known), None)
