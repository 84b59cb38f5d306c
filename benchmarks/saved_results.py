"""What is kept of a full run: JSON and Markdown under results/, and the README's quotation of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def extract_marked(name: str, text: str) -> str:
    """What stands between the marks of a name."""
    (found,) = re.findall(_make_marker_pattern(name), text, re.DOTALL)
    return found[1]


def _make_marker_pattern(name: str) -> str:
    return rf"(<!-- {name}: written by make \w+ -->\n)(.*?)(<!-- end of {name} -->)"


def save_results(name: str, document: Mapping[str, Any], markdown: str, readme_text: str) -> None:
    """Write all three, so that none can be left behind."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown)
    text = README.read_text()
    README.write_text(
        re.sub(_make_marker_pattern(name), lambda found: found[1] + readme_text + found[3], text, flags=re.DOTALL)
    )
