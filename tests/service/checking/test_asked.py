import pytest

from schemas.problem import InvalidRequestError
from service.checking import element, language
from service.checking.asked import asked
from service.checking.question import Limits


def test_the_request_and_its_problem_come_back(example):
    request, problem = asked(example, Limits(), language.parsed)
    assert problem.request is request
    assert problem.names == ("w1", "w2")


def test_names_are_chosen_of_a_request_of_its_form(example):
    body = example | {"element": {"name": "x", "index": [0, 0]}}
    request, problem = asked(body, Limits(), language.parsed_curve, element.chosen)
    assert request.element.name == "x"
    assert problem.names == ("x",)


@pytest.mark.parametrize(
    ("limits", "place"),
    [(Limits(names=1), "/tensors"), (Limits(elements=5), "/model"), (Limits(dimensions=1), "/tensors/x")],
)
def test_what_is_too_large_is_refused_before_it_is_worked_out(example, limits, place):
    with pytest.raises(InvalidRequestError) as error:
        asked(example, limits, language.parsed)
    assert error.value.errors[0]["pointer"] == place
