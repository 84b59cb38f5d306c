"""`gradcheckd show`."""

import json
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from gradcheckd import wire
from gradcheckd.command import request_files
from gradcheckd.command.model_import import import_model
from gradcheckd.command.output import write_text
from gradcheckd.errors import RequestError
from gradcheckd.model_text import has_numbers, write_nodes
from gradcheckd.service import Service
from gradcheckd.visible_text import escape_invisible

_DEFAULT_MODEL = "conv_tanh_scale_sigmoid"


def show_model(arguments: Namespace) -> int:
    """Write the model of a request as text, a node a line."""
    sections = ("tensors", "weights", "candidate")
    request = request_files.read_request(arguments.file, sections, partial(import_model, arguments))
    model = request.fields.get("model", _DEFAULT_MODEL)
    if isinstance(model, str) and "=" not in model:
        model = _fetch_preset(model, arguments)
    text = "\n".join(map(escape_invisible, _write_model(model, arguments).split("\n")))
    write_text(text, arguments.output)
    return 0


def _fetch_preset(name: str, arguments: Namespace) -> str:
    with Service(arguments.url, arguments.key, timeout=arguments.timeout) as service:
        entries = service.models()
    with wire.UnexpectedAnswerGuard():
        texts = {entry["name"]: entry["text"] for entry in entries}
    if name not in texts:
        raise RequestError(f"{arguments.file}: there is no model {name[:60]!r}; `gradcheckd models` lists them.")
    return texts[name]


def _fetch_ops(arguments: Namespace) -> list[dict[str, Any]]:
    with Service(arguments.url, arguments.key, timeout=arguments.timeout) as service:
        return service.ops()


def _write_model(model: object, arguments: Namespace) -> str:
    if isinstance(model, str):
        return model
    nodes: Any = cast("Mapping[str, Any]", model).get("nodes") if isinstance(model, Mapping) else model
    try:
        return write_nodes(nodes, _fetch_ops(arguments) if has_numbers(nodes) else ())
    except (KeyError, TypeError, AttributeError):
        raise RequestError(
            f"{arguments.file}: the model is to be a preset's name, a text, or nodes, each an object with name, op and "
            f"inputs; {json.dumps(model)[:60]} is none."
        ) from None
