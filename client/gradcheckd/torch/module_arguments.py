"""Arguments and results of a module as tensors with names: the paths within lists, tuples and dictionaries."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from gradcheckd.torch.export_internals import pytree
from gradcheckd.torch.module_errors import ModuleImportError

_SINGLE = "output"
"""Name of a result that is a single tensor."""


@dataclass(frozen=True)
class ModuleArguments:
    """The arguments of a call, with its tensors apart.

    Attributes
    ----------
    names
        Names of the tensors: that of the parameter, and the path within it.
    tensors
        The tensors, in the same order.
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    _leaves: tuple[Any, ...]
    _tree: Any

    @classmethod
    def bind(cls, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any] | None) -> "ModuleArguments":
        """Take the arguments of a call apart.

        Parameters
        ----------
        function
            Module or function, whose signature names the arguments.
        args
            A tensor, or a sequence of arguments.
        kwargs
            Arguments by name.
        """
        given: tuple[Any, ...] = tuple(cast("Sequence[Any]", args)) if isinstance(args, list | tuple) else (args,)
        call = (given, dict(kwargs or {}))
        paths, tree = pytree.tree_flatten_with_path(call)
        argument_names = _list_parameter_names(function)
        names = [_name_argument(path, argument_names) for path, leaf in paths if isinstance(leaf, Tensor)]
        leaves = tuple(leaf for _, leaf in paths)
        return cls(tuple(names), tuple(leaf for leaf in leaves if isinstance(leaf, Tensor)), leaves, tree)

    def rebuild(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with other tensors in the places of its own."""
        remaining = iter(tensors)
        leaves = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        return pytree.tree_unflatten(leaves, self._tree)

    @property
    def judged_flags(self) -> tuple[bool, ...]:
        """Tell of each tensor whether its gradient is judged.

        Those that require one are, or, if none does, all of finite floats: a mask with infinities is a constant.
        """
        if any(tensor.requires_grad for tensor in self.tensors):
            return tuple(tensor.requires_grad for tensor in self.tensors)
        return tuple(tensor.is_floating_point() and bool(torch.isfinite(tensor).all()) for tensor in self.tensors)


def _list_parameter_names(function: Any) -> list[str]:
    """Return the names of the positional parameters of a module, a function, or `apply` of an autograd function."""
    owner = getattr(function, "__self__", None)
    skipped = 0
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        skipped = 1 if owner.setup_context is torch.autograd.Function.setup_context else 0
        function = owner.forward
    elif isinstance(function, torch.nn.Module):
        function = function.forward
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in kinds][skipped:]


def _name_argument(path: Sequence[Any], names: Sequence[str]) -> str:
    """Return the name of an argument, as "hidden.0"; the path begins with 0 for positions, with 1 for names."""
    is_named, (first, *rest) = path[0].idx, path[1:]
    if is_named:
        return _join_path([first, *rest])
    name = names[first.idx] if first.idx < len(names) else f"input{first.idx}"
    return _join_path([name, *rest])


def _join_path(path: Sequence[Any]) -> str:
    return ".".join(_name_key(key) for key in path)


def _name_key(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def name_outputs(results: Any) -> dict[str, Tensor]:
    """Return the tensors of floats in a result, by their paths; a single tensor is named "output".

    Raises
    ------
    ModuleImportError
        A part of the result is of a class that torch cannot look into.
    """
    if isinstance(results, Tensor):
        return {_SINGLE: results} if results.is_floating_point() else {}
    paths, _ = pytree.tree_flatten_with_path(results)
    for path, leaf in paths:
        if not isinstance(leaf, Tensor | int | float | bool | str | None):
            place = _join_path(path) or "the result"
            raise ModuleImportError(
                f"The module returns {type(leaf).__qualname__} at {place}; torch looks into lists, tuples and "
                "dictionaries. Give loss=, a function of the result that returns a tensor."
            )
    return {_join_path(path): leaf for path, leaf in paths if isinstance(leaf, Tensor) and leaf.is_floating_point()}


def select_outputs(outputs: Mapping[str, Tensor], chosen: str | None) -> dict[str, Tensor]:
    """Return all outputs, or the chosen one.

    Raises
    ------
    ModuleImportError
        There is none, or none of that name.
    """
    if not outputs:
        raise ModuleImportError("The module returns no tensor of floats, so that it has no gradient.")
    if chosen is None:
        return dict(outputs)
    if chosen not in outputs:
        raise ModuleImportError(f"No output {chosen!r}; the module returns {', '.join(map(repr, outputs))}.")
    return {chosen: outputs[chosen]}
