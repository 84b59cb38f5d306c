"""The pytest plugin: the fixture `gradcheckd`, and reports in the output of tests that fail."""

import os
from collections.abc import Generator

import pytest

from gradcheckd.connection import URL_VARIABLE
from gradcheckd.errors import GradcheckdError, GradientError, shorten_text
from gradcheckd.in_process import is_installed
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.service import Service

_REPORTS_KEY = pytest.StashKey[list[Report | BlackBoxReport]]()
_SECTION_TITLE = "gradcheckd"


@pytest.fixture(scope="session")
def gradcheckd(request: pytest.FixtureRequest) -> Generator[Service]:
    """Yield a service: `check`, `assert_gradients`, `check_function`, `assert_function`.

    The service is that at GRADCHECKD_URL. Without that, it runs in this process if it is installed here, and else the
    fixture skips the test.
    """
    if not (os.environ.get(URL_VARIABLE) or is_installed()):
        pytest.skip(f"{URL_VARIABLE} is not set, and no service is installed here")
    reports = request.config.stash.setdefault(_REPORTS_KEY, [])
    with Service(on_report=reports.append) as service:
        yield service


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the reports that do not pass to the output of a test that fails."""
    test_report = yield
    if test_report.when == "call":
        reports = item.config.stash.setdefault(_REPORTS_KEY, [])
        if test_report.failed:
            # The message of a GradientError has its report already.
            shown_report = (
                call.excinfo.value.report if call.excinfo and isinstance(call.excinfo.value, GradientError) else None
            )
            test_report.sections += [
                (_SECTION_TITLE, _get_report_text(report))
                for report in reports
                if not report.passed and report is not shown_report
            ]
        reports.clear()
    return test_report


def _get_report_text(report: Report | BlackBoxReport) -> str:
    """Return the report for reading; a service that is gone does not hide the test's own error."""
    try:
        return shorten_text(report.text())
    except GradcheckdError as error:
        return f"{report.summary}\n(The whole report could not be had: {error})"
