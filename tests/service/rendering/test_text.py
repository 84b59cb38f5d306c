import re
import unicodedata

import pytest
from hypothesis import given, settings

from service.rendering import render_text
from tests.service.rendering.example_reports import (
    ENCODINGS,
    NAME_STRATEGY,
    NASTY_TEXTS,
    REQUESTS,
    make_named_report,
    make_product_report,
    make_report,
)


def count_columns(line):
    """Columns of a terminal, counted without the code that is tested: a wide character is two, a mark none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in line
    )


def find_display_errors(written, columns=100):
    """What a terminal would show otherwise than it is meant."""
    errors = [line for line in written.split("\n") if count_columns(line) > columns]
    return errors + [
        character
        for character in written
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl")
    ]


def drop_timings(written):
    return re.sub(r"evaluations\s+in .*?(\n\n|$)", "", written, flags=re.DOTALL)


def render_details(report, columns=100):
    return render_text(report, columns, has_details=True)


@pytest.mark.parametrize("has_details", [False, True])
@pytest.mark.parametrize("columns", [60, 80, 100, 120])
@pytest.mark.parametrize("case", REQUESTS)
def test_every_report_fits_into_a_terminal(case, columns, has_details):
    report = make_report(case)
    written = render_text(report, columns, has_details=has_details)
    assert find_display_errors(written, columns) == []
    assert written.startswith(f"gradcheckd: {report['outcome']}\n{report['summary'].split()[1]} ")
    assert written.endswith("\n")
    assert not written.endswith("\n\n")
    assert not re.search(r" $|\n\n\n", written, re.MULTILINE)


@pytest.mark.parametrize("case", REQUESTS)
def test_every_encoding_is_written_the_same(case):
    first, second = (drop_timings(render_details(make_report(case, encoding))) for encoding in ENCODINGS)
    assert first == second
    assert first != drop_timings(render_details(make_report("pass" if case == "fail" else "fail")))


@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize("case", ["pass", "nothing included", "kinks", "large"])
def test_a_pass_is_at_most_five_lines(case, columns):
    assert len(render_text(make_report(case), columns).splitlines()) <= 5
    assert len(render_details(make_report(case), columns).splitlines()) > 5


def test_width_is_limited_to_a_readable_range():
    report = make_report("fail")
    assert render_text(report, 1) == render_text(report, 40)
    assert render_text(report, 1000) == render_text(report, 120)
    assert render_text(report, 80) != render_text(report) == render_text(report, 100)


def test_columns_give_way_where_there_is_no_room_for_them():
    def find_heads(columns):
        lines = render_text(make_report("fail"), columns).splitlines()
        return re.split("  +", lines[next(n for n, line in enumerate(lines) if "worst elements" in line) + 1].strip())

    assert find_heads(100)[-5:] == ["finite difference", "error bound", "allowed", "ratio", "outcome"]
    assert "error bound" not in find_heads(80)
    assert find_heads(60) == ["index", "judged", "finite difference", "ratio"]
    assert "..." not in render_text(make_report("fail"), 60).partition("Model")[0]


def test_finding_is_shown_once_before_the_tables():
    written = render_text(make_report("fail"))
    assert written.count("one element, sign flipped: w1[1][1]") == 1
    assert (
        written.index("sign flipped") < written.index("Verdicts") < written.index("worst el") < written.index("Model")
    )


@settings(deadline=None)
@given(NAME_STRATEGY)
def test_names_cannot_break_out_of_text(name):
    assert find_display_errors(render_details(make_named_report(name))) == []


@pytest.mark.parametrize("name", NASTY_TEXTS)
def test_names_cannot_add_lines(name):
    plain = render_details(make_named_report("name")).split("\n")
    assert len(render_details(make_named_report(name)).split("\n")) == len(plain)


def test_the_check_of_names_can_fail():
    assert find_display_errors("a\x1b[31m") == ["\x1b"]
    assert find_display_errors("\u202e") == ["\u202e"]
    assert find_display_errors("名" * 60) == ["名" * 60]
    assert find_display_errors("a" * 100 + "\n") == []
    assert find_display_errors("a" * 101) == ["a" * 101]


def test_columns_stand_below_each_other():
    lines = render_text(make_named_report("名" * 100)).split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("  name  "))
    head, rule, *rows = lines[start : start + 4]
    column = rule.index("  ", 3) + 2
    assert head[column:].startswith("outcome")
    for row in rows:
        prefix = next(n for n in range(len(row)) if count_columns(row[:n]) == column)
        assert row[prefix:].startswith(("fail", "pass"))
    assert "..." in rows[0]


def test_hundreds_of_names_have_a_row_each():
    names = [f"encoder.layers.{number}.weight" for number in range(300)]
    written = render_details(make_product_report(names, include=[]))
    assert find_display_errors(written) == []
    for name in names:
        assert f"\n  {name} " in written


def test_an_index_of_many_axes_is_cut_and_not_wrapped():
    report = dict(make_report("fail"))
    verdict = report["verdicts"]["w1"]
    worst = verdict["worst"][0] | {"index": [1000] * 32, "judged": -1.23456789012e-300, "allowed": "Infinity"}
    report["verdicts"] = {"w1": verdict | {"worst": [worst]}}
    assert find_display_errors(render_text(report)) == []


def test_figures_that_do_not_fit_are_cut():
    huge = {"shape": [1], "datatype": "FP64", "data": [-1.23456789012e-300]}
    gradient = {f"route_of_a_long_name_{number}": huge for number in range(9)}
    report = make_report("pass") | {"gradients": {"w1": gradient}}
    assert find_display_errors(render_details(report)) == []
    assert "..." in render_details(report)
