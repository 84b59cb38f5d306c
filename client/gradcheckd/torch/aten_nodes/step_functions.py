"""Conversions of functions that are constant between jumps, for those that are an output: their gradient is 0.

Elsewhere their results are constants of the graph.
"""

from gradcheckd.torch.aten_nodes.operator_call import Converter, OperatorCall, is_graph_tensor

_OPS = {
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "fix": "trunc",
    "round": "round",
    "sign": "sign",
    "sgn": "sign",
}


def find_step_converter(call: OperatorCall) -> Converter | None:
    """Find the conversion of a call whose result is fixed; None if there is no op for it."""
    if not call.result.is_floating_point():
        return None
    name = call.operator_name.removeprefix("aten.")
    if name == "div" and call.get("rounding_mode") is not None:
        return _convert_quotient
    if name == "round" and call.get("decimals"):
        return _convert_rounding
    if name in _OPS and is_graph_tensor(call["self"]):
        return _convert_step
    return None


def _convert_step(call: OperatorCall) -> str:
    return call.add_node(_OPS[call.operator_name.removeprefix("aten.")], call["self"])


def _convert_quotient(call: OperatorCall) -> str:
    return call.add_node(call["rounding_mode"], call.add_node("div", call["self"], call["other"]))


def _convert_rounding(call: OperatorCall) -> str:
    """Convert a rounding to decimals, or to tens for negative ones."""
    factor = 10.0 ** call["decimals"]
    return call.add_node("div", call.add_node("round", call.add_node("mul", call["self"], factor)), factor)
