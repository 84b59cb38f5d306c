"""Distances from the jumps of whole numbers, comparisons, orders and signs.

These jump where an argument crosses a value, and are constant in between, so that no gradient goes through them. A
gradient at the jump itself is a convention. How far the point is from a jump is the margin: the least distance,
relative to the size of the numbers compared. It decides where the graph holds a value as a constant. A node in its
place is judged by the service, which knows the error of each number that is compared.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.operator_call import get_value

Arguments = dict[str, Any]
Margin = Callable[[Arguments], float]

_NO_JUMP = math.inf


def _measure_nothing(_: Arguments) -> float:
    return _NO_JUMP


def _measure_comparison(arguments: Arguments) -> float:
    return _measure_distance(_to_tensor(arguments["self"]), _to_tensor(arguments["other"]))


def _measure_sign(arguments: Arguments) -> float:
    """Return 0 where a number is 0; any other one is as far from 0 as it is large."""
    numbers = _to_tensor(arguments["self"])
    return 0.0 if bool((numbers == 0).any()) else 1.0


def _measure_signs(arguments: Arguments) -> float:
    return min(_measure_sign({"self": arguments[name]}) for name in ("self", "other"))


def _measure_other_sign(arguments: Arguments) -> float:
    return _measure_sign({"self": arguments["other"]})


def _measure_whole_numbers(arguments: Arguments) -> float:
    numbers = _to_tensor(arguments["self"])
    return _measure_distance(numbers, numbers.round())


def _measure_powers(arguments: Arguments) -> float:
    """Return the distance from a power of 2."""
    numbers = _to_tensor(arguments["self"]).abs()
    return _measure_distance(numbers, torch.exp2(numbers.log2().round()))


def _measure_halves(arguments: Arguments) -> float:
    numbers = _to_tensor(arguments["self"])
    return _measure_distance(numbers, numbers.floor() + 0.5)


def _measure_decimals(arguments: Arguments) -> float:
    """Return the distance from the middle between two numbers of so many decimals."""
    factor = 10.0 ** (arguments.get("decimals") or 0)
    return _measure_halves({"self": _to_tensor(arguments["self"]) * factor})


def _measure_windows(arguments: Arguments) -> float:
    """Return the least distance of the two largest numbers of a window of a pool."""
    sizes = list[int](arguments["kernel_size"])
    axes = len(sizes)
    strides, paddings, dilations = (
        _repeat_for_axes(arguments[name], axes) or default
        for name, default in (("stride", sizes), ("padding", [0] * axes), ("dilation", [1] * axes))
    )
    sizes, numbers = _repeat_for_axes(sizes, axes), _to_tensor(arguments["self"])
    # With a whole stride behind, as ceil_mode has it: windows beyond hold no numbers.
    widths = [width for n, s in zip(paddings[::-1], strides[::-1], strict=True) for width in (n, n + s)]
    windows = torch.nn.functional.pad(numbers, widths, value=-math.inf)
    for size, stride, dilation in zip(sizes, strides, dilations, strict=True):
        windows = windows.unfold(-axes, (size - 1) * dilation + 1, stride)[..., ::dilation]
    return _measure_largest({"self": windows.flatten(-axes), "dim": -1})


def _repeat_for_axes(numbers: list[int], axes: int) -> list[int]:
    return list(numbers) * axes if len(numbers) == 1 else list(numbers)


def _measure_quotient(arguments: Arguments) -> float:
    quotient = _to_tensor(arguments["self"]) / _to_tensor(arguments["other"])
    return _measure_whole_numbers({"self": quotient})


def _measure_order(arguments: Arguments) -> float:
    """Return the least distance of neighbours in the order along an axis, or of those that are picked alone."""
    numbers, dim = _to_tensor(arguments["self"]), arguments.get("dim", -1)
    if dim is None or not numbers.ndim:
        numbers, dim = numbers.reshape(-1), 0
    ordered = numbers.movedim(dim, -1).sort(-1, descending=bool(arguments.get("largest", True))).values
    count = min(arguments.get("k", ordered.shape[-1]) + 1, ordered.shape[-1])
    return _measure_distance(ordered[..., 1:count], ordered[..., : count - 1])


def _measure_all(arguments: Arguments) -> float:
    return _measure_order({"self": arguments["self"], "dim": None})


def _measure_largest(arguments: Arguments) -> float:
    return _measure_order(arguments | {"k": 1})


def _measure_smallest(arguments: Arguments) -> float:
    return _measure_order(arguments | {"k": 1, "largest": False})


def _measure_place(arguments: Arguments) -> float:
    """Return the distance for the element at one place, which may be any of the order."""
    return _measure_order({name: value for name, value in arguments.items() if name != "k"})


def _measure_distance(numbers: Tensor, others: Tensor) -> float:
    """Return the least relative distance of two tensors."""
    first, second = numbers.double(), others.double()
    first, second = first + torch.zeros_like(second), second + torch.zeros_like(first)
    known = ~(first.isinf() | second.isinf())
    scale = torch.maximum(first.abs(), second.abs())[known]
    distance = (first - second).abs()[known]
    if not distance.numel():
        return _NO_JUMP
    return float(torch.where(scale > 0, distance / scale.clamp(min=torch.finfo(torch.float64).tiny), 0.0).min())


def _to_tensor(value: Any) -> Tensor:
    number = get_value(value)
    return number.detach() if isinstance(number, Tensor) else torch.tensor(number, dtype=torch.float64)


def _name_all(margin: Margin, *names: str) -> dict[str, Margin]:
    return {f"aten.{name}": margin for name in names}


MARGINS: dict[str, Margin] = {
    **_name_all(_measure_comparison, "eq", "ne", "lt", "le", "gt", "ge"),
    **_name_all(_measure_sign, "sign", "sgn", "signbit", "logical_not", "nonzero", "any", "all", "count_nonzero"),
    **_name_all(_measure_signs, "logical_and", "logical_or", "logical_xor"),
    **_name_all(_measure_whole_numbers, "floor", "ceil", "trunc", "fix"),
    **_name_all(_measure_decimals, "round"),
    **_name_all(_measure_quotient, "floor_divide"),
    **_name_all(_measure_order, "argsort"),
    **_name_all(_measure_largest, "argmax"),
    **_name_all(_measure_smallest, "argmin"),
    **_name_all(_measure_nothing, "isnan", "isinf", "isfinite", "detach", "detach_copy", "_local_scalar_dense", "item"),
    **_name_all(
        _measure_nothing, "sym_size", "sym_numel", "sym_stride", "sym_storage_offset", "sym_is_contiguous", "size"
    ),
    **_name_all(_measure_nothing, "zeros_like", "ones_like", "full_like", "empty_like"),
    **_name_all(_measure_nothing, "new_zeros", "new_ones", "new_full", "new_empty"),
    "gradcheckd.stop_gradient": _measure_nothing,
}
"""Margins of operators whose result is constant between jumps, by the name of the operator."""
PIECE_MARGINS: dict[str, Margin] = {
    **_name_all(_measure_other_sign, "copysign"),
    **_name_all(_measure_quotient, "fmod", "remainder"),
    **_name_all(_measure_whole_numbers, "frac"),
    **_name_all(_measure_powers, "frexp"),
}
"""Margins of operators whose result has a gradient and jumps."""
FIXED_PIECES = frozenset({"aten.copysign", "aten.frexp", "aten.mode"})
"""Operators among them, and orders, that are converted with their piece as a constant."""
ORDER_MARGINS: dict[str, Margin] = {
    **_name_all(_measure_order, "sort", "topk"),
    **_name_all(_measure_place, "kthvalue", "median", "nanmedian", "cummax", "cummin", "mode"),
    **_name_all(_measure_largest, "max"),
    **_name_all(_measure_smallest, "min"),
}
"""Margins of the positions that come beside elements; they count where the positions are used."""
POOL_MARGINS: dict[str, Margin] = {
    **_name_all(_measure_windows, *(f"max_pool{axes}d_with_indices" for axes in (1, 2, 3))),
    **_name_all(_measure_all, *(f"adaptive_max_pool{axes}d" for axes in (1, 2, 3))),
}
"""Margins of the positions that come beside a pool. They are constants, seldom used, and long to measure."""
REFUSED_TIES = frozenset(MARGINS) - frozenset({"aten.argsort", "aten.argmax", "aten.argmin"})
"""Operators of which a point at a jump is refused; equal elements of an order are a kink, which the service judges."""


def find_margin(operator: Any, arguments: Arguments) -> float | None:
    """Return the margin of an operator whose result is constant between jumps; None for others."""
    packet = str(operator.overloadpacket)
    if packet == "aten.div" and arguments.get("rounding_mode") is not None:
        return _measure_quotient(arguments)
    if packet == "aten._to_copy" and _is_whole(arguments.get("dtype")):
        return _measure_whole_numbers(arguments)
    return MARGINS[packet](arguments) if packet in MARGINS else None


def _is_whole(dtype: torch.dtype | None) -> bool:
    return dtype is not None and not dtype.is_floating_point and not dtype.is_complex
