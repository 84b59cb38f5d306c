import pytest
import torch

from service.checks.graph.check import check
from service.numerics.ops.correction import choose_correction
from service.numerics.ops.op import ShapeError

W = [[1.0, 2.5, 0.5], [3.0, -1.0, 0.25]]


@pytest.mark.parametrize(
    ("correction", "unbiased", "expected"),
    [(1, None, 1), (None, None, 1), (2.5, None, 2.5), (1, True, 1), (1, False, 0), (None, False, 0), (0, False, 0)],
)
def test_unbiased_is_a_correction_of_1_or_0(correction: float | None, unbiased: bool | None, expected: float) -> None:
    assert choose_correction(correction, unbiased) == expected


@pytest.mark.parametrize(("correction", "unbiased"), [(2, True), (0, True), (3, False)])
def test_two_corrections_are_refused(correction: float, unbiased: bool) -> None:
    with pytest.raises(ShapeError, match="not both"):
        choose_correction(correction, unbiased)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("op", ["var", "std", "var_mean", "std_mean"])
def test_checks_take_unbiased(op: str, unbiased: bool) -> None:
    w = torch.tensor(W, dtype=torch.float64, requires_grad=True)
    output = getattr(torch, op)(w, 1, unbiased=unbiased)
    (output[0] if op.endswith("_mean") else output).sum().backward()
    assert w.grad is not None
    name = "m.0" if op.endswith("_mean") else "m"
    right, wrong = w.grad.tolist(), (w.grad * 1.2).tolist()
    for candidate, outcome in ((right, "pass"), (wrong, "fail")):
        model = f"m = {op}(w, 1, unbiased={unbiased})\nloss = sum({name})"
        report = check({"model": model, "tensors": {}, "weights": {"w": W}, "candidate": {"w": candidate}})
        assert report["outcome"] == outcome
