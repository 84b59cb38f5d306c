from service.checks.blackbox.examples import build_judge_examples, build_plan_examples
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations


def test_each_example_of_a_plan_is_planned():
    counts = {name: plan_evaluations(example["value"]).evaluations for name, example in build_plan_examples().items()}
    assert set(counts) == {"coordinates", "random", "outputs", "bounds"}
    assert all(counts.values())


WRONG = {
    "coordinates": {"candidate": {"w": [0.5, -0.5]}},
    "own points": {"candidate": {"w": [0.5, -0.5]}},
    "products": {"vjp": {"y": {"w": [0.5, -0.5]}}},
    "jacobian": {"jacobian": {"y": {"w": [[1.0, 0.0], [0.5, -1.5]]}}},
}


def test_each_example_of_a_judgement_passes_and_its_negative_fails():
    examples = build_judge_examples()
    assert examples.keys() == WRONG.keys()
    for name, example in examples.items():
        assert judge_losses(example["value"])["outcome"] == "pass"
        outcome = "more" if name == "own points" else "fail"
        assert judge_losses(example["value"] | WRONG[name])["outcome"] == outcome
