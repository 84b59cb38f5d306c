import math

from service.checking import entries
from service.numerics.faults import Diagnosis
from service.numerics.outcome import Outcome
from service.numerics.projection import Missed
from service.numerics.verdict import Worst, WrongElements

WORST = Worst((0, 1), "candidate", 1.0, math.nan, 0.5, math.inf, 2.0, Outcome.FAIL)


def test_what_is_not_finite_is_spelled_and_an_outcome_is_its_name():
    element = entries.worst(WORST)
    assert (element["index"], element["judged"], element["allowed"]) == ([0, 1], "NaN", "Infinity")
    assert element["outcome"] == "fail"
    direction = entries.direction(WORST)
    assert direction.items() <= element.items()
    assert element.keys() - direction.keys() == {"index", "ratio"}


def test_what_was_missed_is_a_number_of_elements_or_an_error():
    assert entries.missed(WrongElements(1, 0.25)) == {"wrong_elements": 1, "probability": 0.25}
    assert entries.missed(Missed(math.inf, 1.0)) == {"relative_l2": "Infinity", "probability": 1.0}


def test_a_diagnosis_is_as_it_was_made():
    assert entries.diagnoses([Diagnosis("scaled", "so", math.nan)]) == [
        {"name": "scaled", "explanation": "so", "fit": "NaN"}
    ]
    assert entries.diagnoses([]) == []
