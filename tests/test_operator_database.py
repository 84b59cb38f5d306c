"""The counts of `make operators` on functions made by hand: planted errors are wrong, and each finding is counted."""

import json
import types

import pytest
import torch

from benchmarks import operator_database, operator_tables, operator_times, saved_results
from benchmarks.operator_checks import ERROR, FAST, OURS, PASS, REFUSED, SLOW, UNDECIDED, check_sample, judge
from benchmarks.operator_database import SectionCounts
from benchmarks.operator_samples import MAX_NUMBERS, SAMPLES, SECTIONS, OperatorSample, draw_samples
from benchmarks.operator_store import ResultStore
from benchmarks.planted_operators import ALL, DOUBLED, ELEMENT, SIGN, draw_errors, plant_error

BY_NAME = {section.name: section for section in SECTIONS}
FLOAT64, SECOND, FORWARD, FLOAT32 = (BY_NAME[name] for name in ("float64", "second order", "forward mode", "float32"))


def make_sample(function, *shapes, dtype=torch.float64, reference=None):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5 for shape in shapes]
    return OperatorSample(
        "made",
        function,
        tuple(tensor.to(dtype).requires_grad_() for tensor in tensors),
        nondet_tol=0.0,
        reference=reference,
    )


PRODUCT = make_sample(lambda x, y: torch.sin(x) * y, (3,), (3,))


class WrongCube(torch.autograd.Function):
    """A cube whose gradient is off by 1e-4: torch's checker accepts it."""

    @staticmethod
    def forward(ctx, tensor):
        ctx.save_for_backward(tensor)
        return tensor**3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3.0003 * ctx.saved_tensors[0] ** 2


@pytest.mark.parametrize("section", [FLOAT64, SECOND, FORWARD, BY_NAME["complex"]], ids=lambda section: section.name)
def test_planted_errors_leave_values_alone_and_are_found(section):
    sample = (
        PRODUCT if section.dtype == torch.float64 else make_sample(PRODUCT.function, (3,), (3,), dtype=section.dtype)
    )
    result = check_sample(sample, section, has_errors=True)
    assert {judged.outcome for judged in result.rights.values()} == {PASS}
    assert set(result.planted) == {DOUBLED, SIGN, ALL, ELEMENT}
    assert all(outcomes[OURS] == REFUSED for outcomes in result.planted.values())
    assert result.planted[DOUBLED][SLOW] == result.planted[SIGN][SLOW] == REFUSED
    assert result.planted[ELEMENT][SLOW] == PASS
    assert set(result.ratios) == {SLOW, FAST}
    for error in draw_errors(sample, section).values():
        assert torch.equal(plant_error(sample, section, error)(*sample.inputs), sample.function(*sample.inputs))


def test_the_second_derivative_alone_is_wrong():
    error = draw_errors(PRODUCT, SECOND)[DOUBLED]
    function = plant_error(PRODUCT, SECOND, error)
    assert judge(OURS, PRODUCT, FLOAT64, function).outcome == PASS
    assert judge(OURS, PRODUCT, SECOND, function).outcome == REFUSED


def test_an_error_that_changes_nothing_is_not_planted():
    assert draw_errors(make_sample(lambda x: 0 * x, (3,)), FLOAT64) == {}
    # The derivative of the one is 1e-9 of the other's, and lost in its rounding.
    small = make_sample(lambda x: x * torch.tensor([1.0, 1e-9], dtype=torch.float64), (2,))
    assert float(draw_errors(small, FLOAT64)[DOUBLED].factors[0]) == 2.0


def test_no_error_is_planted_in_a_derivative_below_the_rounding_of_the_outputs():
    def add_tiny(x):
        return 2 + 1e-9 * x

    assert draw_errors(make_sample(add_tiny, (3,), dtype=torch.float32), FLOAT32) == {}
    assert set(draw_errors(make_sample(add_tiny, (3,)), FLOAT64)) == {DOUBLED, SIGN, ALL, ELEMENT}


