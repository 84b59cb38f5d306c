"""Findings: each bug, pattern and reason once."""

import pytest

from service.rendering.finding_sections import MAX_GROUPS, build_finding_section
from tests.service.rendering.example_reports import make_report

BUG = {"name": "sign_flipped", "explanation": "dL/d{} has the other sign everywhere.", "fit": 1e-15}
UNKNOWN = {
    "name": "unknown",
    "explanation": "No bug that is known here explains dL/d{}: all 4 elements are off.",
    "fit": 1,
}


def make_findings(verdicts):
    """The paragraphs on verdicts, each as its names, the count of more names, its heading and its text."""
    template = make_report("fail")["verdicts"]["w1"]
    full_verdicts = {
        name: template
        | {"pattern": "all elements"}
        | fields
        | {
            "diagnoses": [
                diagnosis | {"explanation": diagnosis["explanation"].format(name)} for diagnosis in fields["diagnoses"]
            ]
        }
        for name, fields in verdicts.items()
    }
    return [
        (list(block.heading.names), block.heading.more_names, block.heading.text, block.text)
        for section in build_finding_section(make_report("fail") | {"verdicts": full_verdicts})
        for block in section.blocks
    ]


def test_named_bug_replaces_the_pattern():
    assert make_findings({"w": {"diagnoses": [BUG]}}) == [
        (["w"], 0, "probable bug", "sign_flipped \N{EM DASH} dL/dw has the other sign everywhere.")
    ]


def test_pattern_is_reported_without_a_named_bug():
    said = "one element, sign flipped: w1[1][1]. No bug that is known here explains this."
    (section,) = build_finding_section(make_report("fail"))
    assert [(block.heading.names, block.text) for block in section.blocks] == [(("w1",), said)]


def test_incomplete_search_is_noted_beside_the_pattern():
    diagnosis = UNKNOWN | {"explanation": UNKNOWN["explanation"] + " Not every bug was tried."}
    ((_, _, _, text),) = make_findings({"w": {"diagnoses": [diagnosis]}})
    assert text == "all elements. No bug that is known here explains this. Not every bug was tried."


def test_common_bug_of_ten_gradients_is_reported_once():
    findings = make_findings({f"w{number}": {"diagnoses": [BUG]} for number in range(10)})
    assert findings == [
        (
            ["w0", "w1", "w2", "w3", "w4"],
            5,
            "probable bug",
            "sign_flipped \N{EM DASH} dL/dw0 has the other sign everywhere. The same explains all 10 gradients.",
        )
    ]


def test_different_bugs_have_their_own_paragraphs():
    other = {"name": "doubled", "explanation": "dL/d{} is twice the reference.", "fit": 1e-15}
    findings = make_findings({"a": {"diagnoses": [BUG]}, "b": {"diagnoses": [other]}, "c": {"diagnoses": [BUG]}})
    assert [(names, text.split()[0]) for names, _, _, text in findings] == [
        (["a", "c"], "sign_flipped"), (["b"], "doubled")
    ]  # fmt: skip


def test_equally_fitting_bugs_are_all_named():
    other = {"name": "transposed", "explanation": "dL/d{} is transposed.", "fit": 1e-15}
    findings = make_findings({"w": {"diagnoses": [BUG, other]}})
    assert [text.split()[0] for *_, text in findings] == ["sign_flipped", "transposed"]


def test_common_pattern_is_reported_once_without_a_bug():
    ((names, _, _, text),) = make_findings({"a": {"diagnoses": [UNKNOWN]}, "b": {"diagnoses": [UNKNOWN]}})
    assert names == ["a", "b"]
    assert "explains all" not in text


def test_common_reason_is_reported_once():
    (section,) = build_finding_section(make_report("inconclusive"))
    (block,) = section.blocks
    assert block.heading.names == ("w1", "w2")
    assert block.heading.text == "inconclusive"
    assert block.text.startswith("4 of 4 elements of the analytic gradient: not judged")


@pytest.mark.parametrize("case", ["pass", "sample", "kinks"])
def test_a_pass_has_no_findings(case):
    assert list(build_finding_section(make_report(case))) == []


def test_findings_beyond_the_limit_are_counted():
    findings = make_findings(
        {
            f"w{number}": {"diagnoses": [UNKNOWN], "pattern": f"{number} of 99 elements"}
            for number in range(MAX_GROUPS + 3)
        }
    )
    assert len(findings) == MAX_GROUPS + 1
    assert findings[-1][3] == "3 more findings in the JSON report."
