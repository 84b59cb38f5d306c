"""A call of each operator that has a conversion, in each of its forms that differ."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby, product
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor


class OperatorCase(NamedTuple):
    """An overload with its arguments; tensors of floats that require a gradient are judged."""

    overload: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = MappingProxyType({})
    twin: Callable[..., Any] | None = None
    """The same function, where torch has no derivative for this overload."""
    rtol: float = 1e-8
    """Relative error of torch's own gradient, which the allowance of the op covers."""


@dataclass(frozen=True, eq=False)
class Positive:
    """The truths of where judged numbers are above 0, as a node."""

    numbers: Tensor


def draw(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    numbers = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (low + (high - low) * numbers).requires_grad_()


def draw_positive(*shape: int, seed: int = 0) -> Tensor:
    return draw(*shape, low=0.5, high=2.0, seed=seed)


def pick(*numbers: Any) -> Tensor:
    return torch.tensor(numbers)


def add_scattered(target: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str) -> Tensor:
    assert reduce == "add"
    return target.scatter_add(dim, index, source)


def multiply_scattered(target: Tensor, dim: int, index: Tensor, value: float, reduce: str) -> Tensor:
    assert reduce == "multiply"
    return target.scatter_reduce(dim, index, torch.full(index.shape, value, dtype=target.dtype), "prod")


def divide_down(first: Tensor, other: Tensor) -> Tensor:
    return torch.div(first, other, rounding_mode="floor")


def solve_by_factor(right: Tensor, factor: Tensor, upper: bool) -> Tensor:
    # torch's own gradient of a factor is not 0 beyond the triangle that it reads.
    return torch.cholesky_solve(right, factor.triu() if upper else factor.tril(), upper)


def invert_by_factor(factor: Tensor, upper: bool) -> Tensor:
    return torch.cholesky_inverse(factor.triu() if upper else factor.tril(), upper)


def put_rows(target: Tensor, indices: list[Tensor], values: Tensor) -> Tensor:
    return target.index_put(indices, values)


def make_symmetric(matrix: Tensor) -> Tensor:
    """Return a positive definite matrix that is judged."""
    return (matrix @ matrix.mT + torch.eye(matrix.shape[-1], dtype=matrix.dtype)).detach().requires_grad_()


def scatter_strided(target: Tensor, source: Tensor, size: list[int], stride: list[int]) -> Tensor:
    places = torch.arange(target.numel()).as_strided(size, stride).reshape(-1)
    return target.reshape(-1).index_copy(0, places, source.reshape(-1)).reshape(target.shape)


def find_ctc(scores: Tensor, targets: Tensor, *lengths: Any) -> tuple[Tensor, None]:
    """Return the losses of all alignments, one by one; torch's own gradient is one for normalised probabilities."""
    input_lengths, target_lengths = (list(map(int, numbers)) for numbers in lengths)
    if targets.ndim == 1:
        rows = list(targets.split(target_lengths))
    else:
        rows = [row[:length] for row, length in zip(targets, target_lengths, strict=True)]
    losses = []
    for number, (row, length) in enumerate(zip(rows, input_lengths, strict=True)):
        paths = [
            path
            for path in product(range(scores.shape[2]), repeat=length)
            if [label for label, _ in groupby(path) if label] == row.tolist()
        ]
        sums = [sum(scores[step, number, label] for step, label in enumerate(path)) for path in paths]
        losses.append(-torch.logsumexp(torch.stack(sums), 0))
    return torch.stack(losses), None


def normalise_batch(batch: Tensor, weight: Tensor, bias: Tensor, *others: Any) -> tuple[Tensor | None, ...]:
    *_, epsilon = others
    result = torch.nn.functional.batch_norm(batch, None, None, weight, bias, training=True, eps=epsilon)
    return result, *[None] * 5


X, Y = draw(3, 4), draw(3, 4, seed=1)
POSITIVE = draw_positive(3, 4)
IMAGE, LINE, BATCH = draw(2, 3, 6, 5), draw(2, 3, 7), draw(2, 3, 4)
MASK = torch.tensor([[True, False, True, True], [False, True, True, False], [True, True, False, False]])
ROWS = pick(2, 0, 2)
DISTINCT = torch.tensor([[0, 2, 1, 1], [2, 0, 0, 2]])
INDEX = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])
MEAN, VARIANCE = draw(3).detach(), draw_positive(3).detach()
WEIGHT, BIAS = draw(3, seed=2), draw(3, seed=3)
QUERY, KEY, VALUE = draw(2, 2, 3, 4), draw(2, 2, 5, 4, seed=1), draw(2, 2, 5, 4, seed=2)
CAUSAL = torch.ones(3, 5, dtype=torch.bool).tril(1)
TABLE, WORDS = draw(6, 3), torch.tensor([[1, 4, 1], [0, 5, 4]])
NORMS = ("layer_norm", "native_layer_norm")
PADS = ("reflection", "replication")
NEAREST = ("upsample_nearest", "_upsample_nearest_exact")
VOLUME = draw(1, 2, 2, 3, 4)
BOX, TARGETS = draw(1, 2, 2, 3), draw(3, 4, low=0, high=1).detach()
PLANES, PLANE_LABELS = draw(1, 3, 2, 2), torch.tensor([[[0, 2], [1, 1]]])
LABELS, PROBABILITIES = pick(1, 0, 3), draw(3, 4, low=0.1, high=0.9)

