import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from service.checks.common.check_kind import AnswerFacts, RunOptions
from service.checks.common.limits import Limits
from service.checks.kinds import CHECK_KINDS

BY_NAME = {kind.name: kind for kind in CHECK_KINDS}
EXAMPLES = [(kind, name) for kind in CHECK_KINDS for name in kind.build_examples()]


@pytest.mark.parametrize("attribute", ["name", "path", "summary", "operation_id", "run"])
def test_kinds_of_check_are_distinguishable(attribute):
    assert len({getattr(kind, attribute) for kind in CHECK_KINDS}) == len(CHECK_KINDS)


@pytest.mark.parametrize(("kind", "name"), EXAMPLES, ids=[f"{kind.name}-{name}" for kind, name in EXAMPLES])
def test_every_example_is_answered_without_http(kind, name):
    reserved = []
    options = RunOptions(Limits(), form="json", reserve_answer_bytes=reserved.append)
    document = kind.to_document(kind.run(kind.build_examples()[name]["value"], options))
    answer_types = get_args(kind.answer_type) or (kind.answer_type,)
    assert any(set(document) >= {*answer_type.__required_keys__} for answer_type in answer_types)
    assert bool(reserved) == (kind.name in ("check", "plan"))


def test_log_has_the_facts_of_a_check_and_of_a_judgement():
    for name, own_evaluations in (("check", False), ("judge", True)):
        kind = BY_NAME[name]
        report = kind.run(next(iter(kind.build_examples().values()))["value"], RunOptions(Limits()))
        facts = kind.collect_facts(report)
        assert facts.log_fields["outcome"] == report["outcome"] == "pass"
        assert facts.log_fields["names"] == len(report["verdicts"])
        # The evaluations of a judgement are the client's: they are a field of the log alone.
        assert ("evaluations" in facts.log_fields) is own_evaluations
        assert (facts.loss_evaluations is None) is own_evaluations
        assert bool(facts.stage_seconds) is not own_evaluations


@pytest.mark.parametrize("name", ["curve", "bugs", "plan"])
def test_kinds_without_a_verdict_have_no_facts(name):
    assert BY_NAME[name].collect_facts({}) == AnswerFacts()
    assert BY_NAME[name].build_sections is None


def test_only_graph_checks_are_counted_streamed_and_small():
    for attribute in ("is_counted", "streams_progress", "is_small"):
        assert [kind.name for kind in CHECK_KINDS if getattr(kind, attribute)] == ["check"]


LATE_IMPORTS = """
import sys
from service.app import create_app
from service.checks.kinds import CHECK_KINDS, load_kinds
from service.http.routes.health import run_self_check

if sys.argv[1:]:
    load_kinds()
    run_self_check()
before = set(sys.modules)
client = create_app(keeps_records=False).test_client()
for path in ("/openapi.json", "/v1/ops", "/v1/models", "/v1/bugs"):
    assert client.get(path).status_code == 200
for kind in CHECK_KINDS:
    for example in kind.build_examples().values():
        assert client.post(kind.path, json=example["value"]).status_code == 200
print(*(name for name in set(sys.modules) - before if name.split(".")[0] in ("service", "schemas", "torch")))
"""


@pytest.mark.long
@pytest.mark.parametrize("loads_first", [True, False])
def test_a_server_has_all_kinds_before_its_first_request(loads_first):
    """Without `load_kinds` the requests load them: the probe sees it."""
    command = [sys.executable, "-c", LATE_IMPORTS, *["first"] * loads_first]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True)
    late = set(done.stdout.split())
    assert {"service.checks.curve", "service.checks.bugs", "service.numerics.ops", "torch"} <= late or loads_first
    assert not loads_first or late <= {"service.numerics.ties.joint_judgement"}
