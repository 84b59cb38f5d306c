"""Kernels of attention, emulated: causal attention as flash-attention computes it, and rotary embeddings.

Source: Dao, FlashAttention-2 (2023), algorithms 1 and 2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.low_precision_formats import Machine
from benchmarks.low_precision_kernels import ACCUMULATED_NARROWLY, BLOCK_LOST, Draw, Kernel, Problem, Tensors


class Attention(Kernel):
    """Causal attention. P and dS are cast before they are multiplied; the row term is that of the rounded output."""

    name = "attention"
    bugs = (
        "one head zeroed",
        "1/sqrt(d) left out",
        "mask off by one",
        "dS not transposed",
        "row term left out",
        ACCUMULATED_NARROWLY,
        BLOCK_LOST,
    )

    def draw(self, draw: Draw) -> Problem:
        shape = draw.size(1, 2), draw.size(2, 3), draw.size(5, 15), draw.size(3, 9)
        weights = {"q": draw.rows(*shape), "k": draw.normal(*shape), "v": draw.normal(*shape, scale=draw.scale())}
        return Problem({"do": draw.rows(*shape, scale=draw.scale())}, weights, {})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        query, key, value, upstream = (problem.leaves[name] for name in ("q", "k", "v", "do"))
        store, factor, length = machine.format.store, machine.format.factor, query.shape[-2]
        scale = query.shape[-1] ** -0.5
        # Exponents are to the base of 2, as the hardware has them.
        scores = machine.matmul(query, key.mT) * (scale * math.log2(math.e))
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        output, normaliser = _run_online_softmax(scores.masked_fill(~seen, -math.inf), value, machine)
        output = store(output)
        if bug == "mask off by one":
            seen = torch.ones(length, length, dtype=torch.bool).tril(-1)
        p = torch.exp2(scores - normaliser).masked_fill(~seen, 0)
        row_term = machine.sum(upstream * output, -1, keepdim=True)
        if bug == "row term left out":
            row_term = 0 * row_term
        ds = factor(store(p * (machine.matmul(upstream, value.mT) - row_term)))
        ds_of_keys = ds if bug == "dS not transposed" else ds.mT
        if bug == "1/sqrt(d) left out":
            scale = 1.0
        gradients = {
            "q": machine.matmul(ds, key) * scale,
            "k": machine.matmul(ds_of_keys, query, loses_block=bug == BLOCK_LOST) * scale,
            "v": machine.matmul(store(p).mT, upstream),
        }
        if bug == "one head zeroed":
            gradients["v"][:, -1] = 0
        return gradients

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        query, key, value, upstream = (leaves[name] for name in ("q", "k", "v", "do"))
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return (output * upstream).sum()

    def describe_model(self, problem: Problem) -> str:
        return "o = scaled_dot_product_attention(q, k, v, is_causal=True)\nt = mul(o, do)\nloss = sum(t)"

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return "o", "o.p", "o.ds"


def _run_online_softmax(scores: Tensor, value: Tensor, machine: Machine) -> tuple[Tensor, Tensor]:
    """Return softmax(scores) value, tile by tile, and the logarithm to the base of 2 of the softmax's divisor."""
    largest = torch.full((*scores.shape[:-1], 1), -math.inf)
    total = torch.zeros_like(largest)
    output = torch.zeros(*scores.shape[:-1], value.shape[-1])
    for block in machine.split_blocks(scores.shape[-1]):
        tile = scores[..., block.start : block.stop]
        larger = torch.maximum(largest, tile.amax(-1, keepdim=True))
        p = torch.exp2(tile - larger)
        decay = torch.exp2(largest - larger)
        total = total * decay + machine.sum(p, -1, keepdim=True)
        part = machine.matmul(machine.format.store(p), value[..., block.start : block.stop, :])
        output = output * decay + part
        largest = larger
    return output / total, largest + torch.log2(total)


class Rotary(Kernel):
    """Rotary embeddings: pairs i, i + R/2 are turned."""

    name = "RoPE"
    bugs = ("sign of the sine", "one head zeroed", "halves swapped", "positions off by one")

    def draw(self, draw: Draw) -> Problem:
        batch, heads, length, half = draw.size(1, 2), draw.size(2, 3), draw.size(5, 13), draw.size(2, 5)
        angles = torch.arange(1, length + 1)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        tables = {"cos": draw.read(angles.cos().numpy()), "sin": draw.read(angles.sin().numpy())}
        shape = batch, heads, length, 2 * half
        upstream = draw.rows(*shape, scale=draw.scale())
        return Problem({**tables, "dy": upstream}, {"x": draw.normal(*shape, scale=draw.scale())}, {})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        cos, sin, upstream = (problem.tensors[name] for name in ("cos", "sin", "dy"))
        if bug == "sign of the sine":
            sin = -sin
        if bug == "positions off by one":
            cos, sin = cos.roll(1, 0), sin.roll(1, 0)
        first, second = upstream.chunk(2, -1)
        halves = [first * cos + second * sin, second * cos - first * sin]
        gradient = torch.cat(halves[::-1] if bug == "halves swapped" else halves, -1)
        if bug == "one head zeroed":
            gradient[:, -1] = 0
        return {"x": gradient}

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        first, second = leaves["x"].chunk(2, -1)
        cos, sin = leaves["cos"], leaves["sin"]
        output = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        return (output * leaves["dy"]).sum()

    def describe_model(self, problem: Problem) -> str:
        return "y = rotary_embedding(x, cos, sin)\nt = mul(y, dy)\nloss = sum(t)"

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return ("y",)