SQUARE = (draw(3, 3) + 3 * torch.eye(3, dtype=torch.float64)).detach().requires_grad_()
POSITIVE_MATRIX = make_symmetric(draw(3, 3))
STEPS, STATE = draw(3, 2, 2), draw(1, 2, 3)
LSTM_WEIGHTS, GRU_WEIGHTS = ([draw(rows, 2), draw(rows, 3), draw(rows, seed=1), draw(rows, seed=2)] for rows in (12, 9))
RNN_WEIGHTS = [draw(3, 2), draw(3, 3)]
POINTS = draw(2, 3, 2, 2, low=-0.9, high=0.9)
SIGNS = torch.where(MASK, 1.0, -1.0).double()
LOG_PROBABILITIES = draw(4, 2, 3)

UNARY = "abs cos erf exp expm1 neg relu sigmoid silu sin tanh gelu leaky_relu softplus elu selu celu relu6"
OTHER_UNARY = "asinh atan digamma erfc sinc square deg2rad rad2deg hardshrink softshrink floor ceil trunc fix round"
MORE_UNARY = "hardswish mish log_sigmoid exp2 tan sinh cosh hardtanh glu clone alias frac t numpy_T mT mH adjoint"
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGIC = ("logical_and", "logical_or", "logical_xor")
ON_POSITIVE = "lgamma log log1p rsqrt sqrt reciprocal log2 log10"

INSIDE, ABOVE_ONE = draw(3, 4, low=-0.9, high=0.9), draw(3, 4, low=1.1, high=3.0)

