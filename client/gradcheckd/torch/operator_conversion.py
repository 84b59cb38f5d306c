"""The conversion of one operator of an exported program: its result at the point, its nodes, and their names.

Integers and truths are nodes where the conversion takes them, and constants elsewhere. The jumps of a constant are
noted, with the distance of the point from them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.choices import (
    MASK_MOVES,
    compares_rounded_constant,
    is_beyond_numbers,
    is_cast_to_integers,
    is_handed_on,
    move_mask,
)
from gradcheckd.torch.aten_nodes.fixed_values import (
    FIXED_PIECES,
    ORDER_MARGINS,
    PIECE_MARGINS,
    POOL_MARGINS,
    REFUSED_TIES,
    find_margin,
)
from gradcheckd.torch.aten_nodes.graph_builder import FixedValue, GraphBuilder, GraphTensor, UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converter,
    OperatorCall,
    call_operator,
    find_converter,
    takes_choice,
)
from gradcheckd.torch.export_internals import pytree
from gradcheckd.torch.operator_evaluation import (
    clear_memory,
    compute_frozen,
    refuse_infinities,
    refuse_unfit,
    widen,
)


@dataclass(frozen=True, eq=False)
class MissingResult:
    """A result without a counterpart.

    Attributes
    ----------
    value
        Its numbers.
    """

    value: Tensor


class Results(list[Any]):
    """Several results of an operator, with the comparisons and orders behind those that are constants."""

    def __init__(self, results: Iterable[Any], find_choices: Callable[[], tuple[FixedValue, ...]]) -> None:
        super().__init__(results)
        self.find_choices = find_choices


def has_conversion(operator: Any, arguments: dict[str, Any]) -> bool:
    """Tell whether an operator becomes nodes, or a constant."""
    return _find_converter(operator, arguments) is not None or find_margin(operator, arguments) is not None


def _find_converter(operator: Any, arguments: dict[str, Any]) -> Converter | None:
    is_constant = is_cast_to_integers(operator, arguments) or is_beyond_numbers(operator, arguments)
    return None if is_constant else find_converter(operator)


def convert_operator(builder: GraphBuilder, operator: Any, arguments: dict[str, Any], wanted: str) -> Any:
    """Return the result of an operator whose arguments depend on judged tensors.

    Parameters
    ----------
    builder
        Graph that takes the nodes.
    operator
        Overload of an operator.
    arguments
        Arguments by name.
    wanted
        Name for its node.

    Raises
    ------
    UnsupportedError
        The operator has no counterpart, or this use of it has none.
    """
    if is_handed_on(operator, arguments):
        return next(iter(arguments.values()))
    if _is_moved_mask(operator, arguments):
        return _move_mask(builder, operator, arguments, wanted)
    arguments = _freeze_choices(builder, operator, arguments)
    leaves = [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, GraphTensor)]
    if not leaves:
        return compute_frozen(operator, arguments)
    result = clear_memory(operator, call_operator(operator, widen(arguments)))
    converter = _find_converter(operator, arguments)
    # Integers and truths alone have no jumps but those of what decided them.
    is_jumping = not all(leaf.is_discrete for leaf in leaves)
    own = _find_choice(builder, operator, wanted, find_margin(operator, arguments) if is_jumping else None)
    if own is not None and converter is None:
        builder.fixed.append(own)
        return result
    if own is None:
        refuse_unfit(result)
    refuse_infinities(str(operator.overloadpacket), arguments)
    if converter is None:
        raise UnsupportedError("there is no op for it")
    count = len(builder.nodes)
    converted = converter(OperatorCall(operator, builder, wanted, arguments, result))
    new_nodes = set(islice(reversed(builder.nodes), len(builder.nodes) - count))
    inherited = tuple(choice for leaf in leaves for choice in leaf.choices)
    choices = (*_note_choices(builder, operator, wanted, arguments, own), *inherited)
    if isinstance(converted, str):
        (name,) = _rename(builder, [converted], wanted, new_nodes)
        return _make_tensor(builder, str(name), result, choices)
    names = _rename(builder, converted, wanted, new_nodes)
    find_choices = _defer_choices(operator, builder.place or wanted, arguments, choices)
    return _name_results(builder, names, result, choices, find_choices)


def _defer_choices(
    operator: Any, place: str, arguments: dict[str, Any], choices: tuple[FixedValue, ...]
) -> Callable[[], tuple[FixedValue, ...]]:
    """Return a function that returns the comparisons and orders behind results that are constants."""
    name = str(operator.overloadpacket)
    measure = POOL_MARGINS.get(name)
    if measure is None:
        return lambda: choices
    return lambda: (FixedValue(name, place, measure(arguments)),)


def _is_moved_mask(operator: Any, arguments: dict[str, Any]) -> bool:
    mask = arguments.get("self")
    is_mask = isinstance(mask, GraphTensor) and mask.value.dtype is torch.bool
    return is_mask and str(operator.overloadpacket) in MASK_MOVES


def _move_mask(builder: GraphBuilder, operator: Any, arguments: dict[str, Any], wanted: str) -> GraphTensor:
    result = call_operator(operator, widen(arguments))
    name = move_mask(OperatorCall(operator, builder, wanted, arguments, result))
    builder.mark_discrete(name)
    return GraphTensor(name, result, arguments["self"].choices)


def _freeze_choices(builder: GraphBuilder, operator: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments in which integers and truths that the conversion does not take are constants."""

    def freeze(value: Any) -> Any:
        return builder.freeze(value) if isinstance(value, GraphTensor) and value.is_discrete else value

    def is_taken(name: str, value: Any) -> bool:
        is_choice = isinstance(value, GraphTensor) and value.is_discrete
        return is_choice and not is_cast_to_integers(operator, arguments) and takes_choice(operator, name, value)

    return {
        name: value if is_taken(name, value) else pytree.tree_map(freeze, value) for name, value in arguments.items()
    }


