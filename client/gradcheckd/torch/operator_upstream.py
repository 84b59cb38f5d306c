"""Checks of the backward pass by the layout and the zeros of its upstream gradients."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gradcheckd.torch.operator_calls import Arrange, Gradients
from gradcheckd.torch.operator_case import OperatorCase, attempt, judge_differences
from gradcheckd.torch.operator_comparison import TensorDifference, compare_gradients, measure_distance, measure_rounding
from gradcheckd.torch.operator_layouts import LAYOUTS, NEEDS, expand_element, expand_row, is_rearranged
from gradcheckd.torch.operator_report import OperatorLine

_SUBJECT = "upstream gradient"


def check_upstream(case: OperatorCase) -> Iterator[OperatorLine]:
    """Yield a line for each kind of upstream gradient."""
    expansions = {"expanded": expand_element, "expanded rows": expand_row}
    for kind, arrange in {**LAYOUTS, **expansions}.items():
        yield _check_layout(case, kind, arrange)
    for kind, check in (("zero", _check_zero), ("partly masked", _check_masked), ("one output at a time", _check_each)):
        name = f"{_SUBJECT}, {kind}"
        yield attempt(name, lambda name=name, check=check: check(case, name))


def _check_layout(case: OperatorCase, kind: str, arrange: Arrange) -> OperatorLine:
    name = f"{_SUBJECT}, {kind}"
    arranged = {number: arrange(tensor) for number, tensor in case.upstream.items()}
    if not any(is_rearranged(case.upstream[number], tensor) for number, tensor in arranged.items()):
        need = NEEDS.get(kind, "more than one element")
        return OperatorLine(name, "not run", f"no differentiable output has {need}")
    return attempt(
        name,
        lambda: judge_differences(name, case.compare_with_contiguous(arranged), "like the same numbers, contiguous"),
    )


def _check_zero(case: OperatorCase, name: str) -> OperatorLine:
    """Check that zeros give zeros, exactly, where the reference is finite."""
    zeros = {number: torch.zeros_like(tensor) for number, tensor in case.upstream.items()}
    gradients = case.operator.run(zeros).gradients
    differences = [
        TensorDifference(f"gradient {number}", measure_distance(gradient, None), 0.0)
        for number, gradient in enumerate(_keep_finite(gradients, case.reference.gradients))
    ]
    return judge_differences(name, differences, "zeros give zeros")


def _keep_finite(gradients: Gradients, reference: Gradients) -> Gradients:
    """Return gradients with 0 for elements that are not finite in the reference: 0 times infinity is no bug."""
    return tuple(
        gradient
        if gradient is None or finite is None or gradient.shape != finite.shape
        else torch.where(torch.isfinite(finite.to_dense()), gradient.to_dense(), 0)
        for gradient, finite in zip(gradients, reference, strict=True)
    )


def _check_masked(case: OperatorCase, name: str) -> OperatorLine:
    """Check that the gradients of two halves of the upstream gradient add up to that of the whole."""
    if sum(tensor.numel() for tensor in case.upstream.values()) < 2:
        return OperatorLine(name, "not run", "the differentiable outputs have one element")
    first, second = _split_by_mask(case)
    return judge_differences(name, _compare_sum(case, [first, second]), "two halves add up to the whole")


def _split_by_mask(case: OperatorCase) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    generator = torch.Generator().manual_seed(case.seed)
    first: dict[int, Tensor] = {}
    second: dict[int, Tensor] = {}
    for number, tensor in case.upstream.items():
        mask = (torch.rand(tensor.shape, generator=generator) < 0.5).to(tensor.device)
        first[number] = torch.where(mask, tensor, torch.zeros_like(tensor))
        second[number] = torch.where(mask, torch.zeros_like(tensor), tensor)
    return first, second


def _check_each(case: OperatorCase, name: str) -> OperatorLine:
    """Check that the gradients of single outputs, the others without one, add up to that of all."""
    if len(case.upstream) < 2:
        return OperatorLine(name, "not run", "there is one differentiable output")
    parts = [{number: tensor} for number, tensor in case.upstream.items()]
    return judge_differences(name, _compare_sum(case, parts), "single outputs add up to all")


def _compare_sum(case: OperatorCase, parts: list[dict[int, Tensor]]) -> list[TensorDifference]:
    """Compare the sum of the gradients of parts with that of the whole; each part brings its own rounding."""
    runs = [case.operator.run(part) for part in parts]
    allowed = list(case.rounding.gradients)
    for part, run in zip(parts, runs, strict=True):
        rounding = measure_rounding(case.operator, part, run, case.seed)
        allowed = [limit + further for limit, further in zip(allowed, rounding.gradients, strict=True)]
    total = runs[0].gradients
    for run in runs[1:]:
        total = _add_gradients(total, run.gradients)
    reference = case.reference.gradients
    return compare_gradients(_keep_finite(total, reference), _keep_finite(reference, reference), allowed)


def _add_gradients(first: Gradients, second: Gradients) -> Gradients:
    return tuple(
        other if gradient is None else gradient if other is None else gradient + other
        for gradient, other in zip(first, second, strict=True)
    )
