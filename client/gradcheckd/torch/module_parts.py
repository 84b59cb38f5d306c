"""The modules that a function reads, and their parameters and buffers by name."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ROOT = "module"
"""Name of the traced module within the wrapper, with which the paths of its parts begin."""


def find_parts(function: Any, owner: nn.Module | None) -> dict[str, nn.Module]:
    """Return the modules whose parameters a function reads, by name: itself, its owner, those that it captures."""
    if isinstance(function, nn.Module):
        return {ROOT: function}
    parts = {} if owner is None else {ROOT: owner}
    bound = getattr(function, "__self__", None)
    captured = {"self": bound, **_list_captured(function)}
    known = {id(part) for part in parts.values()}
    return parts | {
        name: part for name, part in captured.items() if isinstance(part, nn.Module) and id(part) not in known
    }


def _list_captured(function: Any) -> dict[str, Any]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None:
        return {}
    captured = dict(zip(code.co_freevars, (_read_cell(cell) for cell in cells or ()), strict=True))
    return captured | {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}


def _read_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def list_parameters(parts: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return the parameters of modules by name, each once; those of the first part without its name in front."""
    listed: dict[str, nn.Parameter] = {}
    known: set[int] = set()
    for part_name, part in parts.items():
        for name, parameter in part.named_parameters():
            if id(parameter) not in known:
                known.add(id(parameter))
                listed[strip_root(f"{part_name}.{name}")] = parameter
    return listed


def list_buffers(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the buffers of modules by name, as `list_parameters` names parameters."""
    return {
        strip_root(f"{part_name}.{name}"): buffer
        for part_name, part in parts.items()
        for name, buffer in part.named_buffers()
    }


def strip_root(path: str) -> str:
    """Return a path without the name of the traced module."""
    return path.removeprefix(f"{ROOT}.")


@contextmanager
def keep_buffers(parts: Mapping[str, nn.Module]) -> Generator[None]:
    """Give the buffers of modules their numbers back at the end of a block."""
    buffers = [buffer for part in parts.values() for buffer in part.buffers()]
    saved = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, numbers in zip(buffers, saved, strict=True):
                buffer.copy_(numbers)
