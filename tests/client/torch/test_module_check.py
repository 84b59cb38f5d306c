"""Bugs in backward passes are found; what cannot be imported is refused with all its reasons."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradcheckd.errors import GradientError, RequestError
from gradcheckd.report_parts import Diagnosis
from gradcheckd.torch import ModuleImportError, assert_module, check_module, from_module
from tests.client.torch import broken_functions
from tests.client.torch.broken_functions import (
    NumpyBlock,
    NumpySquare,
    SplitSquare,
    StraightThrough,
    Swish,
    SwishBlock,
)

pytestmark = pytest.mark.covers_by_cases


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def test_bug_of_a_custom_function_is_found_in_three_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = draw(3, 4), draw(2, 4)
    assert assert_module(Swish.apply, (x, w)).passed
    monkeypatch.setattr(Swish, "factor", -1.0)
    with pytest.raises(GradientError, match="x sign_flipped") as caught:
        assert_module(Swish.apply, (x, w))
    assert caught.value.report.verdicts["w"].outcome == "pass"
    assert len(str(caught.value).splitlines()) <= 25


def test_same_module_in_float32_and_bfloat16_has_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    # Numbers that bfloat16 holds, so that all graphs are of the same function at the same point.
    module, x = SwishBlock().bfloat16(), draw(5, 3, dtype=torch.bfloat16)
    graphs = []
    for dtype, name in ((torch.float64, "FP64"), (torch.float32, "FP32"), (torch.bfloat16, "BF16")):
        request = from_module(module.to(dtype), x.to(dtype))
        graphs.append((request.model, {key: value.tolist() for key, value in request.weights.items()}))
        assert request.arithmetic == name
        assert check_module(module, x.to(dtype)).outcome != "fail"
    assert graphs[0] == graphs[1] == graphs[2]
    monkeypatch.setattr(Swish, "factor", 1.5)
    for dtype in (torch.float32, torch.bfloat16):
        assert check_module(module.to(dtype), x.to(dtype)).outcome == "fail"


@pytest.mark.parametrize(
    "function",
    [
        torch.floor, torch.ceil, torch.trunc, torch.round, torch.sign, torch.fix, torch.sgn,
        lambda x: torch.round(x, decimals=2),
        lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    ],
)  # fmt: skip
def test_output_that_is_a_step_function_has_a_gradient_of_zero(function: Callable[..., Any]) -> None:
    assert check_module(function, draw(5).requires_grad_()).passed


def test_gradient_that_is_handed_through_a_rounding_fails() -> None:
    assert check_module(StraightThrough.apply, draw(5).requires_grad_()).outcome == "fail"


def test_statistics_beside_a_normalisation_are_outputs_without_a_gradient() -> None:
    x = draw(3, 4).requires_grad_()
    report = check_module(lambda x: torch.native_layer_norm(x, [4], None, None, 1e-5), x)
    assert report.passed


def test_function_of_several_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(4).requires_grad_()
    request = from_module(SplitSquare.apply, (x, 3))
    assert list(request.cotangents) == ["0", "1"]
    assert check_module(SplitSquare.apply, (x, 3)).passed
    monkeypatch.setattr(SplitSquare, "sign", -1.0)
    assert check_module(SplitSquare.apply, (x, 3)).outcome == "fail"
    assert check_module(SplitSquare.apply, (x, 3), output="0").passed
    assert check_module(SplitSquare.apply, (x, 3), output="1").outcome == "fail"


def test_function_that_cannot_be_traced_has_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleImportError, match=r"broken_functions.py:\d+: .*Give reference="):
        check_module(NumpySquare.apply, draw(3))
    module = NumpyBlock().double()
    assert check_module(NumpySquare.apply, draw(3), reference=lambda x: x * x).passed
    assert check_module(module, draw(4, 3), reference=module.compute_plainly).passed
    monkeypatch.setattr(NumpySquare, "factor", 2.01)
    assert check_module(NumpySquare.apply, draw(3), reference=lambda x: x * x).outcome == "fail"
    report = check_module(module, draw(4, 3), reference=module.compute_plainly)
    assert {name for name, verdict in report.verdicts.items() if verdict.outcome == "fail"} >= {"fc.weight", "fc.bias"}


def test_reference_module_takes_the_numbers_of_the_module() -> None:
    module, other = nn.Sequential(nn.Linear(3, 2)).double(), nn.Sequential(nn.Linear(3, 2)).double()
    assert check_module(module, draw(4, 3), reference=other).passed
    with pytest.raises(RequestError, match=r"'0.weight' has shape \[3, 3\] in the reference, and \[2, 3\]"):
        check_module(module, draw(4, 3), reference=nn.Sequential(nn.Linear(3, 3)).double())
    with pytest.raises(RequestError, match=r"has a parameter '1\.weight'; those of the module are: 0\.weight, 0\.bias"):
        check_module(module, draw(4, 3), reference=nn.Sequential(nn.Tanh(), nn.Linear(3, 2)).double())
    with pytest.raises(RequestError, match=r"has shape \[4, 2\], and that of its reference \[4\]"):
        check_module(module, draw(4, 3), reference=lambda x: module(x).sum(1))


def test_check_changes_nothing() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    x, state = draw(4, 3).requires_grad_(), {name: value.clone() for name, value in module.state_dict().items()}
    assert check_module(module, x).passed
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert x.grad is None
    assert all(parameter.grad is None for parameter in module.parameters())


class Detached(nn.Module):
    """Gradients stop where the forward pass says so; a parameter is not used, another one only by a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.idle = (nn.Parameter(draw(3) + shift) for shift in (2.0, 3.0, 4.0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.a.norm()
        return self.a * x / scale + self.b.detach() * x + (self.b * x).round() + (x * self.b - x.data)


def test_stopped_gradients_stay_stopped() -> None:
    module = Detached().double()
    request = from_module(module, draw(4, 3))
    assert set(request.weights) == {"a", "b"}
    assert set(request.unused) == {"idle"}
    assert check_module(module, draw(4, 3)).passed


def test_gradient_of_an_unused_parameter_must_be_zero() -> None:
    class Leaking(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, idle: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
            return 2 * gradient, 1e-3 * gradient

    report = check_module(Leaking.apply, (draw(3), draw(3)))
    assert {name: verdict.outcome for name, verdict in report.verdicts.items()} == {"x": "pass", "idle": "fail"}


def test_gradient_that_is_lost_fails() -> None:
    module = nn.Linear(3, 2).double()
    broken = broken_functions.SwishBlock().double()
    broken.fc.weight.register_hook(torch.zeros_like)
    assert check_module(module, draw(4, 3)).passed
    assert check_module(broken, draw(4, 3)).verdicts["fc.weight"].outcome == "fail"


def test_loss_of_the_caller_is_the_loss() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    module = nn.Linear(3, 2).double()
    report = check_module(module, draw(4, 3), loss=lambda scores: functional.cross_entropy(scores, labels))
    assert report.passed
    expected = functional.cross_entropy(module(draw(4, 3)), labels)
    assert report.loss.analytic == pytest.approx(expected.item())
    assert report.raw["model"]["nodes"][-1]["op"] == "cross_entropy"


def test_nodes_have_the_names_of_the_source() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            scores = torch.tanh(self.fc(x))
            return scores.softmax(-1)

    nodes = from_module(Named(), draw(2, 3).float()).model["nodes"]
    assert [node["name"] for node in nodes[:3]] == ["fc.linear", "scores", "softmax"]


def test_shared_weights_are_one_weight() -> None:
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    request = from_module(nn.Sequential(first, nn.Tanh(), second).double(), draw(2, 3))
    assert list(request.weights) == ["0.weight"]
    assert check_module(nn.Sequential(first, nn.Tanh(), second).double(), draw(2, 3)).passed


def test_frozen_parameters_and_inputs_are_constants() -> None:
    layer = nn.Linear(3, 2).double()
    layer.bias.requires_grad_(False)
    x, y = draw(4, 3), draw(4, 2).requires_grad_()
    request = from_module(lambda x, y: layer(x) * y, (x, y))
    assert request.with_respect_to == ("layer.weight", "y")


def test_all_unsupported_operators_are_said_at_once() -> None:
    class Unsupported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.drop = nn.Linear(3, 3), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.special.bessel_j0(self.fine(x)) + torch.special.bessel_j0(x)
            return self.drop(torch.special.i1(y))

    with pytest.raises(ModuleImportError) as caught:
        from_module(Unsupported().double(), draw(2, 3))
    error = pickle.loads(pickle.dumps(caught.value))
    assert [(operator.operator, operator.count) for operator in error.unsupported] == [
        ("aten.special_bessel_j0.default", 2),
        ("aten.special_i1.default", 1),
        ("aten.native_dropout.default", 1),
    ]
    assert error.checkable == ("fine",)
    text = str(error)
    assert "4 of its nodes" in text
    assert "call .eval(), or set its probability to 0; at drop.native_dropout" in text
    assert "can be checked alone: fine." in text
    assert "test_module_check.py:" in text


def choose_by_sum(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


class Opaque:
    """A result of a class that torch cannot look into."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


@pytest.mark.parametrize(
    ("function", "x", "message"),
    [
        (choose_by_sum, draw(3), r"branches on the value of a tensor at test_module_check.py:\d+"),
        (lambda x: x * (x > 0), torch.tensor([0.0, 1.0]), "aten.gt at .* jumps at this very point"),
        (torch.rand_like, draw(3), "it draws random numbers"),
        (lambda x: x * torch.rand(3), draw(3), "it draws random numbers"),
        (lambda x: x.long(), draw(3), "no tensor of floats"),
        (lambda x: x.detach(), draw(3), "No output depends"),
        (lambda x: x.log(), -draw(3).abs(), "NaN or infinite at the point"),
        (Opaque, draw(3), "returns Opaque at the result.*Give loss="),
        (torch.tanh, torch.tensor([1, 2]), "nothing to judge"),
        (torch.tanh, torch.tensor([1.0, torch.inf], requires_grad=True), "NaN or infinities"),
        (torch.tanh, torch.zeros(0), "no elements"),
        (lambda x: torch.view_as_complex(x).abs(), draw(3, 2), "complex numbers"),
        (lambda x: torch.linalg.pinv(x @ x.mT, hermitian=True), draw(3, 3), "it reads one triangle"),
        (lambda x: torch.linalg.pinv(x @ x.mT), draw(3, 2), "has not full rank"),
        (lambda x: torch.linalg.pinv(x, atol=100.0) + x, draw(3, 3), "has not full rank"),
        (lambda x: torch.linalg.cholesky(x + 5 * torch.eye(3).double()), draw(3, 3), "is not symmetric"),
        (lambda x: x.to_sparse().to_dense(), draw(3), "a sparse tensor"),
        (torch.abs, draw(3).to(torch.complex128).requires_grad_(), "input0 is complex; give its real"),
    ],
)
def test_module_that_cannot_be_imported_is_refused(function: Callable[..., Any], x: Tensor, message: str) -> None:
    with pytest.raises(ModuleImportError, match=message):
        check_module(function, x)


def test_name_of_an_output_that_is_none_is_refused() -> None:
    with pytest.raises(ModuleImportError, match=r"No output 'c'; the module returns 'a', 'b\.0'"):
        from_module(lambda x: {"a": x * 2, "b": (x.sum(),)}, draw(3), output="c")


def count_larger(x: Tensor) -> Tensor:
    return x * (x > 1.0).sum()


def test_constant_that_low_precision_may_change_is_refused() -> None:
    scores = torch.tensor([1.0, 1.0 + 2**-7, 3.0], dtype=torch.bfloat16) + 2**-7
    with pytest.raises(ModuleImportError, match=r"aten.gt at .* may come out otherwise in BF16"):
        check_module(count_larger, scores)
    assert check_module(count_larger, scores.double()).passed


def test_comparison_in_a_node_is_judged_where_it_matters() -> None:
    def square_larger(x: Tensor) -> Tensor:
        y = x * 1.5
        return torch.where(y > 1.5, y * y, y)

    scores = torch.tensor([1.0 + 2**-7, 3.0], dtype=torch.bfloat16)
    request = from_module(square_larger, scores)
    assert [node["op"] for node in request.model["nodes"]][:4] == ["mul", "gt", "mul", "where"]
    assert not request.fixed
    report = check_module(square_larger, scores)
    assert report.outcome == "inconclusive"
    assert report.verdicts["x"].elements.inconclusive == 1
    assert check_module(square_larger, scores.double()).passed


def test_comparison_with_a_constant_that_low_precision_rounds_is_refused() -> None:
    def square_larger(x: Tensor) -> Tensor:
        return torch.where(x > 0.3, x * x, x)

    rounded = torch.tensor([0.3, 1.0], dtype=torch.bfloat16)
    assert (rounded.double() > 0.3)[0] != (rounded > 0.3)[0]
    with pytest.raises(ModuleImportError, match=r"aten.gt at .* may come out otherwise in BF16"):
        check_module(square_larger, rounded)
    assert check_module(square_larger, rounded.double()).passed
    assert check_module(square_larger, 1.5 * rounded).passed


class WrongAtMask(torch.autograd.Function):
    """A choice whose backward pass takes the other branch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x > 0.25, x * x, 3 * x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * torch.where(x < 0.25, 2 * x, 3.0)


def test_wrong_branch_of_a_choice_fails() -> None:
    assert check_module(lambda x: torch.where(x > 0.25, x * x, 3 * x), draw(5)).passed
    assert check_module(WrongAtMask.apply, draw(5)).outcome == "fail"


def mix_experts(x: Tensor) -> Tensor:
    weights, chosen = x.softmax(-1).topk(2, -1)
    return torch.gather(x * x, -1, chosen) * weights


def test_positions_from_data_are_nodes() -> None:
    nodes = {node["op"]: node for node in from_module(mix_experts, draw(3, 4)).model["nodes"]}
    assert nodes["topk"]["inputs"] == ["softmax"]
    assert nodes["gather"]["inputs"][1].endswith(".indices")
    assert check_module(mix_experts, draw(3, 4)).passed


def test_equal_elements_of_an_order_are_judged_by_the_service() -> None:
    ties = torch.tensor([1.0, 1.0, 0.5, 2.0], dtype=torch.float64)
    assert check_module(lambda x: x.sort().values[2:] ** 2, ties).passed
    assert check_module(lambda x: x.topk(2).values, torch.ones(4, dtype=torch.float64)).outcome == "inconclusive"
    assert check_module(lambda x: torch.gather(x * x, 0, x.argsort()), ties).outcome == "inconclusive"
    with pytest.raises(ModuleImportError, match=r"aten.argsort at .* jumps at this very point"):
        check_module(lambda x: torch.arange(4.0).double()[x.argsort()] * x, ties)


def unpool(x: Tensor) -> Tensor:
    pooled, places = functional.max_pool2d(x, 2, return_indices=True)
    return functional.max_unpool2d(pooled * pooled, places, 2)


def test_loss_that_is_one_output_of_a_node() -> None:
    report = check_module(lambda x: x.max(0).values, draw(4))
    assert report.passed
    assert report.loss.analytic == float(draw(4).max())
    assert check_module(lambda x: x[0], draw(1)).passed
    assert check_module(lambda x: x, draw()).passed


def test_places_of_a_pool_are_constants_away_from_its_ties() -> None:
    image = draw(1, 1, 4, 6)
    assert check_module(unpool, image).passed
    request = from_module(unpool, image)
    (choice,) = request.fixed
    windows = image.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).sort(-1).values
    distances = (windows[..., 3] - windows[..., 2]) / windows.abs()[..., 2:].amax(-1)
    assert choice.margin == pytest.approx(float(distances.min()))
    image[0, 0, :2, :2] = 1.0
    with pytest.raises(ModuleImportError, match=r"max_pool2d_with_indices at .* jumps at this very point"):
        from_module(unpool, image)
    assert from_module(lambda x: functional.max_pool2d(x, 2), image).fixed == ()


def test_input_behind_truths_alone_has_a_gradient_of_zero() -> None:
    def choose(x: Tensor, gate: Tensor) -> Tensor:
        return torch.where(gate > 0, x, 2 * x)

    request = from_module(choose, (draw(3), -draw(3)))
    assert request.with_respect_to == ("x",)
    assert check_module(choose, (draw(3), -draw(3))).passed
    with pytest.raises(ModuleImportError, match="otherwise than by integers or truths"):
        from_module(lambda x: torch.where(x > 0, 1.0, 2.0), draw(3))


def test_masks_in_other_places_are_nodes() -> None:
    def mask(x: Tensor) -> Tensor:
        shown = (x > 0).logical_and(x < 1)[:, None].expand(3, 2, 4)
        return x[:, None].masked_fill(~shown, 0.5) * shown.transpose(1, 2).transpose(1, 2)

    request = from_module(mask, draw(3, 4))
    assert not request.fixed
    assert check_module(mask, draw(3, 4)).passed


def test_fused_layer_and_loss_is_one_node() -> None:
    def lose(x: Tensor, w: Tensor) -> Tensor:
        options = nn.modules.LinearCrossEntropyOptions()
        return functional.linear_cross_entropy(x, w, torch.tensor([0, 2, 1]), options=options)

    request = from_module(lose, (draw(3, 4), draw(3, 4)))
    assert [node["op"] for node in request.model["nodes"]] == ["linear_cross_entropy"]
    assert check_module(lose, (draw(3, 4), draw(3, 4))).passed


def test_loss_that_looks_at_its_variances_is_traced() -> None:
    x, target, variance = draw(3, 4), draw(3, 4) + 1, draw(3, 4).abs() + 0.1
    for options in ({"reduction": "sum"}, {"full": True}, {"reduction": "none", "eps": 0.5}):

        def lose(x: Tensor, variance: Tensor, options: dict[str, Any] = options) -> Tensor:
            return functional.gaussian_nll_loss(x, target, variance, **options)

        report = check_module(lose, (x, variance))
        assert report.passed
        expected = lose(x, variance)
        if not expected.ndim:
            assert report.loss.analytic == pytest.approx(float(expected), rel=1e-12)


def test_complex_numbers_are_refused_once() -> None:
    with pytest.raises(ModuleImportError, match="complex numbers") as caught:
        from_module(lambda x: torch.fft.irfft(torch.fft.rfft(x) * 2).abs(), draw(4))
    assert [operator.operator for operator in caught.value.unsupported] == [
        "aten._fft_r2c.default", "aten.mul.Tensor", "aten._fft_c2r.default",
    ]  # fmt: skip


def test_nodes_have_the_lines_that_call_them() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).tanh()

    module = nn.Sequential(Outer()).double()
    report = check_module(module, draw(2, 3))
    lines = {name: report.places[name] for name in ("0.inner.linear", "0.tanh")}
    assert set(lines.values()) == {f"test_module_check.py:{Outer.forward.__code__.co_firstlineno + 1}"}
    assert "output.loss" not in report.places
    assert pickle.loads(pickle.dumps(report)).places == report.places


def test_report_names_the_lines_of_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = draw(3, 4), draw(2, 4)
    report = check_module(Swish.apply, (x, w))
    assert report.named_places == {}
    monkeypatch.setattr(Swish, "factor", -1.0)
    report = check_module(Swish.apply, (x, w))
    node = next(iter(report.places))
    verdict = report.verdicts["x"]
    named = replace(report, verdicts={"x": replace(verdict, diagnoses=(Diagnosis("bug", f"At {node}.", 0.0),))})
    assert named.named_places == {node: report.places[node]}
    assert named.text().endswith(f"Source\n  {node}: {report.places[node]}\n")


def test_masks_with_minus_infinity_are_those_of_large_numbers() -> None:
    hidden = torch.ones(3, 3, dtype=torch.bool).triu(1)

    def attend(x: Tensor) -> Tensor:
        return (x @ x.t()).masked_fill(hidden, float("-inf")).softmax(-1) @ x

    assert check_module(attend, draw(3, 3)).passed
    with pytest.raises(ModuleImportError, match="minus infinity reaches it"):
        from_module(lambda x: x.masked_fill(hidden, float("-inf")).tanh(), draw(3, 3))


class Caching(nn.Module):
    """Keeps a table of its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.tables = nn.Parameter(torch.ones(3)), dict[int, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) not in self.tables:
            self.tables[len(x)] = torch.arange(len(x), dtype=x.dtype).cos()
        return self.weight * x * self.tables[len(x)][:, None]


def test_caches_of_a_module_hold_numbers_after_a_check() -> None:
    module = Caching().double()
    assert check_module(module, draw(4, 3)).passed
    torch.testing.assert_close(module.tables[4], torch.arange(4.0).double().cos())


def test_errors_of_the_module_are_its_own() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        check_module(nn.Linear(3, 2), torch.zeros(4, 5))
