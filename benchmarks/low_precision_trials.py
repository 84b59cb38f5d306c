"""Trials of kernels in low precision: right gradients and wrong ones of one problem, judged by the service."""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.low_precision_attention import Attention, Rotary
from benchmarks.low_precision_formats import FORMATS, Format, Machine, round_to_bfloat16
from benchmarks.low_precision_judge import CandidateJudge
from benchmarks.low_precision_kernels import ACCUMULATED_NARROWLY, Draw, Kernel
from benchmarks.low_precision_losses import CrossEntropy, Embedding, LinearCrossEntropy
from benchmarks.low_precision_norms import LayerNorm, RmsNorm, SwiGlu
from benchmarks.low_precision_rules import RULES

KERNELS: tuple[Kernel, ...] = (
    Attention(),
    RmsNorm(),
    LayerNorm(),
    SwiGlu(),
    LinearCrossEntropy(),
    Rotary(),
    CrossEntropy(),
    Embedding(),
)
KERNEL_COUNT = 104
"""Right kernels of each arithmetic, the same number of each family."""
RIGHT, RIGHT_PLAIN, EAGER = "right", "right, by name", "PyTorch's own, by name"
ONE_ELEMENT, SCALED = "one element off", "2 % too large"
BUGS_A_PROBLEM = 2
ELEMENT_ERROR, SCALE_ERROR = 0.1, 0.02
"""Error of one element, over the root mean square of its tensor, and of all elements, over themselves."""
BUG_SIZE = 3.0
"""Errors of a bug over those of the right kernel from which on it is a bug and no rounding."""

