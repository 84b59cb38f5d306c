"""The replacement of jax's checker: pytrees, both modes, two orders, 32 and 64 bits."""

import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from gradcheckd import GradientError, InconclusiveGradientWarning, RequestError, TensorError
from gradcheckd.jax import DerivativeError, check_grads

X = np.random.default_rng(0).normal(size=(2, 3))
Z = X + 1j * X[::-1]


@pytest.fixture(autouse=True)
def name_service(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)


@pytest.fixture(params=[False, True], ids=["32 bits", "64 bits"])
def is_wide(request: pytest.FixtureRequest) -> Iterator[bool]:
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def float64_mode() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def apply_layer(parameters: Any, x: Any) -> Any:
    return {"y": jnp.tanh(parameters["layer/w"] @ x), "more": [parameters["scale"] ** 2 * x.sum(), None]}


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "an array": (jnp.sin, (X,)),
    "pytrees": (apply_layer, ({"layer/w": X, "scale": 0.5}, np.ones(3))),
    "complex numbers": (lambda z: z**2 * jnp.conj(z), (Z,)),
    "a real number of complex ones": (lambda z: (z * jnp.conj(z)).real.sum(), (Z,)),
    "indices": (lambda x, i: (x[i], i), (X, np.array([1, 0]))),
    "more than 16 numbers": (jax.nn.softmax, (np.random.default_rng(1).normal(size=(3, 6)),)),
}


@pytest.mark.no_cover
@pytest.mark.usefixtures("is_wide")
@pytest.mark.parametrize(("f", "args"), RIGHT.values(), ids=RIGHT)
def test_right_derivatives_pass(f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    check_grads(f, args, order=1)


@pytest.mark.usefixtures("is_wide")
def test_right_second_derivatives_pass() -> None:
    check_grads(*RIGHT["complex numbers"], order=2)


@pytest.mark.no_cover
@pytest.mark.usefixtures("float64_mode")
def test_right_second_derivatives_of_pytrees_pass() -> None:
    check_grads(*RIGHT["pytrees"], order=2)


@pytest.mark.usefixtures("float64_mode")
def test_linearized_functions_are_checked() -> None:
    check_grads(jnp.sin, (X,), 2, modes=["lin"])


def make_sine(jvp_factor: float = 1.0, vjp_factor: float = 1.0) -> Callable[..., Any]:
    """Return a sine with factors on its products; they hold for one mode each."""

    @jax.custom_vjp
    def sine(x: Any) -> Any:
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (vjp_factor * g * jnp.cos(x),))
    if vjp_factor != 1.0:
        return sine
    forward = jax.custom_jvp(jnp.sin)
    forward.defjvps(lambda tangent, _, x: jvp_factor * tangent * jnp.cos(x))
    return forward


@pytest.mark.no_cover
@pytest.mark.parametrize("factor", [2.0, -1.0, 1.001])
def test_wrong_products_fail_in_each_mode(is_wide: bool, factor: float) -> None:
    for mode, f in (("fwd", make_sine(jvp_factor=factor)), ("rev", make_sine(vjp_factor=factor))):
        with pytest.raises(DerivativeError) as caught:
            check_grads(f, (X,), 1, modes=[mode])
        assert caught.value.level == {"fwd": "JVP", "rev": "VJP"}[mode]
        assert str(caught.value).startswith(f"{caught.value.level}: ")
    check_grads(make_sine(vjp_factor=1 + (1e-13 if is_wide else 1e-7)), (X,), 1, modes="rev")


@pytest.mark.no_cover
@pytest.mark.usefixtures("float64_mode")
def test_one_wrong_element_is_named_by_its_path() -> None:
    @jax.custom_vjp
    def compute_outputs(parameters: Any) -> Any:
        return jnp.sin(parameters["w"]) * parameters["b"]

    def backward(parameters: Any, g: Any) -> Any:
        w, b = parameters["w"], parameters["b"]
        return ({"w": (g * jnp.cos(w) * b).at[1, 2].multiply(1.0001), "b": (g * jnp.sin(w)).sum()},)

    compute_outputs.defvjp(lambda parameters: (compute_outputs(parameters), parameters), backward)
    with pytest.raises(DerivativeError) as caught:
        check_grads(compute_outputs, ({"w": X, "b": 2.0},), 1, modes=("rev",))
    verdicts = caught.value.report.verdicts
    assert {name: verdict.outcome for name, verdict in verdicts.items()} == {
        "output/args[0]['w']": "fail",
        "output/args[0]['b']": "pass",
    }
    assert verdicts["output/args[0]['w']"].worst[0].index == (1, 2)
    test_util.check_grads(compute_outputs, ({"w": X, "b": 2.0},), 1, modes=("rev",), atol=1e-2, rtol=1e-2)


@pytest.mark.no_cover
@pytest.mark.usefixtures("is_wide")
def test_a_wrong_second_derivative_is_found_at_the_second_order_alone() -> None:
    forward = jax.custom_jvp(jnp.sin)
    forward.defjvps(lambda tangent, _, x: tangent * jax.lax.stop_gradient(jnp.cos(x)))
    check_grads(forward, (X,), 1)
    with pytest.raises(DerivativeError, match=r"^JVP and VJP of JVP: "):
        check_grads(forward, (X,), 2)
    with pytest.raises(DerivativeError, match=r"^VJP of VJP: "):
        check_grads(forward, (X,), 2, modes=["rev"])


@pytest.mark.no_cover
@pytest.mark.usefixtures("float64_mode")
def test_a_wrong_conjugate_is_found() -> None:
    forward = jax.custom_jvp(lambda z: z**2)
    forward.defjvps(lambda tangent, _, z: 2 * jnp.conj(z) * tangent)
    with pytest.raises(DerivativeError):
        check_grads(forward, (Z,), 1)


