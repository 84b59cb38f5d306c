"""What functions say that they take, to people and to the tools that complete what they type."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import gradcheckd
from gradcheckd import Service
from gradcheckd.command import main
from gradcheckd.signatures import CheckParameters, FunctionOptions, FunctionParameters

OF_JOBS = {"wait", "idempotency_key"}
"""Parameters of `check` that decide on the type of its result: its overloads name them."""


@pytest.mark.parametrize(
    ("said", "function"), [(CheckParameters, Service.check), (FunctionParameters, Service.check_function)]
)
def test_copied_signature_is_the_one_that_the_method_takes(said: Any, function: Callable[..., Any]) -> None:
    taken = inspect.signature(function).parameters.values()
    assert said.__annotations__ == {
        parameter.name: parameter.annotation
        for parameter in taken
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in OF_JOBS
    }


@pytest.mark.parametrize("name", ["check", "assert_gradients", "check_function", "assert_function", "check_hessian"])
def test_functions_take_the_parameters_of_the_service_methods(name: str) -> None:
    theirs = inspect.signature(getattr(Service, name.replace("assert_gradients", "check").replace("assert", "check")))
    names = {*theirs.parameters, *(["inconclusive"] if name == "assert_function" else [])}
    names -= OF_JOBS if name == "assert_gradients" else set()
    assert set(inspect.signature(getattr(Service, name)).parameters) == names
    assert set(inspect.signature(getattr(gradcheckd, name)).parameters) == names - {"self"} | {"url", "key"}


def test_a_hessian_takes_no_other_gradients() -> None:
    taken = set(inspect.signature(Service.check_hessian).parameters)
    assert taken == set(FunctionOptions.__annotations__) | {"self", "gradient", "point", "hvp", "hessian"}


def test_misspelt_keyword_is_refused(url: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'direction'"):
        gradcheckd.check_function(sum, [1.0], [1.0], url=url, direction="random")  # type: ignore[call-arg]


def test_package_states_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gradcheckd {gradcheckd.__version__}\n"
