from service.rendering.document import Paragraph, Table
from service.rendering.verdict_sections import MAX_NAMES, build_detail_sections, build_verdict_section, sort_by_outcome
from tests.service.rendering.example_reports import make_report


def row(report, name):
    (section,) = build_verdict_section(report)
    table = section.blocks[0]
    heads = [column.head for column in table.columns]
    return next(dict(zip(heads, cells, strict=True)) for cells in table.rows if cells[0] == name)


def told(report, name):
    return next(section for section in build_detail_sections(report) if section.heading.name == name).blocks


def said(blocks, heading):
    return [block.text for block in blocks if isinstance(block, Paragraph) and block.heading.text == heading]


def table(blocks, heading):
    return next(block for block in blocks if isinstance(block, Table) and block.heading.text.startswith(heading))


def test_a_name_has_a_row():
    assert row(make_report("pass"), "w2").items() >= {
        "outcome": "pass", "pass": "4", "fail": "0", "inconclusive": "0", "not examined": "0"
    }.items()  # fmt: skip
    assert float(row(make_report("pass"), "w2")["detects"]) < 1e-10
    assert list(build_detail_sections(make_report("pass"))) == []


def test_negligible_elements_are_counted_where_there_are_some():
    report = dict(make_report("pass"))
    assert "negligible" not in row(report, "w2")
    elements = report["verdicts"]["w2"]["elements"] | {"negligible": 3}
    report["verdicts"] = report["verdicts"] | {"w2": report["verdicts"]["w2"] | {"elements": elements}}
    assert (row(report, "w1")["negligible"], row(report, "w2")["negligible"]) == ("0", "3")
    (section,) = build_verdict_section(report)
    assert "negligible: elements that pass, but are too small" in section.blocks[1].text
    assert row(report, "w2")["fail"] == "0"


def test_what_fails_comes_first():
    assert sort_by_outcome(make_report("not finite")) == ["w2", "w1"]
    failed = row(make_report("fail"), "w1")
    assert (failed["outcome"], failed["pass"], failed["fail"], failed["max_rel"]) == ("fail", "3", "1", "2")
    assert float(failed["worst ratio"]) > 1e10


def test_of_another_shape_nothing_is_compared():
    found = row(make_report("another shape"), "w1")
    assert (found["worst ratio"], found["max_rel"], found["detects"]) == ("-", "-", "nothing")
    blocks = told(make_report("another shape"), "w1")
    assert "[3] instead of [2, 2]" in said(blocks, "reason")[0]
    assert not any(isinstance(block, Table) for block in blocks)


def test_of_two_routes_the_farther_counts():
    report = make_report("pass")
    pairs = report["discrepancies"]["w1"]
    most = max(pairs[f"{route}_vs_finite_difference"]["max_rel"] for route in ("analytic", "autograd"))
    assert row(report, "w1")["max_rel"] == f"{most:.2g}"


def test_the_worst_elements_are_shown_with_all_that_decides():
    found = table(told(make_report("fail"), "w1"), "worst")
    cells = dict(zip([column.head for column in found.columns], found.rows[0], strict=True))
    assert cells.items() >= {
        "index": "[1, 1]", "route": "candidate", "judged": "0.330264536335", "outcome": "fail",
        "finite difference": "-0.330264536336",
    }.items()  # fmt: skip
    assert len(found.rows) == 4


def test_diagnoses_are_named():
    report = dict(make_report("fail"))
    diagnosis = {"name": "sign_flipped", "explanation": "the gradient has the other sign", "fit": 1e-15}
    report["verdicts"] = report["verdicts"] | {"w1": report["verdicts"]["w1"] | {"diagnoses": [diagnosis]}}
    assert said(told(report, "w1"), "probable bug") == ["sign_flipped \N{EM DASH} the gradient has the other sign"]


def test_kinks_are_counted_and_the_first_shown():
    blocks = told(make_report("kinks"), "w")
    assert len(table(blocks, "kinks").rows) == 5
    assert table(blocks, "kinks").rows[0] == ("[0]", "0", "1")
    assert said(blocks, "") == ["The first 5 of 6 kinks."]
    assert said(blocks, "reason") == []


def test_a_sample_says_what_it_missed():
    assert row(make_report("sample"), "w1")["missed"] == "0.5"
    assert "missed" not in row(make_report("pass"), "w1")
    report = dict(make_report("sample"))
    report["verdicts"] = report["verdicts"] | {"w1": report["verdicts"]["w1"] | {"outcome": "inconclusive"}}
    assert said(told(report, "w1"), "not looked at") == [
        "2 of 4 elements; 1 wrong element would be missed with probability 0.5."
    ]
    del report["verdicts"]["w1"]["missed"]
    assert row(report, "w1")["missed"] == "-"


def test_directions_are_shown_as_elements_are():
    found = row(make_report("projections"), "w1")
    assert float(found["worst ratio"]) > 1e10
    blocks = told(make_report("projections"), "w1")
    assert len(table(blocks, "random directions").rows) == 20
    assert said(blocks, "") == ["The first 20 of 23 directions."]
    assert "of the gradient's norm would be missed" in said(blocks, "not looked at")[0]
    assert said(told(make_report("projections"), "w2"), "reason") == []


def test_directions_may_be_worth_nothing():
    blocks = told(make_report("one projection"), "w1")
    assert "no error is sure to be found" in said(blocks, "not looked at")[0]
    assert row(make_report("one projection"), "w1")["detects"] == "nothing"


def test_of_many_names_the_first_are_told_of():
    report = dict(make_report("fail"))
    for field in ("verdicts", "discrepancies"):
        report[field] = {f"w{number}": report[field]["w1"] for number in range(MAX_NAMES + 3)}
    *sections, last = build_detail_sections(report)
    assert len(sections) == MAX_NAMES
    assert last.blocks[0].text.startswith("Of 3 names more ")
    assert len(next(iter(build_verdict_section(report))).blocks[0].rows) == MAX_NAMES + 3
