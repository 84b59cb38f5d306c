"""The catalogue."""

import re
from pathlib import Path

from service.numerics.diagnosis import bugs
from service.numerics.diagnosis.bugs import BACKWARD_BUGS, GRADIENT_BUGS


def test_registered_bugs_have_unique_names_and_signatures() -> None:
    for catalogue in (GRADIENT_BUGS, BACKWARD_BUGS):
        for name, fault in catalogue.items():
            assert fault.name == name
            assert fault.signature
            assert type(fault).__doc__


def test_every_bug_of_a_file_is_in_the_catalogue() -> None:
    """A file that `service.numerics.diagnosis.bugs` does not import registers nothing."""
    folder = Path(bugs.__file__).parent
    declared = {
        (f"service.numerics.diagnosis.bugs.{path.stem}", name)
        for path in folder.glob("*.py")
        for name in re.findall(r"^@register_\w+_bug\nclass (\w+)", path.read_text(), re.MULTILINE)
    }
    entries = [*GRADIENT_BUGS.values(), *BACKWARD_BUGS.values()]
    assert len(declared) == len(entries)
    assert declared == {(type(entry).__module__, type(entry).__name__) for entry in entries}
