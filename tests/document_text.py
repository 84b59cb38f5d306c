"""Sections, blocks and tables of the documents."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def list_documents() -> list[Path]:
    """Return the documents for people: those of the root, of docs/, and of the client."""
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), ROOT / "client" / "README.md"]


def read_section(path: Path, title: str) -> str:
    """Return the text below a heading, up to the next one of its level."""
    return path.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def find_blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def read_table(document: str, header: str) -> list[list[str]]:
    """Return the cells of each row of a table, given by the beginning of its header."""
    text = (DOCS / document).read_text().split(f"\n| {header}")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
