"""The pytest plugin: the fixture `gradcheckd`, and reports of what failed in the output of the test."""

import os
from collections.abc import Generator
from contextlib import ExitStack

import pytest

from gradcheckd import local_service
from gradcheckd.connection import URL_VARIABLE
from gradcheckd.errors import GradcheckdError, GradientError
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.service import Service

_REPORTS_KEY = pytest.StashKey[list[Report | BlackBoxReport]]()
_SECTION_TITLE = "gradcheckd"


@pytest.fixture(scope="session")
def gradcheckd(request: pytest.FixtureRequest) -> Generator[Service]:
    """A service to ask: `check`, `assert_gradients`, `check_function`, `assert_function`.

    It is the one at GRADCHECKD_URL; without that, one that is started for the session where the service is installed;
    and else the test is skipped.
    """
    with ExitStack() as stack:
        url = os.environ.get(URL_VARIABLE)
        if not url:
            if not local_service.is_installed():
                pytest.skip(f"{URL_VARIABLE} is not set, and no service is installed here that could be started")
            url = stack.enter_context(local_service.run_service())
        reports = request.config.stash.setdefault(_REPORTS_KEY, [])
        yield stack.enter_context(Service(url, on_report=reports.append))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the reports that did not pass into the output of a test that failed."""
    found = yield
    if found.when == "call":
        reports = item.config.stash.setdefault(_REPORTS_KEY, [])
        if found.failed:
            # That of an assertion of ours is the message of the error already.
            shown = (
                call.excinfo.value.report if call.excinfo and isinstance(call.excinfo.value, GradientError) else None
            )
            found.sections += [
                (_SECTION_TITLE, _get_report_text(each)) for each in reports if not each.passed and each is not shown
            ]
        reports.clear()
    return found


def _get_report_text(report: Report | BlackBoxReport) -> str:
    """The report for reading; a service that is gone by now is no reason to lose the test's own error."""
    try:
        return report.text()
    except GradcheckdError as error:
        return f"{report.summary}\n(The whole report could not be had: {error})"
