"""Forms of ops that PyTorch takes beside the usual one, as a client meets them."""

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from tests.service.checks.graph.test_check import get_report

QUERIES = {"q": np.sin(np.arange(16.0)).reshape(4, 2, 2).tolist()}
KEYS = np.cos(np.arange(24.0) ** 2).reshape(4, 3, 2).tolist()
VALUES = np.sin(np.arange(24.0) ** 2).reshape(4, 3, 2).tolist()
STATISTICS = {"m": [0.3, -0.2], "v": [1.2, 0.4]}
FORMS = {
    "pad, reflect": ("pad(x, [2, 1], mode='reflect')", {"x": [[0.4, -1.2, 0.7]]}, {}),
    "pow of tensors": ("pow(x, p)", {"x": [[1.5, 0.5], [2.0, 0.25]], "p": [2.0, -1.5]}, {}),
    "pow of a number": ("pow(2.0, exponent=p)", {"p": [2.0, -1.5]}, {}),
    "pow with a whole exponent": ("pow(x, p)", {"x": [-2.0, -1.5]}, {"p": [2.0, 3.0]}),
    "clamp by tensors": (
        "clamp(x, lo, hi)", {"x": [[-1.0, 0.5, 3.0]], "lo": [0.0, 0.1, 0.2], "hi": [[1.0], [2.0]]}, {},
    ),
    "clamp from above": ("clamp(x, max=hi)", {"x": [-1.0, 0.5, 3.0], "hi": [1.0, 0.4, 2.0]}, {}),
    "batch_norm in evaluation": (
        "batch_norm(x, weight=w, bias=b, running_mean=m, running_var=v, training=False)",
        {"x": [[1.0, 2.0], [0.5, -1.0]], "w": [1.5, 0.3], "b": [0.1, 0.2]},
        STATISTICS,
    ),
    "batch_norm by its statistics": (
        "batch_norm(x, running_mean=m, running_var=v, training=False)", {"x": [[[1.0], [2.0]]], **STATISTICS}, {},
    ),
    "instance_norm in evaluation": (
        "instance_norm(x, running_mean=m, running_var=v, use_input_stats=False)", {"x": [[[1.0], [2.0]]]}, STATISTICS,
    ),
    "attention with leading axes of each": (
        "scaled_dot_product_attention(q, k, v, m)", QUERIES | {"k": KEYS[:1], "v": VALUES}, {"m": [[0.0, 0.5, -1.0]]},
    ),
    "attention with shared heads": (
        "scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)",
        QUERIES | {"k": KEYS[:2], "v": VALUES[:1]},
        {},
    ),
    "index_add with a factor": (
        "index_add(x, 0, i, s, alpha=-0.5)", {"x": [1.0, 2.0, 0.5], "s": [0.3, -1.0, 2.0]}, {"i": [0, 2, 0]},
    ),
    "gather of a number": ("gather(x, 0, i)", {"x": 0.7}, {"i": 0}),
    "index_select of a number": ("index_select(x, 0, i)", {"x": 0.7}, {"i": [0]}),
    "expand to a number": ("expand(x, [])", {"x": 0.7}, {}),
    "var with the default correction": ("var(x, correction=None)", {"x": [0.5, 2.0, -1.0]}, {}),
    "std with the default correction": ("std(x, correction=None)", {"x": [0.5, 2.0, -1.0]}, {}),
}  # fmt: skip


def check_form(call, weights, tensors, **fields):
    body = {"model": f"y = {call}\nz = sin(y)\nloss = sum(z)", "weights": weights, "tensors": tensors}
    return get_report(body | fields)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("call", "weights", "tensors"), FORMS.values(), ids=FORMS)
def test_the_gradient_of_pytorch_passes_and_a_wrong_one_fails(call, weights, tensors, dtype) -> None:
    report = check_form(call, weights, tensors, dtype=dtype)
    assert report["outcome"] == "pass"
    candidate = {name: np.array(gradient["autograd"]) for name, gradient in report["gradients"].items()}
    assert check_form(call, weights, tensors, dtype=dtype, candidate=as_lists(candidate))["outcome"] == "pass"
    for name, gradient in candidate.items():
        wrong = as_lists(candidate | {name: 1.01 * gradient + 1e-3})
        verdicts = check_form(call, weights, tensors, dtype=dtype, candidate=wrong)["verdicts"]
        assert {key for key, verdict in verdicts.items() if verdict["outcome"] == "fail"} == {name}


def as_lists(candidate):
    return {name: gradient.tolist() for name, gradient in candidate.items()}


def test_half_precision_takes_the_forms() -> None:
    for call, weights, tensors in FORMS.values():
        report = check_form(call, weights, tensors, dtype="bfloat16")
        assert report["outcome"] in ("pass", "inconclusive"), call


