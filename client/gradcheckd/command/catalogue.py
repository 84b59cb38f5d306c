"""`gradcheckd models` and `gradcheckd ops`."""

import difflib
import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcheckd import wire
from gradcheckd.command.output import write
from gradcheckd.errors import RequestError
from gradcheckd.service import Service

Entry = Mapping[str, Any]


def models(given: Namespace) -> int:
    """List the presets, or write one as a request."""
    with Service(given.url, given.key, timeout=given.timeout) as service:
        entries = service.models()
    with wire.expected():
        if given.name:
            text = json.dumps(_named(given.name, entries, "model")["request"])
        else:
            text = _listed(given.format, entries, "models", lambda each: each["description"])
    write(text)
    return 0


def ops(given: Namespace) -> int:
    """List the ops, or show one with its derivation."""
    with Service(given.url, given.key, timeout=given.timeout) as service:
        entries = service.ops()
    with wire.expected():
        if given.name:
            entry = _named(given.name, entries, "op")
            text = json.dumps(entry) if given.format == "json" else _shown(entry)
        else:
            text = _listed(given.format, entries, "ops", lambda each: ", ".join([*_inputs(each), *_attributes(each)]))
    write(text)
    return 0


def _listed(form: str, entries: Sequence[Entry], name: str, described: Callable[[Entry], str]) -> str:
    if form == "json":
        return json.dumps({name: entries})
    room = max((len(each["name"]) for each in entries), default=0)
    return "\n".join(f"{each['name']:{room}}  {described(each)}".rstrip() for each in entries)


def _named(name: str, entries: Sequence[Entry], what: str) -> Entry:
    found = {each["name"]: each for each in entries}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"`gradcheckd {what}s` lists them."
        raise RequestError(f"There is no {what} {name!r}; {hint}")
    return found[name]


def _inputs(entry: Entry) -> list[str]:
    return [each["name"] + ("?" if each["optional"] else "") for each in entry["inputs"]]


def _attributes(entry: Entry) -> list[str]:
    properties: Mapping[str, Mapping[str, Any]] = entry["attributes"].get("properties", {})
    return [f"{name}={each['default']}" if "default" in each else name for name, each in properties.items()]


def _shown(entry: Entry) -> str:
    return f"{entry['name']}({', '.join([*_inputs(entry), *_attributes(entry)])})\n\n{entry['backward'].strip()}"
