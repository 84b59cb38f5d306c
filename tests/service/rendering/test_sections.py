import pytest

from service.rendering.document import Listing, Paragraph, Table
from service.rendering.sections import MAX_NODES, build_sections
from tests.service.rendering.example_reports import REQUESTS, make_named_report, make_product_report, make_report


def list_sections(report, *, has_details=True):
    return list(build_sections(report, has_details=has_details))


def find_section(report, title):
    return next(section for section in list_sections(report) if section.heading.text == title)


def find_text(report, heading, *, has_details=True):
    return next(
        block.text
        for section in list_sections(report, has_details=has_details)
        for block in section.blocks
        if isinstance(block, Paragraph) and block.heading.text == heading
    )


def list_model(report):
    (listing,) = find_section(report, "Model").blocks
    assert isinstance(listing, Listing)
    return listing.lines


def list_titles(report, *, has_details):
    return [section.heading.text for section in list_sections(report, has_details=has_details)]


def test_sections_follow_their_order():
    assert list_titles(make_report("fail"), has_details=False) == ["", "", "Verdicts", "fail", "Model", ""]
    report = make_report("intermediates") | {"verdicts": make_report("fail")["verdicts"]}
    titles = list_sections(report)
    assert [section.heading.text for section in titles] == [
        "", "", "Verdicts", "fail", "Discrepancies", "Gradients", "Intermediates", "Model", ""
    ]  # fmt: skip
    assert titles[0].blocks[0].text == report["summary"].removeprefix("pass: ")
    assert [section.is_long for section in titles] == [False] * 4 + [True] * 4 + [False]


def test_a_pass_is_its_summary_and_its_cost():
    for case in ("pass", "sample", "kinks", "large"):
        (section,) = list_sections(make_report(case), has_details=False)
        assert len(section.blocks) == 2


def test_intermediates_are_there_where_the_request_includes_them():
    assert list_titles(make_report("intermediates"), has_details=False) == ["", "Intermediates"]


@pytest.mark.parametrize("has_details", [False, True])
@pytest.mark.parametrize("case", REQUESTS)
def test_every_row_has_a_cell_for_every_column(case, has_details):
    for section in build_sections(make_report(case), has_details=has_details):
        for block in section.blocks:
            if isinstance(block, Table):
                assert {len(row) for row in block.rows} <= {len(block.columns)}
                assert all(isinstance(cell, str) for row in block.rows for cell in row)


def test_the_loss_has_every_digit_and_is_there_once_where_both_routes_agree():
    assert find_text(make_report("pass"), "loss").startswith("2.3767862745225306 (analytic and autograd); 16 loss ")
    report = make_report("pass") | {"loss": {"analytic": 1.0, "autograd": 1.0000000000000002}}
    assert find_text(report, "loss").startswith("1.0 (analytic), 1.0000000000000002 (autograd); ")
    assert find_text(report, "loss", has_details=False).startswith("1.0 (analytic); ")
    report = make_report("pass") | {"loss": {"analytic": 1.0, "autograd": 1.1}}
    assert find_text(report, "loss", has_details=False).startswith("1.0 (analytic), 1.1 (autograd); ")


def test_the_cost_has_its_stages_among_the_details():
    cost = {
        "loss_evaluations": 1,
        "seconds": 1.5,
        "stages": {"analytic": 0.0004, "finite_difference": 1.0},
    }
    report = make_report("pass") | {"cost": cost}
    assert find_text(report, "loss", has_details=False).endswith("; 1 loss evaluation in 1500 ms")
    assert find_text(report, "loss").endswith("; 1 loss evaluation in 1500 ms: analytic 0.4, finite difference 1000")


def test_every_pair_has_a_row_and_every_name_its_first():
    table = find_section(make_report("fail"), "Discrepancies").blocks[0]
    assert [row[0] for row in table.rows] == ["w1", *[""] * 5, "w2", "", ""]
    assert [row[1] for row in table.rows][2:4] == ["autograd - difference", "candidate - analytic"]
    assert table.rows[3][8] == "[1, 1]"


def test_discrepancies_are_limited_to_the_first_names():
    report = make_product_report([f"w{number}" for number in range(21)], include=[])
    blocks = find_section(report, "Discrepancies").blocks
    assert len(blocks[0].rows) == 60
    assert blocks[1].text == "1 more tensor in the JSON report."


def test_node_is_written_as_a_call():
    lines = list_model(make_report("pass"))
    assert lines[1] == "L1 = flatten(C1)"
    assert lines[3] == "L2 = mul(L1A, w2)"
    assert list_model(make_named_report("a\\b")) == [
        '`a\\\\b` = linear(`a\\\\b`, 1.0, reduction="a\\\\b", dim=[0, None])'
    ]


def test_model_is_limited_to_the_first_nodes():
    many = {"model_text": "\n".join(["n = tanh(x)"] * (MAX_NODES + 5))}
    lines = list_model(make_report("pass") | many)
    assert len(lines) == MAX_NODES + 1
    assert lines[-1] == "# ... and 5 more"
