"""Save a full run: JSON and Markdown under results/, and the table that a document of docs/ quotes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = ROOT / "docs"


def extract_marked(name: str, text: str) -> str:
    """What stands between the marks of a name."""
    (match,) = re.findall(_make_marker_pattern(name), text, re.DOTALL)
    return match[1]


def _make_marker_pattern(name: str) -> str:
    return rf"(<!-- {name}: written by make \w+ -->\n)(.*?)(<!-- end of {name} -->)"


def find_document(name: str) -> Path:
    """Return the document that quotes a table, by the marks of its name."""
    (document,) = [path for path in sorted(DOCUMENTS.glob("*.md")) if f"<!-- end of {name} -->" in path.read_text()]
    return document


def save_results(name: str, document: Mapping[str, Any], markdown: str, quoted: str) -> None:
    """Write all three, so that none can be left behind."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown)
    page = find_document(name)
    pattern = _make_marker_pattern(name)
    page.write_text(re.sub(pattern, lambda match: match[1] + quoted + match[3], page.read_text(), flags=re.DOTALL))
