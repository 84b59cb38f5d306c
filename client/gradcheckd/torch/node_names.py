"""Names of nodes: the path of the module, and the variable that the source assigns, or else the operator."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradcheckd.torch.module_parts import ROOT
from gradcheckd.torch.module_trace import TORCH_FOLDER, TRACE_FILE

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)[^\n]*\n\s*(?P<text>[^\n]*)')
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*(?::[^=]+)?=(?!=)")


def name_nodes(graph: Any) -> dict[str, str]:
    """Return the name that each node of a graph of torch.fx wants; several may want the same.

    A variable names the last node of its line.
    """
    wanted: dict[str, str] = {}
    last_of_line: dict[tuple[str, str], tuple[str, str]] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        path = get_module_path(node)
        wanted[node.name] = _join(path, get_operator_word(node))
        frame = _find_frame(node)
        match = _ASSIGNMENT.match(frame["text"].strip()) if frame else None
        if frame and match:
            last_of_line[(path, f"{frame['file']}:{frame['line']}")] = (node.name, _join(path, match["name"]))
    return wanted | dict(last_of_line.values())


def get_module_path(node: Any) -> str:
    """Return the path of the module whose forward pass made a node; empty for the traced one itself."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return "" if path == ROOT else path.removeprefix(f"{ROOT}.")


def get_operator_word(node: Any) -> str:
    """Return the operator of a node as a word: "softmax"."""
    target = getattr(node.target, "overloadpacket", None) or getattr(node.target, "__name__", node.target)
    return str(target).split(".")[-1].lstrip("_")


def find_source_line(node: Any) -> str:
    """Return the line of source that made a node, "file.py:12", or nothing: outside torch, if such a line called it."""
    frames = _list_frames(node)
    own = [frame for frame in frames if not frame["file"].startswith(TORCH_FOLDER)]
    frame = own[-1] if own else _find_frame(node)
    return f"{Path(frame['file']).name}:{frame['line']}" if frame else ""


def _find_frame(node: Any) -> re.Match[str] | None:
    frames = _list_frames(node)
    return frames[-1] if frames else None


def _list_frames(node: Any) -> list[re.Match[str]]:
    """Return the frames that made a node, the innermost last; none if that is one of the trace itself."""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    if not frames or frames[-1]["file"] == TRACE_FILE:
        return []
    return [frame for frame in frames if frame["file"] != TRACE_FILE]


def _join(path: str, word: str) -> str:
    return f"{path}.{word}" if path else word
