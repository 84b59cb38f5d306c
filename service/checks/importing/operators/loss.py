"""Losses of classes."""

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.values import Known, Value

_NOTHING_IGNORED = -100
"""Value of no class, which the service ignores by default."""


def _read_labels(call: NodeCall, scores: Value) -> tuple[Known, int]:
    """Return the labels and the value that is ignored."""
    if len(scores.shape) < 2:
        raise OperatorUseError(f"takes scores (N, C, ...); the shape is {list(scores.shape)}")
    ignored = call.attributes.get("ignore_index")
    labels = call.get(1)
    if ignored is not None and isinstance(labels, Known) and labels.redraw is None:
        return labels, int(ignored)
    return call.get_indices(1, scores.shape[1]), _NOTHING_IGNORED


@register_operator("SoftmaxCrossEntropyLoss")
def _import_cross_entropy(call: NodeCall) -> Results:
    scores = call.get(0)
    labels, ignored = _read_labels(call, scores)
    reduction = call.attributes.get("reduction", "mean")
    operands = [scores, labels, call.get_optional(2)]
    loss = call.emit("cross_entropy", operands, reduction=reduction, ignore_index=ignored)
    return [loss, call.emit("log_softmax", [scores], dim=1)] if call.output_count > 1 else loss


@register_operator("NegativeLogLikelihoodLoss")
def _import_nll(call: NodeCall) -> Results:
    scores = call.get(0)
    labels, ignored = _read_labels(call, scores)
    reduction = call.attributes.get("reduction", "mean")
    return call.emit("nll_loss", [scores, labels, call.get_optional(2)], reduction=reduction, ignore_index=ignored)
