from service.checks.blackbox.examples import build_judge_examples, build_plan_examples
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations


def test_each_example_of_a_plan_is_planned():
    counts = {name: plan_evaluations(example["value"]).evaluations for name, example in build_plan_examples().items()}
    assert set(counts) == {"coordinates", "random", "outputs", "bounds"}
    assert all(counts.values())


def test_the_example_of_a_judgement_passes_and_its_negative_fails():
    (example,) = build_judge_examples().values()
    request = example["value"]
    assert judge_losses(request)["outcome"] == "pass"
    assert judge_losses(request | {"candidate": {"w": [0.5, -0.5]}})["outcome"] == "fail"
