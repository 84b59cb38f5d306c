"""What the whole check along a joint direction is measured on beside torch's fast mode."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.peers import make_gradcheck_call
from benchmarks.problems import PROBLEMS, Array, encode_array

BLOCK_WIDTHS = (16, 64, 128)
TOKENS, HEADS = 16, 4
CHANNELS = 16
STEPS, FEATURES, UNITS = 20, 8, 16


@dataclass(frozen=True)
class FastModeProblem:
    """A loss as a request of the service, and for torch and jax with the tensors it is differentiated by."""

    request: Mapping[str, Any]
    inputs: Mapping[str, Array]
    torch_loss: Callable[..., torch.Tensor]
    jax_loss: Callable[..., Any] | None = None

    def make_torch_inputs(self) -> tuple[torch.Tensor, ...]:
        """The inputs, as tensors that require a gradient."""
        return tuple(torch.from_numpy(array.copy()).requires_grad_() for array in self.inputs.values())

    def prepare_gradcheck(self, *, fast: bool) -> Callable[[], bool]:
        """The call of torch's gradcheck."""
        return make_gradcheck_call(self.torch_loss, self.make_torch_inputs(), fast=fast)


def make_block(width: int) -> FastModeProblem:
    """A transformer block, pre-norm, of `attention_block` in any width."""
    generator = np.random.default_rng(width)
    x, y = generator.normal(size=(2, 1, TOKENS, width))
    weights = {
        "gain1": generator.uniform(0.5, 1.5, width),
        "shift1": generator.normal(size=width) / 10,
        **{f"w_{part}": generator.normal(size=(width, width)) / np.sqrt(width) for part in ("q", "k", "v", "out")},
        "gain2": generator.uniform(0.5, 1.5, width),
        "shift2": generator.normal(size=width) / 10,
        "w_wide": generator.normal(size=(4 * width, width)) / np.sqrt(width),
        "b_wide": generator.normal(size=4 * width) / 10,
        "w_narrow": generator.normal(size=(width, 4 * width)) / np.sqrt(4 * width),
        "b_narrow": generator.normal(size=width) / 10,
    }
    request = _make_request({"x": x, "y": y}, weights, [*_list_block_nodes(width)])
    return FastModeProblem(request, weights, _make_torch_block(x, y))


def _make_request(
    tensors: Mapping[str, Array], weights: Mapping[str, Array], nodes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "tensors": {name: encode_array(tensor) for name, tensor in tensors.items()},
        "weights": {name: encode_array(weight) for name, weight in weights.items()},
        "model": {"nodes": list(nodes)},
        "encoding": "b64",
    }


def _make_node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


