"""Imported modules have the values and gradients of torch, and a wrong gradient of each of them fails."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradcheckd
from gradcheckd.torch import from_module
from gradcheckd.torch.export_internals import pytree
from tests.client.torch.module_cases import CASES, ModuleCase

PLANTED = 1.01
DIRECTIONS = {"projections": 2}


def make_module(case: ModuleCase) -> nn.Module:
    torch.manual_seed(0)
    return case.make().double()


def compute_gradients(module: nn.Module, case: ModuleCase, cotangents: dict[str, Tensor | None]) -> dict[str, Tensor]:
    """Return torch's gradients of the parameters, by plain `backward`; the module is changed."""
    results: Any = module(*case.args, **case.kwargs)
    outputs = [leaf for leaf in pytree.tree_leaves(results) if leaf.is_floating_point()]
    terms = [
        output if factor is None else (output * factor).sum()
        for output, factor in zip(outputs, cotangents.values(), strict=True)
    ]
    loss = sum(terms)
    loss.backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()} | {"": loss.detach()}


@pytest.mark.parametrize("name", CASES)
def test_module_has_values_and_gradients_of_torch(name: str) -> None:
    case = CASES[name]
    request = from_module(make_module(case), case.args, case.kwargs)
    expected = compute_gradients(make_module(case), case, dict(request.cotangents))
    loss = float(expected.pop(""))
    candidate = {parameter: expected[parameter] for parameter in request.weights}
    # A cast to float32 within a module of float64 leaves the precision of float32.
    is_exact = request.arithmetic == "FP64"
    options = {"finite_difference": DIRECTIONS, "candidate_dtype": request.arithmetic}
    report = gradcheckd.check(**request, candidate=candidate, **options)
    assert report.outcome == "pass", report.text()
    assert report.loss.analytic == pytest.approx(loss, rel=1e-9 if is_exact else 1e-5)
    scale = max(float(gradient.abs().max()) for gradient in candidate.values())
    for parameter, gradient in candidate.items():
        np.testing.assert_allclose(
            report.gradients[parameter].analytic,
            gradient,
            rtol=1e-8 if is_exact else 1e-4,
            atol=(1e-9 if is_exact else 1e-5) * scale,
            err_msg=parameter,
        )
    unused = {parameter: expected[parameter] for parameter in request.unused if parameter in expected}
    assert all(gradient is None or not gradient.any() for gradient in unused.values())
    wrong = max(candidate, key=lambda parameter: float(candidate[parameter].norm()))
    candidate[wrong] = PLANTED * candidate[wrong]
    assert gradcheckd.check(**request, candidate=candidate, **options).outcome == "fail"
