"""One word has one meaning: no class name stands for two things, and words that were given up do not come back.

`docs/glossary.md` defines the words that the code uses. Each check here is shown something wrong that it must find.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "schemas", "client/gradcheckd")

SAME_ON_BOTH_SIDES_OF_THE_WIRE = {
    "Datatype": "a dtype of the wire: the service reads its bytes, the client writes them",
    "Diagnosis": "an entry of `diagnosis`: the schema has its JSON, the client the object that is made of it",
    "Gradient": "an entry of `gradients`: the schema has its JSON, the client the object that is made of it",
    "Kink": "an entry of `kinks`: the schema has its JSON, the client the object that is made of it",
    "Loss": "the field `loss`: the schema has its JSON, the client the object that is made of it",
    "Verdict": "an entry of `verdicts`: the schema has its JSON, the client the object that is made of it",
}
"""Class names that a schema and the client share, and the one thing that both stand for."""

_RETIRED = """
admission admitted along alteration altered asked beginning beyond branch bury climb demanded diagnosed
differentiated dispute documented drawn exact_to fault faults findings foreseen held in_time injected like lingering
looked lost made missed moving needs_of noted numbered observed on_the_way_back others own packed parsed patience
placed plain planned posed posing projected pull reach received recognised refused remedies resolved room route rung
running said scene sent shown side sized slots spelled spread stored suffix told twin unfit unreadable until_left
way what_would_fit while_in_time worth wrong_elements
"""
RETIRED_NAMES = frozenset(_RETIRED.split())
"""Whole names that say too little of a function, a class or a module: each has a verb, a noun or an object now."""

RETIRED_WORDS = frozenset(
    {"alteration", "asked", "fault", "faults", "mutant", "mutants", "posed", "rung", "scene", "told"}
)
"""Words that no name may even contain, since another word has their meaning: bug, context, level, problem, parse."""

_SENTENCE_START = r"(?:\A|[.!?:;]\s+|\n\s*\n\s*)"
_OPENING = re.compile(rf"{_SENTENCE_START}((?:What|Which|Where|Whether|Of)\b[^\n]*)")
_PARAMETER_TEXT = re.compile(r"^( *)\S.*\n\1    +((?:What|Which|Where|Whether|Of)\b[^\n]*)", re.MULTILINE)


class Source(NamedTuple):
    """A module, parsed."""

    path: str
    tree: ast.Module

    @property
    def module(self) -> str:
        return Path(self.path).stem


class Name(NamedTuple):
    """A name that a module defines, in lower case with underscores between its words."""

    path: str
    text: str


@cache
def parse_packages(packages: tuple[str, ...] = PACKAGES) -> list[Source]:
    return [
        Source(str(path.relative_to(ROOT)), ast.parse(path.read_text()))
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def parse_module(text: str, path: str = "service/made_up.py") -> Source:
    return Source(path, ast.parse(text))


def find_shared_class_names(sources: Iterable[Source]) -> dict[str, set[str]]:
    """Paths of the modules that define a class of a name, where more than one does; private ones are taken as such."""
    paths: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                paths[node.name.lstrip("_")].add(source.path)
    return {name: modules for name, modules in paths.items() if len(modules) > 1}


def to_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def iterate_names(sources: Iterable[Source]) -> Iterator[Name]:
    """Names of modules, packages, classes and functions."""
    for source in sources:
        for part in Path(source.path).with_suffix("").parts:
            yield Name(source.path, to_snake_case(part))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield Name(source.path, to_snake_case(node.name))


def find_retired_names(sources: Iterable[Source]) -> set[Name]:
    return {
        name
        for name in iterate_names(sources)
        if name.text in RETIRED_NAMES or RETIRED_WORDS.intersection(name.text.split("_"))
    }


def iterate_docstrings(tree: ast.Module) -> Iterator[str]:
    """Docstrings, those of attributes and constants included."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def find_openings(text: str) -> list[str]:
    """Sentences of a docstring, or descriptions of its parameters, that begin with a word that asks."""
    return [*_OPENING.findall(text), *(description for _, description in _PARAMETER_TEXT.findall(text))]


