from service.rendering.verdict_sections import build_verdict_section, sort_by_outcome
from tests.service.rendering.example_reports import make_report


def find_row(report, name):
    table, _ = build_verdict_section(report).blocks
    heads = [column.head for column in table.columns]
    return next(dict(zip(heads, cells, strict=True)) for cells in table.rows if cells[0] == name)


def change_verdict(report, name, **fields):
    return report | {"verdicts": report["verdicts"] | {name: report["verdicts"][name] | fields}}


def test_a_name_has_a_row_without_columns_that_are_zero_everywhere():
    row = find_row(make_report("pass"), "w2")
    assert row.keys() == {"name", "outcome", "pass", "worst ratio", "max_rel", "detects"}
    assert (row["outcome"], row["pass"]) == ("pass", "4")
    assert float(row["detects"]) < 1e-10


def test_a_column_is_there_where_one_cell_is_not_zero():
    assert find_row(make_report("fail"), "w2")["fail"] == "0"
    assert find_row(make_report("sample"), "w2")["not examined"] == "2"
    assert find_row(make_report("inconclusive"), "w2")["inconclusive"] == "4"


def test_negligible_elements_are_counted_where_there_are_some():
    report = make_report("pass")
    assert "negligible" not in find_row(report, "w2")
    elements = report["verdicts"]["w2"]["elements"] | {"negligible": 3}
    report = change_verdict(report, "w2", elements=elements)
    assert (find_row(report, "w1")["negligible"], find_row(report, "w2")["negligible"]) == ("0", "3")
    assert "negligible: elements that pass, but are too small" in build_verdict_section(report).blocks[1].text


def test_the_legend_is_of_the_columns_that_are_shown():
    _, legend = build_verdict_section(make_report("pass")).blocks
    assert legend.text.startswith("worst ratio: the largest error, over the allowed error; max_rel: ")
    assert "missed" not in legend.text
    assert "missed: " in build_verdict_section(make_report("sample")).blocks[1].text


def test_failing_names_come_first():
    assert sort_by_outcome(make_report("not finite")) == ["w2", "w1"]
    failed = find_row(make_report("fail"), "w1")
    assert (failed["outcome"], failed["pass"], failed["fail"], failed["max_rel"]) == ("fail", "3", "1", "2")
    assert float(failed["worst ratio"]) > 1e10


def test_candidate_of_another_shape_is_not_compared():
    row = find_row(make_report("another shape"), "w1")
    assert (row["worst ratio"], row["max_rel"], row["detects"]) == ("-", "-", "nothing")


def test_farther_of_two_sources_counts():
    report = make_report("pass")
    pairs = report["discrepancies"]["w1"]
    most = max(pairs[f"{route}_vs_finite_difference"]["max_rel"] for route in ("analytic", "autograd"))
    assert find_row(report, "w1")["max_rel"] == f"{most:.2g}"


def test_a_sample_and_directions_say_what_they_miss():
    assert find_row(make_report("sample"), "w1")["missed"] == "0.5"
    assert "missed" not in find_row(make_report("pass"), "w1")
    mixed = make_report("sample")
    verdict = dict(mixed["verdicts"]["w1"])
    del verdict["missed"]
    mixed = mixed | {"verdicts": mixed["verdicts"] | {"w1": verdict}}
    assert find_row(mixed, "w1")["missed"] == "-"


def test_directions_have_a_ratio_and_no_relative_distance():
    row = find_row(make_report("projections"), "w1")
    assert float(row["worst ratio"]) > 1e10
    assert "max_rel" not in row
    assert find_row(make_report("one projection"), "w1")["detects"] == "nothing"


def test_every_name_has_a_row():
    report = dict(make_report("fail"))
    for field in ("verdicts", "discrepancies"):
        report[field] = {f"w{number}": report[field]["w1"] for number in range(50)}
    assert len(build_verdict_section(report).blocks[0].rows) == 50
