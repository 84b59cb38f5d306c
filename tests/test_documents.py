"""The documents link and name what exists, open no sentence with a question, and build as a site."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gradcheckd
from tests.document_text import DOCS, ROOT, list_documents


def list_anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", list_documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_what_exists(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = path if not file else (path.parent / file)
        assert target.exists(), link
        assert not anchor or anchor in list_anchors(target), link


def test_every_document_is_in_the_site_and_in_the_readme() -> None:
    names = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    (listed,) = re.findall(r"```\{toctree\}.*?\n\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    assert set(listed.split()) == names
    linked = set(re.findall(r"\(docs/([\w-]+)\.md\)", (ROOT / "README.md").read_text()))
    assert names - linked == {"client"}


@pytest.mark.long
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--doctree-dir", str(tmp_path / "doctrees")]
    completed = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr
    described = set(re.findall(r'id="gradcheckd\.([\w.]+)"', (tmp_path / "site" / "client.html").read_text()))
    assert {*gradcheckd.__all__, "Service.check", "Report.markdown"} - {"__version__"} <= described


NAMES_OF_NOTHING = {"parse_request", "GRADCHECKD_", "FILE", "CHANGELOG", "CONTRIBUTING"}
"""Words of the documents that look like a name of the code and are none."""
_PATH = re.compile(r"`((?:service|schemas|client|tests|benchmarks|docs|deploy|examples|\.ci)/[\w./-]*)`")


@pytest.mark.parametrize("path", list_documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_that_are_named_exist(path: Path) -> None:
    if path.name != "CHANGELOG.md":
        assert [named for named in _PATH.findall(path.read_text()) if not (ROOT / named).exists()] == []


@pytest.mark.parametrize("path", [ROOT / "CONTRIBUTING.md", DOCS / "adding-an-op.md", DOCS / "architecture.md"])
def test_names_of_the_code_that_are_mentioned_exist(path: Path) -> None:
    words = set(re.findall(r"\w+", "\n".join(file.read_text() for file in list_source_files())))
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    mentioned = {name for span in re.findall(r"`@?([A-Za-z_][\w.]*)`", prose) for name in span.split(".")}
    unknown = {name for name in mentioned if "_" in name or not name.islower()} - words - NAMES_OF_NOTHING
    assert unknown == set()


def list_source_files() -> list[Path]:
    folders = ("service", "schemas", "client", "tests", "benchmarks")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]


_QUESTION_WORD = re.compile(
    r"(?:^(?:#+ |[-*] |\d+\. )?|[.!?:]\s+|\| )((?:What|Which|Where|Whether|Of)\b.*)", re.MULTILINE
)
_CODE_OR_MEASUREMENT = re.compile(r"```.*?```|<!-- (\w+): written by .*?<!-- end of \1 -->", re.DOTALL)


def find_question_openings(text: str) -> list[str]:
    """Sentences that open with a word that asks, outside code, and outside tables that a measurement writes."""
    paragraphs = re.sub(r"(?<![\n|])\n(?![\n#|\-\d])", " ", _CODE_OR_MEASUREMENT.sub("", text))
    return _QUESTION_WORD.findall(paragraphs)


@pytest.mark.parametrize("path", list_documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_opens_with_a_question_word(path: Path) -> None:
    assert find_question_openings(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    ["A name. Which is it?", "# What it is", "- Where it is,\nit is.", "Text.\n\nOf two, one.", "| a | What b |"],
)
def test_sentence_opening_with_a_question_word_is_found(text: str) -> None:
    assert len(find_question_openings(text)) == 1
    assert find_question_openings("The place where\nOf is a word, and ```\nWhat\n``` is code.") == []
