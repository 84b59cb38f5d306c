"""The harness of operators passes right ones, and finds each bug in a line of its own."""

import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from gradcheckd import GradientError, InconclusiveGradientWarning, RequestError, TensorError
from gradcheckd.torch import OperatorError, OperatorLine, OperatorReport, assert_operator, check_operator
from tests.client import broken_operators as broken

F = torch.nn.functional
LAYOUTS = {"upstream gradient, transposed", "upstream gradient, strided", "upstream gradient, expanded"}
SIZES_OF_ROWS = {f"axes of 4, size {size}" for size in (1, 2, 3)}


@pytest.fixture(autouse=True)
def seed_random_operators() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


X = draw(4, 6)


def list_by_outcome(report: OperatorReport, outcome: str) -> set[str]:
    return {line.name for line in report.lines if line.outcome == outcome}


RIGHT: dict[str, tuple[Callable[..., Any], Sequence[Any]]] = {
    "an autograd function": (broken.Sine.apply, [X]),
    "a linear layer in float32": (F.linear, [draw(*shape, dtype=torch.float32) for shape in ((16, 32), (3, 32), (3,))]),
    "a norm": (lambda x, w, b: F.layer_norm(x, (6,), w, b), [X, draw(6), draw(6)]),
    "a view": (torch.t, [X]),
    "the input itself": (lambda x: x, [X]),
    "several views": (lambda x: x.split(2), [X]),
    "a number": (torch.sum, [X]),
    "an output of integers": (lambda x: x.max(0), [X]),
    "a mapping": (lambda x: {"y": x.sin(), "name": "sine"}, [X]),
    "complex numbers": (torch.mul, [draw(3, 2, dtype=torch.complex128), draw(3, 2, dtype=torch.complex128)]),
    "indices": (F.embedding, [torch.tensor([0, 2, 1, 2]), draw(3, 4)]),
    "other arguments": (torch.sum, [X, 0, True]),
}


@pytest.mark.parametrize(("func", "inputs"), RIGHT.values(), ids=RIGHT)
def test_right_operators_pass(url: str, func: Callable[..., Any], inputs: Sequence[Any]) -> None:
    report = check_operator(func, inputs, url=url)
    assert report.passed, report.text()
    assert report.get_line("gradient").outcome == "pass"
    assert report.get_line("forward pass, repeated").outcome == "pass"


BROKEN: dict[str, tuple[type[torch.autograd.Function], set[str]]] = {
    "reads its upstream gradient as contiguous": (
        broken.UpstreamReadAsContiguous,
        {*LAYOUTS, "upstream gradient, expanded rows"},
    ),
    "ignores an offset": (broken.OffsetIgnored, {"upstream gradient, offset"}),
    "takes a flat view of its upstream gradient": (
        broken.UpstreamViewed,
        {"upstream gradient, transposed", "upstream gradient, expanded rows", "inputs, transposed"},
    ),
    "divides zeros by zeros": (broken.ZeroDivided, {"upstream gradient, zero"}),
    "skips upstream gradients with a zero": (
        broken.MaskedSkipped,
        {"upstream gradient, partly masked"},
    ),
    "reads its input as contiguous": (broken.InputReadAsContiguous, {"inputs, transposed", "inputs, strided"}),
    "writes into its input, forward": (broken.InputWrittenInForward, {"inputs, after the forward pass"}),
    "writes into its input, backward": (
        broken.InputWrittenInBackward,
        {"inputs, after the backward pass", "backward pass, repeated"},
    ),
    "writes into its upstream gradient": (
        broken.UpstreamWritten,
        {
            "upstream gradients, after the backward pass",
            "upstream gradient, expanded",
            "upstream gradient, expanded rows",
        },
    ),
    "writes into a saved tensor": (
        broken.SavedWritten,
        {"saved tensors, after the backward pass", "backward pass, repeated"},
    ),
    "writes into its output": (
        broken.OutputWritten,
        {"outputs, after the backward pass", "backward pass, repeated", "outputs, changed in place"},
    ),
    "keeps its output without autograd": (broken.OutputKept, {"outputs, changed in place"}),
    "differs from run to run, forward": (broken.ForwardRandom, {"forward pass, repeated"}),
    "differs from run to run, backward": (broken.BackwardRandom, {"backward pass, repeated"}),
    "uses its graph up": (broken.GraphUsedUp, {"backward pass, repeated"}),
    "is wrong at size 1": (broken.WrongAtOne, {"axes of 4, size 1", "all axes, size 1"}),
    "is wrong for a single element": (broken.WrongForOneElement, {"all axes, size 1"}),
    "is wrong at odd sizes": (broken.WrongBeyondEven, {"axes of 4, size 1", "axes of 4, size 3", "all axes, size 1"}),
    "raises at size 1": (broken.RaisesAtOne, {"axes of 4, size 1", "axes of 6, size 1", "all axes, size 1"}),
    "has the wrong sign": (
        broken.WrongSign,
        {"gradient", *SIZES_OF_ROWS, *(f"axes of 6, size {size}" for size in (1, 2, 3, 5)), "all axes, size 1"},
    ),
    "takes an output without a gradient for zero": (
        broken.UndefinedIsZero,
        {"upstream gradient, one output at a time"},
    ),
}


