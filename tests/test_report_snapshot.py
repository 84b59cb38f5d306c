"""The comparison of reports that gates refactorings."""

import json
from pathlib import Path

import pytest

from benchmarks.report_snapshot import compare_records, write_record


@pytest.mark.trial
def test_the_same_code_gives_the_same_record_twice(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    write_record(before, graphs=2)
    write_record(after, graphs=2)
    assert compare_records(before, after) == 0


def test_one_changed_digit_is_reported_by_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    answer = {"summary": "a pass", "loss": {"analytic": 0.1}, "cost": {"seconds": 1.0}}
    before.write_text(json.dumps({"name": "graph", "answer": answer}) + "\n")
    changed = {"summary": "another sentence", "loss": {"analytic": 0.10000000000000002}, "cost": {"seconds": 2.0}}
    after.write_text(json.dumps({"name": "graph", "answer": changed}) + "\n")
    assert compare_records(before, after) == 1
    assert "graph/loss/analytic" in capsys.readouterr().out


def test_a_changed_word_is_a_difference_where_it_is_no_sentence(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text(json.dumps({"name": "graph", "answer": {"outcome": "pass"}}) + "\n")
    after.write_text(json.dumps({"name": "graph", "answer": {"outcome": "fail"}}) + "\n")
    assert compare_records(before, after) == 1


def test_an_empty_record_compares_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert compare_records(tmp_path / "empty", tmp_path / "empty") == 1
