"""Details of the tensors that do not pass."""

import pytest

from service.rendering.detail_sections import build_detail_sections, build_joint_section
from service.rendering.document import Paragraph, Table
from service.rendering.verdict_sections import MAX_NAMES
from tests.service.rendering.example_reports import make_report


def find_blocks(report, name, *, has_details=False):
    sections = build_detail_sections(report, has_details=has_details)
    return next(section for section in sections if section.heading.names == (name,)).blocks


def find_texts(blocks, heading):
    return [block.text for block in blocks if isinstance(block, Paragraph) and block.heading.text == heading]


def find_table(blocks, heading):
    return next(block for block in blocks if isinstance(block, Table) and block.heading.text.startswith(heading))


def list_heads(table):
    return [column.head for column in table.columns]


def test_a_pass_has_no_details_unless_they_are_asked_for():
    assert list(build_detail_sections(make_report("pass"))) == []
    assert list(build_detail_sections(make_report("kinks"))) == []
    assert len(list(build_detail_sections(make_report("kinks"), has_details=True))) == 1


def test_the_three_worst_elements_are_shown_with_all_that_decides():
    table = find_table(find_blocks(make_report("fail"), "w1"), "worst")
    cells = dict(zip(list_heads(table), table.rows[0], strict=True))
    assert cells.items() >= {
        "index": "[1, 1]", "judged": "0.330264536335", "outcome": "fail", "finite difference": "-0.330264536336"
    }.items()  # fmt: skip
    assert len(table.rows) == 3
    assert len(find_table(find_blocks(make_report("fail"), "w1", has_details=True), "worst").rows) == 4


def test_a_route_that_is_the_same_everywhere_is_named_once():
    table = find_table(find_blocks(make_report("fail"), "w1"), "worst")
    assert table.heading.text == "worst elements of the candidate gradient"
    assert "route" not in list_heads(table)
    mixed = find_table(find_blocks(make_report("inconclusive"), "w1", has_details=True), "worst")
    assert mixed.heading.text == "worst elements"
    assert {row[list_heads(mixed).index("route")] for row in mixed.rows} == {"analytic", "autograd"}


def test_a_shape_that_differs_has_a_reason_and_no_table():
    blocks = find_blocks(make_report("another shape"), "w1")
    assert "[3] instead of [2, 2]" in find_texts(blocks, "reason")[0]
    assert not any(isinstance(block, Table) for block in blocks)


def test_a_named_bug_stands_for_the_reason():
    report = dict(make_report("fail"))
    assert len(find_texts(find_blocks(report, "w1"), "reason")) == 1
    diagnosis = {"name": "sign_flipped", "explanation": "the gradient has the other sign", "fit": 1e-15}
    report["verdicts"] = report["verdicts"] | {"w1": report["verdicts"]["w1"] | {"diagnoses": [diagnosis]}}
    assert find_texts(find_blocks(report, "w1"), "reason") == []
    assert len(find_texts(find_blocks(report, "w1", has_details=True), "reason")) == 1


def test_kinks_are_counted_and_the_first_shown():
    blocks = find_blocks(make_report("kinks"), "w", has_details=True)
    assert len(find_table(blocks, "kinks").rows) == 5
    assert find_table(blocks, "kinks").rows[0] == ("[0]", "0", "1")
    assert find_texts(blocks, "") == ["The first 5 of 6 kinks."]
    assert find_texts(blocks, "reason") == []


def test_a_sample_says_what_it_missed():
    report = dict(make_report("sample"))
    report["verdicts"] = report["verdicts"] | {"w1": report["verdicts"]["w1"] | {"outcome": "inconclusive"}}
    assert find_texts(find_blocks(report, "w1"), "not looked at") == [
        "2 of 4 elements; 1 wrong element would be missed with probability 0.5."
    ]


def test_the_worst_three_directions_are_shown_and_with_details_the_first_twenty():
    report = make_report("projections")
    table = find_table(find_blocks(report, "w1"), "worst random directions")
    ratios = [float(row[list_heads(table).index("ratio")]) for row in table.rows]
    assert len(ratios) == 3
    assert ratios == sorted(ratios, reverse=True)
    blocks = find_blocks(report, "w1", has_details=True)
    assert len(find_table(blocks, "random directions").rows) == 20
    assert find_texts(blocks, "") == ["The first 20 of 23 directions."]
    assert "of the gradient's norm would be missed" in find_texts(blocks, "not looked at")[0]
    assert find_texts(find_blocks(report, "w2", has_details=True), "reason") == []


def test_joint_directions_are_listed_with_the_tensors_that_move():
    report = make_report("projections")
    (section,) = build_joint_section(report)
    assert find_texts(section.blocks, "") == ["Each moves w1, w2 together.", "The first 20 of 23 directions."]
    assert len(find_table(section.blocks, "random directions").rows) == 20
    many = report | {"directions": [report["directions"][0] | {"names": [f"w{number}" for number in range(30)]}]}
    (section,) = build_joint_section(many)
    assert "w19 and 10 more together" in find_texts(section.blocks, "")[0]
    assert list(build_joint_section(make_report("pass"))) == []


def test_directions_may_be_worth_nothing():
    blocks = find_blocks(make_report("one projection"), "w1")
    assert "no error is sure to be found" in find_texts(blocks, "not looked at")[0]


@pytest.mark.parametrize("more", [0, 3])
def test_details_are_limited_to_the_first_names(more):
    report = dict(make_report("fail"))
    for field in ("verdicts", "discrepancies"):
        report[field] = {f"w{number}": report[field]["w1"] for number in range(MAX_NAMES + more)}
    sections = list(build_detail_sections(report))
    assert len(sections) == MAX_NAMES + bool(more)
    if more:
        assert sections[-1].blocks[0].text == "Details of 3 more tensors in the JSON report."
