"""Products of matrices and tensors."""

import numpy as np

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.values import Value


@register_operator("MatMul")
def _import_matmul(call: NodeCall) -> Results:
    return call.emit("matmul", [call.get(0), call.get(1)])


@register_operator("Gemm")
def _import_gemm(call: NodeCall) -> Results:
    a, b, c = call.get(0), call.get(1), call.get_optional(2)
    alpha, beta = float(call.attributes["alpha"]), float(call.attributes["beta"])
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise OperatorUseError(f"takes two matrices; the shapes are {list(a.shape)}, {list(b.shape)}")
    if call.attributes["transA"]:
        a = call.emit("transpose", [a], dim0=0, dim1=1)
    is_linear = bool(call.attributes["transB"]) and alpha == 1
    if is_linear and (c is None or beta == 0 or (beta == 1 and c.shape == (b.shape[0],))):
        return call.emit("linear", [a, b, c if beta else None])
    if call.attributes["transB"]:
        b = call.emit("transpose", [b], dim0=0, dim1=1)
    product: Value = call.emit("matmul", [a, b])
    if alpha != 1:
        product = call.emit("mul", [product, alpha])
    if c is None or beta == 0:
        return product
    return call.emit("add", [product, c if beta == 1 else call.emit("mul", [c, beta])])


@register_operator("Einsum")
def _import_einsum(call: NodeCall) -> Results:
    values = call.get_all()
    equation = _make_explicit(call.attributes["equation"], values)
    return call.emit("einsum", [values], equation=equation)


def _make_explicit(equation: str, values: list[Value]) -> str:
    """Return an equation with its output, and with letters in place of the dots."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(values):
        raise OperatorUseError(f"has an equation for {len(terms)} inputs, and {len(values)} inputs")
    if not arrow:
        letters = inputs.replace(",", "").replace("...", "")
        output = "..." * ("..." in inputs) + "".join(c for c in sorted(set(letters)) if letters.count(c) == 1)
    free = iter(np.setdiff1d(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), list(equation)).tolist())
    counts = [
        len(value.shape) - len(term.replace("...", ""))
        for term, value in zip(terms, values, strict=True)
        if "..." in term
    ]
    if counts and (min(counts) < 0 or max(counts) > 10):
        raise OperatorUseError(f"has the equation {equation!r:.80}, which does not fit its inputs")
    dots = [next(free) for _ in range(max(counts, default=0))]
    remaining = iter(counts)
    parts = [
        term.replace("...", "".join(dots[len(dots) - next(remaining) :])) if "..." in term else term for term in terms
    ]
    return f"{','.join(parts)}->{output.replace('...', ''.join(dots))}"
