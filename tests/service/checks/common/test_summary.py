import dataclasses

import numpy as np
import pytest

from service.checks.common.summary import summarize
from service.numerics.verdict.gradient_verdict import ElementResult, GradientVerdict, SampleMissRate
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit

FAILING = ElementResult((0, 1), "candidate", 1.0, np.nan, 1e-9, 2e-9, np.nan, Outcome.FAIL)
UNKNOWN = ElementResult((2,), "analytic", np.nan, 0.5, np.inf, np.inf, np.nan, Outcome.INCONCLUSIVE)


def make_verdict(outcome, counts=(0, 0, 0), detectable=1e-9, **fields):
    given = {"worst_elements": (), **fields}
    by_outcome = dict(zip(Outcome, counts, strict=True))
    return GradientVerdict(
        outcome, "Because.", sum(counts) + given.get("unexamined_count", 0), by_outcome, detectable, **given
    )


ALONG = ElementResult((0,), "candidate", 1.0, 2.0, 1e-9, 2e-9, 1e9, Outcome.FAIL)


def make_element_result(ratio, outcome=Outcome.PASS):
    return ElementResult((1,), "analytic", 1.0, 1.0, 1e-9, 2e-9, ratio, outcome)


SENTENCES = {
    "a pass": (
        {"w": make_verdict(Outcome.PASS, (4, 0, 0)), "b": make_verdict(Outcome.PASS, (2, 0, 0), 1e-7)},
        "pass: all 6 elements of w, b agree with the finite difference; a relative error of 1.0e-07 would have been "
        "found.",
    ),
    "a pass without worth": (
        {"w": make_verdict(Outcome.PASS, (4, 0, 0), np.inf)},
        "pass: all 4 elements of w agree with the finite difference.",
    ),
    "a gradient that is 0": (
        {"w": make_verdict(Outcome.PASS, (4, 0, 0), np.inf, zero_tolerance=1.24e-15)},
        "pass: all 4 elements of w agree with the finite difference. The gradient of w is 0 within its error "
        "bounds, 1.3e-15 at most: it has no relative error.",
    ),
    "a gradient that is 0 along directions": (
        {
            "w": make_verdict(
                Outcome.PASS,
                unexamined_count=9,
                direction_results=(ALONG,),
                detection_limit=NormDetectionLimit(np.inf, 1.0),
                zero_tolerance=2e-15,
            )
        },
        "pass: the gradient along 1 random direction of w agrees with the finite difference, which rules no error out. "
        "The gradient of w is 0 within its error bounds, 2.0e-15 at most: it has no relative error.",
    ),
    "a pass that does not vouch for all": (
        {
            "w": make_verdict(Outcome.PASS, (4, 0, 0), 3.01e-10, negligible_count=2, kink_count=1),
            "b": make_verdict(Outcome.PASS, (3, 0, 0), 9.91e-10, negligible_count=1),
        },
        "pass: all 7 elements of w, b agree with the finite difference; a relative error of 1.0e-09 would have been "
        "found in any but 3 negligible and 1 at kinks.",
    ),
    "a sample of what is negligible": (
        {
            "w": make_verdict(
                Outcome.PASS,
                (4, 0, 0),
                np.inf,
                negligible_count=4,
                unexamined_count=6,
                detection_limit=SampleMissRate(1, 0.6),
            )
        },
        "pass: all 4 examined elements of w agree with the finite difference in those; a single wrong element would "
        "have been missed with probability 0.6. Every compared element of w is negligible: an error in it may have "
        "been missed.",
    ),
    "a pass that says little": (
        {
            "w": make_verdict(
                Outcome.PASS, (4, 0, 0), 0.81, negligible_count=2, worst_elements=(make_element_result(0.5),)
            )
        },
        "pass: a relative error of 8.1e-01 would have been found in any but 2 negligible; a smaller one may have been "
        "missed; all 4 elements of w agree with the finite difference; the largest error is 50 % of the allowed error, "
        "at w[1].",
    ),
    "a pass that says just enough": (
        {"w": make_verdict(Outcome.PASS, (4, 0, 0), 0.1)},
        "pass: all 4 elements of w agree with the finite difference; a relative error of 1.0e-01 would have been "
        "found.",
    ),
    "a pass with its worst element": (
        {
            name: make_verdict(
                Outcome.PASS, (2, 0, 0), worst_elements=(make_element_result(ratio), make_element_result(0.0))
            )
            for name, ratio in (("w", 0.125), ("b", 0.5), ("a", 0.25))
        },
        "pass: all 6 elements of w, b, a agree with the finite difference; a relative error of 1.0e-09 would have been "
        "found; the largest error is 50 % of the allowed error, at b[1].",
    ),
    "a pass without any difference": (
        {"w": make_verdict(Outcome.PASS, (2, 0, 0), worst_elements=(make_element_result(0.0),))},
        "pass: all 2 elements of w agree with the finite difference; a relative error of 1.0e-09 would have been "
        "found.",
    ),
    "a pass at a kink": (
        {"w": make_verdict(Outcome.PASS, (2, 0, 0), worst_elements=(make_element_result(1e9),))},
        "pass: all 2 elements of w agree with the finite difference; a relative error of 1.0e-09 would have been "
        "found; the worst is w[1], at a kink.",
    ),
    "the worst of several names": (
        {
            "w": make_verdict(Outcome.FAIL, (1, 0, 1), worst_elements=(make_element_result(3.0, Outcome.FAIL),)),
            "b": make_verdict(
                Outcome.FAIL, (1, 0, 1), worst_elements=(FAILING, make_element_result(np.inf, Outcome.FAIL))
            ),
            "a": make_verdict(Outcome.FAIL, (1, 0, 1), worst_elements=(make_element_result(9.0, Outcome.FAIL),)),
        },
        "fail: 3 of 6 elements of w, b, a; the worst is b[0][1], where the candidate gradient is NaN and the finite "
        "difference 1 ± 1e-09.",
    ),
    "another shape beside a wrong element": (
        {
            "w": make_verdict(Outcome.FAIL, (0, 0, 4)),
            "b": make_verdict(Outcome.FAIL, (1, 0, 1), worst_elements=(make_element_result(3.0, Outcome.FAIL),)),
        },
        "fail: 5 of 6 elements of w, b; the worst is b[1], where the analytic gradient is 1 and the finite difference "
        "1 ± 1e-09.",
    ),
    "a sample": (
        {"w": make_verdict(Outcome.PASS, (4, 0, 0), unexamined_count=6, detection_limit=SampleMissRate(1, 0.6))},
        "pass: all 4 examined elements of w agree with the finite difference; a relative error of 1.0e-09 would have "
        "been found in those; a single wrong element would have been missed with probability 0.6.",
    ),
    "a sample of very many": (
        {
            "w": make_verdict(
                Outcome.PASS, (4, 0, 0), unexamined_count=99996, detection_limit=SampleMissRate(1, 0.99996)
            )
        },
        "pass: all 4 examined elements of w agree with the finite difference; a relative error of 1.0e-09 would have "
        "been found in those; a single wrong element would have been missed with probability above 0.999.",
    ),
    "a fail": (
        {
            "w": make_verdict(Outcome.FAIL, (3, 0, 1), worst_elements=(FAILING,)),
            "b": make_verdict(Outcome.PASS, (2, 0, 0)),
        },
        "fail: 1 of 4 elements of w; the worst is w[0][1], where the candidate gradient is NaN and the finite "
        "difference 1 ± 1e-09.",
    ),
    "a failed sample": (
        {"w": make_verdict(Outcome.FAIL, (3, 0, 1), worst_elements=(FAILING,), unexamined_count=6)},
        "fail: 1 of 4 examined elements of w; the worst is w[0][1], where the candidate gradient is NaN and the finite "
        "difference 1 ± 1e-09.",
    ),
    "nothing to show": ({"w": make_verdict(Outcome.FAIL, (0, 0, 4))}, "fail: 4 of 4 elements of w. Because."),
    "no reference": (
        {"w": make_verdict(Outcome.INCONCLUSIVE, (3, 1, 0), worst_elements=(UNKNOWN,))},
        "inconclusive: 1 of 4 elements of w; the worst is w[2], where the analytic gradient is 0.5 and there is no "
        "finite difference with a bound.",
    ),
    "directions": (
        {
            name: make_verdict(
                Outcome.PASS,
                unexamined_count=9,
                direction_results=(ALONG, ALONG),
                detection_limit=NormDetectionLimit(worth, 1e-3),
            )
            for name, worth in (("w", 2e-9), ("b", 1e-9))
        },
        "pass: the gradient along 2 random directions each of w, b agrees with the finite difference; an error of "
        "2.0e-09 of a gradient's norm would have been missed with probability 0.001.",
    ),
    "one direction that says nothing": (
        {
            "w": make_verdict(
                Outcome.PASS,
                unexamined_count=9,
                direction_results=(ALONG,),
                detection_limit=NormDetectionLimit(np.inf, 1.0),
            )
        },
        "pass: the gradient along 1 random direction of w agrees with the finite difference, which rules no error out.",
    ),
    "failed directions": (
        {
            "w": make_verdict(
                Outcome.FAIL,
                unexamined_count=9,
                direction_results=(ALONG, ALONG),
                detection_limit=NormDetectionLimit(1e-9, 1e-3),
            )
        },
        "fail: 2 of 2 directions of w; the first is direction 0 of w, along which the candidate gradient is 2 and the "
        "finite difference 1 ± 1e-09.",
    ),
}


def test_summary_names_the_cause():
    verdicts = {
        "w": dataclasses.replace(make_verdict(Outcome.FAIL, (0, 0, 4)), reason="Another shape. Mend it. Or not.")
    }
    assert summarize(Outcome.FAIL, verdicts) == "fail: 4 of 4 elements of w. Another shape."


@pytest.mark.parametrize(("verdicts", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_summary_is_one_sentence(verdicts, sentence):
    assert summarize(max(verdict.outcome for verdict in verdicts.values()), verdicts) == sentence


def test_summary_lists_only_the_first_names():
    many = {f"w{i}": make_verdict(Outcome.PASS, (1, 0, 0)) for i in range(9)}
    assert "w0, w1, w2, w3, w4 and 4 more" in summarize(Outcome.PASS, many)