Gradients = Mapping[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """What is said of one gradient.

    Attributes
    ----------
    arithmetic, kernel, seed
        The problem.
    kind
        `right`, or what is wrong.
    outcomes
        The service's outcome by tensor.
    accepted
        Whether each of the other rules accepts all tensors.
    is_beyond_rounding
        True if the error is large beside that of the right kernel.
    """

    arithmetic: str
    kernel: str
    seed: int
    kind: str
    outcomes: Mapping[str, str]
    accepted: Mapping[str, bool]
    is_beyond_rounding: bool

    @property
    def outcome(self) -> str:
        """The worst outcome."""
        return min(self.outcomes.values(), key=("fail", "inconclusive", "pass").index)


class Bench:
    """A problem of a kernel in an arithmetic, with its right gradients."""

    def __init__(self, kernel: Kernel, format_: Format, seed: int) -> None:
        self._kernel, self._format, self._seed = kernel, format_, seed
        self.generator = np.random.default_rng([seed, *format_.name.encode(), *kernel.name.encode()])
        self.problem = kernel.draw(Draw(self.generator, format_))
        self.exact = kernel.differentiate(self.problem, torch.float64)
        self._plain = self._run_plainly()
        self._judge: CandidateJudge | None = None
        self._sends_values = format_.name.startswith("FP8") and seed % 2 == 1

    def _run_plainly(self) -> dict[str, Tensor]:
        """Return the gradients of a plain run: PyTorch's, or a second run of the kernel where PyTorch has none."""
        if self._format.name == "TF32":
            return self.run(None)
        return {
            name: gradient.float()
            for name, gradient in self._kernel.differentiate(self.problem, self._format.dtype).items()
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as the kernel's author writes it; without inputs where the tensors are sent dequantised."""
        recipe = self._kernel.make_recipe(self.problem, self._format)
        if self._sends_values:
            del recipe["inputs"]
        return recipe

    def run(self, bug: str | None) -> dict[str, Tensor]:
        """Return the gradients of the kernel on a machine, with an order of its own."""
        machine = Machine(self._format, np.random.default_rng(self.generator.integers(2**63)))
        if bug == ACCUMULATED_NARROWLY:
            narrow = self._format.store if self._format.name == "FP16" else round_to_bfloat16
            machine = replace(machine, accumulate=narrow)
        return self.round_output(self._kernel.run(self.problem, machine, bug))

    def round_output(self, gradients: Gradients) -> dict[str, Tensor]:
        """Round gradients to the format of the output."""
        return {name: self._format.store(gradient) for name, gradient in gradients.items()}

    def judge(self, kind: str, gradients: Gradients, arithmetic: Any, *, is_beyond: bool = True) -> Trial:
        """Judge gradients."""
        outcomes = self._make_judge().judge(to_arrays(gradients), arithmetic)
        accepted = {rule: self._accept(rule, gradients) for rule in RULES}
        return Trial(self._format.name, self._kernel.name, self._seed, kind, outcomes, accepted, is_beyond)

    def diagnose(self, gradients: Gradients) -> dict[str, list[str]]:
        """Return the bugs that the explanations of wrong gradients name, the likeliest first."""
        return self._make_judge().diagnose(to_arrays(gradients), self.recipe)

    def _make_judge(self) -> CandidateJudge:
        """Return the judge of the problem, whose differences are computed once."""
        if self._judge is None:
            self._judge = CandidateJudge(
                self.model, to_arrays(self.problem.tensors), to_arrays(self.problem.weights), self.recipe
            )
        return self._judge

    @property
    def model(self) -> str:
        """The model as a check takes it."""
        return self._kernel.describe_model(self.problem)

    def _accept(self, rule: str, gradients: Gradients) -> bool:
        return all(
            RULES[rule](gradient.double(), self.exact[name], self._plain[name].double())
            for name, gradient in gradients.items()
        )

    def is_beyond_rounding(self, wrong: Gradients, right: Gradients) -> bool:
        """Return whether an error is some times that of the right kernel, by the norm of one tensor."""
        return any(
            float((wrong[name].double() - exact).norm())
            > BUG_SIZE * max(float((right[name].double() - exact).norm()), self._estimate_output_error(exact))
            for name, exact in self.exact.items()
        )

    def _estimate_output_error(self, exact: Tensor) -> float:
        """Return the norm of the errors of rounding an output once, at most."""
        return float(torch.finfo(self._format.dtype).eps / 2 * exact.abs().clamp(min=self._smallest_normal).norm())

    @property
    def _smallest_normal(self) -> float:
        return float(torch.finfo(self._format.dtype).smallest_normal)

    def find_resolved(self, kind: str) -> set[str]:
        """Return the tensors in which the format has numbers for an error: some halves of the smallest ones."""
        smallest = BUG_SIZE * torch.finfo(self._format.dtype).eps / 2 * self._smallest_normal
        sizes = {
            name: ELEMENT_ERROR * exact.square().mean().sqrt()
            if kind == ONE_ELEMENT
            else SCALE_ERROR * exact.abs().max()
            for name, exact in self.exact.items()
        }
        return {name for name, size in sizes.items() if float(size) >= smallest}

    def plant_elements(self, right: Gradients) -> dict[str, Tensor]:
        """Move one element of each tensor by a tenth of the tensor's root mean square."""
        moved: dict[str, Tensor] = {}
        for name, gradient in right.items():
            wrong = gradient.clone().reshape(-1)
            position = int(self.generator.integers(wrong.numel()))
            sign = float(self.generator.choice([-1, 1]))
            wrong[position] += sign * ELEMENT_ERROR * float(self.exact[name].square().mean().sqrt())
            moved[name] = wrong.reshape(gradient.shape)
        return self.round_output(moved)

    def scale(self, gradients: Gradients) -> dict[str, Tensor]:
        """Return gradients that are 2 % too large."""
        return self.round_output({name: (1 + SCALE_ERROR) * gradient for name, gradient in gradients.items()})

    def differentiate_eagerly(self) -> dict[str, Tensor]:
        """Return the gradients of PyTorch's modules."""
        return self._plain


def to_arrays(tensors: Gradients) -> dict[str, Any]:
    """Return tensors as NumPy's arrays."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def iterate_problems(kernels: int, seed: int) -> Iterator[tuple[Kernel, int]]:
    """Yield a kernel and its seed, families in turns."""
    for number in range(kernels):
        yield KERNELS[number % len(KERNELS)], seed + number // len(KERNELS)


def parse_arguments(module: str, description: str) -> argparse.Namespace:
    """Parse the seed and the number of kernels of a benchmark, and print the seed."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=description)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 2**31, help="of the first problem")
    parser.add_argument(
        "--kernels",
        type=int,
        default=KERNEL_COUNT,
        help="right ones of each arithmetic, such as 1000; of fewer than the default nothing is kept",
    )
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    return given


def run_trials(arithmetic: str, kernel: Kernel, seed: int) -> Iterator[Trial]:
    """Judge a right kernel, and wrong ones, on one problem."""
    format_ = FORMATS[arithmetic]
    bench = Bench(kernel, format_, seed)
    right = bench.run(None)
    named = format_.name if format_.name in ("BF16", "FP16", "TF32", "FP32") else format_.stored
    yield bench.judge(RIGHT, right, bench.recipe)
    yield bench.judge(RIGHT_PLAIN, right, named)
    if arithmetic in ("BF16", "FP16"):
        yield bench.judge(EAGER, bench.differentiate_eagerly(), named)
    for kind, wrong in ((ONE_ELEMENT, bench.plant_elements(right)), (SCALED, bench.scale(right))):
        yield from _judge_by_tensor(bench, kind, wrong)
    for bug in bench.generator.choice(kernel.bugs, min(BUGS_A_PROBLEM, len(kernel.bugs)), replace=False):
        wrong = bench.run(str(bug))
        yield bench.judge(str(bug), wrong, bench.recipe, is_beyond=bench.is_beyond_rounding(wrong, right))


def _judge_by_tensor(bench: Bench, kind: str, wrong: Gradients) -> Iterator[Trial]:
    """Judge wrong tensors, those apart in which the format has no numbers for the error."""
    resolved = bench.find_resolved(kind)
    for is_resolved in (True, False):
        chosen = {name: gradient for name, gradient in wrong.items() if (name in resolved) == is_resolved}
        if chosen:
            yield bench.judge(kind, chosen, bench.recipe, is_beyond=is_resolved)
