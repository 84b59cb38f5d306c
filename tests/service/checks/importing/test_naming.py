"""Names of a file become names of a request."""

import pytest

from service.checks.importing.naming import NameTable, clean_name
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    make_file,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_names_follow_the_rule():
    nodes = [node("Exp", "x/1", "/m/Exp"), node("Sin", "/m/Exp", "m_Exp"), node("Cos", "m_Exp", "3")]
    imported = run_import(make_file(nodes, {"x/1": (FLOAT, [1])}, ["3"]))
    assert [entry["name"] for entry in imported.fields["model"]["nodes"]] == ["m_Exp", "m_Exp_2", "_3"]
    assert list(imported.tensors) == ["x_1"]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("a/b::c", "a_b_c"), ("", "value"), ("...", "value"), ("3", "_3"), ("\u00e9t\u00e9", "t"), ("x" * 500, "x" * 120)],
)
def test_a_name_is_made_of_letters_digits_and_points(name, cleaned):
    assert clean_name(name) == cleaned


def test_a_name_that_exists_gets_a_number():
    table = NameTable()
    assert [table.make(name) for name in ("a", "a_2", "a", "a/", "b")] == ["a", "a_2", "a_3", "a_4", "b"]