@pytest.mark.usefixtures("float64_mode")
def test_explicit_tolerances_are_obeyed() -> None:
    f = make_sine(vjp_factor=1.001)
    check_grads(f, (X,), 1, modes=["rev"], rtol=1e-2)
    check_grads(f, (X,), 1, modes=["rev"], atol={np.float64: 1e-2, np.float32: 0.0})
    for options in ({"rtol": 1e-5}, {"atol": {np.float32: 1.0}}, {"eps": 1e-3}):
        with pytest.raises(DerivativeError):
            check_grads(f, (X,), 1, modes=["rev"], **options)
    # Rounding is allowed beside a tolerance that is smaller.
    check_grads(jnp.sin, (X,), 1, rtol=1e-30, atol=0.0)


@pytest.mark.usefixtures("float64_mode")
@pytest.mark.parametrize("modes", [("fwd", "rev"), ("lin",)])
def test_undecided_checks_go_to_jax(modes: tuple[str, ...]) -> None:
    kink = (np.array([0.0, 1.0]),)
    with pytest.warns(InconclusiveGradientWarning, match=r"could not decide on .*, so that jax's own") as warned:
        check_grads(lambda x: jnp.maximum(x, 0), kink, 1, modes=modes)
    assert warned[0].filename == __file__
    with (
        pytest.warns(InconclusiveGradientWarning),
        pytest.raises(AssertionError, match="Not equal to tolerance") as caught,
    ):
        check_grads(jax.nn.relu, kink, 1, modes=modes)
    assert not isinstance(caught.value, GradientError)


def test_bfloat16_is_too_coarse_but_for_the_comparison_of_jax() -> None:
    with pytest.warns(InconclusiveGradientWarning):
        check_grads(lambda x: 2 * x, (jnp.asarray(X, jnp.bfloat16),), 1, eps=0.25)


@pytest.mark.usefixtures("float64_mode")
def test_errors_go_to_other_processes() -> None:
    with pytest.raises(DerivativeError) as caught:
        check_grads(make_sine(vjp_factor=2.0), (X,), 1, modes=["rev"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.level, copy.report.outcome) == (str(caught.value), "VJP", "fail")


def test_errors_of_the_function_are_raised() -> None:
    with pytest.raises(TypeError, match="custom_vjp"):
        check_grads(make_sine(vjp_factor=2.0), (X,), 1, modes=["fwd"])


def test_the_signature_is_that_of_jax() -> None:
    ours, theirs = (inspect.signature(check).parameters for check in (check_grads, test_util.check_grads))
    assert [(name, parameter.default) for name, parameter in ours.items()] == [
        (name, parameter.default) for name, parameter in theirs.items()
    ]


REFUSED: dict[str, tuple[Any, Any, int, Any, type[Exception], str]] = {
    "order 0": (jnp.sin, (X,), 0, ("rev",), RequestError, "order is 1 for first derivatives, or more; 0 was given"),
    "another mode": (jnp.sin, (X,), 1, ("forward",), RequestError, "modes are some of 'fwd', 'rev', 'lin'"),
    "no mode": (jnp.sin, (X,), 1, (), RequestError, "modes are some of"),
    "no floats in": (jnp.sin, (np.arange(3),), 1, ("rev",), TensorError, "No argument has a leaf of floats"),
    "no floats out": (lambda x: None, (X,), 1, ("rev",), TensorError, "returned no leaf of floats"),
}


@pytest.mark.parametrize(("f", "args", "order", "modes", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_other_arguments_are_refused(
    f: Any, args: Any, order: int, modes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_grads(f, args, order, modes)


def test_empty_leaves_are_left_out() -> None:
    empty = jnp.zeros((0, 3))
    check_grads(jnp.sin, (empty,), order=2)
    check_grads(lambda x, unused: (jnp.sin(x), unused), (X, empty), order=1)
    with pytest.raises(DerivativeError):
        check_grads(lambda x, unused: (scale_gradient(x), unused), (X, empty), order=1, modes=["rev"])


@pytest.mark.parametrize("shape", [(0, 3), (2,)], ids=["empty outputs", "outputs"])
def test_nothing_is_evaluated_to_see_whether_outputs_are_empty(shape: tuple[int, ...]) -> None:
    calls: list[str] = []

    def compute(x: Any) -> Any:
        is_base = not isinstance(x, jax.core.Tracer) and np.array_equal(x, jnp.asarray(X))
        calls.append("base" if is_base else "elsewhere")
        return jnp.sin(x).sum() * jnp.ones(shape)

    check_grads(compute, (X,), order=1, modes=["rev"])
    # A plan has the base three times.
    assert calls.count("base") == (1 if 0 in shape else 3)


@jax.custom_vjp
def scale_gradient(x: Any) -> Any:
    return jnp.sin(x)


scale_gradient.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (1.01 * g * jnp.cos(x),))


def test_leaves_whose_names_differ_in_a_slash_are_told_apart() -> None:
    def compute(point: Any) -> Any:
        return {"y/1": jnp.sin(point["a/b"]), "y.1": scale_gradient(point["a.b"])}

    with pytest.raises(DerivativeError) as caught:
        check_grads(compute, ({"a/b": X, "a.b": X},), order=1, modes=["rev"])
    outcomes = {name: verdict.outcome for name, verdict in caught.value.report.verdicts.items()}
    assert [name for name, outcome in outcomes.items() if outcome == "fail"] == ["output['y.1']/args[0]['a.b']"]
    assert len(outcomes) == 4
