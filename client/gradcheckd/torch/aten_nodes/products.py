"""Conversions of products of matrices."""

from typing import Any

from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, map_operator, register_converter

map_operator("linear", "linear", "input", "weight", "bias")
map_operator("matmul", "matmul", "self", "other")
map_operator("mm", "matmul", "self", "mat2")
map_operator("bmm", "matmul", "self", "mat2")
map_operator("mv", "matmul", "self", "vec")
map_operator("addbmm", "addbmm", "self", "batch1", "batch2", alpha="alpha", beta="beta")
map_operator("dot", "matmul", "self", "tensor")


@register_converter("addmm", "addmv", "baddbmm")
def _convert_sum_of_product(call: OperatorCall) -> Converted:
    """Convert beta * self + alpha * (left @ right)."""
    left, right = _get_factors(call)
    product = call.add_node("matmul", left, right)
    if call.get("alpha", 1) != 1:
        product = call.add_node("mul", product, call["alpha"])
    beta = call.get("beta", 1)
    if beta == 0:
        return product
    return call.add_node("add", product, call["self"], alpha=None if beta == 1 else beta)


def _get_factors(call: OperatorCall) -> tuple[Any, Any]:
    names = {"aten.addmm": ("mat1", "mat2"), "aten.addmv": ("mat", "vec"), "aten.baddbmm": ("batch1", "batch2")}
    left, right = names[call.operator_name]
    return call[left], call[right]


@register_converter("outer")
def _convert_outer(call: OperatorCall) -> Converted:
    return call.add_node("mul", call.add_node("unsqueeze", call["self"], dim=1), call["vec2"])


@register_converter("_trilinear")
def _convert_trilinear(call: OperatorCall) -> Converted:
    """Convert a sum over axes of the product of three tensors, each with new axes of length 1."""
    product = None
    for number in (1, 2, 3):
        factor = call[f"i{number}"]
        for dim in sorted(call[f"expand{number}"]):
            factor = call.add_node("unsqueeze", factor, dim=dim)
        product = factor if product is None else call.add_node("mul", product, factor)
    return call.add_node("sum", product, dim=list(call["sumdim"]))
