"""`POST /v1/import`: an ONNX file as the request of a check, without Flask.

Nothing of the file is executed: its operators become nodes of the service, and constants are computed by NumPy within
the limits of a request.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.problem_details import InvalidRequestError, PlacedError, describe_unknown, error_at, quote_name
from schemas.raw_tensor import RawTensor
from schemas.tensor import Tensor, encode_tensor
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, current_clock
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.parse import parse_problem
from service.checks.importing import operators
from service.checks.importing.graph_writer import GraphParts, GraphWriter
from service.checks.importing.import_errors import LimitError, ModelFileError
from service.checks.importing.import_options import PROJECTION, ImportOptions
from service.checks.importing.interpreter import Interpreter, list_needed_nodes, list_outputs, list_read_names
from service.checks.importing.losses import build_loss
from service.checks.importing.model_file import ModelFile, read_model_file
from service.checks.importing.model_inputs import DrawnElements, draw_input
from service.checks.importing.naming import clean_name, make_value_name
from service.checks.importing.random_values import ValueSource
from service.checks.importing.scope import NodePlace, ValueScope
from service.checks.importing.values import Missing, Symbol, Value

assert operators  # its modules register the operators

_MAX_NESTED_ELEMENTS = 64
"""Elements of a tensor that is written as nested numbers, for readers; larger ones are bytes in base64."""


@dataclass(frozen=True)
class ImportedModel:
    """A request of a check, made from a file.

    Attributes
    ----------
    tensors, weights
        Tensors and weights by name.
    fields
        Other fields of the request.
    outputs
        Names of nodes or tensors in the request by the output of the file that they are.
    note
        The choices of the import, in a sentence: which values are random, and what the loss is.
    """

    tensors: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    fields: Mapping[str, Any]
    outputs: Mapping[str, str]
    note: str

    @property
    def document(self) -> dict[str, Any]:
        """Return the request in JSON."""
        sections = {"tensors": self.tensors, "weights": self.weights}
        return {
            section: {name: _encode(tensor) for name, tensor in tensors.items()}
            for section, tensors in sections.items()
        } | dict(self.fields)

    @property
    def binary_tensors(self) -> dict[str, Tensor]:
        """Return the tensors under their names in a safetensors body."""
        sections = {"tensors": self.tensors, "weights": self.weights}
        return {
            f"{section}/{name}": tensor for section, tensors in sections.items() for name, tensor in tensors.items()
        }

    @property
    def node_count(self) -> int:
        """Return the number of nodes."""
        return len(self.fields["model"]["nodes"])

    @property
    def tensor_count(self) -> int:
        """Return the number of tensors and weights."""
        return len(self.tensors) + len(self.weights)

    @property
    def answer_bytes(self) -> int:
        """Return the largest size of the answer, in bytes, about."""
        tensors = [*self.tensors.values(), *self.weights.values()]
        return sum(2 * tensor.array.nbytes + 1000 for tensor in tensors) + 1000 * self.node_count


def _encode(tensor: Tensor) -> Any:
    assert tensor.datatype is not None
    if tensor.array.size > _MAX_NESTED_ELEMENTS:
        return encode_tensor(tensor.array, "b64", tensor.datatype)
    numbers = tensor.array if tensor.datatype.kind != "float" else tensor.array.astype(np.float64)
    # Nested lists have no shape where an axis has the length 0.
    data: Any = numbers.tolist() if numbers.size else []
    return {"datatype": tensor.datatype.name, "shape": list(tensor.array.shape), "data": data}


def import_model(content: bytes, options: ImportOptions, limits: Limits | None = None) -> ImportedModel:
    """Import an ONNX file.

    Parameters
    ----------
    content
        Bytes of the file.
    options
        Options of the import.
    limits
        Limits of the request; the default limits if left out.

    Raises
    ------
    InvalidRequestError
        All errors of the file; every operator that is not taken.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline(), clock.refuse_on_timeout(SMALLER_MODEL_REMEDY):
        file = read_model_file(content, limits)
        with clock.name_stage("the model was being imported"):
            imported = _ModelImport(file, options, limits).run()
            _validate(imported, limits)
            return imported


