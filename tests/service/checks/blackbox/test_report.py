from service.checks.blackbox.judge import judge_losses
from tests.service.checks.blackbox.plan_requests import make_judge_request


def test_overall_outcome_is_the_worst_of_its_parts():
    body = make_judge_request()
    body["candidate"]["b"] = [2 * value for value in body["candidate"]["b"]]
    report = judge_losses(body)
    assert report["taylor"]["name"] == "b"
    assert report["missed"] in [verdict["missed"] for verdict in report["verdicts"].values()]
    assert report["summary"].startswith("fail: 4 of 4 directions of b")
    assert report["verdicts"]["b"]["reason"].endswith("2 times the derivative along every one of the 4 directions.")


def test_pass_states_its_detectable_error():
    assert "An error of 1.0e-04 of a single element of" in judge_losses(make_judge_request())["summary"]


def test_wrong_elements_have_a_pattern_where_each_was_moved():
    body = make_judge_request(directions={"kind": "coordinates"})
    assert all("pattern" not in verdict for verdict in judge_losses(body)["verdicts"].values())
    body["candidate"]["b"] = [-value for value in body["candidate"]["b"]]
    verdicts = judge_losses(body)["verdicts"]
    assert verdicts["b"]["pattern"] == "all elements, sign flipped"
    assert [name for name, verdict in verdicts.items() if "pattern" in verdict] == ["b"]


def test_along_random_directions_nothing_is_known_of_elements():
    body = make_judge_request()
    body["candidate"]["b"] = [-value for value in body["candidate"]["b"]]
    assert "pattern" not in judge_losses(body)["verdicts"]["b"]