def test_a_sample_that_torch_refuses_does_not_count():
    result = check_sample(make_sample(lambda x: 2 * WrongCube.apply(x) + x.detach(), (3,)), FLOAT64, has_errors=False)
    assert result.refused_by_torch
    assert not result.rights


def test_the_wider_datatype_decides_in_float32():
    wide = make_sample(torch.sin, (3,))
    result = check_sample(make_sample(torch.sin, (3,), dtype=torch.float32, reference=wide), FLOAT32, has_errors=True)
    assert result.rights[OURS].outcome == PASS
    assert result.rights[SLOW].outcome == REFUSED
    assert ELEMENT not in result.planted
    assert set(result.planted[ALL]) == {OURS}


def test_a_kink_at_the_point_is_undecided():
    base = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    sample = OperatorSample("kink", torch.nn.functional.leaky_relu, (base,), nondet_tol=0.0)
    assert judge(OURS, sample, FLOAT64).outcome == UNDECIDED


def test_an_exception_is_no_verdict():
    def raise_error(*_):
        raise ArithmeticError("broken")

    judged = judge(OURS, PRODUCT, FLOAT64, raise_error)
    assert (judged.outcome, judged.reason) == (ERROR, "ArithmeticError: broken")


def make_operator(functions):
    """Make an operator with the fields of the database's that are read."""
    samples = [
        types.SimpleNamespace(
            input=[torch.rand(size, dtype=torch.float64, requires_grad=True)],
            args=(2.0,),
            kwargs={"scale": torch.ones(size, dtype=torch.float64)},
            output_process_fn_grad=process,
        )
        for size, process in functions
    ]
    return types.SimpleNamespace(
        formatted_name="operator",
        get_op=lambda: lambda tensors, power, *, scale: (scale * tensors[0] ** power, 3),
        gradcheck_wrapper=lambda call, *args, **kwargs: call(*args, **kwargs),
        gradcheck_nondet_tol=0.0,
        sample_inputs=lambda *_, **__: iter(samples),
    )


def test_samples_are_small_few_and_functions_of_their_tensors():
    operator = make_operator([(MAX_NUMBERS + 1, None), (0, None), (2, None), (3, lambda output: output[0]), (4, None)])
    samples = list(draw_samples(operator, FLOAT64, 0))
    assert [sample.name for sample in samples] == ["operator[2]", "operator[3]"]
    assert len(samples) == SAMPLES
    (first,), second = samples[0].function(*samples[0].inputs), samples[1].function(*samples[1].inputs)
    assert torch.equal(first, samples[0].inputs[0] ** 2)
    assert torch.equal(second, samples[1].inputs[0] ** 2)


def test_a_random_operator_is_left_out():
    operator = make_operator([(2, lambda output: output[0] * torch.rand(2))])
    assert list(draw_samples(operator, FLOAT64, 0)) == []


def test_a_run_goes_on_with_the_results_of_one_that_ended_early(tmp_path):
    path = tmp_path / "results.jsonl"
    first = SectionCounts(FLOAT64, ResultStore(path))
    first.add_operator(make_operator([(2, lambda output: output[0])]), 0, has_errors=True)
    broken = types.SimpleNamespace(formatted_name="broken")
    first.add_operator(broken, 0, has_errors=False)
    unread = types.SimpleNamespace(formatted_name="operator")
    second = SectionCounts(FLOAT64, ResultStore(path))
    second.add_operator(unread, 0, has_errors=True)
    second.add_operator(broken, 0, has_errors=False)
    assert second.write_document() == first.write_document()
    assert second.write_document()["accepted"] == 1
    other_section = SectionCounts(FORWARD, ResultStore(path))
    other_section.add_operator(unread, 0, has_errors=True)
    assert list(other_section.write_document()["failed_draws"]) == ["operator"]