@pytest.mark.parametrize(("operator", "names"), BROKEN.values(), ids=BROKEN)
def test_each_bug_fails_in_its_line_alone(url: str, operator: type[torch.autograd.Function], names: set[str]) -> None:
    report = check_operator(operator.apply, [X], url=url)
    assert list_by_outcome(report, "fail") == names, report.text()


def test_an_operator_that_writes_into_its_upstream_gradient_is_judged(url: str) -> None:
    report = check_operator(broken.UpstreamWritten.apply, [X], url=url)
    assert list_by_outcome(report, "inconclusive") == set()
    assert report.get_line("gradient").outcome == "pass"
    line = report.get_line("upstream gradients, after the backward pass")
    assert (line.outcome, line.detail) == ("fail", "changed in place: upstream gradient 0")
    wrong = check_operator(broken.UpstreamWrittenWrongly.apply, [X], url=url)
    assert wrong.get_line("gradient").outcome == "fail"
    right = check_operator(broken.Sine.apply, [X], url=url)
    assert right.get_line("upstream gradients, after the backward pass").outcome == "pass"


def test_an_input_that_is_returned_without_a_view_is_found(url: str) -> None:
    report = check_operator(broken.InputReturned.apply, [X.abs()], url=url)
    assert list_by_outcome(report, "fail") == {"outputs, memory of an input", "outputs, changed in place"}
    assert "output 0 of input 0" in report.get_line("outputs, memory of an input").detail
    copied = check_operator(broken.InputReturned.apply, [X], url=url)
    assert copied.get_line("outputs, memory of an input").outcome == "pass"


def test_inputs_are_left_as_they_are(url: str) -> None:
    x = X.clone().requires_grad_()
    check_operator(broken.InputWrittenInForward.apply, [x], url=url)
    assert torch.equal(x, X)
    assert x.grad is None


def test_only_inputs_that_require_a_gradient_are_judged(url: str) -> None:
    weight = draw(4, 6).requires_grad_()
    report = check_operator(lambda x, w: x.sin() * w, [X, weight], url=url)
    assert report.passed
    assert "input1" not in report.get_line("gradient").detail


