import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import element, model_language
from service.checks.graph.parse import parse_problem


def test_parsing_returns_the_request_and_its_problem(example):
    request, problem = parse_problem(example, Limits(), model_language.parse_check_request)
    assert problem.request is request
    assert problem.names == ("w1", "w2")


def test_curve_problem_has_the_name_of_its_element(example):
    body = example | {"element": {"name": "x", "index": [0, 0]}}
    request, problem = parse_problem(body, Limits(), model_language.parse_curve_request, element.choose_element_name)
    assert request.element.name == "x"
    assert problem.names == ("x",)


@pytest.mark.parametrize(
    ("limits", "place"),
    [(Limits(names=1), "/tensors"), (Limits(elements=5), "/model"), (Limits(dimensions=1), "/tensors/x")],
)
def test_excessive_request_is_refused_before_it_is_computed(example, limits, place):
    with pytest.raises(InvalidRequestError) as error:
        parse_problem(example, limits, model_language.parse_check_request)
    assert error.value.errors[0]["pointer"] == place
