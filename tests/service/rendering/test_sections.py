import pytest

from service.rendering.document import Listing, Paragraph, Table
from service.rendering.sections import MAX_NODES, build_sections
from tests.service.rendering.example_reports import REQUESTS, make_named_report, make_product_report, make_report


def titled(report, title):
    return next(section for section in build_sections(report) if section.heading.text == title)


def said(report, heading):
    return next(
        block.text
        for section in build_sections(report)
        for block in section.blocks
        if isinstance(block, Paragraph) and block.heading.text == heading
    )


def model(report):
    (listing,) = titled(report, "Model").blocks
    assert isinstance(listing, Listing)
    return listing.lines


def test_the_order_is_that_in_which_a_reader_asks():
    found = list(build_sections(make_report("intermediates") | {"verdicts": make_report("fail")["verdicts"]}))
    assert [section.heading.text for section in found] == [
        "", "", "Verdicts", "fail", "Discrepancies", "Gradients", "Intermediates", "", "Model"
    ]  # fmt: skip
    assert found[0].blocks[0].text == make_report("intermediates")["summary"]
    assert [section.is_long for section in found] == [False] * 4 + [True] * 3 + [False, True]


@pytest.mark.parametrize("case", REQUESTS)
def test_every_row_has_a_cell_for_every_column(case):
    for section in build_sections(make_report(case)):
        for block in section.blocks:
            if isinstance(block, Table):
                assert {len(row) for row in block.rows} <= {len(block.columns)}
                assert all(isinstance(cell, str) for row in block.rows for cell in row)


def test_the_loss_has_every_digit():
    assert said(make_report("pass"), "loss") == "2.3767862745225306 (analytic), 2.3767862745225306 (autograd)"


def test_the_cost_is_one_sentence():
    cost = {
        "loss_evaluations": 1,
        "seconds": 1.5,
        "stages": {"analytic": 0.0004, "finite_difference": 1.0},
    }
    assert said(make_report("pass") | {"cost": cost}, "cost") == (
        "1 loss evaluation in 1500 ms: analytic 0.4, finite difference 1000"
    )


def test_every_pair_has_a_row_and_every_name_its_first():
    table = titled(make_report("fail"), "Discrepancies").blocks[0]
    assert [row[0] for row in table.rows] == ["w1", *[""] * 5, "w2", "", ""]
    assert [row[1] for row in table.rows][2:4] == ["autograd - difference", "candidate - analytic"]
    assert table.rows[3][8] == "[1, 1]"


def test_of_many_names_the_pairs_of_the_first_are_there():
    blocks = titled(make_product_report([f"w{number}" for number in range(21)], include=[]), "Discrepancies").blocks
    assert len(blocks[0].rows) == 60
    assert blocks[1].text == "1 name more in the JSON report."


def test_a_node_is_a_call():
    lines = model(make_report("pass"))
    assert lines[1] == "L1 = flatten(C1, start_dim=0, end_dim=-1)"
    assert lines[3] == "L2 = mul(L1A, w2)"
    assert model(make_named_report("a\\b")) == [
        "a\\\\b = linear(input=a\\\\b, weight=1.0, reduction=a\\\\b, dim=[0, None])"
    ]


def test_of_many_nodes_the_first_are_listed():
    many = {"model": {"nodes": [{"name": "n", "op": "tanh", "inputs": ["x"]}] * (MAX_NODES + 5)}}
    lines = model(make_report("pass") | many)
    assert len(lines) == MAX_NODES + 1
    assert lines[-1] == "... and 5 more"
