"""Conversions of products of matrices."""

from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, map_operator, register_converter

map_operator("linear", "linear", "input", "weight", "bias")
map_operator("matmul", "matmul", "self", "other")
map_operator("mm", "matmul", "self", "mat2")
map_operator("bmm", "bmm", "self", "mat2")
map_operator("mv", "matmul", "self", "vec")
map_operator("dot", "matmul", "self", "tensor")
map_operator("vdot", "matmul", "self", "other")
map_operator("outer", "outer", "self", "vec2")
map_operator("linalg_cross", "cross", "self", "other", dim="dim")
_SUMS = {
    "addmm": ("mat1", "mat2"),
    "addmv": ("mat", "vec"),
    "addbmm": ("batch1", "batch2"),
    "baddbmm": ("batch1", "batch2"),
    "addr": ("vec1", "vec2"),
}


@register_converter(*_SUMS)
def _convert_sum_of_product(call: OperatorCall) -> Converted:
    """Convert beta * self + alpha * (left @ right); a beta of 0 leaves self out, NaN and all."""
    op = call.operator_name.removeprefix("aten.")
    factors = {name: call.get(name, 1) for name in ("alpha", "beta")}
    options = {name: None if factor == 1 else float(factor) for name, factor in factors.items()}
    inputs = [call["self"], *(call[name] for name in _SUMS[op])]
    return call.add_node(op, *inputs, **options)


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
