import re

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt

from service.rendering import render_markdown
from service.rendering.markdown import MAX_LENGTH
from tests.service.rendering.example_reports import (
    ENCODINGS,
    NAME_STRATEGY,
    NASTY_TEXTS,
    REQUESTS,
    make_named_report,
    make_product_report,
    make_report,
)

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIPE = re.compile(r"(?<!\\)\|")
COMMENT = "<!-- -->"


def list_tokens(written):
    """What a page is built of, as a parser reads it: blocks, and marks within them, without what they hold."""
    tokens = []
    for token in PARSER.parse(written):
        inside = [child.type for child in token.children or () if child.content != COMMENT]
        marks = [kind for kind, before in zip(inside, [None, *inside], strict=False) if kind != before]
        html = token.content.strip() if token.type == "html_block" else ""
        tokens.append((token.type, token.tag, html, *marks))
    return tokens


def find_uneven_rows(written):
    """Rows of tables that are not as wide as their head."""
    rows, width = [], 0
    for line in written.split("\n"):
        pipes = len(PIPE.findall(line)) if line.startswith("| ") else 0
        width = width if pipes and width else pipes
        if pipes != width:
            rows.append(line)
    return rows


def render_details(report):
    return render_markdown(report, has_details=True)


@pytest.mark.parametrize("case", ["pass", "sample", "large"])
def test_a_pass_is_a_title_and_two_paragraphs(case):
    assert len(list(filter(None, render_markdown(make_report(case)).splitlines()))) == 3


def test_finding_is_shown_once_before_the_tables():
    written = render_markdown(make_report("fail"))
    assert written.count("one element, sign flipped: w1\\[1\\]\\[1\\]") == 1
    assert written.index("sign flipped") < written.index("### Verdicts")


@pytest.mark.parametrize("case", REQUESTS)
def test_markdown_of_each_report_is_well_formed(case):
    written = render_details(make_report(case))
    assert find_uneven_rows(written) == []
    assert written.startswith(f"## gradcheckd: {make_report(case)['outcome']}\n\n")
    assert written.count("<details>") == written.count("</details>") >= 2
    assert "would not fit" not in written


@pytest.mark.parametrize("case", REQUESTS)
def test_every_encoding_is_written_the_same(case):
    first, second = (
        re.sub(r"in \S+ ms: .*", "", render_details(make_report(case, encoding))) for encoding in ENCODINGS
    )
    assert first == second


@pytest.mark.no_cover
@settings(deadline=None)
@given(NAME_STRATEGY)
def test_names_cannot_break_out_of_markdown(name):
    written = render_details(make_named_report(name or "name"))
    assert find_uneven_rows(written) == []
    assert list_tokens(written) == list_tokens(render_details(make_named_report("name")))


@pytest.mark.parametrize("name", NASTY_TEXTS)
def test_hostile_text_cannot_break_out_of_markdown(name):
    assert list_tokens(render_details(make_named_report(name))) == list_tokens(
        render_details(make_named_report("name"))
    )


def test_the_check_of_names_can_fail():
    table = "| a | b |\n| --- | --- |\n"
    assert find_uneven_rows(f"{table}| 1 | 2 |") == []
    assert find_uneven_rows(f"{table}| `a|b` | 2 |") == ["| `a|b` | 2 |"]
    assert list_tokens("an a") == list_tokens(f"an a@{COMMENT}b") == [
        ("paragraph_open", "p", ""), ("inline", "", "", "text"), ("paragraph_close", "p", "")
    ]  # fmt: skip
    for nasty in ("an <b>", "# a", "a *b*", "- a", "a\n\nb", "</details>", "    a", "[a](b)", "a `b`"):
        assert list_tokens(nasty) != list_tokens("an a"), nasty


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("w1", "`w1`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        (" a", "`  a `"),
        ("a|b", "`a\\|b`"),
        ("a\\|b", "`a\\\\\\|b`"),
        ("<b>@octocat", "`<b>@octocat`"),
        ("a\nb", "`a\\nb`"),
    ],
)
def test_name_is_written_as_code(name, code):
    assert f"| {code} | fail |" in render_details(make_named_report(name))


def test_text_of_the_request_is_no_markup():
    written = render_details(make_named_report("@me #1 *a* <b> [c](d) www.e.f http://g |"))
    assert "@<!-- -->me #<!-- -->1 \\*a\\* \\<b\\> \\[c\\](d) www\\.e.f http\\://g \\|: fail of" in written


@pytest.mark.parametrize("start", ["- a", "1. a", "+ a", "2) a", "    a", "--- a"])
def test_a_sentence_begins_no_list_and_no_code(start):
    written = render_markdown(make_report("pass") | {"summary": start})
    assert not re.search(r"^(    |[-+] |\d+[.)] |---)", written, re.MULTILINE)


def test_empty_name_is_omitted():
    assert "|  | fail |" in render_details(make_named_report(""))


def test_markdown_fence_is_longer_than_fences_inside():
    assert "\n````text\n" in render_details(make_named_report("```"))


@pytest.mark.long
@pytest.mark.no_cover
def test_markdown_of_hundreds_of_names_fits_into_a_comment():
    names = [f"encoder.layers.{number}.{'weight' * 20}" for number in range(600)]
    report = make_product_report(names, candidate={"p7": 0.5} | dict.fromkeys(names[-100:], 0.5))
    written = render_markdown(report)
    assert find_uneven_rows(written) == []
    assert len(written) <= MAX_LENGTH
    assert "\n401 more rows are in the report as JSON and as text." in written
    assert re.search(r"\d+ sections? of this report would not fit into a comment", written)
    assert written.count("| fail |") >= 101
