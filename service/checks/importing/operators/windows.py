"""Windows of convolutions and pools: strides, dilations and padding of each axis."""

from dataclasses import dataclass

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall


@dataclass(frozen=True)
class Windows:
    """The windows along the axes behind the first two.

    Attributes
    ----------
    kernel, strides, dilations
        Numbers along each axis: lengths of the window, steps from one window to the next, and gaps between elements.
    before, behind
        Padding of each axis.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    behind: list[int]

    @property
    def is_symmetric(self) -> bool:
        """Return whether all axes have the same padding before and behind."""
        return self.before == self.behind

    @property
    def spans(self) -> list[int]:
        """Return the length of a window along each axis."""
        return [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    @property
    def padding_by_axis(self) -> dict[int, tuple[int, int]]:
        """Return the padding of the axes, counted from that of the batch."""
        return {2 + axis: pair for axis, pair in enumerate(zip(self.before, self.behind, strict=True))}


def read_windows(call: NodeCall, kernel: tuple[int, ...], lengths: tuple[int, ...]) -> Windows:
    """Read the windows of a call.

    Parameters
    ----------
    call
        Call with the attributes.
    kernel
        Lengths of the kernel.
    lengths
        Lengths of the input along the same axes.

    Raises
    ------
    OperatorUseError
        The attributes do not fit the axes.
    """
    rank = len(lengths)
    strides = get_list(call, "strides", rank, 1)
    dilations = get_list(call, "dilations", rank, 1)
    if len(kernel) != rank or min((*kernel, *strides, *dilations), default=1) < 1:
        raise OperatorUseError(
            f"has a kernel {list(kernel)}, strides {strides} and dilations {dilations} for {rank} axes"
        )
    before, behind = _find_padding(call, kernel, lengths, strides, dilations)
    return Windows(list(kernel), strides, dilations, before, behind)


def get_list(call: NodeCall, name: str, rank: int, default: int) -> list[int]:
    """Return an attribute with a number for each axis."""
    values = call.attributes.get(name)
    if values is None or values == []:
        return [default] * rank
    if len(values) != rank:
        raise OperatorUseError(f"has {len(values)} {name}; it must have {rank}")
    return list(values)


def _find_padding(
    call: NodeCall, kernel: tuple[int, ...], lengths: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    mode = call.attributes.get("auto_pad", "NOTSET") or "NOTSET"
    rank = len(lengths)
    if mode == "NOTSET":
        pads = get_list(call, "pads", 2 * rank, 0)
        if min(pads, default=0) < 0:
            raise OperatorUseError(f"has the pads {pads}; negative ones are not taken")
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise OperatorUseError(f"has the auto_pad {mode!r:.40}, which is not taken")
    totals = [
        max(0, (-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length)
        for size, length, stride, dilation in zip(kernel, lengths, strides, dilations, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)