def _find_choice(builder: GraphBuilder, operator: Any, wanted: str, margin: float | None) -> FixedValue | None:
    if margin is None:
        return None
    return FixedValue(str(operator.overloadpacket), builder.place or wanted, margin)


def _note_choices(
    builder: GraphBuilder, operator: Any, wanted: str, arguments: dict[str, Any], own: FixedValue | None
) -> tuple[FixedValue, ...]:
    """Note the jumps of a node; return what decides the integers and truths among its results."""
    name = str(operator.overloadpacket)
    if own is not None:
        if name in REFUSED_TIES or name == "aten.div":
            roundoffs = 1.0 if compares_rounded_constant(operator, arguments) else 0.0
            builder.fixed.append(replace(own, is_node=True, least_roundoffs=roundoffs))
        return (own,)
    measure = PIECE_MARGINS.get(name) or ORDER_MARGINS.get(name)
    choice = _find_choice(builder, operator, wanted, None if measure is None else measure(arguments))
    if choice is None:
        return ()
    if name in PIECE_MARGINS or name in FIXED_PIECES:
        is_node = name not in FIXED_PIECES
        roundoffs = 0.0 if is_node else choice.least_roundoffs
        builder.fixed.append(replace(choice, is_node=is_node, least_roundoffs=roundoffs))
    return (choice,)


def _name_results(
    builder: GraphBuilder,
    names: Sequence[str | None],
    result: Any,
    choices: tuple[FixedValue, ...],
    find_choices: Callable[[], tuple[FixedValue, ...]],
) -> Results:
    results = [
        _make_tensor(builder, name, part, choices)
        if name is not None
        else part
        if isinstance(part, Tensor) and not (part.is_floating_point() and part.numel())
        else MissingResult(part)
        for name, part in zip(names, result, strict=True)
    ]
    return Results(results, find_choices)


def _make_tensor(builder: GraphBuilder, name: str, value: Tensor, choices: tuple[FixedValue, ...]) -> GraphTensor:
    if value.is_floating_point():
        return GraphTensor(name, value)
    builder.mark_discrete(name)
    return GraphTensor(name, value, choices)


def _rename(builder: GraphBuilder, names: Sequence[str | None], wanted: str, new_nodes: set[str]) -> list[str | None]:
    """Give new nodes the names that their results want; one that is handed on keeps its own."""
    owners = [None if name is None else builder.get_owner(name) for name in names]
    renamed: dict[str, str] = {}
    for number, owner in enumerate(owners):
        if owner is not None and owner not in renamed:
            new = f"{wanted}.{number}" if number else wanted
            renamed[owner] = builder.rename_node(owner, new) if owner in new_nodes else owner
    return [
        None if name is None or owner is None else renamed[owner] + name[len(owner) :]
        for name, owner in zip(names, owners, strict=True)
    ]
