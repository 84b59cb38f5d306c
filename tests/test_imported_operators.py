"""The counts of `make imports` and `make models`: right gradients pass, wrong ones fail, refusals have reasons."""

import json

import pytest
import torch

from benchmarks import imported_models, imported_operators
from benchmarks.imported_models import ImportedModel
from benchmarks.imported_operators import ImportedOperator, count_names, count_results, measure_operator
from benchmarks.imported_samples import (
    ERROR,
    FAIL,
    INCONCLUSIVE,
    LEFT_OUT,
    PASS,
    REFUSED,
    WRONG_IN_TORCH,
    ImportedSample,
    check_import,
)
from benchmarks.operator_samples import SECTIONS, OperatorSample, list_operators


def make_sample(function, *shapes):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5 for shape in shapes]
    return OperatorSample("made", function, tuple(tensor.requires_grad_() for tensor in tensors), nondet_tol=0.0)


class WrongProduct(torch.autograd.Function):
    """A product whose gradient by the first factor is doubled."""

    @staticmethod
    def forward(ctx, first, second):
        ctx.save_for_backward(first, second)
        return first * second

    @staticmethod
    def backward(ctx, gradient):
        first, second = ctx.saved_tensors
        return 2 * gradient * second, gradient * first


@pytest.mark.parametrize("name", ["sin", "addmm", "native_group_norm", "floor"])
def test_right_gradients_of_operators_pass_and_planted_errors_fail(name):
    (operator, *_) = list_operators(SECTIONS[0], [name])
    result = measure_operator(operator, 0)
    judged = [sample for sample in result.samples if sample.outcome not in (LEFT_OUT, REFUSED)]
    assert judged
    assert {(sample.outcome, sample.planted_outcome) for sample in judged} == {(PASS, FAIL)}


def test_wrong_gradient_is_counted_as_that_of_torch():
    result = check_import(make_sample(lambda *factors: WrongProduct.apply(*factors), (3,), (3,)))
    assert (result.outcome, result.planted_outcome) == (WRONG_IN_TORCH, "")


@pytest.mark.parametrize(
    ("function", "outcome", "reason"),
    [
        (torch.special.i0e, REFUSED, "aten.special_i0e.default: there is no op for it"),
        (lambda x: x.detach(), LEFT_OUT, "no output has a gradient"),
        (lambda x: x * torch.rand(()), LEFT_OUT, "random"),
        (lambda x: x @ torch.ones(7, dtype=torch.float64), LEFT_OUT, "torch refuses it"),
    ],
)
def test_samples_that_are_not_judged_have_their_reason(function, outcome, reason):
    result = check_import(make_sample(function, (2, 3)))
    assert result.outcome == outcome
    assert result.reason.startswith(reason)


def make_operator(name, *outcomes, is_op=False, planted=""):
    samples = [
        ImportedSample(f"{name}[{number}]", outcome, "why", True, planted if outcome == PASS else "")
        for number, outcome in enumerate(outcomes)
    ]
    return ImportedOperator(name, name, is_op, samples)


def test_counts_say_what_is_covered_and_what_is_wrong(tmp_path):
    results = [
        make_operator("sin", PASS, PASS, is_op=True, planted=FAIL),
        make_operator("partly", PASS, REFUSED, planted=PASS),
        make_operator("other", REFUSED, LEFT_OUT, ERROR),
        make_operator("doubtful", INCONCLUSIVE, FAIL, WRONG_IN_TORCH, is_op=True),
    ]
    names = {"all": 4, "ops": 2, "imported": 2, "imported_wholly": 1, "covered": 3}
    assert count_names(results) == names
    counts = count_results(results)
    assert counts["samples"]["judged"] == 9
    assert counts["samples"]["accepted"] == 6
    assert counts["samples_of_ops"]["accepted"] == 5
    assert counts["missed"] == ["partly[0]"]
    assert list(counts["failing"]) == ["doubtful[1]"]
    assert list(counts["errors"]) == ["other[2]"]
    origin = {"seed": 0, "measured": 4, "entries": 5, "machine": {"cpu": "x", "cores": 1}, "versions": {}}
    text = imported_operators.write_markdown({**counts, **origin})
    assert "4 of 5 entries" in text
    assert "1 missed" in text
    assert "`doubtful[1]`" in text
    path = tmp_path / "results"
    for result in results:
        imported_operators.append_result(path, result)
    assert list(imported_operators.read_results(path)) == results


def test_table_of_models_names_what_is_missing():
    models = [
        ImportedModel("good", "torch", 3, 10, 0.0, PASS, FAIL),
        ImportedModel("other", "torch", missing={"aten.i0.default: there is no op for it": 2}),
    ]
    origin = {"available": 3, "machine": {"cpu": "x", "cores": 1}, "versions": {}}
    text = imported_models.write_markdown(json.loads(json.dumps({"models": list(map(vars, models)), **origin})))
    assert "Measured are 2 of 3 models" in " ".join(text.split())
    assert "1 of 2 models import whole" in text
    assert "other: aten.i0.default: there is no op for it (2)" in text


def test_a_model_of_plain_torch_is_measured():
    (model, *_) = [model for model in imported_models.list_models() if model.name == "autoencoder"]
    result = imported_models.measure_model(model)
    assert (result.outcome, result.planted_outcome) == (PASS, FAIL)
    assert result.value_error < 1e-12
