"""What all tests share: the reference example, and arithmetic that says when it goes wrong."""

import copy
import gc
import json
import logging
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests import measured_cases, trials
from tests.external_programs import BROWSER, list_missing

TRACING = pytest.StashKey[measured_cases.Tracing]()

# The same examples each time: what gates a landing does not depend on luck. HYPOTHESIS_PROFILE=fresh looks for more.
# A test with a number of examples of its own takes it from `settings.default.max_examples`.
settings.register_profile("fixed", derandomize=True, max_examples=100)
settings.register_profile("tenth", derandomize=True, max_examples=100 // trials.TENTH)
settings.register_profile("fresh")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a command select a tenth of the trials, or the rest of them."""
    parser.addoption(
        "--trials", choices=trials.SELECTIONS, default="all", help="all trials (default), a tenth, or the rest"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run without a program that is required; choose the number of examples before tests are imported."""
    list_missing()
    config.stash[TRACING] = measured_cases.Tracing()
    settings.load_profile(trials.choose_profile(config.getoption("--trials"), os.environ))


def _let_loggers_propagate(package: str) -> None:
    """Let pytest catch the records of a package at the root.

    It adds two handlers to each logger that does not propagate, three times a test, and torch has 42 of them.
    """
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.partition(".")[0] == package and isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect without the garbage collector, and keep the tests out of its way afterwards.

    It would go through all tests, which stay until the end, again and again: 4 s of 14.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        _let_loggers_propagate("torch")
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files that the selection does not collect."""
    path = os.path.relpath(collection_path, config.rootpath)
    return None if trials.is_collected(path, config.getoption("--trials")) else True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Measure the fixtures of a measured test, and those that tests share."""
    is_on = fixturedef.scope != "function" or measured_cases.is_measured(request.node)
    with request.config.stash[TRACING].switch(is_on):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    with pyfuncitem.config.stash[TRACING].switch(measured_cases.is_measured(pyfuncitem)):
        return (yield)


def _leave_out(config: pytest.Config, items: list[pytest.Item], kept: list[pytest.Item]) -> None:
    remaining = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in remaining])
    items[:] = kept


@pytest.hookimpl(trylast=True)  # behind the plugin of hypothesis, which marks the property tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the trials, leave out those that are not selected, and the tests of the browser where there is none."""
    trials.mark_trials(items)
    _leave_out(config, items, trials.select(items, config.getoption("--trials")))
    measured_cases.mark_further_cases(items)
    if BROWSER.path is None:
        _leave_out(config, items, [item for item in items if not item.nodeid.startswith(BROWSER.tests)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were left out for want of a program."""
    for absence in list_missing():
        terminalreporter.write_line(absence)


EXAMPLE = Path(__file__).parent.parent / "examples" / "reference.json"


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


@pytest.fixture
def example() -> dict[str, Any]:
    """A copy of the reference example's request."""
    return json.loads(EXAMPLE.read_text())


@pytest.fixture
def change_example(example: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """The reference example with fields replaced, or dropped where they are `...`."""

    def change(**fields: Any) -> dict[str, Any]:
        body = copy.deepcopy(example) | fields
        return {name: value for name, value in body.items() if value is not ...}

    return change