class _ModelImport:
    """One import, from the parsed file on."""

    def __init__(self, file: ModelFile, options: ImportOptions, limits: Limits) -> None:
        self._file, self._options, self._limits = file, options, limits
        self._graph = file.model.graph
        self._writer = GraphWriter(limits)
        self._interpreter = Interpreter(file, self._writer)
        self._source = ValueSource(options.seed)
        self._scope = ValueScope()

    def run(self) -> ImportedModel:
        """Return the request.

        Raises
        ------
        InvalidRequestError
            All errors of the file.
        """
        targets = self._find_targets()
        errors = self._interpreter.errors
        try:
            self._define_leaves(targets)
            if not errors:
                self._interpreter.run_nodes(self._graph.node, targets, NodePlace(self._scope, self._file.opset))
            if errors:
                raise errors.to_request_error(self._advise())
            return self._finish(targets)
        except LimitError as error:
            detail = f"{error}{f', at {error.node}' if error.node else ''}. {SMALLER_MODEL_REMEDY}"
            raise InvalidRequestError([error_at(detail, "graph")], "over-budget") from None
        except ModelFileError as error:
            errors.add(error, ("graph",))
            raise errors.to_request_error() from None

    def _find_targets(self) -> list[str]:
        """Return the names of the values that the loss is made of.

        Raises
        ------
        InvalidRequestError
            The file has no such value.
        """
        if self._options.loss == PROJECTION:
            outputs = [output.name for output in self._graph.output]
            if not outputs:
                raise InvalidRequestError([error_at("the graph has no outputs", "graph", "output")])
            return list(dict.fromkeys(outputs))
        names = [name for node in self._graph.node for name in node.output if name]
        wanted = self._options.loss
        if wanted in names:
            return [wanted]
        for node in self._graph.node:
            for name in filter(None, node.output):
                if clean_name(make_value_name(node, name)) == wanted:
                    return [name]
        raise InvalidRequestError([error_at(f"loss: {describe_unknown('value', wanted, names[-20:])}")])

    def _define_leaves(self, targets: Sequence[str]) -> None:
        """Define the initialisers, and the inputs that the targets need; errors are collected."""
        needed = set(targets)
        for position in list_needed_nodes(self._graph.node, targets):
            needed |= list_read_names(self._graph.node[position])
        self._interpreter.define_initialisers(self._graph, self._scope, "weight", needed)
        self._scope.produced = list_outputs(self._graph.node)
        drawn, names = DrawnElements(self._limits), set[str]()
        for position, value in enumerate(self._graph.input):
            if value.name in names:
                error = ModelFileError(f"two inputs are named {quote_name(value.name)}")
                self._interpreter.errors.add(error, ("graph", "input", position))
            names.add(value.name)
            if value.name not in needed or value.name in self._scope.values:
                continue
            try:
                known = draw_input(value, self._limits, self._source)
                self._scope.define(value.name, known)
            except ModelFileError as error:
                self._interpreter.errors.add(error, ("graph", "input", position))
                self._scope.values.setdefault(value.name, None)
            else:
                drawn.add(known)

    def _finish(self, targets: Sequence[str]) -> ImportedModel:
        outputs: list[tuple[str, Value]] = []
        for name in targets:
            value = self._scope.find(name) if name in self._scope.values else None
            if value is None or (isinstance(value, Missing) and not value.reason):
                raise ModelFileError(f"the output {quote_name(name)} is made by no node")
            if not isinstance(value, Missing):
                outputs.append((name, value))
        loss, description = build_loss(self._writer, outputs, self._source)
        parts = self._writer.finish(loss)
        names = {name: parts.names[id(value)] for name, value in outputs if id(value) in parts.names}
        return _build_request(parts, names, f"{description}; {_describe_drawn(parts.drawn_names, self._options.seed)}")

    def _advise(self) -> str:
        """Name the last value that was imported, which a check may take alone."""
        counts = Counter(name for node in self._graph.node for name in node.output)
        done = [name for name, count in counts.items() if count == 1 and self._is_computed(name)]
        return (
            f"The part of the model up to {quote_name(done[-1])} can be checked alone: loss={done[-1]}" if done else ""
        )

    def _is_computed(self, name: str) -> bool:
        """Return whether a value is the result of nodes."""
        return isinstance(self._scope.values.get(name), Symbol)


def _build_request(parts: GraphParts, outputs: Mapping[str, str], note: str) -> ImportedModel:
    fields: dict[str, Any] = {"model": {"nodes": parts.nodes}, "finite_difference": {"method": "auto"}}
    if not parts.weights:
        if not parts.judged_inputs:
            raise ModelFileError(
                "no gradient flows through integers and truth values: there is nothing to differentiate"
            )
        fields["with_respect_to"] = parts.judged_inputs
    return ImportedModel(parts.tensors, parts.weights, fields, outputs, note)


def _describe_drawn(names: Sequence[str], seed: int) -> str:
    if not names:
        return "no value is random"
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the values of {listed} are random, of seed {seed}"


def _validate(imported: ImportedModel, limits: Limits) -> None:
    """Validate the request as a check does, so that none is answered that a check refuses."""
    body = dict(imported.fields)
    for section, tensors in (("tensors", imported.tensors), ("weights", imported.weights)):
        body[section] = {name: _to_raw(tensor) for name, tensor in tensors.items()}
    try:
        parse_problem(body, limits, model_language.parse_check_request)
    except InvalidRequestError as error:
        # Its places are those of the request, which the client has not.
        nodes = imported.fields["model"]["nodes"]
        errors = [
            error_at(f"becomes a request that is refused: {_describe(entry, nodes)}", "graph") for entry in error.errors
        ]
        raise InvalidRequestError(errors, error.reason) from None


def _describe(entry: PlacedError, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return an error with the node or the tensor of its place by name."""
    section, _, rest = entry["pointer"].removeprefix("/").partition("/")
    position, _, attribute = rest.removeprefix("nodes/").partition("/")
    if section == "model" and position.isdecimal() and int(position) < len(nodes):
        name = quote_name(nodes[int(position)]["name"])
        place = "" if name in entry["detail"] else f"node {name} ({nodes[int(position)]['op']}): "
        return f"{place}{attribute} {entry['detail']}" if attribute else f"{place}{entry['detail']}"
    return f"{quote_name(rest)}: {entry['detail']}" if rest else entry["detail"]


def _to_raw(tensor: Tensor) -> RawTensor:
    assert tensor.datatype is not None
    raw = bytearray(tensor.datatype.to_storage(tensor.array).tobytes())
    return RawTensor(tensor.datatype.short_name, list(tensor.array.shape), raw)
