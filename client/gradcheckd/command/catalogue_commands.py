"""`gradcheckd models` and `gradcheckd ops`."""

import difflib
import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcheckd import wire
from gradcheckd.command.output import write_text
from gradcheckd.errors import RequestError
from gradcheckd.service import Service

CatalogueEntry = Mapping[str, Any]


def list_models(arguments: Namespace) -> int:
    """List the presets, or write one as a request."""
    with Service(arguments.url, arguments.key, timeout=arguments.timeout) as service:
        entries = service.models()
    with wire.UnexpectedAnswerGuard():
        if arguments.name:
            text = json.dumps(_find_entry(arguments.name, entries, "model")["request"])
        else:
            text = _format_entries(arguments.format, entries, "models", lambda entry: entry["description"])
    write_text(text)
    return 0


def list_ops(arguments: Namespace) -> int:
    """List the ops, or show one with its derivation."""
    with Service(arguments.url, arguments.key, timeout=arguments.timeout) as service:
        entries = service.ops()
    with wire.UnexpectedAnswerGuard():
        if arguments.name:
            entry = _find_entry(arguments.name, entries, "op")
            text = json.dumps(entry) if arguments.format == "json" else _describe_op(entry)
        else:
            text = _format_entries(
                arguments.format,
                entries,
                "ops",
                lambda entry: ", ".join([*_list_inputs(entry), *_list_attributes(entry)]),
            )
    write_text(text)
    return 0


def _format_entries(
    form: str, entries: Sequence[CatalogueEntry], name: str, describe: Callable[[CatalogueEntry], str]
) -> str:
    if form == "json":
        return json.dumps({name: entries})
    room = max((len(entry["name"]) for entry in entries), default=0)
    return "\n".join(f"{entry['name']:{room}}  {describe(entry)}".rstrip() for entry in entries)


def _find_entry(name: str, entries: Sequence[CatalogueEntry], kind: str) -> CatalogueEntry:
    entries_by_name = {entry["name"]: entry for entry in entries}
    if name not in entries_by_name:
        similar_names = difflib.get_close_matches(name, entries_by_name, n=1)
        hint = f"did you mean {similar_names[0]!r}?" if similar_names else f"`gradcheckd {kind}s` lists them."
        raise RequestError(f"There is no {kind} {name!r}; {hint}")
    return entries_by_name[name]


def _list_inputs(entry: CatalogueEntry) -> list[str]:
    return [operand["name"] + ("?" if operand["optional"] else "") for operand in entry["inputs"]]


def _list_attributes(entry: CatalogueEntry) -> list[str]:
    properties: Mapping[str, Mapping[str, Any]] = entry["attributes"].get("properties", {})
    return [f"{name}={schema['default']}" if "default" in schema else name for name, schema in properties.items()]


def _describe_op(entry: CatalogueEntry) -> str:
    return (
        f"{entry['name']}({', '.join([*_list_inputs(entry), *_list_attributes(entry)])})\n\n{entry['backward'].strip()}"
    )
