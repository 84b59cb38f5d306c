"""Models of some megabytes, one of each op at least, whose memory is looked at."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.elementwise import UnaryOp

Request = dict[str, Any]


def encode_tensor(array: Any, datatype: str = "FP64") -> dict[str, Any]:
    raw = np.asarray(array).astype({"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}[datatype]).tobytes()
    return {"datatype": datatype, "shape": list(np.shape(array)), "b64": base64.b64encode(raw).decode()}


def _draw_floats(shape: tuple[int, ...], low: float, high: float, seed: int) -> Any:
    return encode_tensor(np.random.default_rng(seed).uniform(low, high, shape))


def build_model(
    op: str,
    *shapes: tuple[int, ...] | dict[str, Any],
    low: float = 0.1,
    high: float = 0.9,
    attributes: Mapping[str, Any] | None = None,
    squared: bool = True,
    **fields: Any,
) -> Request:
    """The sum of the squares of one op: of tensors as weights, given by their shapes, and of others as they are."""
    weights: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    for number, shape in enumerate(shapes):
        if isinstance(shape, dict):
            tensors[f"t{number}"] = shape
        else:
            weights[f"t{number}"] = _draw_floats(shape, low, high, number)
    inputs = [f"t{number}" for number in range(len(shapes))]
    nodes: list[dict[str, Any]] = [{"name": "y", "op": op, "inputs": inputs, **(attributes or {})}]
    if squared:
        nodes += [
            {"name": "s", "op": "mul", "inputs": ["y", "y"]},
            {"name": "loss", "op": "sum", "inputs": ["s"]},
        ]
    return {"tensors": tensors, "weights": weights, "model": {"nodes": nodes}, **fields}


def draw_indices(below: int, *shape: int) -> dict[str, Any]:
    return encode_tensor(np.random.default_rng(1).integers(below, size=shape), "INT64")


UNARY = sorted(
    name
    for name, op in OP_REGISTRY.items()
    if issubclass(op, UnaryOp) and name not in ("clamp", "fake_quantize", "polygamma", "pow", "threshold")
)
"""Functions of one tensor that need no attribute."""
BINARY = (
    *("add", "atan2", "div", "fmod", "hypot", "logaddexp", "logaddexp2", "maximum", "minimum", "mul", "remainder"),
    *("sub", "xlogy"),
)
PAIRS = ("half_squared_error", "huber_loss", "kl_div", "l1_loss", "mse_loss", "smooth_l1_loss", "soft_margin_loss")
ALONG: Mapping[str, Any] = {"finite_difference": {"projections": 2}}


def build_models(n: int) -> Iterator[tuple[str, Request]]:
    """Every op, of tensors of about n elements; n is a multiple of 16."""
    table, wide = (n // 8, 8), (8, n // 8)
    for op in UNARY:
        yield op, build_model(op, (n,), low=1.1, high=2.0) if op == "acosh" else build_model(op, (n,))
    for op in BINARY:
        yield op, build_model(op, table, table)
    yield "pow", build_model("pow", table, attributes={"exponent": 3})
    yield "add, broadcast", build_model("add", table, (8,))
    yield "mul, outer", build_model("mul", (n // 100, 1), (1, 100), **ALONG)
    yield "clamp", build_model("clamp", table, attributes={"min": 0.2, "max": 0.7})
    yield "polygamma", build_model("polygamma", table, attributes={"n": 2})
    yield "threshold", build_model("threshold", table, attributes={"threshold": 0.4, "value": 0.2})
    yield "prelu", build_model("prelu", table, (8,))
    yield "lerp", build_model("lerp", table, table, ())
    yield "where", build_model("where", encode_tensor(np.arange(n).reshape(table) % 2 == 0, "BOOL"), table, table)
    for op in ("softmax", "log_softmax", "softmin"):
        yield op, build_model(op, table, attributes={"dim": -1})
        yield f"{op}, long", build_model(op, wide, attributes={"dim": -1}, **ALONG)
    yield from _build_product_models(n)
    yield from _build_convolution_models(n)
    yield from _build_sampling_models(n)
    yield from _build_norm_models(n)
    yield from _build_shape_models(n)
    for op in ("sum", "mean", "amax", "logsumexp", "var", "vector_norm"):
        yield op, build_model(op, table, attributes={"dim": [-1]} if op != "amax" else {"dim": -1})
        of_all = {"dim": [0]} if op == "logsumexp" else {}
        yield f"{op}, of all", build_model(op, (n,), attributes=of_all, squared=False, **ALONG)
    for op in ("cumsum", "cumprod", "logcumsumexp", "prod", "std", "amin"):
        yield op, build_model(op, table, attributes={"dim": -1})
    yield from _build_loss_models(n)
    yield from _build_composite_models(n)
    yield from _build_kernel_models(n)
    yield from _build_matrix_models(n)
    yield from _build_sequence_models(n)
    yield from _build_several_output_models(n)


def _build_several_output_models(n: int) -> Iterator[tuple[str, Request]]:
    """Ops with several outputs, and ops of integers and truths, under a loss of floats."""
    table = (n // 8, 8)
    for op in ("cummax", "cummin", "kthvalue", "max", "median", "min", "sort", "topk"):
        attributes = {"dim": 1, **({"k": 3} if op in ("kthvalue", "topk") else {})}
        yield op, _build_output_model(op, table, attributes, "values")
    for op, attributes, output in (
        ("aminmax", {"dim": 1}, "max"),
        ("chunk", {"chunks": 2}, "0"),
        ("split", {"split_size_or_sections": 2, "dim": 1}, "1"),
        ("std_mean", {"dim": 1}, "0"),
        ("unbind", {"dim": 1}, "3"),
        ("var_mean", {"dim": 1}, "1"),
    ):
        yield op, _build_output_model(op, table, attributes, output)
    for op in ("argmax", "argmin", "argsort"):
        keepdim = {} if op == "argsort" else {"keepdim": True}
        nodes = [
            {"name": "i", "op": op, "inputs": ["t0"], "dim": 1, **keepdim},
            {"name": "g", "op": "gather", "inputs": ["t1", "i"], "dim": 1},
            {"name": "loss", "op": "sum", "inputs": ["g"]},
        ]
        yield op, _build_pair_model(table, nodes)
    for op in ("eq", "ge", "gt", "le", "lt", "ne"):
        nodes = [
            {"name": "m", "op": op, "inputs": ["t0", "t1"]},
            {"name": "y", "op": "where", "inputs": ["m", "t1", 0.5]},
            {"name": "s", "op": "mul", "inputs": ["y", "y"]},
            {"name": "loss", "op": "sum", "inputs": ["s"]},
        ]
        yield op, _build_pair_model(table, nodes)
    for op in ("logical_and", "logical_not", "logical_or", "logical_xor"):
        nodes = [
            {"name": "a", "op": "gt", "inputs": ["t0", 0.3]},
            {"name": "b", "op": "lt", "inputs": ["t1", 0.6]},
            {"name": "c", "op": "eq", "inputs": ["a", "b"]},
            {"name": "m", "op": op, "inputs": ["c"] if op == "logical_not" else ["a", "c"]},
            {"name": "y", "op": "where", "inputs": ["m", "t1", 0.5]},
            {"name": "loss", "op": "sum", "inputs": ["y"]},
        ]
        yield op, _build_pair_model(table, nodes)


def _build_output_model(op: str, shape: tuple[int, ...], attributes: Mapping[str, Any], output: str) -> Request:
    nodes = [
        {"name": "y", "op": op, "inputs": ["t0"], **attributes},
        {"name": "s", "op": "mul", "inputs": [f"y.{output}"] * 2},
        {"name": "loss", "op": "sum", "inputs": ["s"]},
    ]
    return {"tensors": {}, "weights": {"t0": _draw_floats(shape, 0.1, 0.9, 0)}, "model": {"nodes": nodes}}


def _build_pair_model(shape: tuple[int, ...], nodes: list[dict[str, Any]]) -> Request:
    """A model of a tensor t0 and a weight t1."""
    tensors = {"t0": _draw_floats(shape, 0.1, 0.9, 0)}
    return {"tensors": tensors, "weights": {"t1": _draw_floats(shape, 0.1, 0.9, 1)}, "model": {"nodes": nodes}}


def _build_product_models(n: int) -> Iterator[tuple[str, Request]]:
    side = int(n**0.5)
    yield "linear", build_model("linear", (side, side), (side, side), (side,), **ALONG)
    yield "matmul", build_model("matmul", (side, side), (side, side), **ALONG)
    yield "matmul, by element", build_model("matmul", (n // 4, 4), (4, 4))
    yield "einsum", build_model("einsum", (side, side), (side, side), attributes={"equation": "ij,jk->ik"}, **ALONG)
    yield (
        "einsum, batch",
        build_model("einsum", (n // 16, 4, 4), (n // 16, 4, 4), attributes={"equation": "bij,bjk->bik"}),
    )
    yield "einsum, outer", build_model("einsum", (side,), (side,), attributes={"equation": "i,j->ij"}, **ALONG)
    yield (
        "einsum, of sums",
        build_model(
            "einsum", choose_table_shape(n), choose_table_shape(n), attributes={"equation": "ij,kl->"}, **ALONG
        ),
    )
    length = int((n / 2) ** 0.5)
    for name, shape in (("long", (1, length, 8)), ("heads", (n // 256, 16, 8))):
        yield f"attention, {name}", build_model("scaled_dot_product_attention", shape, shape, shape, **ALONG)


def choose_table_shape(n: int) -> tuple[int, int]:
    return n // 8, 8


def _build_convolution_models(n: int) -> Iterator[tuple[str, Request]]:
    side = int(n**0.5)
    half = side // 2
    yield "conv2d", build_model("conv2d", (1, 1, side, side), (1, 1, 3, 3), attributes={"padding": 1})
    yield "conv2d, channels", build_model("conv2d", (2, 8, half // 2, half // 2), (8, 8, 3, 3), (8,), **ALONG)
    yield "conv2d, plain", build_model("conv2d", (side, side), (5, 5), **ALONG)
    yield "conv2d, large kernel", build_model("conv2d", (1, 1, half, half), (1, 1, half // 2, half // 2), **ALONG)
    yield "conv2d, large kernel by element", build_model("conv2d", (1, 1, half, half), (1, 1, half // 4, half // 4))
    yield (
        "conv2d, dilation",
        build_model("conv2d", (1, 1, side, side), (1, 1, 5, 5), attributes={"dilation": side // 8}, **ALONG),
    )
    yield "conv2d, padding", build_model("conv2d", (1, 1, 8, 8), (1, 1, 3, 3), attributes={"padding": half}, **ALONG)
    yield (
        "conv2d, float32",
        build_model("conv2d", (1, 1, half, half), (1, 1, half // 4, half // 4), dtype="float32", **ALONG),
    )
    yield "conv1d", build_model("conv1d", (1, 1, n), (1, 1, 5))
    yield "conv1d, large kernel", build_model("conv1d", (1, 1, n // 4), (1, 1, 200), **ALONG)
    yield (
        "conv_transpose2d",
        build_model("conv_transpose2d", (1, 1, half, half), (1, 1, 3, 3), attributes={"stride": 2}),
    )
    yield (
        "conv_transpose2d, large kernel",
        build_model("conv_transpose2d", (1, 1, half // 2, half // 2), (1, 1, half // 2, half // 2), **ALONG),
    )
    third = round(half ** (2 / 3))
    yield "conv3d", build_model("conv3d", (1, 1, third, third, third), (1, 1, 3, 3, 3), attributes={"padding": 1})
    yield (
        "conv_transpose3d",
        build_model("conv_transpose3d", (1, 1, *[third // 2] * 3), (1, 1, 3, 3, 3), attributes={"stride": 2}),
    )
    for op in ("avg_pool1d", "max_pool1d"):
        yield op, build_model(op, (1, 1, n), attributes={"kernel_size": 2})
    for op in ("adaptive_avg_pool1d", "adaptive_max_pool1d"):
        yield op, build_model(op, (1, n // 16, 16), attributes={"output_size": 5})
    for kind in ("avg", "max"):
        yield f"{kind}_pool3d", build_model(f"{kind}_pool3d", (1, n // 512, 8, 8, 8), attributes={"kernel_size": 2})
        for axes in (2, 3):
            op = f"adaptive_{kind}_pool{axes}d"
            yield op, build_model(op, (1, n // 512, *(8,) * (axes - 1), 8 ** (4 - axes)), attributes={"output_size": 3})
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        attributes = {"size": [half, side], "mode": mode}
        yield f"interpolate, {mode}", build_model("interpolate", (1, 1, side, half), attributes=attributes, **ALONG)
    for op in ("avg_pool2d", "max_pool2d"):
        yield op, build_model(op, (1, 1, side, side), attributes={"kernel_size": 2})
        large = {"kernel_size": 12, "stride": 1, "padding": 6}
        yield f"{op}, large", build_model(op, (1, 1, half, half), attributes=large, **ALONG)


def _build_sampling_models(n: int) -> Iterator[tuple[str, Request]]:
    half = int(n**0.5) // 2
    yield "affine_grid", build_model("affine_grid", (1, 2, 3), attributes={"size": [1, 1, half, half]}, **ALONG)
    for axes in (1, 2, 3):
        cube = (2,) * axes
        taken = draw_indices(2**axes, 1, n // 16, *(1,) * axes)
        yield (
            f"max_unpool{axes}d",
            build_model(f"max_unpool{axes}d", (1, n // 16, *(1,) * axes), taken, attributes={"kernel_size": [*cube]}),
        )
        pooled = {"norm_type": 2, "kernel_size": 2}
        yield (
            f"lp_pool{axes}d",
            build_model(f"lp_pool{axes}d", (1, n // 64, *((64,), (8, 8), (4, 4, 4))[axes - 1]), attributes=pooled),
        )
    for mode in ("bilinear", "nearest", "bicubic"):
        places = (1, half // 2, half // 2, 2)
        attributes = {"mode": mode, "padding_mode": "border"}
        yield f"grid_sample, {mode}", build_model("grid_sample", (1, 4, half, half), places, attributes=attributes)


def _build_norm_models(n: int) -> Iterator[tuple[str, Request]]:
    planes = n // 512, 8, 8, 8
    for op in ("layer_norm", "rms_norm"):
        parts = ((8,), (8,)) if op == "layer_norm" else ((8,),)
        yield op, build_model(op, choose_table_shape(n), *parts, attributes={"normalized_shape": [8]})
        yield f"{op}, long", build_model(op, (8, n // 8), attributes={"normalized_shape": [n // 8]}, **ALONG)
    yield "batch_norm", build_model("batch_norm", planes, (8,), (8,), **ALONG)
    yield "group_norm", build_model("group_norm", planes, (8,), (8,), attributes={"num_groups": 4}, **ALONG)


def _build_shape_models(n: int) -> Iterator[tuple[str, Request]]:
    half, side = n // 16, int(n**0.5) // 2
    yield "cat", build_model("cat", choose_table_shape(n // 2), choose_table_shape(n // 2))
    yield "stack", build_model("stack", choose_table_shape(n // 2), choose_table_shape(n // 2))
    yield "embedding", build_model("embedding", draw_indices(half, half), (half, 8))
    yield (
        "gather",
        build_model("gather", choose_table_shape(n // 2), draw_indices(half, half, 8), attributes={"dim": 0}),
    )
    yield (
        "index_select",
        build_model("index_select", choose_table_shape(n // 2), draw_indices(half, half), attributes={"dim": 0}),
    )
    yield from _build_placement_models(n)
    simple: Mapping[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
        "expand": ((half, 1), {"size": [half, 16]}),
        "flatten": (choose_table_shape(n), {}),
        "flip": (choose_table_shape(n), {"dims": [0]}),
        "narrow": (choose_table_shape(n), {"dim": 0, "start": 1, "length": half}),
        "pad": (choose_table_shape(n), {"pad": [1, 1]}),
        "permute": (choose_table_shape(n), {"dims": [1, 0]}),
        "reshape": (choose_table_shape(n), {"shape": [n]}),
        "squeeze": ((n, 1), {"dim": 1}),
        "transpose": (choose_table_shape(n), {"dim0": 0, "dim1": 1}),
        "slice": (choose_table_shape(n), {"start": 1, "step": 2}),
        "diag_embed": ((n // 64, 4), {}),
        "unfold": ((1, 1, side, side), {"kernel_size": 2}),
        "fold": ((4, (side - 1) ** 2), {"output_size": side, "kernel_size": 2}),
        "roll": (choose_table_shape(n), {"shifts": 3, "dims": 0}),
        "tril": (choose_table_shape(n), {}),
        "triu": (choose_table_shape(n), {}),
        "diagonal": ((half, 4, 4), {"dim1": 1, "dim2": 2}),
        "select": (choose_table_shape(n), {"dim": 1, "index": 3}),
        "movedim": (choose_table_shape(n), {"source": 0, "destination": 1}),
        "repeat": ((half, 8), {"repeats": [2, 1]}),
        "repeat_interleave": ((half, 8), {"repeats": 2, "dim": 0}),
        "pixel_shuffle": ((half // 4 * 4, 4, 4), {"upscale_factor": 2}),
        "pixel_unshuffle": ((half // 4, 8, 8), {"downscale_factor": 2}),
        "channel_shuffle": ((1, 16, half), {"groups": 4}),
        "unsqueeze": ((n,), {"dim": 0}),
    }
    for op, (shape, attributes) in simple.items():
        yield op, build_model(op, shape, attributes=attributes)


def _build_placement_models(n: int) -> Iterator[tuple[str, Request]]:
    table, rows = choose_table_shape(n // 2), n // 16
    along: Mapping[str, Any] = {"dim": 0}
    once = encode_tensor(np.random.default_rng(1).permutation(rows), "INT64")
    each = encode_tensor(np.random.default_rng(1).permuted(np.arange(rows * 8).reshape(rows, 8) // 8, axis=0), "INT64")
    yield "scatter_add", build_model("scatter_add", table, draw_indices(rows, *table), table, attributes=along)
    for reduce in ("prod", "amax"):
        attributes = {"dim": 0, "reduce": reduce}
        indices = draw_indices(rows, *table)
        yield f"scatter_reduce, {reduce}", build_model("scatter_reduce", table, indices, table, attributes=attributes)
    yield "scatter", build_model("scatter", table, each, table, attributes=along)
    yield "index_add", build_model("index_add", table, draw_indices(rows, rows), table, attributes=along)
    yield "index_copy", build_model("index_copy", table, once, table, attributes=along)
    yield (
        "index_put",
        build_model("index_put", table, table, draw_indices(rows, rows), attributes={"accumulate": True}),
    )
    yield "take", build_model("take", table, draw_indices(rows * 8, *table))
    yield "take_along_dim", build_model("take_along_dim", table, draw_indices(rows, *table), attributes=along)
    yield "slice_scatter", build_model("slice_scatter", table, (rows // 2, 8), attributes={"end": rows // 2})
    yield "select_scatter", build_model("select_scatter", table, (rows,), attributes={"dim": 1, "index": 3})
    yield "diagonal_scatter", build_model("diagonal_scatter", (int(n**0.5), int(n**0.5)), (int(n**0.5),))
    mask = encode_tensor(np.arange(n).reshape(choose_table_shape(n)) % 2 == 0, "BOOL")
    yield "masked_fill", build_model("masked_fill", choose_table_shape(n), mask, ())
    yield "masked_scatter", build_model("masked_scatter", choose_table_shape(n), mask, choose_table_shape(n))
    for mode in ("mean", "max"):
        bags = draw_indices(rows, n // 64, 4)
        yield f"embedding_bag, {mode}", build_model("embedding_bag", bags, (rows, 8), attributes={"mode": mode})
    yield "trace", build_model("trace", (int(n**0.5), int(n**0.5)))


def _build_loss_models(n: int) -> Iterator[tuple[str, Request]]:
    target = _draw_floats(choose_table_shape(n), 0.1, 0.9, 9)
    for op in (*PAIRS, "binary_cross_entropy", "binary_cross_entropy_with_logits"):
        yield op, build_model(op, choose_table_shape(n), target, squared=False)
        yield f"{op}, both", build_model(op, choose_table_shape(n), choose_table_shape(n), squared=False)
    yield "poisson_nll_loss", build_model("poisson_nll_loss", choose_table_shape(n), target, squared=False)
    for op in ("cross_entropy", "nll_loss"):
        yield op, build_model(op, choose_table_shape(n), draw_indices(8, n // 8), squared=False)
    yield (
        "cross_entropy, of many classes",
        build_model("cross_entropy", (8, n // 8), draw_indices(n // 8, 8), squared=False, **ALONG),
    )
    signs = encode_tensor(np.where(np.arange(n // 8) % 2, 1.0, -1.0))
    vector = (n // 2,)
    signs_of_pairs = encode_tensor(np.where(np.arange(n // 2) % 2, 1.0, -1.0))
    yield "margin_ranking_loss", build_model("margin_ranking_loss", vector, vector, signs_of_pairs, squared=False)
    for op, count in (("gaussian_nll_loss", 3), ("multilabel_soft_margin_loss", 2)):
        yield op, build_model(op, *[choose_table_shape(n)] * count, squared=False)
    lengths = {"input_lengths": [n // 32] * 2, "target_lengths": [n // 256] * 2, "blank": 3}
    yield (
        "ctc_loss",
        build_model("ctc_loss", (n // 32, 2, 4), draw_indices(3, 2, n // 256), attributes=lengths, squared=False),
    )
    targets = encode_tensor(np.where(np.arange(n).reshape(-1, 8) % 2, 1.0, -1.0))
    yield "hinge_embedding_loss", build_model("hinge_embedding_loss", (n // 8, 8), targets, squared=False)
    yield "multi_margin_loss", build_model("multi_margin_loss", (n // 8, 8), draw_indices(8, n // 8), squared=False)
    yield (
        "multilabel_margin_loss",
        build_model("multilabel_margin_loss", (n // 32, 8), draw_indices(8, n // 32, 8), squared=False),
    )
    yield (
        "cosine_embedding_loss",
        build_model("cosine_embedding_loss", choose_table_shape(n), choose_table_shape(n), signs, squared=False),
    )
    yield (
        "triplet_margin_loss",
        build_model(
            "triplet_margin_loss", choose_table_shape(n), choose_table_shape(n), choose_table_shape(n), squared=False
        ),
    )


def _build_composite_models(n: int) -> Iterator[tuple[str, Request]]:
    side, table = int(n**0.5), choose_table_shape(n)
    for op in ("softsign", "tanhshrink"):
        yield op, build_model(op, (n,))
    for op in ("glu", "normalize"):
        yield op, build_model(op, table)
    for op in ("cosine_similarity", "pairwise_distance", "rsub"):
        yield op, build_model(op, table, table)
    for op in ("addcmul", "addcdiv"):
        yield op, build_model(op, table, table, table)
    yield "cross", build_model("cross", (n // 16, 3), (n // 16, 3))
    yield "kron", build_model("kron", (side // 4, 2), (side // 4, 2), **ALONG)
    yield "tensordot", build_model("tensordot", (side, side), (side, side), attributes={"dims": 1}, **ALONG)
    yield "bilinear", build_model("bilinear", (n // 16, 4), (n // 16, 4), (4, 4, 4), (4,), **ALONG)
    yield "cdist", build_model("cdist", (side // 4, 4), (side // 4, 4), **ALONG)
    yield "conv_transpose1d", build_model("conv_transpose1d", (1, 1, n // 2), (1, 1, 3), attributes={"stride": 2})
    planes = n // 512, 8, 8, 8
    yield "instance_norm", build_model("instance_norm", planes, (8,), (8,), **ALONG)
    yield "local_response_norm", build_model("local_response_norm", planes, attributes={"size": 3}, **ALONG)
    yield "addmm", build_model("addmm", (side,), (side, side), (side, side), **ALONG)
    yield "addmv", build_model("addmv", (side,), (side, side), (side,), **ALONG)
    batches = ((n // 16, 4, 4), (n // 16, 4, 4))
    yield "bmm", build_model("bmm", *batches, **ALONG)
    yield "baddbmm", build_model("baddbmm", (4, 4), *batches, **ALONG)
    yield "addbmm", build_model("addbmm", (4, 4), *batches, **ALONG)
    yield "dist", build_model("dist", table, table, **ALONG)
    yield "pdist", build_model("pdist", (16, n // 128), **ALONG)
    yield "outer", build_model("outer", (side,), (side,), **ALONG)
    yield "addr", build_model("addr", (side, side), (side,), (side,), **ALONG)


def _build_kernel_models(n: int) -> Iterator[tuple[str, Request]]:
    table = choose_table_shape(n)
    for op in ("swiglu", "geglu"):
        yield op, build_model(op, table, table)
    yield "rotary_embedding", build_model("rotary_embedding", table, (n // 8, 4), (n // 8, 4))
    yield "add_rms_norm", build_model("add_rms_norm", table, table, (8,), attributes={"normalized_shape": 8})
    yield "causal_conv1d", build_model("causal_conv1d", (1, 8, n // 8), (8, 4), (8,), **ALONG)
    penalty = {"z_loss": 0.1, "softcap": 5.0}
    yield (
        "linear_cross_entropy",
        build_model(
            "linear_cross_entropy",
            *(table, (8, 8), draw_indices(8, n // 8), (8,)),
            attributes=penalty,
            squared=False,
            **ALONG,
        ),
    )
    yield "fake_quantize", build_model("fake_quantize", table, attributes={"scale": 0.01})
    side = int(n**0.5)
    yield "alibi_bias", build_model("alibi_bias", (4,), attributes={"queries": side // 2, "keys": side // 2})
    mask = encode_tensor(np.ones((1, 1, 1, 16), bool), "BOOL")
    window = {"window": [3, 0], "softcap": 5.0}
    grouped = (n // 512, 2, 16, 8), (n // 512, 1, 16, 8), (n // 512, 1, 16, 8)
    yield "attention", build_model("attention", *grouped, mask, (2,), (2,), attributes=window, **ALONG)
    heads = (n // 256, 16, 8)
    yield "windowed_attention", build_model("windowed_attention", heads, heads, heads, attributes=window, **ALONG)


def _build_matrix_models(n: int) -> Iterator[tuple[str, Request]]:
    side, stack = int(n**0.5), (n // 16, 4, 4)
    for op in ("det", "inv", "logdet", "matrix_exp", "slogdet", "svdvals"):
        yield op, build_model(op, stack, **ALONG)
    yield "det, large", build_model("det", (side // 4, side // 4), high=0.2, squared=False, **ALONG)
    symmetric = encode_tensor(np.tile(np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1, (n // 16, 1, 1)))
    for op in ("cholesky", "eigvalsh"):
        model = build_model(op, stack, **ALONG)
        model["weights"]["t0"] = symmetric
        yield op, model
    yield "matrix_norm", build_model("matrix_norm", stack, attributes={"ord": "nuc"}, **ALONG)
    yield "matrix_power", build_model("matrix_power", stack, attributes={"n": 3}, **ALONG)
    yield "solve", build_model("solve", stack, stack, **ALONG)
    yield "solve, large", build_model("solve", (side // 2, side // 2), (side // 2, 4), **ALONG)
    yield "solve_triangular", build_model("solve_triangular", stack, stack, attributes={"upper": True}, **ALONG)


def _build_sequence_models(n: int) -> Iterator[tuple[str, Request]]:
    length, batch = 16, n // 16 // 8
    for op, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
        states = [(1, batch, 8)] * (2 if op == "lstm" else 1)
        rows = 8 * gates
        weights = ((rows, 8), (rows, 8), (rows,), (rows,))
        yield op, build_model(op, (length, batch, 8), *states, *weights, **ALONG)
    yield (
        "linear_scan",
        build_model("linear_scan", (length, n // 16), (length, n // 16), attributes={"dim": 0}, **ALONG),
    )
    wide = (batch, 8, length)
    yield (
        "selective_scan",
        build_model("selective_scan", wide, wide, (8, 4), (batch, 4, length), (batch, 4, length), **ALONG),
    )


def build_deep_model(n: int, length: int, **fields: Any) -> Request:
    """Many nodes, one after the other, each with a weight of its own and a way around it."""
    shape = (n // length // 8, 8)
    weights = {f"w{number}": _draw_floats(shape, 0.1, 0.9, number) for number in range(length)}
    nodes: list[dict[str, Any]] = []
    before = "w0"
    for number in range(1, length):
        op = ("tanh", "sigmoid", "relu", "gelu")[number % 4]
        nodes.append({"name": f"m{number}", "op": "mul", "inputs": [before, f"w{number}"]})
        nodes.append({"name": f"f{number}", "op": op, "inputs": [f"m{number}"]})
        nodes.append({"name": f"n{number}", "op": "add", "inputs": [before, f"f{number}"]})
        before = f"n{number}"
    nodes.append({"name": "loss", "op": "sum", "inputs": [before]})
    return {"tensors": {}, "weights": weights, "model": {"nodes": nodes}, **fields}


SHAPED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("softmax", {"dim": -1}),
    ("log_softmax", {"dim": -1}),
    ("cumsum", {"dim": -1}),
    ("flip", {"dims": [0]}),
    ("layer_norm", {"normalized_shape": [8]}),
)


def draw_model(n: int, seed: int) -> Request:
    """A graph of random ops over tables, with branches and shared weights, in all that a request may ask for."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 5))
    weights = {f"w{number}": _draw_floats(choose_table_shape(n // count), 0.1, 0.9, number) for number in range(count)}
    weights["m"] = _draw_floats((8, 8), -0.3, 0.3, count)
    known, nodes = list(weights)[:-1], list[dict[str, Any]]()
    for number in range(int(generator.integers(6, 14))):
        first, second = (str(operand) for operand in generator.choice(known, 2))
        name, kind = f"n{number}", generator.integers(4)
        if kind == 0:
            nodes.append({"name": name, "op": str(generator.choice(UNARY)), "inputs": [known[-1]]})
        elif kind == 1:
            nodes.append({"name": name, "op": str(generator.choice(BINARY)), "inputs": [first, second]})
        elif kind == 2:
            nodes.append({"name": name, "op": "linear", "inputs": [known[-1], "m"]})
        else:
            op, attributes = SHAPED[int(generator.integers(len(SHAPED)))]
            nodes.append({"name": name, "op": op, "inputs": [first], **attributes})
        known.append(name)
    # All of it reaches the loss.
    nodes.append({"name": "all", "op": "stack", "inputs": known})
    nodes.append({"name": "part", "op": "linear", "inputs": ["all", "m"]})
    nodes.append({"name": "loss", "op": "sum", "inputs": ["part"]})
    looked: list[dict[str, Any]] = [{}, {"sample": 50}, {"projections": 3}]
    include = [["gradients"], ["gradients", "allowances"], ["gradients", "intermediates"]]
    return {
        "tensors": {},
        "weights": weights,
        "model": {"nodes": nodes},
        "finite_difference": looked[int(generator.integers(3))],
        "include": include[int(generator.integers(3))],
        "dtype": str(generator.choice(["float64", "float32", "bfloat16"])),
        "encoding": str(generator.choice(["nested", "b64"])),
    }
