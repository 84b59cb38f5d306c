import math

from service.checks.common import report_entries
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.verdict.gradient_verdict import ElementResult, SampleMissRate
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit

WORST = ElementResult((0, 1), "candidate", 1.0, math.nan, 0.5, math.inf, 2.0, Outcome.FAIL)


def test_nonfinite_numbers_are_strings_and_outcomes_are_names():
    element = report_entries.build_worst_element(WORST)
    assert (element["index"], element["judged"], element["allowed"]) == ([0, 1], "NaN", "Infinity")
    assert element["outcome"] == "fail"
    direction = report_entries.build_direction(WORST)
    assert direction.items() <= element.items()
    assert element.keys() - direction.keys() == {"index", "ratio"}


def test_missed_is_an_element_count_or_an_error():
    assert report_entries.build_miss_probability(SampleMissRate(1, 0.25)) == {"wrong_elements": 1, "probability": 0.25}
    assert report_entries.build_miss_probability(NormDetectionLimit(math.inf, 1.0)) == {
        "relative_l2": "Infinity",
        "probability": 1.0,
    }


def test_diagnosis_entry_keeps_its_fields():
    assert report_entries.build_diagnoses([BugExplanation("scaled", "so", math.nan)]) == [
        {"name": "scaled", "explanation": "so", "fit": "NaN"}
    ]
    assert report_entries.build_diagnoses([]) == []
