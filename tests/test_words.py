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

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "schemas", "client/gradcheckd")

SAME_ON_BOTH_SIDES_OF_THE_WIRE = {
    "Datatype": "a dtype of the wire: the service reads its bytes, the client writes them",
    "Diagnosis": "an entry of `diagnosis`: the schema has its JSON, the client the object that is made of it",
    "Gradient": "an entry of `gradients`: the schema has its JSON, the client the object that is made of it",
    "Kink": "an entry of `kinks`: the schema has its JSON, the client the object that is made of it",
    "Loss": "the field `loss`: the schema has its JSON, the client the object that is made of it",
    "Repeatability": "the field `repeatability`: the schema has its JSON, the client the object that is made of it",
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

CHECKED_FOLDERS = (*PACKAGES, "benchmarks", "tests")

_IRREGULAR_PARTICIPLES = """
begun borne bought broken brought built caught chosen done drawn driven fallen felt found given gone grown handed held
hidden kept known laid led left lent lost made meant met said seen sent shown sold spent spoilt stood struck taken told
thought thrown understood withheld won worn written
"""
IRREGULAR_PARTICIPLES = frozenset(_IRREGULAR_PARTICIPLES.split())
VERBS_THAT_LOOK_LIKE_PARTICIPLES = frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "speed"})

_VALUE_DECORATORS = ("property", "cached_attribute", "fixture")
_BUG_DECORATORS = ("declare_bug", "declare_bug_named")

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


PUBLIC_STATES = {
    Name("client/gradcheckd/report.py", "passed"),
    Name("client/gradcheckd/torch/operator_report.py", "passed"),
}
"""Properties of the client that tell a state, and that users read by this name."""


@cache
def parse_package(package: str) -> list[Source]:
    return [
        Source(str(path.relative_to(ROOT)), ast.parse(path.read_text()))
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def parse_packages(packages: tuple[str, ...] = PACKAGES) -> list[Source]:
    return [source for package in packages for source in parse_package(package)]


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


def is_participle(word: str) -> bool:
    looks_like_one = word in IRREGULAR_PARTICIPLES or word.endswith("ed")
    return looks_like_one and word not in VERBS_THAT_LOOK_LIKE_PARTICIPLES


def list_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Last names of the decorators of a function."""
    calls = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list)
    return {ast.unparse(call).split(".")[-1] for call in calls}


def find_participles(sources: Iterable[Source]) -> set[Name]:
    """Functions whose name begins with a participle. Values, such as fixtures, may have an adjective before a noun.

    The bugs of an op are exempt: the names of their methods are on the wire.
    """
    participles: set[Name] = set()
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            words = to_snake_case(node.name).split("_")
            if is_participle(words[0]):
                decorators = list_decorators(node)
                is_value = len(words) > 1 and decorators.intersection(_VALUE_DECORATORS)
                if not is_value and not decorators.intersection(_BUG_DECORATORS):
                    participles.add(Name(source.path, node.name))
    return participles


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
def test_plain_name_is_accepted(text: str) -> None:
    assert find_retired_names([parse_module(text)]) == set()


@pytest.mark.parametrize("folder", CHECKED_FOLDERS)
def test_no_function_is_named_by_a_participle(folder: str) -> None:
    assert find_participles(parse_packages((folder,))) - PUBLIC_STATES == set()


def test_each_exemption_of_a_participle_is_used() -> None:
    assert find_participles(parse_packages()) == PUBLIC_STATES


@pytest.mark.parametrize(
    "text",
    [
        "def judged(body): ...",
        "async def asked(): ...",
        "def _told(): ...",
        "def changed_entry(name): ...",
        "class Trial:\n    def posed(self): ...",
        "def test_a_check():\n    def counted(w): ...",
        "@pytest.fixture\ndef served(): ...",
        "@pytest.fixture(scope='module')\ndef written(): ...",
    ],
)
def test_a_participle_is_found(text: str) -> None:
    assert len(find_participles([parse_module(text, "tests/test_made_up.py")])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def judge_candidate(): ...",
        "def bound_sum(): ...",
        "def seed_operators(): ...",
        "def get_shared(): ...",
        "@pytest.fixture\ndef wrong_arrays(): ...",
        "@pytest.fixture(scope='module')\ndef saved_document(): ...",
        "class Op:\n    @declare_bug('the mean')\n    def averaged(self): ...",
    ],
)
def test_a_function_named_by_a_verb_is_no_participle(text: str) -> None:
    assert find_participles([parse_module(text)]) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_sentence_opens_with_a_question_word(package: str) -> None:
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
def test_sentence_opening_with_a_question_word_is_found(text: str) -> None:
    assert len(find_openings(text)) == 1


@pytest.mark.parametrize(
    "text", ["Return the place where it fails.", "A sum\n    of products.", "Offset of the first."]
)
def test_sentence_with_another_opening_is_accepted(text: str) -> None:
    assert find_openings(text) == []


def test_docstrings_of_attributes_are_read() -> None:
    tree = parse_module(
        '"""First."""\nclass A:\n    """Second."""\n    x: int\n    """Third."""\nY = 1\n"""Fourth."""'
    ).tree
    assert sorted(iterate_docstrings(tree)) == ["First.", "Fourth.", "Second.", "Third."]
