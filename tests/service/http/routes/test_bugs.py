from service.app import create_app

CLIENT = create_app().test_client()


def test_the_catalogue_is_got_and_the_bugs_of_a_model_are_posted(example):
    known = {bug["name"] for bug in CLIENT.get("/v1/bugs").json["bugs"]}
    answer = CLIENT.post("/v1/bugs", json=example)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert {bug["name"] for bug in answer.json["bugs"]} < known


def test_planted_gradients_are_accepted_as_candidates(example):
    for bug in ("sign_flipped", "not_finite", "reshaped"):
        for planted in CLIENT.post("/v1/bugs", json=example | {"bug": bug}).json["bugs"]:
            report = CLIENT.post("/v1/check", json=example | {"candidate": planted["candidate"]}).json
            assert report["outcome"] == "fail"
            diagnoses = report["verdicts"][planted["tensor"]]["diagnoses"]
            assert planted["explanation"] in [
                diagnosis["explanation"] for diagnosis in diagnoses if diagnosis["name"] == bug
            ]


def test_an_unknown_bug_is_a_problem_at_its_place(example):
    answer = CLIENT.post("/v1/bugs", json=example | {"bug": "no such bug"})
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/bug"]