def find_package_openings(package: str) -> list[str]:
    return [
        f"{source.path}: {opening}"
        for source in parse_packages((package,))
        for text in iterate_docstrings(source.tree)
        for opening in find_openings(text)
    ]


def list_unexplained(shared: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Shared names that are not of one schema and the client."""

    def is_explained(name: str, paths: set[str]) -> bool:
        return name in SAME_ON_BOTH_SIDES_OF_THE_WIRE and sorted(path.split("/")[0] for path in paths) == [
            "client",
            "schemas",
        ]

    return {name: paths for name, paths in shared.items() if not is_explained(name, paths)}


def test_no_class_name_has_two_meanings() -> None:
    assert list_unexplained(find_shared_class_names(parse_packages())) == {}


def test_each_exemption_of_a_class_name_is_used() -> None:
    assert find_shared_class_names(parse_packages()).keys() == SAME_ON_BOTH_SIDES_OF_THE_WIRE.keys()


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("Problem", ("service/a.py", "schemas/b.py")),
        ("_Problem", ("service/a.py", "service/b.py")),
        ("Loss", ("service/a.py", "schemas/b.py")),
        ("Loss", ("service/a.py", "schemas/b.py", "client/gradcheckd/c.py")),
    ],
)
def test_a_class_name_with_two_meanings_is_found(name: str, paths: tuple[str, ...]) -> None:
    sources = [parse_module(f"class {name}: ...", path) for path in paths[:-1]]
    sources.append(parse_module(f"class {name.lstrip('_')}: ...", paths[-1]))
    assert list_unexplained(find_shared_class_names(sources)) == {name.lstrip("_"): set(paths)}


def test_no_retired_name_comes_back() -> None:
    assert find_retired_names(parse_packages()) == set()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        *((f"def {name}(): ...", "service/a.py") for name in sorted(RETIRED_NAMES)),
        *((f"def find_{word}_first(): ...", "service/a.py") for word in sorted(RETIRED_WORDS)),
        ("class Scene: ...", "service/a.py"),
        ("class _OpMutant: ...", "service/a.py"),
        ("class Planner:\n    def _asked(self): ...", "service/a.py"),
        ("def check():\n    async def told(): ...", "service/a.py"),
        ("", "service/numerics/faults.py"),
        ("", "service/scene/context.py"),
    ],
)
def test_a_retired_name_is_found(text: str, path: str) -> None:
    assert {name.path for name in find_retired_names([parse_module(text, path)])} == {path}


@pytest.mark.parametrize("text", ["def parse_problem(): ...", "class DefaultLimits: ...", "def plan_level(): ..."])
def test_a_plain_name_is_no_retired_one(text: str) -> None:
    assert find_retired_names([parse_module(text)]) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_sentence_of_a_docstring_opens_with_a_word_that_asks(package: str) -> None:
    assert find_package_openings(package) == []


@pytest.mark.parametrize(
    "text",
    [
        "What a check found.",
        "Return the shape. Where it is unknown, return none.",
        "Return the shape.\n\nWhether it is known is another matter.",
        "Return the shape\n\n    Parameters\n    ----------\n    shape\n        Of each tensor.\n    ",
        "Return the shape: of each? Which one is it.",
    ],
)
def test_a_sentence_that_opens_with_a_word_that_asks_is_found(text: str) -> None:
    assert len(find_openings(text)) == 1


@pytest.mark.parametrize(
    "text", ["Return the place where it fails.", "A sum\n    of products.", "Offset of the first."]
)
def test_a_sentence_that_opens_otherwise_is_none_of_them(text: str) -> None:
    assert find_openings(text) == []


def test_docstrings_of_attributes_are_read() -> None:
    tree = parse_module(
        '"""First."""\nclass A:\n    """Second."""\n    x: int\n    """Third."""\nY = 1\n"""Fourth."""'
    ).tree
    assert sorted(iterate_docstrings(tree)) == ["First.", "Fourth.", "Second.", "Third."]
