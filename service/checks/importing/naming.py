"""Names of a file as names of a request."""

import re
from collections.abc import Sequence
from typing import Any

import onnx

_MAX_LENGTH = 120
_REPEATED_MODULE = re.compile(r"(^|/)([^/]+)/(?=\2\.)")
_SLASHES = re.compile(r"/+")
_OUTPUT_NUMBER = "_output_0"
"""End of the name that PyTorch gives the first output of a node."""
_ANONYMOUS = re.compile(r"onnx::\w+")
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Key of the paths of the modules that lead to a node, a list in Python's notation."""
_SCOPE = re.compile(r"'([^']*)'")
_MAX_SCOPES_LENGTH = 10_000
_FOREIGN_CHARACTERS = re.compile(r"[^A-Za-z0-9_.]+")


class NameTable:
    """Names of a request, each made from a name of the file.

    `/`, with which PyTorch joins the names of modules, becomes `.`, a module named again before its parts is dropped,
    as `mlp` in `/mlp/mlp.0/MatMul`, and so is `_output_0` at the end. Each run of
    other characters than letters, digits, `_` and `.` of ASCII becomes `_`, and those at either end are dropped. A name
    that is empty then is `value`, and one that begins with a digit gets `_` before it. The name ends after 120
    characters. A name that exists gets `_2`, `_3`, ... in the order of the file.
    """

    def __init__(self) -> None:
        self._names = set[str]()
        self._next_number: dict[str, int] = {}

    def make(self, name: str, outputs: Sequence[str] = ()) -> str:
        """Make a name that no other has, nor any `name.output` of a node with several outputs."""
        base = clean_name(name)
        candidate = base
        while not self._names.isdisjoint(taken := [candidate, *(f"{candidate}.{output}" for output in outputs)]):
            number = self._next_number[base] = self._next_number.get(base, 1) + 1
            candidate = f"{base}_{number}"
        self._names.update(taken)
        return candidate


def clean_name(name: str) -> str:
    """Return a name of the file by the rule, whether or not another has it."""
    path = _REPEATED_MODULE.sub(r"\1", drop_output_number(name[: 4 * _MAX_LENGTH]))
    words = _SLASHES.sub(".", path)
    cleaned = _FOREIGN_CHARACTERS.sub("_", words).strip("_.")[:_MAX_LENGTH] or "value"
    return f"_{cleaned}" if cleaned[0].isdigit() else cleaned


def make_value_name(node: onnx.NodeProto, name: str) -> str:
    """Make the name of an output of a node, with the path of its module in front.

    PyTorch's exporter by TorchScript writes the path into the name, `/fc1/Gemm_output_0`. That by torch.export writes
    `linear_1`, and the path into the metadata of the node. An output of the model without a name has a number, for
    which the name of the node stands.
    """
    for entry in node.metadata_props:
        if entry.key == _SCOPES and len(entry.value) <= _MAX_SCOPES_LENGTH:
            paths = _SCOPE.findall(entry.value)
            # The last one is the node itself.
            if len(paths) > 1 and paths[-2]:
                return f"{paths[-2]}/{name}"
    return node.name if name.isdecimal() and node.name else drop_output_number(name)


def name_anonymous_initialisers(graph: onnx.GraphProto) -> dict[str, str]:
    """Return names for initialisers such as `onnx::MatMul_64`, which an exporter has made of parameters.

    Such an initialiser is named after the first node that reads it, and after its input there: `/fc1/MatMul/B`.
    """
    anonymous = {tensor.name for tensor in graph.initializer if _ANONYMOUS.fullmatch(tensor.name)}
    names: dict[str, str] = {}
    for node in graph.node if anonymous else ():
        for position, name in enumerate(node.input):
            if name in anonymous and name not in names and node.output:
                names[name] = f"{make_value_name(node, node.output[0])}/{_name_input(node.op_type, position)}"
    return names


def _name_input(operator: str, position: int) -> str:
    """Return ONNX's name of an input of an operator."""
    try:
        formal: Any = onnx.defs.get_schema(operator).inputs
    except onnx.defs.SchemaError:
        return f"input{position}"
    return formal[position].name if position < len(formal) else f"input{position}"


def drop_output_number(name: str) -> str:
    """Return the name of a node, given that of its first output in a file of PyTorch."""
    return name.removesuffix(_OUTPUT_NUMBER) or name
