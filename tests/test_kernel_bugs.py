"""Kernels written by hand apart from the service: right ones pass, and each planted bug fails and is named."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from service.numerics.verdict.outcome import Outcome
from tests import handwritten_kernels
from tests.solved_problems import SolvedProblem

Array = np.ndarray[Any, Any]


class Kernel(NamedTuple):
    """A kernel and its check: the op, its attributes and the shapes of its inputs."""

    differentiate: Callable[..., dict[str, Array]]
    op: str
    shapes: Mapping[str, tuple[int, ...]]
    attributes: Mapping[str, Any]
    bugs: Mapping[str, tuple[str, str]]
    """Planted bugs: a gradient that each changes, and the name that the diagnosis gives; empty for none."""


KERNELS = {
    "swiglu": Kernel(
        handwritten_kernels.swiglu,
        "swiglu",
        {"input": (3, 4), "up": (3, 4)},
        {},
        {"slope of the sigmoid alone": ("input", "product_rule_forgotten")},
    ),
    "rotary": Kernel(
        handwritten_kernels.rotary,
        "rotary_embedding",
        {"input": (3, 4), "cos": (3, 2), "sin": (3, 2)},
        {},
        {"sign of the sine": ("input", "sign_flipped")},
    ),
    "rotary_pairs": Kernel(
        handwritten_kernels.rotary_pairs,
        "rotary_embedding",
        {"input": (3, 4), "cos": (3, 2), "sin": (3, 2)},
        {"interleaved": True},
        {"the other layout": ("input", "")},
    ),
    "add_rms_norm": Kernel(
        handwritten_kernels.add_rms_norm,
        "add_rms_norm",
        {"input": (3, 4), "residual": (3, 4), "weight": (4,)},
        {"normalized_shape": 4, "weight_offset": 1.0},
        {
            "offset of the weight": ("input", ""),
            "path of the mean": ("input", "missing_variance_path"),
            "residual forgotten": ("residual", "detached"),
        },
    ),
    "linear_cross_entropy": Kernel(
        handwritten_kernels.linear_cross_entropy,
        "linear_cross_entropy",
        {"input": (5, 3), "linear_weight": (4, 3), "target": (5,), "linear_bias": (4,)},
        {"softcap": 3.0, "label_smoothing": 0.1, "z_loss": 0.1},
        {
            "gradient of the z-loss": ("linear_weight", "detached"),
            "gradient of ignored rows": ("linear_weight", ""),
            "ignored rows counted": ("input", "scaled"),
            "slope of the softcap": ("linear_weight", "missing_activation_derivative"),
        },
    ),
    "attention": Kernel(
        handwritten_kernels.attention,
        "attention",
        {
            "query": (2, 4, 5, 3),
            "key": (2, 2, 6, 3),
            "value": (2, 2, 6, 2),
            "alibi_slopes": (4,),
            "sinks": (4,),
        },
        {"window": [2, 0], "softcap": 3.0},
        {
            "window one wider": ("key", "window_off_by_one"),
            "window one narrower": ("key", "window_off_by_one"),
            "diagonal forgotten": ("value", "window_off_by_one"),
            "slope of the softcap": ("query", "softcap_derivative_missing"),
            "first head of the group": ("value", "first_copy_alone"),
            "ALiBi without distances": ("alibi_slopes", "distances_forgotten"),
            "sign of the sinks": ("sinks", "sign_flipped"),
        },
    ),
    "causal_conv1d": Kernel(
        handwritten_kernels.causal_conv1d,
        "causal_conv1d",
        {"input": (2, 3, 5), "weight": (3, 4), "bias": (3,)},
        {"activation": "silu"},
        {
            "SiLU forgotten": ("weight", "missing_activation_derivative"),
            "weights not reversed": ("input", "kernel_flipped"),
        },
    ),
    "fake_quantize": Kernel(
        handwritten_kernels.fake_quantize,
        "fake_quantize",
        {"input": (5, 6)},
        {"scale": 0.5, "quant_min": -2, "quant_max": 1},
        {
            "passed outside the range": ("input", "passed_outside_the_range"),
            "times the scale": ("input", "times_the_scale"),
            "range before rounding": ("input", ""),
        },
    ),
}
PLANTED = [(name, bug) for name, kernel in KERNELS.items() for bug in kernel.bugs]
LABELS = np.array([0, -100, 3, 1, 1])
OUTPUTS = {"attention": (2, 4, 5, 2), "linear_cross_entropy": ()}
DTYPES = {"FP64": "float64", "FP32": "float32", "BF16": "bfloat16"}


def draw_inputs(kernel: Kernel) -> dict[str, Array]:
    generator = np.random.default_rng(3)
    inputs = {name: np.asarray(generator.normal(size=shape)) for name, shape in kernel.shapes.items()}
    # Numbers of bfloat16, so that all dtypes compute at one point.
    inputs = {name: np.round(array * 64) / 64 for name, array in inputs.items()}
    output = OUTPUTS.get(kernel.op, next(iter(kernel.shapes.values())))
    return {**inputs, "g": np.ones(()) if output == () else np.round(generator.normal(size=output) * 64) / 64}


@lru_cache
def solve(name: str, dtype: str) -> SolvedProblem:
    """The check of a kernel: the sum of its output times g."""
    kernel, inputs = KERNELS[name], draw_inputs(KERNELS[name])
    weights = {key: array.tolist() for key, array in inputs.items() if key not in ("g", "target")}
    tensors: dict[str, Any] = {"g": inputs["g"].tolist()}
    if "target" in kernel.shapes:
        tensors["target"] = LABELS.tolist()
    nodes = [
        {"name": "y", "op": kernel.op, "inputs": {key: key for key in kernel.shapes}, **kernel.attributes},
        {"name": "weighted", "op": "mul", "inputs": ["y", "g"]},
        {"name": "loss", "op": "sum", "inputs": ["weighted"]},
    ]
    return SolvedProblem({"tensors": tensors, "weights": weights, "model": {"nodes": nodes}, "dtype": dtype})


def compute_candidate(name: str, bug: str, datatype: str) -> dict[str, Array]:
    """Gradients in float64, or in float32; for bfloat16 they are rounded at the end."""
    kernel = KERNELS[name]
    dtype = np.float64 if datatype == "FP64" else np.float32
    inputs = {key: array.astype(dtype) for key, array in draw_inputs(kernel).items()}
    if "target" in kernel.shapes:
        inputs["target"] = LABELS
    gradients = kernel.differentiate(inputs.pop("g"), bug, **inputs)
    assert all(gradient.dtype == dtype for gradient in gradients.values()), "the kernel keeps its dtype"
    if datatype != "BF16":
        return {key: gradient.astype(np.float64) for key, gradient in gradients.items()}
    return {key: round_to_bfloat16(gradient) for key, gradient in gradients.items()}


def round_to_bfloat16(array: Array) -> Array:
    """Round float32 numbers to 8 bits, halves to even."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("name", KERNELS)
def test_right_kernel_passes(name: str, datatype: str) -> None:
    verdicts, _ = solve(name, DTYPES[datatype]).judge_candidates(compute_candidate(name, "", datatype), datatype)
    assert {key: verdict.outcome for key, verdict in verdicts.items()} == dict.fromkeys(verdicts, Outcome.PASS)


@pytest.mark.parametrize("name", KERNELS)
def test_right_kernel_of_bfloat16_is_not_refused(name: str) -> None:
    verdicts, _ = solve(name, "bfloat16").judge_candidates(compute_candidate(name, "", "BF16"), "BF16")
    assert Outcome.FAIL not in {verdict.outcome for verdict in verdicts.values()}


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize(("name", "bug"), PLANTED)
def test_planted_bug_fails_and_is_named(name: str, bug: str, datatype: str) -> None:
    gradient_name, diagnosis = KERNELS[name].bugs[bug]
    names = solve(name, DTYPES[datatype]).list_bug_names(compute_candidate(name, bug, datatype), datatype)
    assert gradient_name in names
    assert diagnosis in names[gradient_name] or not diagnosis