REFUSALS = {
    "pow(x)": "one exponent: a number as attribute, or a tensor as second input",
    "clamp(x, x, 1.0)": "two numbers, or two tensors, as min and max",
    "clamp(x)": "a min, a max or both",
    "batch_norm(x, training=False)": "with training=false a running_mean and a running_var of shape [2]",
    "batch_norm(x, running_mean=x)": "running_mean and running_var with training=false alone",
    "instance_norm(x, running_mean=x)": "an input (B, C, ...) of three axes or more",
    "div(x, x, rounding_mode='ceil')": "trunc",
    "narrow(x, 0, 0, -1)": "greater than or equal to 0",
    "scaled_dot_product_attention(x, x, x, dropout_p=0.1)": "d = mul(p, mask)",
    "scaled_dot_product_attention(x, x, x, enable_gqa=True)": "heads on the third axis from the end",
}


@pytest.mark.parametrize(("call", "words"), REFUSALS.items(), ids=REFUSALS)
def test_what_a_form_does_not_take_is_refused_at_its_place(call, words) -> None:
    with pytest.raises(InvalidRequestError) as error:
        check_form(call, {"x": [[1.0, 2.0]]}, {})
    (entry,) = error.value.errors
    assert entry["pointer"] == "/model"
    assert words in entry["detail"]


def test_a_rounded_quotient_has_no_gradient_of_its_own() -> None:
    a, b = [2.5, -1.5, 7.0], [1.0, 0.4, -2.0]
    for mode, wholes in {"floor": [2.0, -4.0, -4.0], "trunc": [2.0, -3.0, -3.0]}.items():
        call = f"div(a, b, rounding_mode='{mode}')"
        body = {"model": f"q = {call}\ny = mul(q, a)\nloss = sum(y)", "weights": {"a": a, "b": b}, "tensors": {}}
        report = get_report(body | {"candidate": {"a": wholes, "b": [0, 0, 0]}})
        assert report["outcome"] == "pass"
        wrong = (np.array(wholes) + np.array(a) / b).tolist()
        assert get_report(body | {"candidate": {"a": wrong, "b": [0, 0, 0]}})["outcome"] == "fail"


def test_a_clamp_between_equal_ends_gives_its_gradient_to_an_end() -> None:
    """PyTorch gives it to neither, though both ends together move the output."""
    weights = {"x": [-1.0], "lo": [0.0], "hi": [0.0]}
    body = {"model": "y = clamp(x, lo, hi)\nloss = sum(y)", "weights": weights, "tensors": {}}
    outcomes = [
        get_report(body | {"candidate": {"x": [0], "lo": [low], "hi": [high]}})["outcome"]
        for low, high in ((0, 1), (1, 0), (0.5, 0.5), (0, 0), (1, 1))
    ]
    assert outcomes == ["pass", "pass", "pass", "fail", "fail"]


@pytest.mark.parametrize(
    "call", ["softmax(x, -1", "log_softmax(x, -1", "cumsum(x, 0", "sum(x", "mean(x", "prod(x", "cumprod(x, 0"]
)
def test_a_node_may_name_the_dtype_of_the_model_and_no_other(call) -> None:
    weights = {"x": [[0.5, 2.0], [1.5, -1.0]]}
    for dtype in ("float32", "bfloat16"):
        named, plain = (
            check_form(text, weights, {}, dtype=dtype) for text in (f"{call}, dtype='{dtype}')", f"{call})")
        )
        assert named["gradients"] == plain["gradients"]
        assert named["model_text"] == plain["model_text"]
    with pytest.raises(InvalidRequestError) as error:
        check_form(f"{call}, dtype='float32')", weights, {})
    (entry,) = error.value.errors
    assert "computes in float64, the dtype of the request" in entry["detail"]
    assert "dtype" not in entry["pointer"]


def test_a_slice_of_no_elements_passes_nothing_back() -> None:
    model = "n = narrow(x, 0, 1, 0)\ns = sum(n)\nt = sum(x)\nloss = add(s, t)"
    report = get_report({"model": model, "weights": {"x": [0.5, 2.0, -1.0]}, "tensors": {}})
    assert report["outcome"] == "pass"
    assert report["gradients"]["x"]["autograd"] == [1.0, 1.0, 1.0]


def test_an_index_of_a_number_is_0() -> None:
    for call in ("index_select(x, 0, i)", "gather(x, 0, i)"):
        with pytest.raises(InvalidRequestError) as error:
            check_form(call, {"x": 0.5}, {"i": 1})
        assert "an index from 0 to 0" in error.value.errors[0]["detail"]