def test_sizes_come_from_a_function(url: str) -> None:
    def make_inputs(size: int) -> list[Tensor]:
        return [draw(size, 2) if size != 5 else draw(5, 3)]

    def project(x: Tensor) -> Tensor:
        return broken.WrongAtOne.apply(x) @ torch.ones(2, 1, dtype=x.dtype)

    report = check_operator(project, [draw(4, 2)], make_inputs=make_inputs, url=url)
    outcomes = {line.name: line.outcome for line in report.lines if line.name.startswith("size ")}
    assert outcomes == {"size 1": "fail", "size 2": "pass", "size 3": "pass", "size 5": "not run", "size 7": "pass"}
    assert "the operator refuses it: RuntimeError" in report.get_line("size 5").detail


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, r"returned None for the size 1\. Return the inputs of the operator, 1, as a tuple\."),
        (3, "returned int for the size 1"),
        ([X, X], "returned 2 inputs for the size 1"),
    ],
    ids=["nothing", "a number", "another number of inputs"],
)
def test_a_function_of_sizes_that_makes_no_inputs_is_refused(url: str, made: Any, said: str) -> None:
    with pytest.raises(RequestError, match=f"make_inputs {said}"):
        check_operator(torch.sin, [X], make_inputs=lambda _: made, url=url)


def test_a_function_of_sizes_may_make_a_single_tensor(url: str) -> None:
    report = check_operator(torch.sin, [X], make_inputs=lambda size: draw(size, 2), url=url)
    assert report.passed
    assert report.get_line("size 1").outcome == "pass"


def test_layouts_that_the_operator_refuses_by_an_error_do_not_run(url: str) -> None:
    def refuse(x: Tensor) -> Tensor:
        if not x.is_contiguous():
            raise ValueError("x must be contiguous")
        return x.sin()

    report = check_operator(refuse, [X], url=url)
    assert list_by_outcome(report, "fail") == set()
    line = report.get_line("inputs, transposed")
    assert (line.outcome, line.detail) == ("not run", "the operator refuses them: ValueError: x must be contiguous")


def test_a_number_has_few_lines(url: str) -> None:
    report = check_operator(torch.sin, [torch.tensor(0.5, dtype=torch.float64)], url=url)
    assert report.passed
    assert list_by_outcome(report, "not run") >= {"sizes", "upstream gradient, partly masked", "inputs, strided"}


def test_the_spread_of_equal_calls_may_be_allowed(url: str) -> None:
    report = check_operator(broken.ForwardRandom.apply, [X], nondet_tol=1e-11, url=url)
    line = report.get_line("forward pass, repeated")
    assert line.outcome == "pass"
    assert re.fullmatch(r"3 calls: output 0 differs by [\d.]+e-13; allowed are 1e-11", line.detail)


def test_options_go_to_the_check_of_the_gradients(url: str) -> None:
    def off(x: Tensor) -> Tensor:
        return x.sin() + (x * 1e-3 - (x * 1e-3).detach())

    strict = check_operator(off, [X], url=url)
    assert strict.get_line("gradient").outcome == "fail"
    assert check_operator(off, [X], options={"tolerance": {"rtol": 0.1, "atol": 0.1}}, url=url).passed


def test_outputs_of_a_shape_that_depends_on_numbers_are_undecided(url: str) -> None:
    x = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    report = check_operator(lambda x: x[x > 0.999].sin(), [x], url=url)
    assert report.get_line("gradient").outcome == "inconclusive"
    assert "not judged: FunctionError" in report.get_line("gradient").detail


def test_a_pole_is_undecided(url: str) -> None:
    report = check_operator(
        lambda x: 1 / (x - 1), [torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)], url=url
    )
    assert list_by_outcome(report, "fail") == set()
    assert report.outcome == "inconclusive"
    assert report.get_line("inputs, transposed").detail.startswith("output 0, gradient 0: not finite when the inputs")


def test_other_numbers_of_outputs_in_a_layout_fail(url: str) -> None:
    report = check_operator(lambda x: (x.sin(), x.cos())[: 1 + x.is_contiguous()], [X], url=url)
    assert report.get_line("inputs, transposed").outcome == "fail"


