"""service/gunicorn/README.md names every private hook of gunicorn that is used, for the version that was looked at."""

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "service" / "gunicorn"
README = (PACKAGE / "README.md").read_text()

CLASSES = {
    "ThreadWorker": "gunicorn.workers.gthread",
    "TConn": "gunicorn.workers.gthread",
    "Logger": "gunicorn.glogging",
    "Arbiter": "gunicorn.arbiter",
    "Config": "gunicorn.config",
    "Parser": "gunicorn.http.parser",
    "Unreader": "gunicorn.http.unreader",
    "BaseSocket": "gunicorn.sock",
}
RECEIVERS = {
    "conn": "TConn",
    "server": "Arbiter",
    "worker": "ThreadWorker",
    "parser": "Parser",
    "conn.parser": "Parser",
    "conn.cfg": "Config",
    "parser.unreader": "Unreader",
    "listener": "BaseSocket",
}
"""Class of gunicorn by the expression that holds an instance of it in our code."""


def find_version(readme: str) -> str:
    (looked_at,) = re.findall(r"^Looked at: gunicorn (\S+)\.$", readme, re.MULTILINE)
    return looked_at


def find_listed_hooks(readme: str) -> set[str]:
    tables = readme.split("## Overridden")[1].split("## Documented")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", tables, re.MULTILINE))


def read_sources() -> dict[str, str]:
    return {path.name: path.read_text() for path in PACKAGE.glob("*.py")}


@functools.cache  # inspect parses the whole module for each class
def read_class_sources(cls: type) -> list[str]:
    return [inspect.getsource(base) for base in cls.__mro__[:-1]]


def is_in_gunicorn(hook: str) -> bool:
    """Tell whether the installed gunicorn has a hook: a member of a class, or an attribute that the class assigns."""
    if hook.startswith("environ["):
        return hook[9:-2] in inspect.getsource(importlib.import_module("gunicorn.http.wsgi"))
    if hook.startswith("gunicorn."):
        module, _, name = hook.rpartition(".")
        return hasattr(importlib.import_module(module), name)
    owner, name = hook.split(".")
    cls = getattr(importlib.import_module(CLASSES[owner]), owner)
    return hasattr(cls, name) or any(
        re.search(rf"self\.{name}\b.* = |self\.{name} = ", source) for source in read_class_sources(cls)
    )


def iterate_class_hooks(tree: ast.Module) -> Iterator[str]:
    """Iterate over the members of gunicorn's classes that subclasses override, or use by `self`."""
    for node in ast.walk(tree):
        bases = [base.id for base in getattr(node, "bases", []) if isinstance(base, ast.Name) and base.id in CLASSES]
        if not bases:
            continue
        methods = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
        yield from (f"{bases[0]}.{name}" for name in methods if is_in_gunicorn(f"{bases[0]}.{name}"))
        own = methods | {
            target.attr
            for assignment in ast.walk(node)
            if isinstance(assignment, ast.Assign | ast.AnnAssign)
            for target in (assignment.targets if isinstance(assignment, ast.Assign) else [assignment.target])
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
        }
        for use in ast.walk(node):
            if isinstance(use, ast.Attribute) and ast.unparse(use.value) == "self" and use.attr not in own:
                yield f"{bases[0]}.{use.attr}"


def find_hooks(source: str) -> set[str]:
    """Find the hooks that a module overrides or uses; `__init__` is no hook."""
    tree = ast.parse(source)
    hooks = set(iterate_class_hooks(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (owner := RECEIVERS.get(ast.unparse(node.value))):
            hooks.add(f"{owner}.{node.attr}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "_gunicorn_base.WorkerTmp":
            hooks.add("gunicorn.workers.base.WorkerTmp")
        elif isinstance(node, ast.ImportFrom) and node.module == "gunicorn.http":
            hooks |= {f"gunicorn.http.{alias.name}" for alias in node.names}
    return {hook for hook in hooks if not hook.endswith("__init__")}


def list_outside_imports() -> list[tuple[str, str, str]]:
    """List the imports of gunicorn in other packages: the file, the module of gunicorn, and the names."""
    matches = [
        (path.name, re.match(r"\s*(?:from|import) (gunicorn\b\S*)(?: import (.*))?", line))
        for path in (ROOT / "service").rglob("*.py")
        for line in path.read_text().splitlines()
        if path.parent != PACKAGE
    ]
    return [(name, match[1], match[2]) for name, match in matches if match]


def find_used_hooks() -> set[str]:
    hooks = set().union(*map(find_hooks, read_sources().values()))
    if any('"gunicorn.socket"' in path.read_text() for path in (ROOT / "service").rglob("*.py")):
        hooks.add('environ["gunicorn.socket"]')
    return hooks | {f"{module}.{name}" for _, module, name in list_outside_imports() if name == "LengthReader"}


def test_readme_states_the_installed_version_of_gunicorn() -> None:
    assert find_version(README) == version("gunicorn"), "read gunicorn's changes, then write its version into README.md"


def test_readme_lists_exactly_the_hooks_in_the_code() -> None:
    assert find_listed_hooks(README) == find_used_hooks()


def test_gunicorn_has_every_listed_hook() -> None:
    assert [hook for hook in sorted(find_listed_hooks(README)) if not is_in_gunicorn(hook)] == []


def test_the_body_reader_alone_imports_gunicorn_from_outside() -> None:
    assert list_outside_imports() == [
        ("body_reader.py", "gunicorn.http.body", "LengthReader"),
        ("body_reader.py", "gunicorn.http.errors", "ParseException"),
    ]


def test_another_version_is_noticed() -> None:
    """Negative control of the version."""
    assert find_version(README.replace(f"gunicorn {version('gunicorn')}.", "gunicorn 1.2.3.", 1)) == "1.2.3"


@pytest.mark.parametrize(
    ("source", "hook"),
    [
        ("class Worker(ThreadWorker):\n    def murder_pending(self): ...", "ThreadWorker.murder_pending"),
        ("class Worker(ThreadWorker):\n    def look(self): return self.tpool", "ThreadWorker.tpool"),
        ("def look(conn): return conn.is_http2", "TConn.is_http2"),
        ("def look(conn): return conn.parser.req_count", "Parser.req_count"),
        ("from gunicorn.http import wsgi", "gunicorn.http.wsgi"),
    ],
)
def test_an_unlisted_hook_is_found(source: str, hook: str) -> None:
    """Negative control of the list: each kind of use is found, and is not listed."""
    assert hook in find_hooks(source) - find_listed_hooks(README)
    assert is_in_gunicorn(hook)


@pytest.mark.parametrize("hook", ["ThreadWorker.gone", "TConn.gone", "gunicorn.http.gone", 'environ["gunicorn.gone"]'])
def test_a_hook_that_gunicorn_lost_is_noticed(hook: str) -> None:
    """Negative control of the existence of hooks."""
    assert not is_in_gunicorn(hook)
