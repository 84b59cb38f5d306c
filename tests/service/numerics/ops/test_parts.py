from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.composite import SeveralOutputsOp
from service.numerics.ops.op import ShapeError

W = np.random.default_rng(3).normal(size=(4, 6))
CALLS = {
    "split, even": ("split(w, 2, 1)", lambda w: torch.split(w, 2, 1)),
    "split, uneven": ("split(w, 3)", lambda w: torch.split(w, 3)),
    "split, sections": ("split(w, [1, 3, 2], dim=-1)", lambda w: torch.split(w, [1, 3, 2], -1)),
    "chunk": ("chunk(w, 4, 1)", lambda w: torch.chunk(w, 4, 1)),
    "chunk, fewer than asked for": ("chunk(w, 3)", lambda w: torch.chunk(w, 3)),
    "unbind": ("unbind(w)", torch.unbind),
    "var_mean": ("var_mean(w, 1)", lambda w: torch.var_mean(w, 1)),
    "var_mean, of all": ("var_mean(w, correction=0)", lambda w: torch.var_mean(w, None, correction=0)),
    "std_mean": ("std_mean(w, [0, 1], keepdim=True)", lambda w: torch.std_mean(w, (0, 1), keepdim=True)),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_output_has_the_value_and_the_gradient_of_pytorch(name: str) -> None:
    call, function = CALLS[name]
    outputs = function(torch.tensor(W))
    for number in range(len(outputs)):
        w = torch.tensor(W, requires_grad=True)
        loss = torch.square(function(w)[number]).sum()
        loss.backward()
        assert w.grad is not None
        report: Any = check(
            {
                "model": f"t = {call}\nq = square(t.{number})\nloss = sum(q)",
                "tensors": {},
                "weights": {"w": W.tolist()},
                "candidate": {"w": w.grad.tolist()},
            }
        )
        assert report["outcome"] == "pass", number
        assert report["loss"]["analytic"] == pytest.approx(loss.item(), rel=1e-13)


@pytest.mark.parametrize("name", CALLS)
def test_outputs_have_the_names_and_shapes_of_pytorch(name: str) -> None:
    call, function = CALLS[name]
    op_name = call.split("(")[0]
    shapes = [tuple(output.shape) for output in function(torch.tensor(W))]
    op = _build_op(op_name, name)
    assert list(op.infer_output_shapes(W.shape).values()) == shapes
    assert op.list_outputs(W.shape) == tuple(map(str, range(len(shapes))))


def _build_op(op_name: str, name: str) -> SeveralOutputsOp:
    attributes: dict[str, dict[str, Any]] = {
        "split, even": {"split_size_or_sections": 2, "dim": 1},
        "split, uneven": {"split_size_or_sections": 3},
        "split, sections": {"split_size_or_sections": [1, 3, 2], "dim": -1},
        "chunk": {"chunks": 4, "dim": 1},
        "chunk, fewer than asked for": {"chunks": 3},
        "var_mean": {"dim": 1},
        "std_mean": {"dim": [0, 1], "keepdim": True},
    }
    op = OP_REGISTRY[op_name](**attributes.get(name, {}))
    assert isinstance(op, SeveralOutputsOp)
    return op


@pytest.mark.parametrize(
    ("name", "attributes", "shape", "message"),
    [
        ("split", {"split_size_or_sections": [1, 2]}, (4,), "lengths that add up to 4, the length of axis 0, not"),
        ("split", {"split_size_or_sections": 1}, (), "an input with at least one axis"),
        ("split", {"split_size_or_sections": [0, 4]}, (4,), "parts with elements; part 0 has none"),
        ("unbind", {"dim": 1}, (4,), "an axis from -1 to 0, not 1"),
        ("unbind", {}, (5000,), "at most 1024 parts, not 5000"),
        ("chunk", {"chunks": 2}, (0,), "an axis with elements"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, attributes: Any, shape: Any, message: str) -> None:
    op = OP_REGISTRY[name](**attributes)
    assert isinstance(op, SeveralOutputsOp)
    with pytest.raises(ShapeError, match=message):
        op.infer_output_shapes(shape)
