import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.http import metrics
from service.settings import Settings


def read_counts(client):
    response = client.get("/metrics")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def change(act, **settings):
    """What the counts changed by."""
    client = create_app(Settings(**settings)).test_client()
    before = read_counts(client)
    act(client)
    return {name: value - before.get(name, 0) for name, value in read_counts(client).items()}


def test_a_check_is_counted_by_outcome_route_and_stage(example):
    changed = change(lambda client: client.post("/v1/check", json=example))
    assert changed["gradcheckd_checks_total", "pass"] == 1
    assert changed["gradcheckd_requests_total", "/v1/check", "200", "POST"] == 1
    assert changed["gradcheckd_loss_evaluations_total",] == 16
    assert changed["gradcheckd_request_seconds_count", "/v1/check"] == 1
    for stage in ("wait", "analytic", "autograd", "finite_difference", "verdict", "diagnosis"):
        assert changed["gradcheckd_stage_seconds_count", stage] == 1
    assert changed["gradcheckd_busy_places", "checks"] == 0


REASONS = {
    "invalid": ({"json": {}}, {}),
    "over-budget": ({}, {"max_work": 1}),
    "out-of-time": ({}, {"max_seconds": 1e-9}),
    "bad-request": ({"json": None, "data": "{", "content_type": "application/json"}, {}),
    "unsupported-media-type": ({"json": None, "data": "{}"}, {}),
    "not-acceptable": ({"headers": {"Accept": "image/png"}}, {}),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_refusal_is_counted_by_its_reason(example, reason):
    arguments, settings = REASONS[reason]
    changed = change(lambda client: client.post("/v1/check", **{"json": example} | arguments), **settings)
    refusals = {name: by for name, by in changed.items() if name[0] == "gradcheckd_refusals_total" and by}
    assert refusals == {("gradcheckd_refusals_total", reason): 1}
    assert sum(by for name, by in changed.items() if name[0] == "gradcheckd_checks_total") == 0


def test_unknown_paths_and_methods_make_no_new_series():
    def request_unknown_paths(client):
        for number in range(5):
            client.open(f"/nowhere{number}", method=f"FOO{number}")

    changed = change(request_unknown_paths)
    # Methods are counted by name where there is such a method.
    assert changed["gradcheckd_requests_total", "404", "none", "other"] == 5
    assert not any("FOO" in label or "nowhere" in label for name in changed for label in name)


def test_every_metric_has_a_help_text():
    for family in metrics.REGISTRY.collect():
        assert re.fullmatch(r"gradcheckd_\w+", family.name)
        assert family.documentation.endswith(".")


def test_a_worker_that_ends_during_a_scrape_does_not_break_it(monkeypatch):
    registries = iter([FileNotFoundError, metrics.REGISTRY])

    def build_next_registry():
        registry = next(registries)
        if registry is FileNotFoundError:
            raise registry
        return registry

    monkeypatch.setattr(metrics, "_collect_registry", build_next_registry)
    assert "gradcheckd_checks" in metrics.write_exposition()
