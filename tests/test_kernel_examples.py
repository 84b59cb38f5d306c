"""The kernels of `examples/kernels/` pass, and the bugs that people make in them fail."""

import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gradcheckd.report import Report

pytestmark = pytest.mark.covers_by_cases

EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "kernels").glob("*.py"))


def load_example(name: str) -> dict[str, Any]:
    (path,) = (path for path in EXAMPLES if path.stem == name)
    return runpy.run_path(str(path))


def spoil_backward(kernel: Any, position: int, factor: float) -> Any:
    """A kernel one of whose gradients is off by a factor."""

    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gradients = list(kernel.backward(ctx, gradient))
        gradients[position] = gradients[position] * factor
        return tuple(gradients)

    return type("Spoilt", (kernel,), {"backward": staticmethod(backward)})


def find_wrong_names(report: Report) -> set[str]:
    return {name for name, verdict in report.verdicts.items() if verdict.outcome == "fail"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_kernels_pass_as_scripts(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert shown.startswith("pass: ")
    assert " agree with the finite difference" in shown


@pytest.mark.parametrize(("position", "name"), list(enumerate("qkv")))
def test_two_percent_in_attention_fail(position: int, name: str) -> None:
    example = load_example("attention")
    assert find_wrong_names(example["judge"](spoil_backward(example["FlashAttention"], position, 1.02))) == {name}


@pytest.mark.parametrize(("position", "name"), list(enumerate(["gate", "up"])))
def test_one_percent_in_swiglu_fails(position: int, name: str) -> None:
    example = load_example("swiglu")
    assert find_wrong_names(example["judge"](spoil_backward(example["SwiGlu"], position, 1.01))) == {name}


def lose_last_chunk(differentiate: Any, chunk: int) -> Any:
    def lose(x: torch.Tensor, w: torch.Tensor, target: torch.Tensor) -> Mapping[str, torch.Tensor]:
        gradients = differentiate(x, w, target)
        rows = differentiate(x[-chunk:], w, target[-chunk:])["w"].float() * chunk / len(x)
        return {**gradients, "w": (gradients["w"].float() - rows).bfloat16()}

    return lose


def race(differentiate: Any) -> Any:
    """A kernel whose runs add up to another sum now and then."""
    numbers = iter(range(10))

    def run(*arguments: torch.Tensor) -> Mapping[str, torch.Tensor]:
        gradients = differentiate(*arguments)
        return {**gradients, "x": gradients["x"] * (1.0 if next(numbers) == 0 else 1.1)}

    return run


def test_lost_chunk_and_race_of_cross_entropy_fail() -> None:
    example = load_example("linear_cross_entropy")
    judge, differentiate = example["judge"], example["differentiate"]
    assert find_wrong_names(judge(lose_last_chunk(differentiate, example["CHUNK"]))) == {"w"}
    assert find_wrong_names(judge(race(differentiate))) == {"x"}