@pytest.mark.parametrize(("step", "expected"), [(1, "abcde"), (2, "ace"), (9, "a")])
def test_a_part_of_a_section_has_one_operator_in_each_step(monkeypatch, step, expected):
    operators = [types.SimpleNamespace(formatted_name=name) for name in "abcde"]
    monkeypatch.setattr(operator_database, "list_operators", lambda section, names: operators)
    document = operator_database.measure_section(FLOAT64, 0, (), 1, step=step)
    assert list(document["failed_draws"]) == list(expected)


def test_counts_of_a_section_name_all_that_does_not_pass(monkeypatch):
    counts = SectionCounts(FLOAT64)
    counts.add_operator(
        make_operator([(2, lambda output: output[0]), (3, lambda output: output[0])]), 0, has_errors=True
    )
    wrong = make_operator([(2, lambda output: WrongCube.apply(output[0]))])
    wrong.formatted_name = "wrong"
    counts.add_operator(wrong, 0, has_errors=False)
    counts.add_operator(types.SimpleNamespace(formatted_name="broken"), 0, has_errors=False)
    document = counts.write_document()
    assert (document["operators"], document["operators_with_small_samples"], document["accepted"]) == (3, 2, 3)
    assert document["passes"][OURS] == 2
    assert list(document["others"]["refused"]) == ["wrong[0]"]
    assert list(document["failed_draws"]) == ["broken"]
    assert document["planted"][ALL][SLOW] == {"trials": 1, "undecided": 0, "missed": ["operator[0]"]}
    assert document["planted"][ALL][OURS] == {"trials": 1, "undecided": 0, "missed": []}
    whole = {
        "seed": 0,
        "error_step": 1,
        "sections": {"float64": document},
        "versions": {},
        "machine": {"cpu": "", "cores": 1},
    }
    assert "- float64: refused: wrong." in operator_tables.write_markdown(whole)
    monkeypatch.setattr(operator_tables, "FORMULA_OFF", {("float64", "wrong"): "by 1e-4"})
    text = operator_tables.write_markdown(whole)
    assert "- float64: formula off: wrong." in text
    assert "| 2       | 2 (100.0 %)" in text
    assert "float64: refused" not in text


def test_times_are_those_of_samples_that_pass():
    times = operator_times.measure_times(PRODUCT, FLOAT64, turns=2)
    assert times.keys() == {OURS, SLOW, FAST}
    assert all(seconds > 0 for seconds in times.values())
    assert operator_times.measure_times(make_sample(WrongCube.apply, (3,)), FLOAT64, turns=1) is None
    row = operator_times.describe_section("made", [{OURS: 0.008, SLOW: 0.002, FAST: 0.001}])
    assert row == ["made", "1", "8", "2", "4", "8"]
    assert operator_times.describe_section("made", []) == ["made", "0", "-", "-", "-", "-"]


@pytest.fixture(scope="module")
def measurements():
    return json.loads((saved_results.RESULTS / "operator_database.json").read_text())


def test_no_right_gradient_is_refused_and_no_planted_error_missed(measurements):
    for name, counts in measurements["sections"].items():
        assert counts["accepted"] > 100, name
        right = [each for each in counts["others"]["refused"] if not operator_tables.is_formula_off(name, each)]
        assert right == [], name
        assert counts["others"]["error"] == {}, name
        for kind, checkers in counts["planted"].items():
            assert checkers[OURS]["trials"] > 0, (name, kind)
            assert checkers[OURS]["missed"] == [], (name, kind)


def test_a_refusal_and_a_miss_are_seen_in_the_table(measurements):
    counts = measurements["sections"]["float64"]
    refused = {**counts["others"], "refused": {**counts["others"]["refused"], "mul[0]": ""}}
    missed = {**counts["planted"][SIGN], OURS: {"trials": 9, "undecided": 0, "missed": ["mul[0]"]}}
    altered = {**counts, "others": refused, "planted": {**counts["planted"], SIGN: missed}}
    text = operator_tables.write_markdown(
        {**measurements, "sections": {**measurements["sections"], "float64": altered}}
    )
    assert "float64: refused: mul;" in text
    assert "1/9" in text
