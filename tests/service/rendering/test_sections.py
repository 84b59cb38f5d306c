import pytest

from service.rendering.document import Listing, Said, Table
from service.rendering.sections import MAX_NODES, sections
from tests.service.rendering.reports import REQUESTS, named, product, reported


def titled(report, title):
    return next(section for section in sections(report) if section.heading.text == title)


def said(report, heading):
    return next(
        block.text
        for section in sections(report)
        for block in section.blocks
        if isinstance(block, Said) and block.heading.text == heading
    )


def model(report):
    (listing,) = titled(report, "Model").blocks
    assert isinstance(listing, Listing)
    return listing.lines


def test_the_order_is_that_in_which_a_reader_asks():
    found = list(sections(reported("intermediates") | {"verdicts": reported("fail")["verdicts"]}))
    assert [section.heading.text for section in found] == [
        "", "", "Verdicts", "fail", "Discrepancies", "Gradients", "Intermediates", "", "Model"
    ]  # fmt: skip
    assert found[0].blocks[0].text == reported("intermediates")["summary"]
    assert [section.long for section in found] == [False] * 4 + [True] * 3 + [False, True]


@pytest.mark.parametrize("case", REQUESTS)
def test_every_row_has_a_cell_for_every_column(case):
    for section in sections(reported(case)):
        for block in section.blocks:
            if isinstance(block, Table):
                assert {len(row) for row in block.rows} <= {len(block.columns)}
                assert all(isinstance(cell, str) for row in block.rows for cell in row)


def test_the_loss_has_every_digit():
    assert said(reported("pass"), "loss") == "2.3767862745225306 (analytic), 2.3767862745225306 (autograd)"


def test_the_cost_is_one_sentence():
    cost = {
        "loss_evaluations": 1,
        "seconds": 1.5,
        "stages": {"analytic": 0.0004, "finite_difference": 1.0},
    }
    assert said(reported("pass") | {"cost": cost}, "cost") == (
        "1 loss evaluation in 1500 ms: analytic 0.4, finite difference 1000"
    )


def test_every_pair_has_a_row_and_every_name_its_first():
    table = titled(reported("fail"), "Discrepancies").blocks[0]
    assert [row[0] for row in table.rows] == ["w1", *[""] * 5, "w2", "", ""]
    assert [row[1] for row in table.rows][2:4] == ["autograd - difference", "candidate - analytic"]
    assert table.rows[3][8] == "[1, 1]"


def test_of_many_names_the_pairs_of_the_first_are_there():
    blocks = titled(product([f"w{number}" for number in range(21)], include=[]), "Discrepancies").blocks
    assert len(blocks[0].rows) == 60
    assert blocks[1].text == "1 name more in the JSON report."


def test_a_node_is_a_call():
    lines = model(reported("pass"))
    assert lines[1] == "L1 = flatten(C1, start_dim=0, end_dim=-1)"
    assert lines[3] == "L2 = mul(L1A, w2)"
    assert model(named("a\\b")) == ["a\\\\b = linear(input=a\\\\b, weight=1.0, reduction=a\\\\b, dim=[0, None])"]


def test_of_many_nodes_the_first_are_listed():
    many = {"model": {"nodes": [{"name": "n", "op": "tanh", "inputs": ["x"]}] * (MAX_NODES + 5)}}
    lines = model(reported("pass") | many)
    assert len(lines) == MAX_NODES + 1
    assert lines[-1] == "... and 5 more"
