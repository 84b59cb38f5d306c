"""Kernels in low precision are judged by the places where they round."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradcheckd.errors import RequestError
from gradcheckd.torch import check_module
from gradcheckd.torch.module_recipe import ATTENTION_OPS, find_unit_roundoff
from service.numerics.ops import OP_REGISTRY
from tests.client.torch.kernels import FlashAttention, attend

pytestmark = pytest.mark.covers_by_cases


def draw_heads(seed: int, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
    numbers = torch.randn(3, 1, 2, 16, 8, generator=torch.Generator().manual_seed(seed))
    return tuple(tensor.to(dtype).requires_grad_() for tensor in numbers)


def judge_attention(recipe: Any, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **options: Any) -> Any:
    return check_module(FlashAttention.apply, draw_heads(seed, dtype), reference=attend, recipe=recipe, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("recipe", [None, "eager", "flash"])
@pytest.mark.parametrize("seed", range(3))
def test_right_flash_kernels_pass(recipe: str | None, dtype: torch.dtype, seed: int) -> None:
    assert judge_attention(recipe, seed, dtype).outcome == "pass"


@pytest.mark.parametrize(("attribute", "value"), [("scale", 1.02), ("keeps_diagonal", False)])
@pytest.mark.parametrize("recipe", ["eager", "flash"])
def test_bugs_of_flash_kernels_fail(recipe: str, attribute: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlashAttention, attribute, value)
    assert judge_attention(recipe).outcome == "fail"


def test_flash_names_the_places_within_attention() -> None:
    report = judge_attention("flash")
    assert report.judged_as == (
        "FP32 accumulation, BF16 at scaled_dot_product_attention, scaled_dot_product_attention.p, "
        "scaled_dot_product_attention.ds and output"
    )
    # A kernel that rounds P is refused where the recipe leaves it out.
    assert judge_attention({"output": "BF16"}).outcome == "fail"


def test_ops_of_flash_kernels_are_those_with_their_places() -> None:
    assert {name for name, op in OP_REGISTRY.items() if op.inner_casts == ("p", "ds")} == set(ATTENTION_OPS)


def test_flash_in_single_precision_is_that_arithmetic() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module = nn.Linear(4, 2)
    assert check_module(module, x, recipe="flash").outcome == "pass"
    assert check_module(module, x, recipe="flash", candidate_dtype=torch.bfloat16).judged_as == (
        "FP32 accumulation, BF16 at output"
    )


def test_runs_that_differ_by_more_than_rounding_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge_attention("flash", repeats=2).outcome == "pass"
    monkeypatch.setattr(FlashAttention, "noise", 0.05)
    torch.manual_seed(0)
    report = judge_attention("flash", repeats=2)
    assert report.verdicts["q"].outcome == "fail"
    assert report.verdicts["k"].outcome == "pass"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "fused"}, "The recipe is 'fused'. Give 'eager' or 'flash'"),
        ({"recipe": {"output": "BF16"}, "candidate_dtype": "BF16"}, "leave candidate_dtype out"),
        ({"recipe": "flash", "candidate_dtype": {"output": "BF16"}}, "The recipe is 'flash'"),
        ({"repeats": -1}, "the number of its further runs, not -1"),
    ],
)
def test_recipes_without_a_meaning_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_module(nn.Linear(2, 2), torch.ones(1, 2), **options)


@pytest.mark.parametrize(
    ("arithmetic", "expected"),
    [
        ("FP64", 2.0**-53),
        ({"output": "FP16", "casts": "none"}, 2.0**-11),
        ({"accumulate": "FP32", "casts": {"a": "FP8_E5M2", "b": "BF16"}, "output": "FP16"}, 2.0**-3),
        ({"casts": "every_node"}, 2.0**-24),
    ],
)
def test_coarsest_arithmetic_counts(arithmetic: Any, expected: float) -> None:
    assert find_unit_roundoff(arithmetic) == expected
