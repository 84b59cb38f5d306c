"""Kernels of losses and of look-ups, emulated: cross-entropy, with and without its linear layer, and embeddings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.low_precision_formats import Machine
from benchmarks.low_precision_kernels import ACCUMULATED_NARROWLY, BLOCK_LOST, Draw, Kernel, Problem, Tensors

IGNORED = -100
WRONG_LABEL_ROW = "labels of the next row"
NO_MEAN = "division by the rows left out"
IGNORED_COUNTED = "ignored rows counted"


def _draw_labels(draw: Draw, rows: int, classes: int) -> Tensor:
    """Draw labels, an ignored one now and then, two different ones at least."""
    labels = torch.tensor(draw.generator.integers(classes, size=rows))
    labels[0], labels[1] = 0, 1
    if draw.chance(0.5):
        labels[-1] = IGNORED
    return labels


def _differentiate_logits(logits: Tensor, problem: Problem, machine: Machine, bug: str | None) -> Tensor:
    """Return the gradient of the logits (rows, classes), from a softmax block by block."""
    labels, upstream = problem.tensors["labels"], problem.tensors["g"]
    largest = torch.full((len(logits), 1), -math.inf)
    total = torch.zeros(len(logits), 1)
    for block in machine.split_blocks(logits.shape[-1]):
        tile = logits[:, block.start : block.stop]
        larger = torch.maximum(largest, tile.amax(-1, keepdim=True))
        total = total * torch.exp(largest - larger) + machine.sum(torch.exp(tile - larger), -1, keepdim=True)
        largest = larger
    p = torch.exp(logits - largest) / total
    counted = (labels != IGNORED)[:, None]
    seen = labels.roll(1) if bug == WRONG_LABEL_ROW else labels
    is_label = seen[:, None] == torch.arange(logits.shape[-1])
    count = 1 if bug == NO_MEAN else len(labels) if bug == IGNORED_COUNTED else int(counted.sum())
    gradient = torch.where(is_label, p - 1, p) / count * upstream
    return torch.where(counted, gradient, 0)


class CrossEntropy(Kernel):
    """Cross-entropy of logits."""

    name = "cross-entropy"
    bugs = (WRONG_LABEL_ROW, NO_MEAN, IGNORED_COUNTED, "label not subtracted")

    def draw(self, draw: Draw) -> Problem:
        rows, classes = draw.size(3, 33), draw.size(3, 29)
        logits = draw.rows(rows, classes, scale=3 * draw.scale())
        tensors = {"labels": _draw_labels(draw, rows, classes), "g": draw.read(draw.scale())}
        return Problem(tensors, {"z": logits}, {})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        gradient = _differentiate_logits(problem.weights["z"], problem, machine, bug)
        if bug == "label not subtracted":
            labels = problem.tensors["labels"]
            row = int((labels != IGNORED).nonzero()[0])
            gradient[row, labels[row]] += problem.tensors["g"] / int((labels != IGNORED).sum())
        return {"z": gradient}

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        return torch.nn.functional.cross_entropy(leaves["z"], leaves["labels"]) * leaves["g"]

    def describe_model(self, problem: Problem) -> str:
        return "c = cross_entropy(z, labels)\nloss = mul(c, g)"

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return ()


class LinearCrossEntropy(Kernel):
    """Cross-entropy of a linear layer, by chunks of rows. The logits are stored, and their gradient over them."""

    name = "linear cross-entropy"
    bugs = (WRONG_LABEL_ROW, NO_MEAN, ACCUMULATED_NARROWLY, BLOCK_LOST)

    def draw(self, draw: Draw) -> Problem:
        rows, length, classes = draw.size(3, 21), draw.size(4, 13), draw.size(3, 21)
        weights = {
            "x": draw.rows(rows, length, scale=3 * draw.scale()),
            "w": draw.normal(classes, length, scale=length**-0.5),
        }
        tensors = {"labels": _draw_labels(draw, rows, classes), "g": draw.read(draw.scale())}
        return Problem(tensors, weights, {})

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        x, w = problem.weights["x"], problem.weights["w"]
        store = machine.format.store
        by_logits = store(_differentiate_logits(store(machine.matmul(x, w.T)), problem, machine, bug))
        by_w = machine.matmul(by_logits.T, x, loses_block=bug == BLOCK_LOST)
        return {"x": machine.matmul(by_logits, w), "w": by_w}

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        logits = torch.nn.functional.linear(leaves["x"], leaves["w"])
        return torch.nn.functional.cross_entropy(logits, leaves["labels"]) * leaves["g"]

    def describe_model(self, problem: Problem) -> str:
        return "z = linear(x, w)\nc = cross_entropy(z, labels)\nloss = mul(c, g)"

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return "z", "d:z"


class Embedding(Kernel):
    """Rows of a table by repeated numbers; the gradients of a row are added up in random order."""

    name = "embedding"
    bugs = ("last one wins", "numbers off by one", ACCUMULATED_NARROWLY, BLOCK_LOST)

    def draw(self, draw: Draw) -> Problem:
        rows, length, count = draw.size(3, 17), draw.size(3, 11), draw.size(9, 99)
        numbers = torch.tensor(draw.generator.integers(rows, size=count))
        numbers[:3] = 0
        return Problem(
            {"numbers": numbers, "de": draw.upstream(count, length)}, {"w": draw.normal(rows, length)}, {"rows": rows}
        )

    def run(self, problem: Problem, machine: Machine, bug: str | None = None) -> dict[str, Tensor]:
        numbers, upstream = problem.tensors["numbers"], problem.tensors["de"]
        if bug == "numbers off by one":
            numbers = numbers.roll(1)
        order = machine.generator.permutation(len(numbers))
        if bug == BLOCK_LOST:
            order = order[: -(-len(order) // 4) * -1 or None]
        gradient = torch.zeros_like(problem.weights["w"])
        for position in map(int, order):
            row = int(numbers[position])
            before = 0 if bug == "last one wins" else gradient[row]
            gradient[row] = machine.accumulate(before + upstream[position])
        return {"w": gradient}

    def compute_loss(self, leaves: Tensors, options: Mapping[str, Any]) -> Tensor:
        return (torch.nn.functional.embedding(leaves["numbers"], leaves["w"]) * leaves["de"]).sum()

    def describe_model(self, problem: Problem) -> str:
        return "e = embedding(numbers, w)\nt = mul(e, de)\nloss = sum(t)"

    def list_casts(self, problem: Problem) -> Sequence[str]:
        return ("e",)