def test_reports_are_read_and_raised(url: str) -> None:
    report = check_operator(broken.WrongAtOne.apply, [X], url=url)
    assert isinstance(report, OperatorReport)
    assert (report.outcome, report.passed, str(report)) == ("fail", False, "fail: 2 fail, 26 pass, 1 not run")
    lines = report.text().splitlines()
    assert lines[0] == str(report)
    assert lines[2].startswith("  fail          axes of 4, size 1 ")
    assert len(lines) == 2 + len(report.lines)
    with pytest.raises(KeyError, match="No line 'sizes'; the report has 'gradient', "):
        report.get_line("sizes")
    with pytest.raises(OperatorError) as caught:
        assert_operator(broken.WrongAtOne.apply, [X], url=url)
    assert isinstance(caught.value, GradientError)
    assert str(caught.value) == report.text()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.report, str(copy)) == (report, report.text())
    assert assert_operator(broken.Sine.apply, [X], url=url).passed


def test_an_undecided_operator_raises_or_warns(url: str) -> None:
    pole = torch.tensor([1.0, 2.0], dtype=torch.float64)
    with pytest.raises(OperatorError, match=r"^inconclusive: "):
        assert_operator(lambda x: 1 / (x - 1), [pole], url=url)
    with pytest.warns(InconclusiveGradientWarning, match=r"^inconclusive: ") as warned:
        report = assert_operator(lambda x: 1 / (x - 1), [pole], inconclusive="warn", url=url)
    assert report.outcome == "inconclusive"
    assert warned[0].filename == __file__


def test_a_report_without_lines_has_no_rows() -> None:
    assert OperatorReport(()).text() == "pass: \n\n"
    assert OperatorReport((OperatorLine("a", "not run", ""),)).passed


REFUSED: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "no function": (X, [X], {}, RequestError, "func takes the inputs as arguments; Tensor was given"),
    "no floats": (torch.sin, [torch.arange(3), 1.0], {}, TensorError, "No input is a tensor of floats"),
    "no tensor": (lambda x: None, [X], {}, TensorError, "The operator returned no tensor"),
    "no graph": (lambda x: x.detach().sin(), [X], {}, TensorError, "No output of the operator depends on its inputs"),
    "another way to be undecided": (torch.sin, [X], {"inconclusive": "pass"}, RequestError, "inconclusive is"),
    "an error of the operator": (torch.mm, [X, X], {}, RuntimeError, "shapes cannot be multiplied"),
}


@pytest.mark.parametrize(("func", "inputs", "options", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_other_arguments_are_refused(
    url: str, func: Any, inputs: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        assert_operator(func, inputs, url=url, **options)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
def test_the_gradient_of_a_sparse_input_is_not_judged(url: str, layout: str) -> None:
    x = getattr(torch.eye(3, dtype=torch.float64), layout)().requires_grad_()
    report = check_operator(lambda a: a @ torch.ones(3, 2, dtype=torch.float64), [x], url=url)
    line = report.get_line("gradient")
    assert line.outcome == "inconclusive"
    assert re.match(r"not judged: input 0 has the layout sparse_\w\w\w; gradcheckd.torch.gradcheck moves", line.detail)


def test_a_datatype_without_arithmetic_is_refused(url: str) -> None:
    with pytest.raises(
        TensorError, match=r"Input 0 has datatype torch\.float8_e4m3fn, in which torch does not compute"
    ):
        check_operator(lambda x: 2 * x.float(), [draw(3).to(torch.float8_e4m3fn)], url=url)


def test_empty_inputs_have_a_report(url: str) -> None:
    report = check_operator(torch.sin, [draw(0, 3)], url=url)
    assert list_by_outcome(report, "fail") == set()
    assert "empty" in report.get_line("gradient").detail


def test_a_single_tensor_is_an_input(url: str) -> None:
    assert check_operator(torch.sin, X, url=url).passed


def test_all_places_of_a_refusal_are_named(url: str) -> None:
    empty = torch.zeros((0, 3), dtype=torch.float64)
    line = check_operator(torch.mul, [empty, empty], url=url).get_line("gradient")
    assert line.outcome == "inconclusive"
    assert re.fullmatch(r"not judged: /point/input0: empty: .*; /point/input1: empty: .*", line.detail)