def _list_block_nodes(width: int) -> Iterator[dict[str, Any]]:
    yield _make_node("normal1", "layer_norm", "x", "gain1", "shift1", normalized_shape=[width])
    for part in ("q", "k", "v"):
        yield _make_node(f"{part}_flat", "linear", "normal1", f"w_{part}")
        yield _make_node(f"{part}_split", "reshape", f"{part}_flat", shape=[1, TOKENS, HEADS, width // HEADS])
        yield _make_node(part, "transpose", f"{part}_split", dim0=1, dim1=2)
    yield _make_node("attended", "scaled_dot_product_attention", "q", "k", "v", is_causal=True)
    yield _make_node("together", "transpose", "attended", dim0=1, dim1=2)
    yield _make_node("merged", "reshape", "together", shape=[1, TOKENS, width])
    yield _make_node("projected", "linear", "merged", "w_out")
    yield _make_node("residual1", "add", "x", "projected")
    yield _make_node("normal2", "layer_norm", "residual1", "gain2", "shift2", normalized_shape=[width])
    yield _make_node("wide", "linear", "normal2", "w_wide", "b_wide")
    yield _make_node("active", "gelu", "wide")
    yield _make_node("narrow", "linear", "active", "w_narrow", "b_narrow")
    yield _make_node("residual2", "add", "residual1", "narrow")
    yield _make_node("loss", "mse_loss", "residual2", "y")


def _make_torch_block(x: Array, y: Array) -> Callable[..., torch.Tensor]:
    given, target = torch.from_numpy(x), torch.from_numpy(y)
    functional = torch.nn.functional

    def loss(gain1, shift1, w_q, w_k, w_v, w_out, gain2, shift2, w_wide, b_wide, w_narrow, b_narrow):
        normal = functional.layer_norm(given, gain1.shape, gain1, shift1)
        heads = [
            functional.linear(normal, weight).reshape(1, TOKENS, HEADS, -1).transpose(1, 2)
            for weight in (w_q, w_k, w_v)
        ]
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        residual = given + functional.linear(attended.transpose(1, 2).reshape(given.shape), w_out)
        wide = functional.linear(functional.layer_norm(residual, gain2.shape, gain2, shift2), w_wide, b_wide)
        return functional.mse_loss(residual + functional.linear(functional.gelu(wide), w_narrow, b_narrow), target)

    return loss


def make_residual_block() -> FastModeProblem:
    """A block of a ResNet: 4 images of 8x8 with 16 channels, two convolutions of 3x3 with batch normalisation."""
    generator = np.random.default_rng(7)
    x, y = generator.normal(size=(2, 4, CHANNELS, 8, 8))
    weights: dict[str, Array] = {}
    for number in (1, 2):
        weights[f"kernel{number}"] = generator.normal(size=(CHANNELS, CHANNELS, 3, 3)) / 12
        weights[f"gain{number}"] = generator.uniform(0.5, 1.5, CHANNELS)
        weights[f"shift{number}"] = generator.normal(size=CHANNELS) / 10
    nodes = [
        _make_node("conv1", "conv2d", "x", "kernel1", padding=[1, 1]),
        _make_node("normal1", "batch_norm", "conv1", "gain1", "shift1"),
        _make_node("active1", "relu", "normal1"),
        _make_node("conv2", "conv2d", "active1", "kernel2", padding=[1, 1]),
        _make_node("normal2", "batch_norm", "conv2", "gain2", "shift2"),
        _make_node("sum", "add", "x", "normal2"),
        _make_node("active2", "relu", "sum"),
        _make_node("loss", "mse_loss", "active2", "y"),
    ]
    given, target, functional = torch.from_numpy(x), torch.from_numpy(y), torch.nn.functional

    def convolve(x, kernel, gain, shift):
        return functional.batch_norm(functional.conv2d(x, kernel, padding=1), None, None, gain, shift, training=True)

    def loss(kernel1, gain1, shift1, kernel2, gain2, shift2):
        inner = torch.relu(convolve(given, kernel1, gain1, shift1))
        return functional.mse_loss(torch.relu(given + convolve(inner, kernel2, gain2, shift2)), target)

    return FastModeProblem(_make_request({"x": x, "y": y}, weights, nodes), weights, loss)


def make_lstm() -> FastModeProblem:
    """An LSTM of 20 steps from primitives: 4 sequences, 8 features, 16 units."""
    generator = np.random.default_rng(8)
    sequence = generator.normal(size=(STEPS, 4, FEATURES))
    h, c, y = generator.normal(size=(3, 4, UNITS)) / 2
    weights = {
        "w_input": generator.normal(size=(4 * UNITS, FEATURES)) / np.sqrt(FEATURES),
        "w_hidden": generator.normal(size=(4 * UNITS, UNITS)) / np.sqrt(UNITS),
        "bias": generator.normal(size=4 * UNITS) / 10,
    }
    tensors = {f"x{step}": sequence[step - 1] for step in range(1, STEPS + 1)} | {"h0": h, "c0": c, "y": y}
    nodes = [node for step in range(1, STEPS + 1) for node in _list_step_nodes(step)]
    nodes.append(_make_node("loss", "mse_loss", f"h{STEPS}", "y"))
    given = [torch.from_numpy(array.copy()) for array in (sequence, h, c, y)]

    def loss(w_input, w_hidden, bias):
        inputs, hidden, cell, target = given
        for x in inputs:
            gates = torch.nn.functional.linear(x, w_input, bias) + torch.nn.functional.linear(hidden, w_hidden)
            enter, keep, new, leave = gates.chunk(4, dim=1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
            hidden = torch.sigmoid(leave) * torch.tanh(cell)
        return torch.nn.functional.mse_loss(hidden, target)

    return FastModeProblem(_make_request(tensors, weights, nodes), weights, loss)


def _list_step_nodes(step: int) -> Iterator[dict[str, Any]]:
    yield _make_node(f"from_x{step}", "linear", f"x{step}", "w_input", "bias")
    yield _make_node(f"from_h{step}", "linear", f"h{step - 1}", "w_hidden")
    yield _make_node(f"gates{step}", "add", f"from_x{step}", f"from_h{step}")
    gates = (("enter", "sigmoid"), ("keep", "sigmoid"), ("new", "tanh"), ("leave", "sigmoid"))
    for number, (gate, activation) in enumerate(gates):
        part = {"dim": 1, "start": UNITS * number, "length": UNITS}
        yield _make_node(f"{gate}_part{step}", "narrow", f"gates{step}", **part)
        yield _make_node(f"{gate}{step}", activation, f"{gate}_part{step}")
    yield _make_node(f"kept{step}", "mul", f"keep{step}", f"c{step - 1}")
    yield _make_node(f"entered{step}", "mul", f"enter{step}", f"new{step}")
    yield _make_node(f"c{step}", "add", f"kept{step}", f"entered{step}")
    yield _make_node(f"c_active{step}", "tanh", f"c{step}")
    yield _make_node(f"h{step}", "mul", f"leave{step}", f"c_active{step}")


def _adapt_problem(name: str) -> FastModeProblem:
    problem = PROBLEMS[name]()
    return FastModeProblem(problem.request, problem.inputs, problem.torch_loss, problem.jax_loss)


FAST_MODE_PROBLEMS: Mapping[str, Callable[[], FastModeProblem]] = {
    **{name: partial(_adapt_problem, name) for name in PROBLEMS},
    **{f"block {width}": partial(make_block, width) for width in BLOCK_WIDTHS},
    "ResNet block": make_residual_block,
    "LSTM, 20 steps": make_lstm,
}
"""All problems by name: those of `make bench`, then transformer blocks of some widths, and two others."""