CASES = [
    *(OperatorCase(f"{name}.default", (INSIDE,)) for name in ("acos", "asin", "atanh", "erfinv")),
    OperatorCase("acosh.default", (ABOVE_ONE,)),
    *(OperatorCase(f"{name}.default", (X, POSITIVE)) for name in ("atan2", "hypot", "logaddexp", "logaddexp2")),
    *(OperatorCase(f"{name}.default", (X,)) for name in f"{UNARY} {MORE_UNARY} {OTHER_UNARY}".split()),
    *(OperatorCase(f"{name}.default", (POSITIVE,)) for name in ON_POSITIVE.split()),
    OperatorCase("gelu.default", (X,), {"approximate": "tanh"}),
    *(OperatorCase(f"{name}.default", (X,)) for name in ("sign", "sgn", "logical_not", "argsort", "argmax", "argmin")),
    *(OperatorCase(f"{name}.default", (X, 1, True)) for name in ("argmax", "argmin")),
    OperatorCase("argsort.stable", (X,), {"stable": True, "dim": 0, "descending": True}),
    OperatorCase("round.decimals", (X,), {"decimals": 1}),
    *(OperatorCase(f"{name}.Tensor", (X, Y)) for name in COMPARISONS),
    *(OperatorCase(f"{name}.Scalar", (X, 0.5)) for name in COMPARISONS),
    *(OperatorCase(f"{name}.default", (X, MASK)) for name in LOGIC),
    OperatorCase("_to_copy.default", (X,), {"dtype": torch.bool}),
    OperatorCase("_to_copy.default", (Positive(X),), {"dtype": torch.float64}),
    *(OperatorCase(f"{name}.Tensor", (Positive(X), MASK)) for name in ("bitwise_and", "bitwise_or", "bitwise_xor")),
    *(OperatorCase(f"{name}.default", (Positive(X), Positive(Y))) for name in LOGIC),
    *(OperatorCase(f"{name}.default", (Positive(X),)) for name in ("bitwise_not", "logical_not")),
    *(OperatorCase(f"{name}.Tensor", (X, Positive(Y))) for name in ("add", "mul", "eq")),
    OperatorCase("div.Tensor", (Positive(X), POSITIVE)),
    OperatorCase("where.self", (Positive(Y), X, Y)),
    OperatorCase("where.Scalar", (Positive(Y), 2.0, -1.0)),
    OperatorCase("masked_fill.Scalar", (X, Positive(Y), 2.0)),
    OperatorCase("masked_scatter.default", (X, Positive(Y), draw(12))),
    OperatorCase("masked_scatter.default", (draw(4), MASK, draw(12))),
    OperatorCase("div.Tensor_mode", (X, POSITIVE), {"rounding_mode": "floor"}),
    OperatorCase("div.Scalar_mode", (X, 0.3), {"rounding_mode": "trunc"}),
    OperatorCase("floor_divide.default", (X, POSITIVE), twin=divide_down),
    OperatorCase("logit.default", (INSIDE * 0.5 + 0.5,)),
    OperatorCase("logit.default", (INSIDE * 0.5 + 0.5, 1e-3)),
    OperatorCase("special_logit.default", (INSIDE * 0.5 + 0.5, -1.0)),
    OperatorCase("xlogy.Tensor", (X, POSITIVE)),
    OperatorCase("special_xlog1py.default", (X, POSITIVE)),
    OperatorCase("nan_to_num.default", (X, 1.0)),
    OperatorCase("rrelu_with_noise.default", (X, Y.detach(), 0.1, 0.3)),
    OperatorCase("rrelu_with_noise_functional.default", (X, Y.detach(), 0.1, 0.3)),
    OperatorCase("elu.default", (X, 1.2, 1.5, 0.7)),
    # torch keeps the constants of these two backward passes in float32.
    OperatorCase("celu.default", (X, 0.6), rtol=1e-6),
    OperatorCase("hardsigmoid.default", (X,), rtol=1e-6),
    OperatorCase("log_sigmoid_forward.default", (X,)),
    OperatorCase("hardtanh.default", (X, -0.5, 1.25)),
    OperatorCase("threshold.default", (X, 0.3, -1.5)),
    *(OperatorCase(f"{name}.default", (X, Y)) for name in ("fmax", "fmin")),
    OperatorCase("ldexp.Tensor", (X, Y)),
    # torch's own gradient is 0 at negative whole exponents: it computes 2^n in integers.
    OperatorCase("ldexp.Tensor", (X, pick(1, -2, 0, 3)), twin=lambda number, exponent: number * 2.0**exponent),
    OperatorCase("frexp.Tensor", (X,)),
    OperatorCase("copysign.Tensor", (X, Y)),
    OperatorCase("copysign.Scalar", (X, -1.0)),
    OperatorCase("prelu.default", (BATCH, WEIGHT)),
    OperatorCase("_prelu_kernel.default", (X, draw(1))),
    OperatorCase("add.Tensor", (X, Y), {"alpha": 3}),
    OperatorCase("add.Scalar", (X, 2.5)),
    OperatorCase("sub.Tensor", (X, Y), {"alpha": 3}),
    OperatorCase("rsub.Scalar", (X, 2.5)),
    OperatorCase("rsub.Tensor", (X, Y)),
    OperatorCase("mul.Tensor", (X, Y)),
    OperatorCase("mul.Scalar", (X, 2.5)),
    OperatorCase("div.Tensor", (X, POSITIVE)),
    OperatorCase("div.Scalar", (X, 2.5)),
    OperatorCase("maximum.default", (X, Y)),
    OperatorCase("minimum.default", (X, Y)),
    *(OperatorCase(f"{name}.default", (X, -0.7, 1.1)) for name in ("clamp", "clip")),
    OperatorCase("clamp.Tensor", (X, draw(4, low=-1.5, high=-0.5), draw(4, low=0.5, high=1.5))),
    OperatorCase("clamp_min.default", (X, 0.1)),
    OperatorCase("clamp_max.default", (X, 0.1)),
    OperatorCase("where.self", (MASK, X, Y)),
    OperatorCase("where.self", (MASK, X, Y.detach().masked_fill(MASK, math.nan))),
    OperatorCase("where.ScalarSelf", (torch.zeros(3, 4, dtype=torch.bool), math.inf, X)),
    OperatorCase("polygamma.default", (0, POSITIVE)),
    OperatorCase("permute_copy.default", (BATCH, [2, 0, 1])),
    OperatorCase("where.ScalarSelf", (MASK, 2.0, X)),
    OperatorCase("where.ScalarOther", (MASK, X, 2.0)),
    OperatorCase("masked_fill.Scalar", (X, MASK, 2.0)),
    OperatorCase("masked_fill.Tensor", (X, MASK, torch.tensor(2.0, dtype=torch.float64))),
    OperatorCase("lerp.Scalar", (X, Y, 0.3)),
    OperatorCase("lerp.Tensor", (X, Y, POSITIVE)),
    OperatorCase("addcmul.default", (X, Y, POSITIVE), {"value": 0.5}),
    OperatorCase("addcdiv.default", (X, Y, POSITIVE), {"value": 0.5}),
    OperatorCase("pow.Tensor_Scalar", (X, 3)),
    OperatorCase("pow.Tensor_Scalar", (POSITIVE, -0.5)),
    OperatorCase("pow.Scalar", (1.7, X)),
    OperatorCase("pow.Tensor_Tensor", (POSITIVE, X)),
    OperatorCase("pow.Tensor_Tensor", (X, torch.tensor(2.0, dtype=torch.float64))),
    OperatorCase("pow.Tensor_Tensor", (X, pick(2.0, -1.0, 3.0, 1.0).double())),
    OperatorCase("fmod.Tensor", (X, POSITIVE)),
    OperatorCase("fmod.Scalar", (X, 0.7)),
    OperatorCase("remainder.Tensor", (X, POSITIVE)),
    OperatorCase("remainder.Scalar", (X, 0.7)),
    OperatorCase("linear.default", (X, draw(2, 4), draw(2))),
    OperatorCase("matmul.default", (BATCH, draw(4, 2))),
    OperatorCase("mm.default", (X, draw(4, 2))),
    OperatorCase("bmm.default", (BATCH, draw(2, 4, 2))),
    OperatorCase("mv.default", (X, draw(4))),
    OperatorCase("dot.default", (draw(4), draw(4, seed=1))),
    OperatorCase("addmm.default", (draw(2), X, draw(4, 2)), {"beta": 0.5, "alpha": 2.0}),
    OperatorCase("addmm.default", (draw(2), X, draw(4, 2)), {"beta": 0}),
    OperatorCase("addmv.default", (draw(3), X, draw(4))),
    OperatorCase("_trilinear.default", (X, draw(2, 4, 5), draw(3, 5, seed=4), [1, 3], [0], [1, 2], [2, 3])),
    OperatorCase("addbmm.default", (draw(3, 2), BATCH, draw(2, 4, 2)), {"beta": 0.5, "alpha": 2}),
    OperatorCase("baddbmm.default", (draw(2, 3, 2), BATCH, draw(2, 4, 2))),
    OperatorCase("outer.default", (draw(3), draw(4))),
    OperatorCase("vdot.default", (draw(4), draw(4, seed=1))),
    OperatorCase("addr.default", (X, draw(3), draw(4)), {"beta": 0.5}),
    OperatorCase("linalg_cross.default", (draw(2, 3), draw(2, 3, seed=1))),
    OperatorCase("linalg_matrix_exp.default", (SQUARE,)),
    OperatorCase("_linalg_solve_ex.default", (SQUARE, draw(3, 2))),
    OperatorCase("_linalg_solve_ex.default", (SQUARE, draw(3))),
    OperatorCase("_linalg_solve_ex.default", (SQUARE, draw(2, 3)), {"left": False}),
    OperatorCase("linalg_solve_triangular.default", (SQUARE, draw(3, 2)), {"upper": True}),
    OperatorCase("linalg_solve_triangular.default", (SQUARE, draw(2, 3)), {"upper": False, "left": False}),
    OperatorCase("triangular_solve.default", (draw(3, 2), SQUARE, False, True)),
    *(OperatorCase(f"{name}.default", (SQUARE,)) for name in ("linalg_inv_ex", "_linalg_det", "_linalg_slogdet")),
    *(OperatorCase(f"{name}.default", (POSITIVE_MATRIX,)) for name in ("linalg_cholesky_ex", "cholesky")),
    OperatorCase("cholesky.default", (POSITIVE_MATRIX, True)),
    *(
        OperatorCase("cholesky_solve.default", (draw(3, 2), SQUARE, upper), twin=solve_by_factor)
        for upper in (False, True)
    ),
    *(OperatorCase("cholesky_inverse.default", (SQUARE, upper), twin=invert_by_factor) for upper in (False, True)),
    OperatorCase("_linalg_eigh.default", (POSITIVE_MATRIX,)),
    OperatorCase("_linalg_svd.default", (draw(3, 2),)),
    OperatorCase("lstm.input", (STEPS, [STATE, STATE], LSTM_WEIGHTS, True, 1, 0.0, False, False, False)),
    OperatorCase("gru.input", (STEPS, STATE, GRU_WEIGHTS, True, 1, 0.0, False, False, False)),
    *(
        OperatorCase(f"{name}.input", (STEPS, STATE, RNN_WEIGHTS, False, 1, 0.0, False, False, False))
        for name in ("rnn_tanh", "rnn_relu")
    ),
    OperatorCase("conv1d.default", (LINE, draw(4, 3, 2), draw(4), [2], [1])),
    OperatorCase("conv2d.default", (IMAGE, draw(3, 1, 2, 3), None, [1, 1], [1, 0], [1, 1], 3)),
    OperatorCase("conv2d.padding", (IMAGE, draw(2, 3, 3, 3), draw(2), [1, 1], "same")),
    OperatorCase("conv1d.padding", (LINE, draw(2, 3, 3), draw(2), [1], "same")),
    OperatorCase("convolution.default", (IMAGE, draw(4, 3, 2, 2), draw(4), [2, 1], [1, 0], [1, 2], False, [0, 0], 1)),
    OperatorCase("convolution.default", (LINE, draw(4, 3, 2), None, [2], [1], [1], False, [0], 1)),
    OperatorCase("convolution.default", (IMAGE, draw(3, 2, 2, 2), draw(2), [2, 2], [1, 0], [1, 1], True, [1, 0], 1)),
    OperatorCase("convolution.default", (LINE, draw(3, 2, 3), draw(2), [2], [1], [1], True, [1], 1)),
    OperatorCase(
        "convolution.default", (VOLUME, draw(2, 2, 1, 2, 2), None, [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1)
    ),
    OperatorCase(
        "convolution.default", (VOLUME, draw(2, 1, 1, 2, 1), None, [1] * 3, [0] * 3, [1] * 3, True, [0] * 3, 1)
    ),
    OperatorCase("conv3d.default", (VOLUME, draw(1, 2, 1, 2, 2))),
    OperatorCase("conv3d.padding", (VOLUME, draw(1, 2, 1, 2, 2), draw(1), [1], "valid")),
    *(OperatorCase(f"{name}.int", (X, -1)) for name in ("softmax", "log_softmax")),
    *(OperatorCase(f"{name}.default", (X, 0, False)) for name in ("_softmax", "_log_softmax")),
    *(
        OperatorCase(f"{name}.default", (BATCH, [3, 4], draw(3, 4), Y, 1e-5))
        for name in ("layer_norm", "native_layer_norm")
    ),
    OperatorCase("layer_norm.default", (BATCH, [4], None, draw(4))),
    OperatorCase("rms_norm.default", (BATCH, [4], draw(4), 1e-6)),
    OperatorCase("rms_norm.default", (BATCH, [4])),
    OperatorCase("_fused_rms_norm.default", (BATCH, [4], draw(4), 1e-6)),
    OperatorCase("instance_norm.default", (LINE, WEIGHT, BIAS, None, None, True, 0.1, 1e-5, False)),
    OperatorCase("instance_norm.default", (LINE, None, None, MEAN, VARIANCE, False, 0.1, 1e-5, False)),
    OperatorCase("group_norm.default", (draw(2, 4, 3), 2, draw(4), draw(4, seed=1))),
    OperatorCase("native_group_norm.default", (draw(2, 4, 3), draw(4), None, 2, 4, 3, 2, 1e-5)),
    OperatorCase("_native_batch_norm_legit_functional.default", (LINE, WEIGHT, BIAS, MEAN, VARIANCE, True, 0.1, 1e-5)),
    OperatorCase("_native_batch_norm_legit_functional.default", (LINE, WEIGHT, BIAS, MEAN, VARIANCE, False, 0.1, 1e-5)),
    OperatorCase("_native_batch_norm_legit.no_stats", (LINE, WEIGHT, BIAS, True, 0.1, 1e-5)),
    OperatorCase("_native_batch_norm_legit_no_training.default", (IMAGE, WEIGHT, None, MEAN, VARIANCE, 0.1, 1e-5)),
    OperatorCase("batch_norm.default", (LINE, None, None, MEAN, VARIANCE, False, 0.1, 1e-5, False)),
    OperatorCase("native_batch_norm.default", (LINE, WEIGHT, BIAS, None, None, True, 0.1, 1e-5)),
    OperatorCase(
        "_batch_norm_with_update_functional.default",
        (LINE, WEIGHT, BIAS, MEAN, VARIANCE, 0.1, 1e-5),
        twin=normalise_batch,
    ),
    OperatorCase("_weight_norm_interface.default", (X, draw_positive(3, 1), 0)),
    OperatorCase("scaled_dot_product_attention.default", (QUERY, KEY, VALUE, CAUSAL)),
    OperatorCase("scaled_dot_product_attention.default", (QUERY, KEY, VALUE), {"scale": 0.3}),
    OperatorCase("scaled_dot_product_attention.default", (QUERY, KEY[:, :1], VALUE[:, :1])),
    OperatorCase("scaled_dot_product_attention.default", (KEY, VALUE, VALUE, None, 0.0, True)),
    OperatorCase("scaled_dot_product_attention.default", (QUERY, KEY, VALUE, draw(3, 5).detach())),
    OperatorCase(
        "scaled_dot_product_attention.default",
        (QUERY, KEY, VALUE, torch.zeros(3, 5, dtype=torch.float64).masked_fill(~CAUSAL, -torch.inf)),
    ),
    OperatorCase("scaled_dot_product_attention.default", (QUERY, KEY[:, :1], VALUE[:, :1]), {"enable_gqa": True}),
    OperatorCase("embedding.default", (TABLE, WORDS)),
    OperatorCase("embedding.default", (TABLE, WORDS, 4)),
    OperatorCase(
        "embedding_bag.padding_idx", (TABLE, pick(1, 4, 1, 0, 5), pick(0, 2), False, 2, False, None, False, 4)
    ),
    OperatorCase("_embedding_bag.default", (TABLE, pick(1, 4, 1, 0), pick(0, 2), False, 0, False, draw(4))),
    OperatorCase("embedding_bag.default", (TABLE, pick(1, 4, 1, 0, 5), pick(0, 2), False, 1)),
    OperatorCase("_embedding_bag.default", (TABLE, pick(1, 4, 1, 0, 5), pick(0, 2), False, 0)),
    OperatorCase(
        "_embedding_bag_forward_only.default",
        (TABLE, pick(1, 4, 1, 0, 5), pick(0, 2), False, 0),
        twin=torch.ops.aten._embedding_bag.default,
    ),
    OperatorCase("flatten.using_ints", (BATCH, 1, 2)),
    OperatorCase("flip.default", (X, [1])),
    OperatorCase("permute.default", (BATCH, [2, 0, 1])),
    OperatorCase("transpose.int", (BATCH, 0, 2)),
    OperatorCase("unsqueeze.default", (X, 1)),
    OperatorCase("contiguous.default", (X.t(),)),
    OperatorCase("_to_copy.default", (X,), {"dtype": torch.float64}),
    OperatorCase("to.dtype", (X, torch.float64)),
    *(OperatorCase(f"{name}.default", (X,)) for name in ("lift_fresh_copy", "alias_copy")),
    *(OperatorCase(f"{name}.default", (X, 0.0, True)) for name in ("dropout", "native_dropout", "alpha_dropout")),
    OperatorCase("feature_dropout.default", (X, 0.5, False)),
    *(OperatorCase(f"{name}.default", (X, [2, 6])) for name in ("view", "_unsafe_view", "reshape", "view_copy")),
    OperatorCase("_reshape_copy.default", (X, [2, 6])),
    OperatorCase("unflatten.int", (X, 1, [2, 2])),
    OperatorCase("squeeze.default", (draw(1, 3, 1),)),
    OperatorCase("squeeze.dim", (draw(1, 3, 1), 0)),
    OperatorCase("squeeze.dims", (draw(1, 3, 1), [0, 2])),
    OperatorCase("expand.default", (draw(3, 1), [2, -1, 4])),
    *(OperatorCase(f"{name}.default", ([X, Y], 1)) for name in ("cat", "concat", "stack")),
    OperatorCase("cat.default", ([draw(0, 4).detach(), X], 0)),
    OperatorCase("stack.default", ([draw(), torch.tensor(2.0, dtype=torch.float64)],)),
    *(OperatorCase("pad.default", (LINE, [1, 2], mode)) for mode in ("constant", "reflect", "replicate", "circular")),
    OperatorCase("linalg_pinv.atol_rtol_tensor", (draw(3, 2),)),
    OperatorCase("linalg_pinv.atol_rtol_tensor", (draw(2, 3),)),
    OperatorCase("constant_pad_nd.default", (X, [1, -1, 0, 2], 0.5)),
    OperatorCase("select.int", (BATCH, 1, -1)),
    OperatorCase("narrow.default", (X, 1, -3, 2)),
    OperatorCase("narrow_copy.default", (X, 1, 1, 2)),
    *(OperatorCase(f"{name}.Tensor", (X, 3, 1)) for name in ("split", "unsafe_split")),
    OperatorCase("split_with_sizes.default", (X, [1, 3], 1)),
    OperatorCase("split_with_sizes.default", (X, [0, 1, 0, 3], 1)),
    *(OperatorCase(f"{name}.default", (X, 2, 1)) for name in ("chunk", "unsafe_chunk")),
    OperatorCase("tensor_split.sections", (X, 3, 1)),
    OperatorCase("unbind.int", (X, 1)),
    OperatorCase("repeat.default", (X, [2, 1, 2])),
    OperatorCase("roll.default", (X, [1, 2], [0, 1])),
    OperatorCase("rot90.default", (X, 1, [0, 1])),
    OperatorCase("unfold.default", (X, 1, 2, 1)),
    *(OperatorCase(f"{name}.default", (X, 1)) for name in ("diagonal", "diagonal_copy")),
    *(OperatorCase(f"{name}.default", (X, [2, 2], [1, 4])) for name in ("as_strided", "as_strided_copy")),
    OperatorCase("unfold_copy.default", (X, 1, 2, 1)),
    OperatorCase("take.default", (X, pick(3, 0, 3))),
    OperatorCase("take_along_dim.default", (X, torch.tensor([[0], [3], [1]]), 1)),
    *(OperatorCase(f"{name}_pad1d.default", (LINE, [1, 2])) for name in PADS),
    *(OperatorCase(f"{name}_pad2d.default", (IMAGE, [1, 2, 0, 1])) for name in PADS),
    *(OperatorCase(f"{name}_pad3d.default", (BOX, [1, 0, 1, 1, 0, 1])) for name in PADS),
    OperatorCase("pixel_shuffle.default", (draw(1, 4, 2, 3), 2)),
    OperatorCase("pixel_unshuffle.default", (draw(1, 1, 4, 2), 2)),
    OperatorCase("channel_shuffle.default", (draw(1, 4, 2, 2), 2)),
    *(OperatorCase(f"{name}1d.default", (LINE, [10])) for name in NEAREST),
    *(OperatorCase(f"{name}2d.default", (IMAGE, [9, 4])) for name in NEAREST),
    *(OperatorCase(f"{name}3d.default", (draw(1, 1, 2, 2, 2), [3, 4, 1])) for name in NEAREST),
    OperatorCase("upsample_trilinear3d.default", (VOLUME, [3, 2, 4], False)),
    OperatorCase("upsample_nearest2d.default", (IMAGE, [9, 7], 1.6, 1.5)),
    *(OperatorCase("grid_sampler_2d.default", (IMAGE, POINTS, mode, 0, False)) for mode in (0, 1, 2)),
    OperatorCase("grid_sampler_3d.default", (VOLUME, draw(1, 1, 2, 2, 3, low=-0.9, high=0.9), 0, 1, True)),
    OperatorCase("affine_grid_generator.default", (draw(2, 2, 3), [2, 1, 3, 4], False)),
    OperatorCase("max_unpool2d.default", (draw(1, 1, 2, 2), torch.tensor([[[[0, 3], [9, 6]]]]), [3, 4])),
    OperatorCase(
        "max_unpool3d.default", (draw(1, 1, 1, 1, 2), torch.tensor([[[[[0, 7]]]]]), [2, 2, 3], [1] * 3, [0] * 3)
    ),
    OperatorCase("upsample_linear1d.default", (LINE, [10], False)),
    OperatorCase("upsample_bilinear2d.default", (IMAGE, [9, 4], True)),
    OperatorCase("upsample_bilinear2d.default", (IMAGE, [9, 8], False, 1.6, 1.7)),
    OperatorCase("upsample_bilinear2d.vec", (IMAGE, None, False, [1.5, 2.0])),
    OperatorCase("upsample_bicubic2d.default", (IMAGE, [9, 4], False)),
    OperatorCase("_upsample_bilinear2d_aa.default", (IMAGE, [3, 3], False)),
    OperatorCase("_upsample_bicubic2d_aa.default", (IMAGE, [3, 3], False)),
    *(OperatorCase(f"{name}.default", (X,)) for name in ("fliplr", "flipud")),
    OperatorCase("movedim.int", (BATCH, 0, 2)),
    *(OperatorCase(f"{name}.default", (BATCH, 0, 2)) for name in ("swapaxes", "swapdims")),
    OperatorCase("mT.default", (BATCH,)),
    OperatorCase("unbind_copy.int", (X, 1)),
    OperatorCase("native_channel_shuffle.default", (draw(1, 4, 2, 2), 2), twin=torch.channel_shuffle),
    OperatorCase("roll.default", (X, [3])),
    OperatorCase("repeat_interleave.self_int", (X, 2)),
    OperatorCase("expand_as.default", (draw(4), X.detach())),
    OperatorCase("expand_as.default", (draw(), draw(seed=1).detach())),
    OperatorCase("slice_scatter.default", (X, draw(3, 2), 1, 1, 3)),
    OperatorCase("select_scatter.default", (X, draw(4), 0, 1)),
    OperatorCase("diagonal_scatter.default", (X, draw(3))),
    # torch's own backward pass of this one puts the gradient into the elements that are overwritten.
    OperatorCase("as_strided_scatter.default", (X, draw(2, 2), [2, 2], [1, 4]), twin=scatter_strided),
    OperatorCase("scatter.src", (X, 0, DISTINCT, draw(2, 4))),
    OperatorCase("masked_scatter.default", (X, MASK, draw(12))),
    OperatorCase("index_copy.default", (X, 0, pick(2, 0), draw(2, 4))),
    OperatorCase("copy.default", (X, Y), twin=lambda _, source: source.clone()),
    OperatorCase("repeat_interleave.self_int", (X, 2, 1)),
    OperatorCase("slice.Tensor", (X, 1, -3, 100)),
    OperatorCase("slice.Tensor", (X, 1, 0, 4, 2)),
    OperatorCase("slice.Tensor", (X, 0)),
    OperatorCase("index.Tensor", (X, [None, pick(-1, 0, 0)])),
    OperatorCase("index.Tensor", (X, [pick(0, 2), pick(1, -1)])),
    OperatorCase("index.Tensor", (X, [MASK])),
    OperatorCase("_unsafe_index.Tensor", (X, [None, pick(3, 0)])),
    OperatorCase("index_put.default", (X, [pick(0, 2)], draw(2, 4))),
    OperatorCase("index_put.default", (X, [pick(0, 2, 0)], draw(1, 4), True)),
    OperatorCase("_unsafe_index_put.default", (X, [None, pick(0, 2)], draw(3, 2))),
    OperatorCase("scatter.value", (X, 0, INDEX, 2.0)),
    OperatorCase("index_fill.int_Scalar", (X, 1, pick(0, 2), 2.0)),
    *(OperatorCase(f"{name}.default", (X, 1)) for name in ("tril", "triu")),
    OperatorCase("diag_embed.default", (X, 1)),
    OperatorCase("col2im.default", (draw(1, 4, 6), [3, 4], [2, 2], [1, 1], [0, 0], [1, 1])),
    OperatorCase("im2col.default", (draw(1, 2, 3, 3), [2, 2], [1, 1], [1, 0], [1, 2])),
    OperatorCase("index_add.default", (X, 0, ROWS, draw(3, 4, seed=5)), {"alpha": 2}),
    OperatorCase("index_add.default", (X, 1, ROWS, draw(3, 3))),
    OperatorCase("index_add.default", (draw(4), 0, ROWS, draw(3))),
    OperatorCase("index_add.default", (BATCH, 0, pick(1, 1), draw(2, 3, 4, seed=7))),
    OperatorCase("scatter_add.default", (X, 0, INDEX, draw(2, 4))),
    OperatorCase("scatter.reduce", (X, 0, INDEX, draw(2, 4)), {"reduce": "add"}, twin=add_scattered),
    *(OperatorCase("scatter_reduce.two", (X, 0, INDEX, draw(2, 4), name)) for name in ("sum", "prod", "mean", "amax")),
    OperatorCase("scatter_reduce.two", (X, 1, INDEX, draw(2, 4), "amin"), {"include_self": False}),
    OperatorCase("scatter_add.default", (draw(), 0, torch.tensor(0), draw(seed=1))),
    OperatorCase("scatter.value_reduce", (X, 0, INDEX, 2.0), {"reduce": "multiply"}, twin=multiply_scattered),
    OperatorCase("index_add.default", (draw(), 0, torch.tensor(0), draw(seed=1))),
    *(
        OperatorCase("index_reduce.default", (X, 1, ROWS, draw(3, 3), name))
        for name in ("prod", "mean", "amax", "amin")
    ),
    OperatorCase("put.default", (X, pick(3, -1, 0), draw(3))),
    OperatorCase("put.default", (X, pick(3, 3, 0), draw(3), True)),
    OperatorCase("_index_put_impl.default", (X, [pick(0, 2)], draw(2, 4)), twin=put_rows),
    *(OperatorCase(f"{name}.default", (X, 1)) for name in ("cumprod", "logcumsumexp", "cummax", "cummin")),
    *(OperatorCase(f"{name}.default", (draw(), 0)) for name in ("cumsum", "cumprod")),
    OperatorCase("std_mean.correction", (X, [1]), {"correction": 0, "keepdim": True}),
    OperatorCase("trace.default", (X,)),
    *(OperatorCase("_pdist_forward.default", (X, order)) for order in (1.0, 2.0, math.inf)),
    OperatorCase("cosine_similarity.default", (X, Y, -1, 1e-8)),
    *(OperatorCase("pairwise_distance.default", (X, Y, order)) for order in (2.0, 3.0, math.inf)),
    OperatorCase("prod.default", (X,)),
    OperatorCase("prod.dim_int", (X, 0, True)),
    OperatorCase("aminmax.default", (X,), {"dim": 1}),
    OperatorCase("dist.default", (X, draw(4), 3)),
    *(OperatorCase("linalg_vector_norm.default", (X, order, [1])) for order in (math.inf, -math.inf, -2, 0)),
    *(OperatorCase("_cdist_forward.default", (X, draw(2, 4), order, None)) for order in (2.0, 1.0, 3.0, math.inf)),
    OperatorCase("amax.default", (X, [1], True)),
    OperatorCase("amin.default", (X, [0])),
    OperatorCase("max.default", (X,)),
    OperatorCase("max.dim", (X, 1, True)),
    OperatorCase("max.other", (X, Y)),
    OperatorCase("min.default", (X,)),
    OperatorCase("min.dim", (X, 0)),
    OperatorCase("logsumexp.default", (X, [1])),
    OperatorCase("logsumexp.default", (draw(), [0])),
    OperatorCase("cumsum.default", (X, 1)),
    OperatorCase("sum.default", (X,)),
    OperatorCase("sum.dim_IntList", (BATCH, [0, 2], True)),
    OperatorCase("sum.dim_IntList", (X, [])),
    OperatorCase("mean.default", (X,)),
    OperatorCase("mean.dim", (BATCH, [0, 2])),
    OperatorCase("var.correction", (X, [1])),
    OperatorCase("var.correction", (X,), {"correction": 0, "keepdim": True}),
    OperatorCase("var.default", (X, False)),
    OperatorCase("var_mean.correction", (X, [1]), {"correction": 0}),
    OperatorCase("std.correction", (X, [0])),
    OperatorCase("linalg_vector_norm.default", (X, 2, [1])),
    OperatorCase("linalg_vector_norm.default", (X, 1.5)),
    OperatorCase("norm.ScalarOpt_dim", (X, 2, [1], True)),
    OperatorCase("index_select.default", (X, 0, ROWS)),
    OperatorCase("gather.default", (X, 1, torch.tensor([[0, 3], [1, 1], [2, 0]]))),
    OperatorCase("gather.default", (draw(), 0, torch.tensor(0))),
    OperatorCase("take_along_dim.default", (X, pick(3, 0, 3))),
    OperatorCase("take_along_dim.default", (X, torch.tensor([[0, -1], [3, 1], [1, -4]]), 1)),
    OperatorCase("repeat.default", (draw(), [])),
    OperatorCase("topk.default", (X, 2, 1, False)),
    OperatorCase("sort.stable", (X,), {"stable": True}),
    OperatorCase("sort.default", (X, 0, True)),
    OperatorCase("kthvalue.default", (X, 2, 1)),
    *(OperatorCase(f"{name}.dim", (X, 1)) for name in ("median", "nanmedian")),
    *(OperatorCase(f"{name}.default", (X,)) for name in ("median", "nanmedian")),
    OperatorCase("mode.default", (X, 1)),
    OperatorCase("masked_select.default", (X, MASK)),
    OperatorCase("max_pool2d.default", (IMAGE, [2, 3], [], [1, 0])),
    OperatorCase("max_pool2d_with_indices.default", (IMAGE, [2, 2], [1, 2])),
    OperatorCase("avg_pool2d.default", (IMAGE, [2, 2], [], [1, 0], True, False)),
    OperatorCase("max_pool1d.default", (LINE, [2], [2], [1])),
    OperatorCase("max_pool1d_with_indices.default", (LINE, [3])),
    OperatorCase("avg_pool1d.default", (LINE, [2], [], [1], False, False)),
    OperatorCase("adaptive_avg_pool1d.default", (LINE, [3])),
    OperatorCase("adaptive_avg_pool2d.default", (IMAGE, [1, 1])),
    OperatorCase("_adaptive_avg_pool2d.default", (IMAGE, [4, 3])),
    OperatorCase("adaptive_avg_pool3d.default", (draw(1, 2, 2, 2, 2), [1, 1, 1])),
    OperatorCase("adaptive_max_pool2d.default", (draw(1, 2, 4, 6), [2, 3])),
    OperatorCase("adaptive_max_pool1d.default", (draw(1, 2, 6), [3])),
    OperatorCase("adaptive_max_pool3d.default", (VOLUME, [1, 2, 3])),
    OperatorCase("_adaptive_avg_pool3d.default", (VOLUME, [1, 2, 2])),
    OperatorCase("avg_pool3d.default", (VOLUME, [1, 2, 2], [], [0, 1, 0], True, False)),
    OperatorCase("max_pool3d.default", (VOLUME, [2, 2, 1])),
    OperatorCase("max_pool3d_with_indices.default", (VOLUME, [1, 2, 3])),
    *(OperatorCase(f"{name}.default", (X, Y, 1)) for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")),
    OperatorCase("smooth_l1_loss.default", (X, Y, 2, 0.5)),
    OperatorCase("huber_loss.default", (X, Y, 0, 0.5)),
    OperatorCase("binary_cross_entropy.default", (PROBABILITIES, TARGETS, POSITIVE.detach())),
    OperatorCase("binary_cross_entropy_with_logits.default", (X, MASK.double(), None, draw_positive(4).detach(), 2)),
    OperatorCase("kl_div.default", (X, PROBABILITIES, 2)),
    OperatorCase("kl_div.default", (X, Y, 1), {"log_target": True}),
    OperatorCase("cross_entropy_loss.default", (X, LABELS, draw_positive(4).detach(), 1, -100, 0.1)),
    OperatorCase("cross_entropy_loss.default", (X, PROBABILITIES.detach())),
    OperatorCase("cross_entropy_loss.default", (draw(4), torch.tensor(2))),
    *(OperatorCase(f"{name}.default", (X, LABELS)) for name in ("nll_loss", "nll_loss_nd")),
    OperatorCase("nll_loss_forward.default", (X, LABELS, None, 1, 0)),
    *(
        OperatorCase(f"{name}.default", (PLANES, PLANE_LABELS, None, 1, -100))
        for name in ("nll_loss2d", "nll_loss2d_forward")
    ),
    OperatorCase("cosine_embedding_loss.default", (X, Y, pick(1.0, -1.0, 1.0).double(), 0.1)),
    OperatorCase("triplet_margin_loss.default", (X, Y, POSITIVE, 1.0, 2.0, 1e-6, True)),
    OperatorCase("multilabel_margin_loss.default", (draw(), torch.tensor(0))),
    OperatorCase("multi_margin_loss.default", (draw(), torch.tensor(0))),
    OperatorCase("margin_ranking_loss.default", (X, Y, SIGNS, 0.3)),
    OperatorCase("hinge_embedding_loss.default", (X, SIGNS)),
    OperatorCase("soft_margin_loss.default", (X, SIGNS, 2)),
    OperatorCase("multi_margin_loss.default", (X, LABELS, 2, 0.5, draw_positive(4).detach())),
    *(
        OperatorCase(f"{name}.default", (X, torch.tensor([[1, -1, 0, 0], [0, 3, -1, 0], [2, 1, 0, -1]]), 1))
        for name in ("multilabel_margin_loss", "multilabel_margin_loss_forward")
    ),
    OperatorCase(
        "_ctc_loss.default", (LOG_PROBABILITIES, torch.tensor([[1, 2], [2, 2]]), [4, 4], [2, 1]), twin=find_ctc
    ),
    OperatorCase("_ctc_loss.Tensor", (LOG_PROBABILITIES, pick(1, 2, 2), pick(4, 3), pick(2, 1)), twin=find_ctc),
]
