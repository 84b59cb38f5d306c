"""Functions of square matrices."""

from service.checks.importing.operator_registry import NodeCall, Results, register_operator


@register_operator("Det")
def _import_det(call: NodeCall) -> Results:
    return call.emit("det", [call.get(0)])
