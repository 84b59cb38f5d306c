"""What the Dockerfile copies reaches the engine."""

from pathlib import PurePath

import pytest

from tests.document_text import ROOT


def list_copied(dockerfile: str) -> list[str]:
    """Return the files and folders that a Dockerfile copies from its context."""
    lines = [line.split() for line in dockerfile.splitlines() if line.startswith("COPY ")]
    return [source for _, *sources, _ in lines if not sources[0].startswith("--from=") for source in sources]


def list_hidden(sources: list[str], ignored: str) -> list[str]:
    """Return the sources that a .dockerignore keeps from the engine; it ignores all but what it names."""
    first, *others = ignored.split()
    assert first == "*"
    kept = {PurePath(line[1:]) for line in others if line.startswith("!")}
    return [source for source in sources if PurePath(source) not in kept]


def test_every_copied_file_reaches_the_engine() -> None:
    sources = list_copied((ROOT / "Dockerfile").read_text())
    assert {"requirements.txt", "requirements-cluster.txt", "service", "schemas"} <= {*sources}
    assert all((ROOT / source).exists() for source in sources)
    assert list_hidden(sources, (ROOT / ".dockerignore").read_text()) == []


@pytest.mark.parametrize("name", ["requirements-cluster.txt", "service"])
def test_one_that_is_not_named_would_be_missed(name: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().replace(f"!{name}\n", "")
    assert list_hidden(list_copied((ROOT / "Dockerfile").read_text()), ignored) == [name]
