import pytest
from pydantic import ValidationError

from schemas.check import CheckRequest, NodeBase
from schemas.curve import CurveRequest, ElementSpec


def test_an_element_is_a_name_and_an_index():
    assert ElementSpec.model_validate({"name": "b", "index": []}).index == []
    assert ElementSpec.model_validate({"name": "w", "index": [0, -1]}).index == [0, -1]


@pytest.mark.parametrize(
    "element",
    [
        None,
        {},
        [0, 1],
        {"name": "w"},
        {"index": [0]},
        {"name": "", "index": [0]},
        {"name": 1, "index": [0]},
        {"name": "w", "index": 0},
        {"name": "w", "index": [0.0]},
        {"name": "w", "index": [True]},
        {"name": "w", "index": ["0"]},
        {"name": "w", "index": [2**63]},
        {"name": "w", "index": [0] * 33},
        {"name": "w", "index": [0], "tile": 0},
    ],
)
def test_anything_else_is_refused(element):
    with pytest.raises(ValidationError):
        ElementSpec.model_validate(element)


def test_the_request_of_a_curve_is_that_of_a_check_and_an_element():
    body = {"tensors": {"x": 1}, "weights": {}, "dtype": "float32"}
    request = CurveRequest[NodeBase].model_validate(body | {"element": {"name": "x", "index": []}})
    assert isinstance(request, CheckRequest)
    assert request.model_fields_set == {*body, "element"}
    assert CurveRequest.model_fields.keys() - CheckRequest.model_fields.keys() == {"element"}
    with pytest.raises(ValidationError, match="element"):
        CurveRequest[NodeBase].model_validate(body)
    with pytest.raises(ValidationError, match="element"):
        CheckRequest[NodeBase].model_validate(body | {"element": {"name": "x", "index": []}})
