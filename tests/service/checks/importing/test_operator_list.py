"""The operators that the documentation lists are those that are taken."""

from pathlib import Path

from service.checks.importing import operators
from service.checks.importing.control_flow import CONTROL_OPERATORS
from service.checks.importing.operator_registry import list_operators

PAGE = Path(__file__).parents[4] / "docs" / "onnx.md"


def test_the_documentation_lists_the_operators():
    assert operators.__all__
    _, _, rest = PAGE.read_text().partition("<!-- operators: tested -->\n")
    listed = rest.partition("<!-- end of operators -->")[0].replace("`", "").split()
    assert listed == sorted({*list_operators(), *CONTROL_OPERATORS})
