"""Convolutions and transposed convolutions over one to three axes."""

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.operators.shape import narrow, pad, reshape
from service.checks.importing.operators.windows import get_list, read_windows
from service.checks.importing.values import Value


@register_operator("Conv")
def _import_conv(call: NodeCall) -> Results:
    value, weight, bias = call.get(0), call.get(1), call.get_optional(2)
    _check_axes(value, weight)
    windows = read_windows(call, weight.shape[2:], value.shape[2:])
    padding = windows.before
    if not windows.is_symmetric:
        value, padding = pad(call, value, windows.padding_by_axis), [0] * len(padding)
    return call.emit(
        f"conv{len(windows.kernel)}d",
        [value, weight, bias],
        stride=windows.strides,
        padding=padding,
        dilation=windows.dilations,
        groups=int(call.attributes["group"]),
    )


def _check_axes(value: Value, weight: Value) -> None:
    if len(value.shape) not in (3, 4, 5) or len(weight.shape) != len(value.shape):
        raise OperatorUseError(
            f"takes an input (N, C, L), (N, C, H, W) or (N, C, D, H, W) with a weight of as many axes; the shapes are "
            f"{list(value.shape)}, {list(weight.shape)}"
        )


@register_operator("ConvTranspose")
def _import_conv_transpose(call: NodeCall) -> Results:
    value, weight, bias = call.get(0), call.get(1), call.get_optional(2)
    _check_axes(value, weight)
    rank = len(value.shape) - 2
    strides, dilations, extra = (
        get_list(call, name, rank, default)
        for name, default in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    )
    full = [
        stride * (length - 1) + dilation * (size - 1) + 1
        for length, size, stride, dilation in zip(value.shape[2:], weight.shape[2:], strides, dilations, strict=True)
    ]
    before, lengths = _find_output(call, value, full, strides, extra)
    padding, added = (
        before,
        [start + length - (whole - start) for start, length, whole in zip(before, lengths, full, strict=True)],
    )
    limits = map(max, strides, dilations)
    is_plain = all(0 <= number < limit for number, limit in zip(added, limits, strict=True))
    if not is_plain:
        padding, added = [0] * rank, [0] * rank
    result: Value = call.emit(
        f"conv_transpose{rank}d",
        [value, weight, bias if is_plain else None],
        stride=strides,
        padding=padding,
        output_padding=added,
        groups=int(call.attributes["group"]),
        dilation=dilations,
    )
    if is_plain:
        return result
    # What lies behind the full result, or is cut off, no stride of the service can say.
    for axis, (start, length) in enumerate(zip(before, lengths, strict=True), 2):
        lack = start + length - result.shape[axis]
        if lack > 0:
            result = pad(call, result, {axis: (0, lack)})
        result = narrow(call, result, axis, start, length)
    # The bias reaches what lies behind, too.
    return result if bias is None else call.emit("add", [result, reshape(call, bias, [*bias.shape, *[1] * rank])])


def _find_output(
    call: NodeCall, value: Value, full: list[int], strides: list[int], extra: list[int]
) -> tuple[list[int], list[int]]:
    """Return the start and the length of the result along each axis, within the full one."""
    rank = len(full)
    mode, wanted = call.attributes.get("auto_pad", "NOTSET") or "NOTSET", call.attributes.get("output_shape")
    if wanted or mode in ("SAME_UPPER", "SAME_LOWER"):
        lengths = list(wanted or [length * s for length, s in zip(value.shape[2:], strides, strict=True)])[-rank:]
        totals = [whole + more - length for whole, more, length in zip(full, extra, lengths, strict=True)]
        before = [
            max(0, total) // 2 if mode == "SAME_UPPER" else max(0, total) - max(0, total) // 2 for total in totals
        ]
        return before, lengths
    pads = [0] * (2 * rank) if mode == "VALID" else get_list(call, "pads", 2 * rank, 0)
    if min(pads, default=0) < 0:
        raise OperatorUseError(f"has the pads {pads}; negative ones are not taken")
    lengths = [
        whole + more - first - last for whole, more, first, last in zip(full, extra, pads, pads[rank:], strict=False)
    ]
    if min(lengths) < 1:
        raise OperatorUseError(f"has the pads {pads}, which cut off all of its result")
    return pads[:rank], lengths
