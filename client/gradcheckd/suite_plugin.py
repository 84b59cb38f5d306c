"""The pytest option `--gradcheckd`: the checkers of a suite that was not written for it, replaced for a session."""

import importlib.util
from typing import Any

import pytest

from gradcheckd.suite_counts import SuiteCounts
from gradcheckd.suite_replacement import LIBRARIES, SuiteReplacement

_OPTION, _DIRECTIONS_OPTION = "--gradcheckd", "--gradcheckd-directions"
_DIRECTIONS = ("automatic", "random", "coordinates")
_PLUGIN_NAME = "gradcheckd_suite_session"
_SECTION_TITLE = "gradcheckd"
_WORKER_OUTPUT = "gradcheckd_counts"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gradcheckd")
    group.addoption(
        _OPTION,
        dest="gradcheckd",
        action="store_true",
        help="have gradcheckd judge what the suite gives to torch.autograd.gradcheck and gradgradcheck, "
        "jax.test_util.check_grads, and scipy.optimize.check_grad",
    )
    group.addoption(
        _DIRECTIONS_OPTION,
        dest="gradcheckd_directions",
        choices=_DIRECTIONS,
        default=_DIRECTIONS[0],
        help="directions in which --gradcheckd moves inputs; coordinates misses no wrong element, and takes longer",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Replace the checkers before tests are imported, if the option is given."""
    if config.getoption("gradcheckd"):
        config.pluginmanager.register(SuiteSession(config.getoption("gradcheckd_directions")), _PLUGIN_NAME)


class SuiteSession:
    """The hooks of a session with replaced checkers.

    Parameters
    ----------
    directions
        Directions of the checks.
    """

    def __init__(self, directions: Any) -> None:
        if not any(map(importlib.util.find_spec, LIBRARIES)):
            raise pytest.UsageError(
                f"{_OPTION} replaces checkers of torch, jax and scipy. None of them is installed here."
            )
        self.counts = SuiteCounts()
        self._test_name = ""
        self._replacement = SuiteReplacement(self.counts, lambda: self._test_name, directions)
        self._replacement.start()

    def pytest_collection_finish(self) -> None:
        """Replace names that a module has imported since, by way of another module."""
        self._replacement.install()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Keep the name of the running test."""
        self._test_name = nodeid

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand the counts of a worker of pytest-xdist to its controller."""
        worker_output = getattr(session.config, "workeroutput", None)
        if worker_output is not None:
            worker_output[_WORKER_OUTPUT] = self.counts.to_plain()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the counts of a worker of pytest-xdist; one that was killed has none."""
        output = getattr(node, "workeroutput", {})
        if _WORKER_OUTPUT in output:
            self.counts.add(SuiteCounts.read(output[_WORKER_OUTPUT]))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the closing lines."""
        terminalreporter.section(_SECTION_TITLE)
        for line in self.counts.format_lines():
            terminalreporter.line(line)

    def pytest_unconfigure(self) -> None:
        """Put the suite's own checkers back."""
        self._replacement.stop()
