import time

import pytest

from schemas.problem import InvalidRequestError
from service.checking.deadline import in_time, while_in_time


def test_before_it_nothing_happens():
    in_time(60, "Wait", "model")("w1", 0, 10)


def test_after_it_the_request_is_refused_with_how_far_it_came():
    with pytest.raises(InvalidRequestError) as error:
        in_time(-0.5, "Take less", "model", "nodes")("w1", 3, 10)
    assert error.value.errors == [
        {
            "pointer": "/model/nodes",
            "detail": "out of time: of the 10 evaluations for 'w1', 3 were done when the limit of -0.5 s was reached. "
            "Take less",
        }
    ]


def test_it_is_told_onward_while_there_is_time():
    told = []

    def onward(*step):
        told.append(step)

    in_time(60, "Wait", "model", onward=onward)("w1", 3, 10)
    with pytest.raises(InvalidRequestError):
        in_time(-0.5, "Wait", "model", onward=onward)("w1", 4, 10)
    assert told == [("w1", 3, 10)]


def test_what_is_found_in_time_is_handed_on():
    assert list(while_in_time(iter("abc"), 60, "it", "Wait", "model")) == ["a", "b", "c"]


def test_what_is_found_later_is_not_and_the_request_is_refused():
    def slow():
        yield "a"
        time.sleep(0.3)
        yield "b"

    found = while_in_time(slow(), 0.2, "planting", "Take less", "with_respect_to")
    assert next(found) == "a"
    with pytest.raises(InvalidRequestError) as error:
        next(found)
    assert (error.value.reason, error.value.errors) == (
        "out-of-time",
        [
            {
                "pointer": "/with_respect_to",
                "detail": "out of time: planting takes longer than the limit of 0.2 s. Take less",
            }
        ],
    )
