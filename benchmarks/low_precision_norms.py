"""Kernels of normalisations and gates, emulated as Liger's are: RMSNorm, LayerNorm, and a SwiGLU layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.low_precision_formats import Machine
from benchmarks.low_precision_kernels import ACCUMULATED_NARROWLY, BLOCK_LOST, Draw, Kernel, Problem, Tensors


class RmsNorm(Kernel):
    """RMSNorm of x + r, with the sum h handed on: a residual block's."""

    name = "RMSNorm"
    bugs = (
        "residual left out",
        "mean left out",
        "sum for the mean",
        "eps left out",
        "weight left out",
        ACCUMULATED_NARROWLY,
        BLOCK_LOST,
    )

    def draw(self, draw: Draw) -> Problem:
        rows, length = draw.size(3, 21), draw.size(5, 23)
        scale = draw.scale()
        tensors = {"dy": draw.upstream(rows, length), "dh": draw.upstream(rows, length)}
        weights = {
            "x": draw.rows(rows, length, scale=scale),
            "r": draw.normal(rows, length, scale=scale),
            "w": draw.normal(length),
        }
        return Problem(tensors, weights, {"length": length, "eps": 1e-6})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        leaves, length = problem.leaves, problem.options["length"]
        eps = 0.0 if bug == "eps left out" else problem.options["eps"]
        h = machine.format.store(leaves["x"] + leaves["r"])
        inverse = torch.rsqrt(machine.sum(h * h, -1, keepdim=True) / length + eps)
        z = h * inverse
        by_z = leaves["dy"] if bug == "weight left out" else leaves["dy"] * leaves["w"]
        mean = machine.sum(by_z * z, -1, keepdim=True) / (1 if bug == "sum for the mean" else length)
        if bug == "mean left out":
            mean = 0 * mean
        by_h = inverse * (by_z - z * mean)
        if bug != "residual left out":
            by_h = by_h + leaves["dh"]
        by_w = machine.sum(leaves["dy"] * z, 0, loses_block=bug == BLOCK_LOST)
        return {"x": by_h, "r": by_h.clone(), "w": by_w}

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        h = leaves["x"] + leaves["r"]
        output = torch.nn.functional.rms_norm(h, [options["length"]], leaves["w"], options["eps"])
        return (output * leaves["dy"]).sum() + (h * leaves["dh"]).sum()

    def describe_model(self, problem: Problem) -> str:
        return (
            f"h = add(x, r)\ny = rms_norm(h, [{problem.options['length']}], w, eps={problem.options['eps']})\n"
            "t = mul(y, dy)\ns = sum(t)\nu = mul(h, dh)\nv = sum(u)\nloss = add(s, v)"
        )

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return "h", "y"


class LayerNorm(Kernel):
    """LayerNorm; gradients of weight and bias are sums of those of blocks of rows."""

    name = "LayerNorm"
    bugs = (
        "mean of the gradient left out",
        "mean of the products left out",
        "input not centred",
        "eps left out",
        "weight left out",
        ACCUMULATED_NARROWLY,
        BLOCK_LOST,
    )

    def draw(self, draw: Draw) -> Problem:
        rows, length = draw.size(3, 21), draw.size(5, 23)
        weights = {
            "x": draw.rows(rows, length, scale=draw.scale()),
            "w": draw.normal(length),
            "b": draw.normal(length),
        }
        return Problem({"dy": draw.upstream(rows, length)}, weights, {"length": length, "eps": 1e-5})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        leaves, length = problem.leaves, problem.options["length"]
        eps = 0.0 if bug == "eps left out" else problem.options["eps"]
        centred = leaves["x"] - machine.sum(leaves["x"], -1, keepdim=True) / length
        inverse = torch.rsqrt(machine.sum(centred * centred, -1, keepdim=True) / length + eps)
        z = (leaves["x"] if bug == "input not centred" else centred) * inverse
        by_z = leaves["dy"] if bug == "weight left out" else leaves["dy"] * leaves["w"]
        mean = machine.sum(by_z, -1, keepdim=True) / length
        mean_of_products = machine.sum(by_z * z, -1, keepdim=True) / length
        if bug == "mean of the gradient left out":
            mean = 0 * mean
        if bug == "mean of the products left out":
            mean_of_products = 0 * mean_of_products
        return {
            "x": inverse * (by_z - (z * mean_of_products + mean)),
            "w": machine.sum(leaves["dy"] * z, 0),
            "b": machine.sum(leaves["dy"], 0, loses_block=bug == BLOCK_LOST),
        }

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        shape, eps = [options["length"]], options["eps"]
        return (torch.nn.functional.layer_norm(leaves["x"], shape, leaves["w"], leaves["b"], eps) * leaves["dy"]).sum()

    def describe_model(self, problem: Problem) -> str:
        return (
            f"y = layer_norm(x, [{problem.options['length']}], w, b, eps={problem.options['eps']})\n"
            "t = mul(y, dy)\nloss = sum(t)"
        )

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return ("y",)


class SwiGlu(Kernel):
    """A layer of two products, their gate, and a third product; what lies between is stored."""

    name = "SwiGLU"
    bugs = (
        "derivative of the gate is the sigmoid",
        "gate and value swapped",
        "one product left out",
        ACCUMULATED_NARROWLY,
        BLOCK_LOST,
    )

    def draw(self, draw: Draw) -> Problem:
        rows, length, hidden, out = draw.size(3, 15), draw.size(4, 11), draw.size(4, 11), draw.size(3, 7)
        weights = {
            "x": draw.rows(rows, length, scale=draw.scale()),
            "wg": draw.normal(hidden, length, scale=length**-0.5),
            "wu": draw.normal(hidden, length, scale=length**-0.5),
            "wd": draw.normal(out, hidden, scale=hidden**-0.5),
        }
        return Problem({"dy": draw.upstream(rows, out)}, weights, {})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        x, wg, wu, wd, dy = (problem.leaves[name] for name in ("x", "wg", "wu", "wd", "dy"))
        store = machine.format.store
        gate, value = store(machine.matmul(x, wg.T)), store(machine.matmul(x, wu.T))
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        h = store(store(silu) * value)
        by_h = store(machine.matmul(dy, wd))
        slope = sigmoid if bug == "derivative of the gate is the sigmoid" else silu * (1 - sigmoid) + sigmoid
        by_gate, by_value = store(by_h * slope * value), store(by_h * silu)
        if bug == "gate and value swapped":
            by_gate, by_value = by_value, by_gate
        by_x = machine.matmul(by_gate, wg)
        if bug != "one product left out":
            by_x = by_x + machine.matmul(by_value, wu)
        return {
            "x": by_x,
            "wg": machine.matmul(by_gate.T, x, loses_block=bug == BLOCK_LOST),
            "wu": machine.matmul(by_value.T, x),
            "wd": machine.matmul(dy.T, h),
        }

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        linear = torch.nn.functional.linear
        gate, value = linear(leaves["x"], leaves["wg"]), linear(leaves["x"], leaves["wu"])
        return (linear(torch.nn.functional.silu(gate) * value, leaves["wd"]) * leaves["dy"]).sum()

    def describe_model(self, problem: Problem) -> str:
        return (
            "a = linear(x, wg)\nb = linear(x, wu)\ns = silu(a)\nh = mul(s, b)\ny = linear(h, wd)\n"
            "t = mul(y, dy)\nloss = sum(t)"
        )

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return "a", "b", "h", "y", "d:h", "d:a", "d:b"
