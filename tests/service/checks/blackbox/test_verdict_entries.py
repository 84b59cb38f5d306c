"""Entries of verdicts: their fields are those of the schema."""

import pytest
from pydantic import TypeAdapter

from schemas.outputs import JudgedProduct
from schemas.plan import JudgedVerdict, JudgeReport
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.verdict_entries import format_probability
from tests.service.checks.blackbox.output_requests import make_output_request
from tests.service.checks.blackbox.plan_requests import make_judge_request


def list_fields(typed_dict):
    return {*typed_dict.__required_keys__, *typed_dict.__optional_keys__}


@pytest.mark.parametrize("kind", ["random", "coordinates"])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_verdicts_on_products_have_the_fields_of_their_kind(kind, factor):
    body = make_output_request(kind, "vjp", "jvp")
    body["vjp"]["y"]["b"] = [factor * number for number in body["vjp"]["y"]["b"]]
    report = judge_losses(body)
    for name, verdict in report["verdicts"].items():
        expected = JudgedVerdict if "/" in name else JudgedProduct
        assert list_fields(expected) - {"pattern"} == verdict.keys() - {"pattern"}
    assert ("pattern" in report["verdicts"]["y/b"]) == (kind == "coordinates" and factor != 1.0)
    assert {*report} <= list_fields(JudgeReport)
    TypeAdapter(JudgeReport).validate_python(report)


def test_a_vjp_of_one_number_reads_as_the_gradient_of_a_loss():
    loss = judge_losses(make_judge_request())["verdicts"]["b"]
    product = judge_losses(make_output_request("random", "vjp"))["verdicts"]["total/b"]
    assert loss.keys() == product.keys()


def test_small_probabilities_are_not_spelled_out():
    assert [format_probability(number) for number in (0.0, 1e-9, 0.25, 1.0)] == ["0", "< 1e-6", "0.25", "1"]
